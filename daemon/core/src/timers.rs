//! What is to happen at which time. A timer carries its reason.

use std::collections::BTreeSet;

use gpusched_shared::JobId;

use crate::catalog::ModelId;
use crate::time::Time;

/// Why the scheduler wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// The job is worth nothing any more.
    Deadline(JobId),
    /// The job has waited as long as it may.
    QueueTimeout(JobId),
    /// Its lane has worked on the job as long as it may.
    RunTimeout(JobId),
    /// The job has backed off for long enough.
    Retry(JobId),
    /// The client of this job of an earlier run has not come back for it.
    Reattach(JobId),
    /// The model of this class may have been idle for long enough to leave.
    KeepAlive(usize, ModelId),
}

#[derive(Debug, Default)]
pub(crate) struct Timers(BTreeSet<(Time, Timer)>);

impl Timers {
    pub(crate) fn set(&mut self, at: Time, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(crate) fn clear(&mut self, at: Option<Time>, timer: Timer) {
        if let Some(at) = at {
            self.0.remove(&(at, timer));
        }
    }

    /// The next timer that is due, once.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<Timer> {
        let due = self.0.first().copied().filter(|(at, _)| *at <= now)?;
        self.0.remove(&due);
        Some(due.1)
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.0.first().map(|(at, _)| *at)
    }
}
