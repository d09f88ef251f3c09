//! How fast heavy work makes way, class by class, since the daemon started.

use std::collections::VecDeque;

use gpusched_shared::PreemptionView;

/// Samples that the percentiles are of; older ones are forgotten.
const SAMPLES: usize = 4096;

/// What was measured of one class.
#[derive(Debug, Clone, Default)]
pub struct Preemption {
    /// The newest times from lighter work becoming runnable to heavy work being parked, in microseconds.
    recent_us: VecDeque<u64>,
    parked: u64,
    max_us: u64,
    missed: u64,
    longest_gap_us: u64,
}

impl Preemption {
    /// A job was parked so long after lighter work had become runnable.
    pub fn parked(&mut self, after_us: u64) {
        if self.recent_us.len() == SAMPLES {
            self.recent_us.pop_front();
        }
        self.recent_us.push_back(after_us);
        self.parked += 1;
        self.max_us = self.max_us.max(after_us);
    }

    /// Lighter work was over before the job came to a yield point.
    pub fn missed(&mut self) {
        self.missed += 1;
    }

    /// A job ran with this longest time between two yield points.
    pub fn gap(&mut self, longest_us: u64) {
        self.longest_gap_us = self.longest_gap_us.max(longest_us);
    }

    /// For people. `refused` is the scheduler's count.
    pub fn view(&self, class: &str, refused: u64) -> PreemptionView {
        let mut sorted: Vec<u64> = self.recent_us.iter().copied().collect();
        sorted.sort_unstable();
        PreemptionView {
            class: class.to_owned(),
            parked: self.parked,
            p50_us: percentile(&sorted, 50),
            p99_us: percentile(&sorted, 99),
            max_us: self.max_us,
            missed: self.missed,
            refused,
            longest_gap_us: self.longest_gap_us,
        }
    }
}

/// The smallest of `sorted` that at least `percent` of 100 do not exceed (nearest rank); 0 of nothing.
pub fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_samples() {
        let hundred: Vec<u64> = (1..=100).collect();
        assert_eq!([1, 50, 99, 100].map(|p| percentile(&hundred, p)), [1, 50, 99, 100]);
        assert_eq!([50, 99].map(|p| percentile(&[7, 9, 30], p)), [9, 30]);
        assert_eq!(percentile(&[], 50), 0);
    }

    #[test]
    fn old_samples_are_forgotten_but_counted() {
        let mut preemption = Preemption::default();
        preemption.parked(1_000_000);
        (0..SAMPLES as u64).for_each(|_| preemption.parked(5));
        preemption.missed();
        preemption.gap(3);
        preemption.gap(2);
        let view = preemption.view("heavy", 4);
        assert_eq!((view.parked, view.p99_us, view.max_us), (SAMPLES as u64 + 1, 5, 1_000_000));
        assert_eq!((view.missed, view.refused, view.longest_gap_us), (1, 4, 3));
    }
}
