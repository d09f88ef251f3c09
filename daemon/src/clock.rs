//! Times that outlive the daemon.
//!
//! Within one run everything is counted on the monotonic clock. What the journal keeps has the wall clock's time, for
//! people, and the time since the machine's start, by which a daemon that is started again knows how long ago something
//! was even where the wall clock has been set meanwhile. Only after a restart of the machine is the wall clock believed.

use std::time::{SystemTime, UNIX_EPOCH};

use gpusched_core::{BootTime, JobRecord};
use nix::time::{ClockId, clock_gettime};

/// Reads the clocks. The one of the driver and that of the journal are the same, so that both see a clock that was set.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    boot: Option<u64>,
    /// What is added to the wall clock, in milliseconds: 0 but for tests of a clock that was set.
    offset_ms: i64,
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(0)
    }
}

impl Clock {
    /// The machine's clocks, with the wall clock off by so much.
    pub fn new(offset_ms: i64) -> Self {
        let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = id.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        Self { boot: u64::from_str_radix(&digits, 16).ok(), offset_ms }
    }

    /// Milliseconds since the Unix epoch.
    pub fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX).saturating_add_signed(self.offset_ms)
    }

    /// Time since the machine's start, if it can be told.
    pub fn boot(&self) -> Option<BootTime> {
        let since = clock_gettime(ClockId::CLOCK_BOOTTIME).ok()?;
        let ms = since.tv_sec().unsigned_abs() * 1000 + since.tv_nsec().unsigned_abs() / 1_000_000;
        Some(BootTime { boot: self.boot?, ms })
    }

    /// How long ago a job was accepted, in milliseconds.
    pub fn age_ms(&self, record: &JobRecord) -> u64 {
        age_ms((record.submitted_unix_ms, record.submitted_boot), (self.unix_ms(), self.boot()))
    }
}

/// The time between two readings of the clocks: by that which does not jump, where it is of the same run of the machine.
fn age_ms(then: (u64, Option<BootTime>), now: (u64, Option<BootTime>)) -> u64 {
    match (then.1, now.1) {
        (Some(then), Some(now)) if then.boot == now.boot => now.ms.saturating_sub(then.ms),
        _ => now.0.saturating_sub(then.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wall_clock_counts_only_after_a_restart_of_the_machine() {
        let at = |boot, ms| Some(BootTime { boot, ms });
        let hour = 3_600_000;
        assert_eq!(age_ms((10 * hour, at(1, 500)), (11 * hour, at(1, 700))), 200, "it was set forward");
        assert_eq!(age_ms((10 * hour, at(1, 500)), (9 * hour, at(1, 700))), 200, "it was set back");
        assert_eq!(age_ms((10 * hour, at(1, 500)), (11 * hour, at(2, 100))), hour);
        assert_eq!(age_ms((10 * hour, None), (9 * hour, at(2, 100))), 0);
    }

    #[test]
    fn the_machine_has_a_start() {
        let clock = Clock::new(0);
        let [first, second] = [(); 2].map(|()| clock.boot().expect("it can be told"));
        assert!(first.boot == second.boot && first.ms <= second.ms);
        assert!(Clock::new(-3_600_000).unix_ms() < clock.unix_ms());
    }
}
