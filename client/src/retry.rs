//! When to try again after the queue was full. [`Backoff`] is pure: no clock, no IO; chance comes from a source that can be
//! seeded.
//!
//! The daemon says when a place is likely to be free. Each wait is that long, times a chance factor so that those who
//! were refused together do not come back together, and twice as long each time, up to a ceiling, because a queue that
//! is still full has more people waiting for it than the daemon can know of.

use std::time::Duration;

use fastrand::Rng;
use gpusched_shared::Rejection;
use tokio::time::{Instant, sleep};

use crate::error::Error;

/// The shortest hint that is believed: who asks again at once only keeps the daemon busy.
const SHORTEST: Duration = Duration::from_millis(100);
/// The chance factor of a wait.
const JITTER: std::ops::Range<f64> = 0.5..1.5;

/// How long to go on trying while a queue is full.
///
/// ```
/// use std::time::Duration;
/// use gpusched_client::Retry;
///
/// let patient = Retry { within: Duration::from_secs(3600), ..Retry::default() };
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// For how long, from the first try; the last try is at the end of it.
    pub within: Duration,
    /// How often at most, the first try included.
    pub tries: u32,
    /// What waits grow to, before chance is added. A longer hint of the daemon is followed nevertheless.
    pub ceiling: Duration,
}

impl Default for Retry {
    /// For ten minutes, a hundred times at most, at least once a minute or so.
    fn default() -> Self {
        Self { within: Duration::from_secs(600), tries: 100, ceiling: Duration::from_secs(60) }
    }
}

impl Retry {
    /// The waits of one submission, with chance from the system.
    pub fn start(self) -> Backoff {
        Backoff { retry: self, refusals: 0, chance: Rng::new() }
    }

    /// The waits of one submission, the same for each seed.
    pub fn start_seeded(self, seed: u64) -> Backoff {
        Backoff { retry: self, refusals: 0, chance: Rng::with_seed(seed) }
    }
}

/// The waits of one submission.
#[derive(Debug, Clone)]
pub struct Backoff {
    retry: Retry,
    refusals: u32,
    chance: Rng,
}

impl Backoff {
    /// How long to wait before the next try, `elapsed` after the first; `None` to give up: time or tries are used up, or
    /// the refusal is none that waiting helps against.
    pub fn wait(&mut self, refusal: &Rejection, elapsed: Duration) -> Option<Duration> {
        let Rejection::QueueFull { retry_after_ms, .. } = refusal else { return None };
        let hint = Duration::from_millis(*retry_after_ms).max(SHORTEST);
        let left = self.retry.within.checked_sub(elapsed).filter(|left| !left.is_zero())?;
        let growth = 2u32.saturating_pow(self.refusals);
        self.refusals += 1;
        if self.refusals >= self.retry.tries {
            return None;
        }
        let wait = hint.saturating_mul(growth).min(self.retry.ceiling.max(hint));
        let factor = JITTER.start + self.chance.f64() * (JITTER.end - JITTER.start);
        let wait = Duration::try_from_secs_f64(wait.as_secs_f64() * factor).unwrap_or(Duration::MAX);
        Some(wait.min(left))
    }
}

/// One submission's tries. Before each wait `notice` is told why and for how long.
pub(crate) struct Tries<N> {
    since: Instant,
    backoff: Backoff,
    notice: N,
}

impl<N: FnMut(&Rejection, Duration)> Tries<N> {
    /// From now on.
    pub(crate) fn new(retry: Retry, notice: N) -> Self {
        Self { since: Instant::now(), backoff: retry.start(), notice }
    }

    /// Waits until the next try; the error where there is to be none.
    pub(crate) async fn outlast(&mut self, error: Error) -> Result<(), Error> {
        let Error::Rejected(refusal) = error else { return Err(error) };
        let Some(wait) = self.backoff.wait(&refusal, self.since.elapsed()) else { return Err(refusal.into()) };
        (self.notice)(&refusal, wait);
        sleep(wait).await;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full(retry_after_ms: u64) -> Rejection {
        Rejection::QueueFull { class: "batch".to_owned(), limit: 8, retry_after_ms }
    }

    const ENDLESS: Retry =
        Retry { within: Duration::from_secs(1 << 40), tries: u32::MAX, ceiling: Duration::from_secs(60) };

    /// The first `count` waits in milliseconds, if the daemon always says `hint_ms`.
    fn waits(retry: Retry, seed: u64, hint_ms: u64, count: usize) -> Vec<u128> {
        let mut backoff = retry.start_seeded(seed);
        let waits = (0..count).map_while(|_| backoff.wait(&full(hint_ms), Duration::ZERO));
        waits.map(|wait| wait.as_millis()).collect()
    }

    #[test]
    fn waits_double_up_to_the_ceiling_within_the_jitter() {
        for seed in 0..200 {
            let expected = [1000, 2000, 4000, 8000, 16_000, 32_000, 60_000, 60_000];
            for (wait, middle) in waits(ENDLESS, seed, 1000, expected.len()).into_iter().zip(expected) {
                assert!((middle / 2..middle * 3 / 2).contains(&wait), "seed {seed}: {wait} for {middle}");
            }
        }
    }

    #[test]
    fn chance_uses_the_whole_range_and_a_seed_repeats_it() {
        let first: Vec<_> = (0..200).flat_map(|seed| waits(ENDLESS, seed, 1000, 1)).collect();
        assert!(first.iter().any(|&wait| wait < 550) && first.iter().any(|&wait| wait > 1450), "{first:?}");
        assert_eq!(waits(ENDLESS, 7, 1000, 20), waits(ENDLESS, 7, 1000, 20));
        assert_ne!(waits(ENDLESS, 7, 1000, 20), waits(ENDLESS, 8, 1000, 20));
    }

    #[test]
    fn hints_are_followed_beyond_the_ceiling_but_not_to_zero() {
        assert!(waits(ENDLESS, 1, 600_000, 5).into_iter().all(|wait| wait >= 300_000));
        assert!(waits(ENDLESS, 1, 0, 1)[0] >= 50);
        // Nothing overflows, however long it goes on and whatever the daemon says.
        assert_eq!(waits(ENDLESS, 1, 1, 100).len(), 100);
        assert_eq!(waits(ENDLESS, 1, u64::MAX, 100).len(), 100);
    }

    #[test]
    fn tries_are_counted_with_the_first() {
        for (tries, expected) in [(0, 0), (1, 0), (2, 1), (5, 4)] {
            assert_eq!(waits(Retry { tries, ..ENDLESS }, 1, 10, 20).len(), expected, "{tries} tries");
        }
    }

    #[test]
    fn the_last_try_is_at_the_end_of_the_time() {
        let retry = Retry { within: Duration::from_secs(10), ..Retry::default() };
        let mut backoff = retry.start_seeded(1);
        let nine = Duration::from_secs(9);
        assert_eq!(backoff.wait(&full(60_000), nine), Some(Duration::from_secs(1)));
        assert_eq!(backoff.wait(&full(60_000), Duration::from_secs(10)), None);
        assert_eq!(backoff.wait(&full(60_000), Duration::from_secs(11)), None);
    }

    #[test]
    fn only_a_full_queue_is_waited_for() {
        assert_eq!(ENDLESS.start_seeded(1).wait(&Rejection::Draining, Duration::ZERO), None);
    }
}
