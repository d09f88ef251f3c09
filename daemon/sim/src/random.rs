//! Random numbers from a seed.

use gpusched_shared::mix::{STEP, mix};

/// Steele, Lea and Flood's SplitMix64: small, fast, and the same numbers from the same seed for ever.
#[derive(Debug, Clone)]
pub(crate) struct Random(u64);

impl Random {
    /// One of many independent sequences of a seed. What is drawn for one thing does not depend on how much was drawn for
    /// others, so that two policies are compared with the very same jobs.
    pub(crate) fn of(seed: u64, sequence: u64) -> Self {
        let mut seeds = Self(seed);
        Self(seeds.next() ^ Self(sequence).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        let number = mix(self.0);
        self.0 = self.0.wrapping_add(STEP);
        number
    }

    /// A number below `bound`, each as likely as the others; 0 if there is none.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        // The high half of a product: no number is likelier than another by more than bound / 2^64.
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }

    /// A number within `range`, its end included.
    pub(crate) fn within(&mut self, (least, most): (u64, u64)) -> u64 {
        least + self.below(most.saturating_sub(least).saturating_add(1))
    }

    /// True with this probability.
    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    /// The time to the next of events that come independently, one each `mean_us` on average.
    pub(crate) fn exponential_us(&mut self, mean_us: f64) -> u64 {
        (-(1.0 - self.unit()).ln() * mean_us).round() as u64
    }

    /// At least 0, below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_published_sequence() {
        // The first numbers of the reference implementation for this seed.
        let mut random = Random(1_234_567);
        assert_eq!([random.next(), random.next()], [6_457_827_717_110_365_317, 3_203_168_211_198_807_973]);
    }

    #[test]
    fn draws_keep_to_their_bounds_and_means() {
        let mut random = Random::of(1, 2);
        assert!((0..1000).all(|_| (5..=7).contains(&random.within((5, 7)))));
        assert_eq!((random.below(0), random.within((3, 3))), (0, 3));
        assert!(!random.chance(0.0) && random.chance(1.0));
        let n = 100_000;
        let mean = (0..n).map(|_| random.exponential_us(1000.0)).sum::<u64>() as f64 / f64::from(n);
        assert!((980.0..1020.0).contains(&mean), "{mean}");
    }

    #[test]
    fn sequences_differ() {
        assert_ne!(Random::of(1, 1).next(), Random::of(1, 2).next());
        assert_ne!(Random::of(1, 1).next(), Random::of(2, 1).next());
    }
}
