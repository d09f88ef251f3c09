//! What the engine says.

use gpusched_shared::codec::{Decode, Encode};
use gpusched_shared::view::Activity;
use gpusched_shared::{Answer, Bytes, FailureKind, Found, JobId, OutOfMemory, Size, Usage};

use crate::memory::Memory;

/// News of the engine: plain data, but for the bytes of a picture, which travel beside it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Event {
    /// The lane has begun with the job.
    Started(JobId),
    /// The lane got further. A stage that was said to load is said to be `Starting` when it has its model and computes.
    Progress(JobId, Activity),
    /// The stage waits at a yield point until the gate of its class opens, with all it holds.
    Parked {
        /// The job.
        job: JobId,
        /// Microseconds from the closing of the gate to the stage being parked. `None` where that says nothing of how fast
        /// work makes way: it was still finding its model, or the gate was closed before it began to compute.
        after_us: Option<u64>,
    },
    /// The stage goes on. Not said of a stage that is stopped while it is parked.
    Resumed(JobId),
    /// What the job's picture is about to become.
    Previewed {
        /// The job.
        job: JobId,
        /// The bytes of a PNG file.
        png: Vec<u8>,
        /// Its size in pixels.
        size: Size,
    },
    /// The job's text got longer.
    Wrote {
        /// The job.
        job: JobId,
        /// All of it so far: who did not hear the last time misses nothing.
        text: String,
        /// Its tokens.
        tokens: u32,
    },
    /// How long the device itself was at the job's stage, parked time included, where it counts that. Said before the end.
    OnDevice {
        /// The job.
        job: JobId,
        /// In microseconds, from the first of its work that the device came to until the last was done.
        us: u64,
    },
    /// The lane is done with the job and free.
    Finished(JobId, Result<Product, Failure>, Usage),
    /// The lane left the job at a yield point, because it was told to, and is free.
    Interrupted(JobId, Usage),
    /// A model has been loaded into a class's partition.
    Loaded {
        /// The class, by its partition's place in the list given at the start.
        class: usize,
        /// The model.
        model: String,
        /// What it holds in memory, as measured.
        bytes: u64,
    },
    /// A model has been dropped from a class's partition and its memory is free.
    Unloaded {
        /// The class, likewise.
        class: usize,
        /// The model.
        model: String,
    },
    /// Free memory was given back to the system, before a stage or because it was told to.
    Flushed {
        /// The class, likewise.
        class: usize,
        /// The job that it was done for.
        job: JobId,
        /// What was held before.
        before: Memory,
        /// And after.
        after: Memory,
    },
    /// The gate of a class opened again before a stage that computed when it closed came to a yield point. Said once for
    /// each such stage; of one that ended first, its end is all that is said.
    Missed {
        /// The class, likewise.
        class: usize,
    },
    /// A picture has been decoded.
    Inspected {
        /// As in the command.
        ticket: u64,
        /// Its size in pixels, or what is wrong with it, for a person.
        result: Result<Size, String>,
    },
}

/// What a stage made.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Product {
    /// A picture.
    Image {
        /// The bytes of a PNG file. They depend on the request alone: same request, same bytes.
        png: Vec<u8>,
        /// Its size in pixels.
        size: Size,
        /// Prompt tokens that did not fit.
        truncated_tokens: u32,
    },
    /// Answers, best first.
    Answers(Vec<Answer>),
    /// What was looked for, surest first.
    Found(Vec<Found>),
    /// A region of a picture.
    Mask {
        /// The bytes of a PNG file of the picture's size: white inside, black outside.
        png: Vec<u8>,
        /// Its size in pixels.
        size: Size,
        /// How many of them are inside.
        inside: u64,
        /// How well the model expects it to fit, 0 to 1.
        score: f32,
    },
    /// A text.
    Text {
        /// What it says.
        text: String,
        /// Its tokens.
        tokens: u32,
        /// Whether the model ended it.
        complete: bool,
        /// Prompt tokens that did not fit.
        truncated_tokens: u32,
    },
    /// How well a picture fits a text, -1 to 1.
    Score(f32),
}

/// Why a stage failed.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure.
    pub kind: FailureKind,
    /// What happened, for a person.
    pub message: String,
}

impl Failure {
    pub(crate) fn engine(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Engine, message: message.into() }
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Input, message: message.into() }
    }
}

impl From<OutOfMemory> for Failure {
    fn from(out_of_memory: OutOfMemory) -> Self {
        let message = match &out_of_memory {
            // See `Lease::check`.
            OutOfMemory { partition, requested_bytes: 0, used_bytes, cap_bytes } => {
                let (used, cap) = (Bytes(*used_bytes), Bytes(*cap_bytes));
                format!(
                    "out of memory: the model's weights do not fit, partition {partition} has {used} of {cap} in use"
                )
            }
            OutOfMemory { .. } => out_of_memory.to_string(),
        };
        Self { message, kind: FailureKind::OutOfMemory(out_of_memory) }
    }
}
