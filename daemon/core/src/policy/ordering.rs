//! Which waiting job of a class goes next.

use gpusched_shared::JobId;

/// What the policy may know of a waiting job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Its number, which is its place in the order of acceptance.
    pub id: JobId,
}

/// The next job: the one that was accepted first.
pub fn next(waiting: impl IntoIterator<Item = Waiting>) -> Option<JobId> {
    waiting.into_iter().map(|job| job.id).min()
}

/// All of them in the order in which they go.
pub fn order(waiting: impl IntoIterator<Item = Waiting>) -> Vec<JobId> {
    let mut order: Vec<JobId> = waiting.into_iter().map(|job| job.id).collect();
    order.sort_unstable();
    order
}

/// How many of `waiting` go before `job`.
pub fn ahead(waiting: impl IntoIterator<Item = Waiting>, job: JobId) -> u32 {
    let before = waiting.into_iter().filter(|other| other.id < job).count();
    u32::try_from(before).unwrap_or(u32::MAX)
}
