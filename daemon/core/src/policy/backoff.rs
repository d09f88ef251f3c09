//! How long a job that ran out of memory waits at most before it is tried again: exponential backoff with full jitter.
//!
//! The wait is an upper bound: memory that is freed ends it sooner. Jitter is "full" (anything up to the bound) because jobs
//! that ran out of memory together would otherwise do so again together.

use gpusched_shared::mix::mix;

/// How often and after what time a job is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// The bound of the first wait, in milliseconds.
    pub base_ms: u64,
    /// What each bound is of the one before, in thousandths.
    pub factor_milli: u64,
    /// The bound that no wait exceeds, in milliseconds.
    pub ceiling_ms: u64,
    /// How often a job is tried again before it fails.
    pub budget: u32,
    /// Decides, with the job and the retry, where below its bound each wait is.
    pub seed: u64,
}

impl Default for Retry {
    fn default() -> Self {
        Self { base_ms: 20_000, factor_milli: 2000, ceiling_ms: 300_000, budget: 8, seed: 0 }
    }
}

/// The longest that the wait before a retry (from 1) may be, in milliseconds.
pub fn bound_ms(rule: &Retry, retry: u32) -> u64 {
    let mut bound = u128::from(rule.base_ms);
    let ceiling = u128::from(rule.ceiling_ms);
    for _ in 1..retry {
        // A factor of 1 never gets there, one above it soon does.
        if bound >= ceiling || rule.factor_milli <= 1000 {
            break;
        }
        bound = bound * u128::from(rule.factor_milli) / 1000;
    }
    u64::try_from(bound.min(ceiling)).unwrap_or(rule.ceiling_ms)
}

/// The wait before a retry of a job, in milliseconds: drawn evenly from 0 to its bound.
pub fn delay_ms(rule: &Retry, job: u64, retry: u32) -> u64 {
    let drawn = mix(rule.seed ^ mix(job ^ mix(u64::from(retry))));
    let range = u128::from(bound_ms(rule, retry)) + 1;
    u64::try_from((u128::from(drawn) * range) >> 64).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_double_up_to_the_ceiling() {
        let rule = Retry::default();
        let bounds: Vec<u64> = (1..8).map(|retry| bound_ms(&rule, retry) / 1000).collect();
        assert_eq!(bounds, [20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(bound_ms(&Retry { factor_milli: 1000, ..rule }, u32::MAX), 20_000, "and without end in no time");
        assert_eq!(bound_ms(&Retry { factor_milli: 1500, ..rule }, 3), 45_000);
        assert_eq!(bound_ms(&Retry { ceiling_ms: 5, ..rule }, 1), 5);
    }

    #[test]
    fn waits_are_spread_over_the_whole_range() {
        let rule = Retry::default();
        let mean = (0..10_000).map(|job| delay_ms(&rule, job, 1)).sum::<u64>() / 10_000;
        assert!((9_700..10_300).contains(&mean), "{mean}");
        let tenths = (0..10_000).fold([0; 10], |mut tenths, job| {
            tenths[(delay_ms(&rule, job, 1) * 10 / 20_001) as usize] += 1;
            tenths
        });
        assert!(tenths.iter().all(|count| (800..1200).contains(count)), "{tenths:?}");
    }

    proptest! {
        #[test]
        fn a_wait_is_within_its_bound_and_always_the_same(
            (base_ms, ceiling_ms) in any::<(u64, u64)>(),
            factor_milli in 1000_u64..10_000,
            (job, seed) in any::<(u64, u64)>(),
            retry in 1_u32..100,
        ) {
            let rule = Retry { base_ms, factor_milli, ceiling_ms, budget: 1, seed };
            let delay = delay_ms(&rule, job, retry);
            prop_assert!(delay <= bound_ms(&rule, retry) && bound_ms(&rule, retry) <= ceiling_ms);
            prop_assert!(bound_ms(&rule, retry) <= bound_ms(&rule, retry + 1));
            prop_assert_eq!(delay, delay_ms(&rule, job, retry));
        }
    }
}
