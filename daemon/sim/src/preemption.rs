//! How fast the jobs of a class make way.

use serde::Serialize;

use crate::samples::Samples;

/// Counted while the simulation runs.
#[derive(Debug, Default)]
pub(crate) struct Preemption {
    /// From the closing of the gate to each job that computed being parked, in microseconds.
    pub(crate) parked: Samples,
    /// Jobs for which the gate opened again before they came to a yield point.
    pub(crate) missed: u64,
    /// The longest time between two yield points of a job that computed, in microseconds.
    longest_gap_us: u64,
}

/// How fast the jobs of a class parked when lighter work became runnable.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct PreemptionReport {
    /// How often a job that computed as lighter work became runnable was parked. The times are from the one to the other.
    pub parked: u64,
    /// Half of them took at most this, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 took at most this, in microseconds.
    pub p99_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// The longest time between two yield points of the class's jobs, in microseconds, model loading excepted.
    pub longest_gap_us: u64,
    /// How often lighter work was over before the job came to a yield point.
    pub missed: u64,
    /// How often the class went on beside lighter work because its minimum share was due.
    pub refused: u64,
}

impl Preemption {
    /// A job that computed had no longer time than this between two yield points so far.
    pub(crate) fn saw_gap(&mut self, us: u64) {
        self.longest_gap_us = self.longest_gap_us.max(us);
    }

    pub(crate) fn report(&self, refused: u64) -> PreemptionReport {
        let parked = self.parked.summary();
        PreemptionReport {
            parked: parked.count,
            p50_us: parked.p50_us,
            p99_us: parked.p99_us,
            max_us: parked.max_us,
            longest_gap_us: self.longest_gap_us,
            missed: self.missed,
            refused,
        }
    }
}
