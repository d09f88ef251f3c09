//! What can happen to the scheduler.

use gpusched_shared::{Activity, JobId, JobSpec, Outcome, Rejection, RoundImage, Uid, Usage};

use crate::effect::{BootTime, JobRecord, Key, Picture};
use crate::lane::LaneId;
use crate::plan::Plan;
use crate::program::EndedPart;

/// A connection of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// The shell's name for a submission that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Ticket(pub u64);

/// A job of an earlier run of the daemon that had not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Unfinished {
    /// As the journal has it.
    pub record: JobRecord,
    /// How long ago it was accepted; its time limits go on counting.
    pub age_ms: u64,
    /// If it backs off: for how long at most.
    pub retry_in_ms: Option<u64>,
    /// Its stages that have ended, if it has a program.
    pub ended: Vec<EndedPart>,
    /// If one of its pictures is damaged or gone: what is wrong, for a person.
    pub damage: Option<String>,
}

/// Who is to blame for the death of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blame {
    /// Somebody from outside.
    Nobody,
    /// Whatever ran.
    Everyone,
    /// Whatever ran, or something beside it: nobody for sure.
    Anyone,
    /// What ran on this lane.
    Lane(LaneId),
}

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
        pictures: Vec<Picture>,
        /// Whether the job ends when the connection does.
        attached: bool,
        /// What makes the submission one that may be repeated. The shell has looked among the jobs that have ended.
        key: Option<Key>,
        /// Wall-clock time, for the record only.
        unix_ms: u64,
        /// Time since the machine's start, likewise.
        boot: Option<BootTime>,
    },
    /// The journal holds the submission.
    Recorded(JobId),
    /// The journal could not take the submission.
    RecordFailed(JobId, Rejection),
    /// The jobs of an earlier run of the daemon that had not ended, all at once, or the first would get a lane before others
    /// that go before it.
    Restore(Vec<Unfinished>),
    /// The lane has begun.
    Started(JobId),
    /// The lane got further.
    Progress(JobId, Activity),
    /// The lane has stopped at a yield point because the gate of its class is closed.
    Parked(JobId),
    /// The lane goes on.
    Resumed(JobId),
    /// What the job's picture is about to become is stored; held until the lane has left the job, and that is on record.
    Previewed(JobId, RoundImage),
    /// The lane is done with the job; what it made is being stored, and `Stored` follows.
    Made(JobId, Usage),
    /// What the job made is stored, or could not be.
    Stored(JobId, Outcome),
    /// The lane is done with a job that has nothing to store.
    Finished(JobId, Outcome, Usage),
    /// The lane left the job at a yield point.
    Interrupted(JobId, Usage),
    /// A model is in the partition of the class with this index; its weights take so many bytes, or 0 if nobody counted.
    Loaded {
        /// The class.
        class: usize,
        /// The model's name.
        model: String,
        /// Its bytes.
        bytes: u64,
    },
    /// A model has left a partition.
    Unloaded {
        /// The class.
        class: usize,
        /// The model's name.
        model: String,
    },
    /// The engine is gone, and whatever ran on it.
    EngineLost(Blame),
    /// A fresh engine is ready, with nothing in memory. The first one is when the scheduler is made.
    EngineReady,
    /// The journal holds the outcome.
    Concluded(JobId),
    /// The owner (or an admin) ends a job. The shell has checked the right to.
    Cancel(JobId),
    /// A connection ended.
    SessionClosed(SessionId),
    /// The owner (or an admin) changes a job's priority. The shell has checked the right to.
    SetPriority(JobId, i8),
    /// Jobs of the class with this index are not started any more, or again.
    Pause {
        /// The class.
        class: usize,
        /// Whether it is to be paused.
        paused: bool,
    },
    /// Other rules from here on, as far as they may change while jobs run: quotas, retries, routes, and of each class how
    /// many may wait, its priority, when it is flushed, its gate's share, aging and batching. The rest of the plan is not
    /// looked at.
    Rules(Box<Plan>),
    /// No new jobs, or new ones again; what has been accepted runs.
    Drain(bool),
    /// The daemon is about to end: no new jobs; what runs may finish, what waits stays on record.
    Leave,
    /// Time to leave: what still runs is interrupted and stays on record.
    Abandon,
    /// The timer rang.
    Tick,
}
