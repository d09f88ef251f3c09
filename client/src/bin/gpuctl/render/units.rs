//! Times for people.

use std::time::Duration;

/// A time span in its one or two largest units: `850 µs`, `12.3 ms`, `850 ms`, `3.4 s`, `2 min 5 s`, `3 h 20 min`,
/// `2 d 4 h`. Cut off, not rounded; whole milliseconds have no decimals.
pub(crate) fn span(time: Duration) -> String {
    let (seconds, micros) = (time.as_secs(), time.subsec_micros());
    match (seconds, micros) {
        (0, 1..1000) => format!("{micros} µs"),
        (0, 0..100_000) if micros % 1000 != 0 => format!("{}.{} ms", micros / 1000, micros % 1000 / 100),
        (0, _) => format!("{} ms", micros / 1000),
        (1..60, _) => format!("{seconds}.{} s", micros / 100_000),
        (60..3600, _) => format!("{} min {} s", seconds / 60, seconds % 60),
        (3600..86400, _) => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{} d {} h", seconds / 86400, seconds % 86400 / 3600),
    }
}

/// How long ago a moment was, roughly: `just now`, `5 min ago`.
pub(crate) fn ago(then_unix_ms: u64, now_unix_ms: u64) -> String {
    let seconds = now_unix_ms.saturating_sub(then_unix_ms) / 1000;
    match seconds {
        0..2 => "just now".to_owned(),
        2..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} d ago", seconds / 86400),
    }
}

/// A moment in UTC: `2026-11-22 15:41:11 UTC`.
pub(crate) fn moment(unix_ms: u64) -> String {
    let (days, second) = (unix_ms / 1000 / 86400, unix_ms / 1000 % 86400);
    // Years that start in March have their leap day last, so days and months follow one formula; 719468 days lie between
    // 0000-03-01 and the epoch, 146097 in each 400 years.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next_year) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + next_year;
    format!("{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02} UTC", second / 3600, second % 3600 / 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_as_fine_as_they_are_short() {
        let cases = [
            (0, "0 ms"),
            (999, "999 µs"),
            (5000, "5 ms"),
            (12_340, "12.3 ms"),
            (99_990, "99.9 ms"),
            (850_400, "850 ms"),
            (3_450_000, "3.4 s"),
            (125_000_000, "2 min 5 s"),
            (12_000_000_000, "3 h 20 min"),
            (187_200_000_000, "2 d 4 h"),
        ];
        for (us, text) in cases {
            assert_eq!(span(Duration::from_micros(us)), text);
        }
    }

    #[test]
    fn ages_are_rough() {
        assert_eq!(ago(10_000, 5000), "just now");
        assert_eq!(ago(0, 301_000), "5 min ago");
    }

    #[test]
    fn moments_follow_the_calendar() {
        assert_eq!(moment(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(moment(951_827_696_000), "2000-02-29 12:34:56 UTC");
        assert_eq!(moment(1_795_362_071_000), "2026-11-22 15:41:11 UTC");
        assert_eq!(moment(4_107_542_400_000), "2100-03-01 00:00:00 UTC");
    }
}
