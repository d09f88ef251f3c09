//! What the scheduler wants done.

use std::sync::Arc;

use gpusched_shared::{
    AttemptEnd, BlobHash, BlobRef, JobId, JobSpec, Outcome, Reflection, Rejection, RoundImage, Size, Uid, Update, Usage,
};
use serde::{Deserialize, Serialize};

use crate::footprint::Measurement;
use crate::input::Ticket;
use crate::lane::LaneId;
use crate::program::Part;

/// A picture that came with a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Picture {
    /// Its file.
    #[serde(flatten)]
    pub blob: BlobRef,
    /// How many pixels it has; a large picture takes memory to decode.
    #[serde(default)]
    pub pixels: u64,
}

impl Picture {
    /// One that a job made.
    pub(crate) fn of(RoundImage { blob, size, .. }: RoundImage) -> Self {
        Self { blob, ..Self::to_come(size) }
    }

    /// One that is yet to be made, for what depends on its size alone.
    pub(crate) fn to_come(size: Size) -> Self {
        let blob = BlobRef { hash: BlobHash([0; 32]), bytes: 0 };
        Self { blob, pixels: u64::from(size.width) * u64::from(size.height) }
    }
}

/// What makes a submission one that may be repeated: the client's key, and what was asked for under it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    /// The client's name for the submission, unique among those of its uid.
    pub name: String,
    /// A hash of the request as it came, pictures included.
    pub fingerprint: BlobHash,
}

/// A time on the clock that runs from the machine's start and never jumps; it tells how long ago something was, also to
/// a daemon that has been started since, until the machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootTime {
    /// Which run of the machine.
    pub boot: u64,
    /// Milliseconds since its start.
    pub ms: u64,
}

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
    pub pictures: Vec<Picture>,
    /// Whether it ends with its connection.
    pub attached: bool,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub submitted_unix_ms: u64,
    /// The same on a clock that does not jump, if there was one.
    #[serde(default)]
    pub submitted_boot: Option<BootTime>,
    /// How often a lane has started it.
    pub attempts: u32,
    /// The key it was submitted with.
    #[serde(default)]
    pub key: Option<Key>,
    /// How often it was tried again after it ran out of memory.
    #[serde(default)]
    pub retries: u32,
    /// True if the engine died while a lane had it, and it has not run alone since.
    #[serde(default)]
    pub suspect: bool,
    /// How often the engine died while it ran alone.
    #[serde(default)]
    pub deaths: u32,
    /// The job whose stage it is, and which stage, if it was not a client that asked for it.
    #[serde(default)]
    pub part: Option<Part>,
}

/// Something for the shell to do. Effects are carried out in the order they were given.
#[derive(Debug, Clone, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "short-lived, few at a time; a box would burden every reader")]
pub enum Effect {
    /// Write the submission to the journal; answer with `Recorded` or `RecordFailed`.
    Record(Arc<JobRecord>),
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
        record: Arc<JobRecord>,
        /// What the job may use beside its model's weights, in bytes.
        lease_bytes: u64,
        /// Whether to flush the class's memory first.
        flush: bool,
        /// After how many steps to show what its picture is about to become; answer with `Previewed`, if that can be stored.
        preview_after: Option<u32>,
    },
    /// Ask the lane to leave the job at its next yield point; it answers `Interrupted`, or `Finished` if it was faster.
    Stop(JobId),
    /// Close or open the gate of the class with this index: while it is closed, its jobs park at their next yield point.
    Gate {
        /// The class.
        class: usize,
        /// Whether to close it.
        closed: bool,
    },
    /// Drop a model that no job uses from the partition of the class with this index; answer with `Unloaded`.
    Evict {
        /// The class.
        class: usize,
        /// The model's name.
        model: String,
    },
    /// Write the outcome to the journal; answer with `Concluded`.
    Conclude {
        /// The job.
        job: JobId,
        /// How it ended.
        outcome: Outcome,
        /// How long it waited for a lane, in microseconds.
        wait_us: u64,
        /// How long lanes held it, in microseconds.
        run_us: u64,
        /// Of `wait_us`, how long it backed off, in microseconds.
        backoff_us: u64,
        /// What its lanes measured.
        usage: Usage,
        /// What its rounds came to, if it reflects.
        reflection: Option<Box<Reflection>>,
    },
    /// Write to the journal how an attempt ended.
    AttemptEnded {
        /// The job.
        job: JobId,
        /// Which attempt, from 1.
        attempt: u32,
        /// How.
        end: AttemptEnd,
    },
    /// Write to the journal that a job backs off, so that a daemon that is started again keeps to it.
    BackOff {
        /// The job.
        job: JobId,
        /// Which retry comes next, from 1.
        retry: u32,
        /// When at the latest, in milliseconds from now.
        within_ms: u64,
    },
    /// Have the engine give free memory of the class with this index back to the device.
    Flush {
        /// The class.
        class: usize,
        /// The job that ran out of it.
        job: JobId,
    },
    /// Write a job's new record, which differs in its priority or in what is suspected of it, to the journal.
    Amend(Arc<JobRecord>),
    /// Write what jobs of a shape were measured to need to the journal.
    Keep(Measurement),
    /// Queues have moved: whoever watches a waiting job may be told its new place.
    Advanced,
    /// Tell whoever watches the job. After `Done` there is no more.
    Tell(JobId, Update),
}
