//! When to try a daemon again that has gone away. Pure: no clock, no IO; chance comes from a source that can be seeded.
//!
//! The waits start short, because a daemon that is replaced is back in a moment; they double up to a ceiling, and chance
//! spreads them, so that a daemon with many clients is not met by all of them in its first millisecond.

use std::time::Duration;

use fastrand::Rng;

/// The first wait, before chance.
const FIRST: Duration = Duration::from_millis(50);
/// What waits grow to, before chance.
const CEILING: Duration = Duration::from_secs(2);
/// The chance factor of a wait.
const JITTER: std::ops::Range<f64> = 0.5..1.5;

/// How long to go on trying to reach a daemon that has gone away.
///
/// ```
/// use std::time::Duration;
/// use gpusched_client::Reconnect;
///
/// let impatient = Reconnect { within: Duration::from_secs(5) };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reconnect {
    /// For how long, from when it was missed; the last try is at the end of it. Zero: not at all. The daemon keeps attached
    /// jobs for half a minute after it is back, unless told otherwise, so that all who wait can come back to theirs.
    pub within: Duration,
}

impl Default for Reconnect {
    /// For a minute.
    fn default() -> Self {
        Self { within: Duration::from_secs(60) }
    }
}

impl Reconnect {
    /// Never.
    pub const OFF: Self = Self { within: Duration::ZERO };

    /// The waits of one absence, with chance from the system.
    pub fn start(self) -> Waits {
        Waits { within: self.within, next: FIRST, chance: Rng::new() }
    }

    /// The waits of one absence, the same for each seed.
    pub fn start_seeded(self, seed: u64) -> Waits {
        Waits { chance: Rng::with_seed(seed), ..self.start() }
    }
}

/// The waits of one absence.
#[derive(Debug, Clone)]
pub struct Waits {
    within: Duration,
    next: Duration,
    chance: Rng,
}

impl Waits {
    /// How long to wait before the next try, `elapsed` after the daemon was missed; `None` to give up.
    pub fn wait(&mut self, elapsed: Duration) -> Option<Duration> {
        let left = self.within.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let factor = JITTER.start + self.chance.f64() * (JITTER.end - JITTER.start);
        let wait = self.next.mul_f64(factor);
        self.next = (self.next * 2).min(CEILING);
        Some(wait.min(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_ceiling_within_the_jitter() {
        for seed in 0..200 {
            let mut waits = Reconnect::default().start_seeded(seed);
            for middle in [50, 100, 200, 400, 800, 1600, 2000, 2000] {
                let wait = waits.wait(Duration::ZERO).expect("time is left").as_millis();
                assert!((middle / 2..=middle * 3 / 2).contains(&wait), "seed {seed}: {wait} for {middle}");
            }
        }
    }

    #[test]
    fn the_last_try_is_at_the_end() {
        let within = Duration::from_secs(10);
        let mut waits = Reconnect { within }.start_seeded(1);
        let mut elapsed = Duration::ZERO;
        while let Some(wait) = waits.wait(elapsed) {
            elapsed += wait;
        }
        assert_eq!(elapsed, within);
    }

    #[test]
    fn off_is_off() {
        assert_eq!(Reconnect::OFF.start().wait(Duration::ZERO), None);
    }
}
