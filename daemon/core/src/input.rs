//! What can happen to the scheduler.

use gpusched_shared::view::Activity;
use gpusched_shared::{BlobRef, JobId, JobSpec, Outcome, Uid};

use crate::effect::JobRecord;

/// A connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

/// The shell's name for a submission that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// Something happened. See [`Scheduler::handle`](crate::Scheduler::handle).
#[derive(Debug, Clone, PartialEq)]
pub enum Input {
    /// A client asks for a job. `spec` has been resolved against the catalog and its pictures are stored.
    Submit {
        /// Returned with the answer.
        ticket: Ticket,
        /// Whose job it is.
        uid: Uid,
        /// The connection it came by; an attached job ends with it.
        session: SessionId,
        /// What to do.
        spec: JobSpec,
        /// The stored pictures.
        pictures: Vec<BlobRef>,
        /// Whether the job ends when the connection does.
        attached: bool,
        /// Wall-clock time, for the record only.
        unix_ms: u64,
    },
    /// The journal holds the submission.
    Recorded(JobId),
    /// The journal could not take the submission.
    RecordFailed(JobId, String),
    /// A job of an earlier run of the daemon that had not ended.
    Restore {
        /// As the journal has it.
        record: JobRecord,
        /// How long ago it was accepted; its deadline goes on counting.
        age_ms: u64,
    },
    /// The lane has begun.
    Started(JobId),
    /// The lane got further.
    Progress(JobId, Activity),
    /// The lane is done with the job, and what it made is stored.
    Finished(JobId, Outcome),
    /// The lane left the job at a yield point.
    Interrupted(JobId),
    /// The engine is gone, and whatever ran on it; a fresh one is ready.
    EngineLost,
    /// The journal holds the outcome.
    Concluded(JobId),
    /// The owner (or an admin) ends a job. The shell has checked the right to.
    Cancel(JobId),
    /// A connection ended.
    SessionClosed(SessionId),
    /// No new jobs; what runs may finish, what waits stays on record.
    Drain,
    /// Time to leave: what still runs is interrupted and stays on record.
    Abandon,
    /// The timer rang.
    Tick,
}
