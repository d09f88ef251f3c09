//! What the scheduler wants done.

use gpusched_shared::{BlobRef, JobId, JobSpec, Outcome, Rejection, Uid, Update};
use serde::{Deserialize, Serialize};

use crate::input::Ticket;
use crate::lane::LaneId;

/// A job as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its number.
    pub id: JobId,
    /// Whose it is.
    pub uid: Uid,
    /// Its class.
    pub class: String,
    /// What to do.
    pub spec: JobSpec,
    /// Its stored pictures.
    pub pictures: Vec<BlobRef>,
    /// Whether it ends with its connection.
    pub attached: bool,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub submitted_unix_ms: u64,
    /// How often a lane has started it.
    pub attempts: u32,
}

/// Something for the shell to do. Effects are carried out in the order they were given.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Write the submission to the journal; answer with `Recorded` or `RecordFailed`.
    Record(JobRecord),
    /// Tell the client that its job is on record.
    Accept(Ticket, JobId),
    /// Tell the client that there will be no job.
    Reject(Ticket, Rejection),
    /// Have a lane run the job.
    Launch {
        /// The job.
        job: JobId,
        /// Which try this is, from 1; the journal notes it.
        attempt: u32,
        /// Where.
        lane: LaneId,
        /// What to do.
        spec: JobSpec,
        /// Its stored pictures.
        pictures: Vec<BlobRef>,
    },
    /// Ask the lane to leave the job at its next yield point; it answers `Interrupted`, or `Finished` if it was faster.
    Stop(JobId),
    /// Write the outcome to the journal; answer with `Concluded`.
    Conclude {
        /// The job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
        /// How long it waited for a lane.
        wait_ms: u64,
        /// How long lanes worked on it.
        run_ms: u64,
    },
    /// Queues have moved: whoever watches a waiting job may be told its new place.
    Advanced,
    /// Tell whoever watches the job. After `Done` there is no more.
    Tell(JobId, Update),
}
