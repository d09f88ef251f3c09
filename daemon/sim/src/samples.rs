//! Mean, percentiles and maximum of any number of times in bounded memory.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Significant digits of percentiles.
const DIGITS: u8 = 3;
/// What is longer counts as this long in percentiles: a hundred days.
const LONGEST_US: u64 = 8_640_000_000_000;

/// Times as they come.
#[derive(Debug, Default)]
pub(crate) struct Samples {
    count: u64,
    sum_us: u128,
    max_us: u64,
    /// `None` before the first.
    spread: Option<Histogram<u32>>,
}

/// What there is to say of many times, in microseconds. All are 0 where there was none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many.
    pub count: u64,
    /// Their mean.
    pub mean_us: f64,
    /// Half of them are at most this, to three digits.
    pub p50_us: u64,
    /// 99 of 100 are at most this, to three digits.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
}

impl Summary {
    /// Of these times, in microseconds.
    pub fn of(times: impl IntoIterator<Item = u64>) -> Self {
        let mut samples = Samples::default();
        times.into_iter().for_each(|us| samples.add(us));
        samples.summary()
    }
}

impl Samples {
    pub(crate) fn add(&mut self, us: u64) {
        self.count += 1;
        self.sum_us += u128::from(us);
        self.max_us = self.max_us.max(us);
        if self.spread.is_none() {
            self.spread = Histogram::new_with_max(LONGEST_US, DIGITS).ok();
        }
        if let Some(spread) = &mut self.spread {
            spread.saturating_record(us);
        }
    }

    pub(crate) fn summary(&self) -> Summary {
        let Some(spread) = &self.spread else { return Summary::default() };
        // The histogram answers with the upper end of a bucket, which may lie above all that was seen.
        let quantile = |q: f64| spread.value_at_quantile(q).min(self.max_us);
        Summary {
            count: self.count,
            mean_us: self.sum_us as f64 / self.count as f64,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            max_us: self.max_us,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summaries_add_up() {
        let mut samples = Samples::default();
        assert_eq!(samples.summary(), Summary::default());
        (1..=1000).for_each(|us| samples.add(us * 1_000_000));
        let Summary { count, mean_us, p50_us, p99_us, max_us } = samples.summary();
        assert_eq!((count, mean_us, max_us), (1000, 500_500_000.0, 1_000_000_000));
        assert!(p50_us.abs_diff(500_000_000) <= 500_000, "{p50_us}");
        assert!(p99_us.abs_diff(990_000_000) <= 990_000, "{p99_us}");
    }
}
