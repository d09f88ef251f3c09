//! When waiting jobs are likely to start and to end, from how long jobs like them took.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use gpusched_shared::JobId;

/// What is likely to become of a waiting job, in microseconds from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forecast {
    /// The job.
    pub job: JobId,
    /// Until a lane takes it.
    pub start_us: u64,
    /// Until it is done.
    pub end_us: u64,
}

/// Gives `jobs`, which come in the order in which they go, to the lane that is free first. `lanes` says for each lane how
/// long its present job is likely to need; each job comes with how long it is likely to take.
pub fn forecast(lanes: &[u64], jobs: impl Iterator<Item = (JobId, u64)>) -> impl Iterator<Item = Forecast> {
    let mut free: BinaryHeap<Reverse<u64>> = lanes.iter().copied().map(Reverse).collect();
    jobs.map_while(move |(job, cost_us)| {
        let Reverse(start_us) = free.pop()?;
        let end_us = start_us.saturating_add(cost_us);
        free.push(Reverse(end_us));
        Some(Forecast { job, start_us, end_us })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn jobs_go_to_the_lane_that_is_free_first() {
        let jobs = [(JobId(1), 10), (JobId(2), 20), (JobId(3), 5)];
        let likely: Vec<_> = forecast(&[0, 4], jobs.into_iter()).map(|f| (f.job.0, f.start_us, f.end_us)).collect();
        assert_eq!(likely, [(1, 0, 10), (2, 4, 24), (3, 10, 15)]);
        assert_eq!(forecast(&[], jobs.into_iter()).count(), 0);
    }
}
