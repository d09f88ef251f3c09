//! Times and sizes as a report says them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

/// A moment in the local time zone: `2026-11-22 15:41:11 UTC`.
pub fn instant(unix_ms: u64) -> String {
    strftime(unix_ms, "%Y-%m-%d %H:%M:%S %Z")
}

/// A moment in the local time zone, in a form of one's own; see [`jiff::fmt::strtime`].
pub(super) fn strftime(unix_ms: u64, format: &str) -> String {
    let time = i64::try_from(unix_ms).ok().and_then(|ms| Timestamp::from_millisecond(ms).ok()).unwrap_or_default();
    time.to_zoned_datetime(zone()).strftime(format).to_string()
}

/// Reads `2026-11-22`, `2026-11-22 15:41`, in the local time zone, or a time with its zone as RFC 3339 has it; in milliseconds since the
/// Unix epoch.
pub fn parse_instant(text: &str) -> Option<u64> {
    let time = match text.parse::<Timestamp>() {
        Ok(time) => time,
        Err(_) => zone().to_timestamp(text.parse::<DateTime>().ok()?).ok()?,
    };
    u64::try_from(time.as_millisecond()).ok()
}

fn zone() -> TimeZone {
    TimeZone::try_system().unwrap_or(TimeZone::UTC)
}

/// A time span in the unit that suits it: `850 µs`, `12.3 ms`, `3.45 s`, `2.1 min`, `3.4 h`, `2.2 d`.
pub(super) fn span(us: f64) -> String {
    let (value, unit) = match us.abs() {
        us if us < 1e3 => return format!("{us:.0} µs"),
        us if us < 1e6 => (us / 1e3, "ms"),
        us if us < 120e6 => (us / 1e6, "s"),
        us if us < 7200e6 => (us / 60e6, "min"),
        us if us < 172_800e6 => (us / 3600e6, "h"),
        us => (us / 86_400e6, "d"),
    };
    format!("{} {unit}", short(value))
}

/// At most three digits of what is not negative.
pub(super) fn short(value: f64) -> String {
    let decimals = match value {
        v if v < 9.995 => 2,
        v if v < 99.95 => 1,
        _ => 0,
    };
    format!("{value:.decimals$}")
}

/// Bytes in a decimal unit, as devices are sold: `34.0 GB`.
pub(super) fn bytes(bytes: f64) -> String {
    let (value, unit) = match bytes {
        b if b < 1e3 => return format!("{b:.0} B"),
        b if b < 1e6 => (b / 1e3, "kB"),
        b if b < 1e9 => (b / 1e6, "MB"),
        b => (b / 1e9, "GB"),
    };
    format!("{} {unit}", short(value))
}

/// `3 jobs`, `1 job`.
pub(super) fn count(number: u64, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_and_sizes_are_short() {
        let spans = [0.0, 850.0, 12_340.0, 3_450_000.0, 126e6, 12_240e6, 190_080e6].map(span);
        assert_eq!(spans, ["0 µs", "850 µs", "12.3 ms", "3.45 s", "2.10 min", "3.40 h", "2.20 d"]);
        let sizes = [0.0, 1500.0, 14.9e6, 34e9].map(bytes);
        assert_eq!(sizes, ["0 B", "1.50 kB", "14.9 MB", "34.0 GB"]);
        assert_eq!([count(0, "job", "jobs"), count(1, "job", "jobs")], ["0 jobs", "1 job"]);
    }

    #[test]
    fn moments_are_read_with_and_without_a_zone() {
        assert_eq!(parse_instant("2026-11-22T15:41:11Z"), Some(1_795_362_071_000));
        assert_eq!(parse_instant("2026-11-22 15:41:11+02:00"), Some(1_795_354_871_000));
        let day = parse_instant("2026-11-22").expect("a day");
        assert_eq!(parse_instant("2026-11-22 00:30"), Some(day + 1_800_000));
        assert_eq!((parse_instant("yesterday"), parse_instant("1950-01-01T00:00:00Z")), (None, None));
        assert!(instant(day).starts_with("2026-11-22 00:00:00 "));
    }
}
