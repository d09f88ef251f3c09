//! Typed refusals. Each says what is wrong, with the numbers, and what to do about it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};
use crate::id::JobId;
use crate::units::Bytes;

/// Why the daemon did not do what a request asked. Nothing has changed when one of these comes back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, thiserror::Error)]
#[serde(tag = "code", rename_all = "snake_case")]
pub enum Rejection {
    /// The two sides share no protocol version.
    #[error(
        "protocol version not supported: the daemon speaks {least} to {most}; install matching versions of gpuctl and gpuschedd"
    )]
    Version {
        /// The oldest the daemon speaks.
        least: u16,
        /// The newest the daemon speaks.
        most: u16,
    },
    /// Something other than Hello came first, or Hello came twice.
    #[error("a connection starts with one Hello and only one")]
    Handshake,
    /// The bytes are no request.
    #[error("malformed request: {reason}")]
    Malformed {
        /// What the decoder said.
        reason: String,
    },
    /// The frame's header announces more than the daemon reads. The connection ends.
    #[error("frame of {bytes} bytes, the daemon reads at most {limit}; pictures travel as descriptors, not in frames")]
    FrameTooLarge {
        /// What was announced.
        bytes: u64,
        /// What is allowed.
        limit: u64,
    },
    /// The prompt or question is empty.
    #[error("the text of a {task} job is empty; say what you want")]
    EmptyText {
        /// The task.
        task: String,
    },
    /// The prompt or question is too long.
    #[error("the text has {bytes} bytes, the limit is {limit}; shorten it")]
    TextTooLong {
        /// How long it is.
        bytes: u64,
        /// How long it may be.
        limit: u64,
    },
    /// A field of the job is out of range.
    #[error("bad {field}: {reason}")]
    BadSpec {
        /// Which field.
        field: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Too few or too many pictures.
    #[error("a {task} job takes {least} to {most} pictures, got {got}")]
    WrongImageCount {
        /// The task.
        task: String,
        /// Fewest.
        least: u8,
        /// Most.
        most: u8,
        /// How many came.
        got: u8,
    },
    /// A picture could not be taken.
    #[error("picture {index}: {reason}")]
    BadImage {
        /// Which one, from 0.
        index: u8,
        /// What is wrong with it.
        reason: String,
    },
    /// No such model.
    #[error("no model {name:?} here; there is {available}")]
    UnknownModel {
        /// What was asked for.
        name: String,
        /// What there is, for a person.
        available: String,
    },
    /// The model cannot do the task.
    #[error("model {model:?} does not do {task}; there is {available} that does")]
    WrongModel {
        /// The model.
        model: String,
        /// The task.
        task: String,
        /// Which models can, for a person.
        available: String,
    },
    /// No routing rule takes the job.
    #[error("no [[route]] of the daemon's configuration takes this {task} job; `gpuctl route --explain` says why")]
    NoRoute {
        /// The task.
        task: String,
    },
    /// The class's queue is full.
    #[error("the queue of class {class} is full ({limit} jobs); try again in {:.1} s", *retry_after_ms as f64 / 1000.0)]
    QueueFull {
        /// The class.
        class: String,
        /// Its bound.
        limit: u32,
        /// When a place is likely to be free, from measured run times.
        retry_after_ms: u64,
    },
    /// The caller has as many jobs as it may have.
    #[error("{limit} jobs {quota}, which is the most; wait for one to end, or cancel one")]
    QuotaExceeded {
        /// Which quota.
        quota: Quota,
        /// Its bound.
        limit: u32,
    },
    /// The job needs more memory than its class can ever give it.
    #[error(
        "needs {} ({} for {model}, {} to run), partition {class} has {}; ask for less, or give the class more",
        Bytes(weights_bytes.saturating_add(*run_bytes)), Bytes(*weights_bytes), Bytes(*run_bytes), Bytes(*cap_bytes)
    )]
    NeverFits {
        /// The class, which names the partition.
        class: String,
        /// The model.
        model: String,
        /// Bytes of the model's weights in memory.
        weights_bytes: u64,
        /// Bytes beside them while the job runs.
        run_bytes: u64,
        /// The most the job could get.
        cap_bytes: u64,
    },
    /// Only administrators may do that.
    #[error("only root and the daemon's own user may {action}")]
    NotAllowed {
        /// What was asked for.
        action: String,
    },
    /// No such service class.
    #[error("no class {name:?} here; there is {available}")]
    NoSuchClass {
        /// What was asked for.
        name: String,
        /// What there is, for a person.
        available: String,
    },
    /// The job has ended.
    #[error("job {job} has ended ({state}); see `gpuctl show {job}`")]
    HasEnded {
        /// The job.
        job: JobId,
        /// How.
        state: String,
    },
    /// The connection has too many requests open.
    #[error("{limit} requests are open on this connection, which is the most; wait for one to end")]
    TooManyRequests {
        /// The bound.
        limit: u32,
    },
    /// The daemon has too many connections.
    #[error("the daemon has {limit} connections of yours or {limit} in all, which is the most; close one")]
    TooManyConnections {
        /// The bound.
        limit: u32,
    },
    /// There is no such job, or it belongs to someone else.
    #[error("no job {job} of yours; list yours with `gpuctl jobs`")]
    NoSuchJob {
        /// What was asked for.
        job: JobId,
    },
    /// The job has no file to fetch.
    #[error("job {job} has no picture: it is {state}")]
    NothingToFetch {
        /// The job.
        job: JobId,
        /// What it is instead.
        state: String,
    },
    /// The key was used for another request.
    #[error("key was used for job {job}, which is another request; choose a new key for a new job")]
    KeyConflict {
        /// The job that has the key.
        job: JobId,
    },
    /// The disk has too little room for further jobs; those that were accepted run on.
    #[error(
        "the daemon's disk has {} free and takes jobs from {} on; make room in its state directory",
        Bytes(*free_bytes), Bytes(*low_water_bytes)
    )]
    DiskFull {
        /// What is free.
        free_bytes: u64,
        /// The least that must be.
        low_water_bytes: u64,
    },
    /// The files of jobs that have not ended take all the room that stored files may have.
    #[error("stored files take all of the {} that they may; wait for jobs to end, or raise storage.blobs", Bytes(*quota_bytes))]
    StoreFull {
        /// The most they may take.
        quota_bytes: u64,
    },
    /// There is no engine just now to look at a picture.
    #[error("the engine is being started again; try again in a moment")]
    EngineDown,
    /// The daemon is stopping.
    #[error("the daemon takes no new jobs: it is draining or stopping; try again when it is back")]
    Draining,
    /// The daemon could not do its own part.
    #[error("the daemon failed: {reason}; its log says more")]
    Internal {
        /// What happened.
        reason: String,
    },
}

/// What a caller may have only so much of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Quota {
    /// Waiting jobs of one uid.
    QueuedPerUid,
    /// Jobs on lanes of one uid. Its further jobs wait; they are not refused.
    RunningPerUid,
    /// Unfinished jobs of one connection.
    JobsPerConnection,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::QueuedPerUid => "of yours are waiting",
            Self::RunningPerUid => "of yours are running",
            Self::JobsPerConnection => "of this connection have not ended",
        })
    }
}
