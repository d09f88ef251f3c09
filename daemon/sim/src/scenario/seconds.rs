//! Times as a scenario has them.

use serde::Deserialize;

/// The longest time that a scenario may name: a hundred days.
const LONGEST_S: f64 = 8_640_000.0;

/// A time of at most a hundred days; in a file, a number of seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Deserialize)]
#[serde(try_from = "f64")]
pub struct Seconds {
    us: u64,
}

/// A number that is no time.
#[derive(Debug, thiserror::Error)]
#[error("a time is a number of seconds from 0 to {LONGEST_S} (a hundred days); got {0}")]
pub struct NotATime(f64);

impl Seconds {
    /// A time of so many microseconds, a hundred days at most.
    pub fn from_us(us: u64) -> Self {
        Self { us: us.min((LONGEST_S * 1e6) as u64) }
    }

    /// Microseconds.
    pub fn us(self) -> u64 {
        self.us
    }

    /// Milliseconds, rounded down.
    pub fn ms(self) -> u64 {
        self.us / 1000
    }
}

impl TryFrom<f64> for Seconds {
    type Error = NotATime;

    fn try_from(seconds: f64) -> Result<Self, NotATime> {
        // NaN is in no range.
        let valid = (0.0..=LONGEST_S).contains(&seconds);
        valid.then(|| Self::from_us((seconds * 1e6).round() as u64)).ok_or(NotATime(seconds))
    }
}

impl From<Seconds> for f64 {
    fn from(seconds: Seconds) -> Self {
        seconds.us as f64 / 1e6
    }
}
