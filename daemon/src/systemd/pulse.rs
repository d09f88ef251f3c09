//! When the driver tells systemd something. It says so itself, after its turns: a loop that does not turn is silent.

use std::time::{Duration, Instant};

/// The watchdog is fed so often within its time, so that one late turn costs nothing.
const PER_WATCHDOG: u32 = 4;

/// The status line is looked at so often at most: often enough for people, and cheap however busy the daemon is.
const STATUS: Duration = Duration::from_secs(1);

/// While it stops, it asks for more time so often, and for so much that a machine under load does not miss it.
const EXTEND: Duration = Duration::from_secs(5);

/// What is due after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Due {
    /// Feed the watchdog.
    pub alive: bool,
    /// See whether the status line has changed.
    pub status: bool,
    /// Ask for time to stop in.
    pub time: bool,
}

/// Tells when the service manager is to hear from the driver, and of what.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    every: Option<Duration>,
    alive_at: Instant,
    status_at: Instant,
    /// Something has happened since the status line was last looked at.
    moved: bool,
    time_at: Option<Instant>,
}

impl Pulse {
    /// With a watchdog that waits for so long, or none. Everything is due at once.
    pub fn new(watchdog: Option<Duration>, now: Instant) -> Self {
        let every = watchdog.map(|within| within / PER_WATCHDOG);
        Self { every, alive_at: now, status_at: now, moved: true, time_at: None }
    }

    /// The daemon stops from here on.
    pub fn stops(&mut self, now: Instant) {
        self.time_at = Some(now);
    }

    /// When the driver is to take a turn at the latest, though nothing happens.
    pub fn next(&self) -> Option<Instant> {
        let alive = self.every.map(|_| self.alive_at);
        let status = self.moved.then_some(self.status_at);
        alive.into_iter().chain(status).chain(self.time_at).min()
    }

    /// The driver has taken a turn; `moved` if something has happened in it. What it is to say.
    pub fn turned(&mut self, moved: bool, now: Instant) -> Due {
        self.moved |= moved;
        let mut due = Due::default();
        if let Some(every) = self.every.filter(|_| self.alive_at <= now) {
            due.alive = true;
            self.alive_at = now + every;
        }
        if self.moved && self.status_at <= now {
            due.status = true;
            self.moved = false;
            self.status_at = now + STATUS;
        }
        if self.time_at.is_some_and(|at| at <= now) {
            due.time = true;
            self.time_at = Some(now + EXTEND);
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_idle_driver_turns_for_the_watchdog_alone() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Some(8 * SECOND), start);
        assert_eq!(pulse.turned(false, start), Due { alive: true, status: true, time: false });
        assert_eq!(pulse.next(), Some(start + 2 * SECOND));
        assert_eq!(pulse.turned(false, start + SECOND), Due::default());
        assert_eq!(pulse.turned(false, start + 2 * SECOND), Due { alive: true, ..Due::default() });
        assert_eq!(pulse.next(), Some(start + 4 * SECOND));
    }

    #[test]
    fn without_a_watchdog_an_idle_driver_sleeps() {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, start);
        assert_eq!(pulse.turned(false, start), Due { status: true, ..Due::default() });
        assert_eq!(pulse.next(), None);
    }

    #[test]
    fn a_busy_driver_says_no_more_than_is_due_and_in_the_end_the_last_news() {
        let start = Instant::now();
        let mut pulse = Pulse::new(Some(4 * SECOND), start);
        let mut said = [0; 2];
        for turn in 0..=3000 {
            let due = pulse.turned(true, start + turn * SECOND / 1000);
            said[0] += u32::from(due.alive);
            said[1] += u32::from(due.status);
        }
        assert_eq!(said, [4, 4], "once a second, over three seconds");
        let last = start + 3100 * SECOND / 1000;
        assert_eq!(pulse.turned(true, last), Due::default());
        assert_eq!(pulse.next(), Some(start + 4 * SECOND), "it is not forgotten");
    }

    #[test]
    fn a_daemon_that_stops_asks_for_time_for_as_long_as_it_turns() {
        let start = Instant::now();
        let mut pulse = Pulse::new(None, start);
        pulse.turned(true, start);
        pulse.stops(start);
        assert_eq!(pulse.next(), Some(start));
        assert!(pulse.turned(false, start).time);
        assert_eq!(pulse.next(), Some(start + EXTEND));
        assert!(!pulse.turned(false, start + SECOND).time);
        assert!(pulse.turned(false, start + EXTEND).time);
    }
}
