//! What a job ends with.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::BlobRef;
use crate::codec::{Decode, Encode};
use crate::edit::Found;
use crate::reflect::RoundImage;
use crate::spec::Size;
use crate::units::Bytes;

/// How a job ended. Every accepted job has exactly one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A picture, kept as a PNG file.
    Image {
        /// The file; fetch it to get a descriptor of it.
        blob: BlobRef,
        /// Its size in pixels.
        size: Size,
        /// Prompt tokens beyond the model's limit, which it did not see; 0 if it saw the whole prompt.
        truncated_tokens: u32,
    },
    /// Answers, best first.
    Answers(Vec<Answer>),
    /// It could not be done.
    Failed {
        /// What kind of failure.
        kind: FailureKind,
        /// What happened, for a person.
        message: String,
    },
    /// Its owner cancelled it, or an attached client went away.
    Cancelled,
    /// It ran out of time.
    Expired {
        /// Which time.
        limit: TimeLimit,
    },
    /// What was looked for, surest first. Since version 5, as all that follow.
    Found(Vec<Found>),
    /// A region of a picture, kept as a PNG file of the picture's size: white inside, black outside.
    Mask {
        /// The file.
        blob: BlobRef,
        /// Its size in pixels.
        size: Size,
        /// How many of them are inside.
        inside: u64,
        /// How well the model expects it to fit, as intersection over union, 0 to 1.
        score: f32,
    },
    /// A text.
    Text {
        /// What it says.
        text: String,
        /// Its tokens.
        tokens: u32,
        /// Whether the model ended it, rather than the bound on its tokens.
        complete: bool,
        /// Tokens of the prompt beyond the model's limit, which it did not see.
        truncated_tokens: u32,
    },
    /// How well a picture fits a text: the cosine of the angle between what the model makes of both, -1 to 1.
    Score(f32),
}

/// The times a job may be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum TimeLimit {
    /// Counted from acceptance, waiting and running.
    Deadline,
    /// Counted from acceptance until a lane takes it.
    QueueTimeout,
    /// Counted while a lane works on it.
    RunTimeout,
}

/// One answer of a VQA job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Answer {
    /// The answer.
    pub label: String,
    /// Its share of all answers' probability, 0 to 1.
    pub score: f32,
}

/// Why a job failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The model refused what it was given: change the request.
    Input,
    /// The model's files are missing, damaged or of a kind this build does not know: see to the models directory.
    Model,
    /// The device or the engine failed.
    Engine,
    /// It needed more memory than its partition has: ask for less (a smaller size), or give the class a larger partition.
    OutOfMemory(OutOfMemory),
    /// The engine died each time it ran this job alone, so it is not run any more: report it, with the daemon's log.
    Quarantined {
        /// How often the engine died of it.
        deaths: u32,
    },
    /// A file that the job needs is damaged or gone from the daemon's store: submit it again.
    Storage,
    /// None of its pictures passed their checks, and it asked to fail then. The pictures are kept with the job's rounds.
    ChecksFailed,
}

/// What was asked of a memory partition, and what it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode, thiserror::Error)]
#[error(
    "out of memory: needs {}, partition {partition} has {} of {} in use",
    Bytes(*requested_bytes), Bytes(*used_bytes), Bytes(*cap_bytes)
)]
pub struct OutOfMemory {
    /// The partition: the name of its class.
    pub partition: String,
    /// What the job was found to need.
    pub requested_bytes: u64,
    /// What was in use in all, the job included, at its highest just before it was stopped.
    pub used_bytes: u64,
    /// The most that may be.
    pub cap_bytes: u64,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Input => f.write_str("the model refused the input"),
            Self::Model => f.write_str("the model could not be loaded"),
            Self::Engine => f.write_str("the engine failed"),
            Self::OutOfMemory(oom) => oom.fmt(f),
            Self::Quarantined { deaths } => write!(f, "quarantined: the engine died of it {deaths} times"),
            Self::Storage => f.write_str("a stored file is damaged or gone"),
            Self::ChecksFailed => f.write_str("no picture passed its checks"),
        }
    }
}

impl fmt::Display for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "deadline",
            Self::QueueTimeout => "queue timeout",
            Self::RunTimeout => "run timeout",
        })
    }
}

impl Outcome {
    /// The picture file, if that is what the job made.
    pub fn blob(&self) -> Option<BlobRef> {
        match self {
            Self::Image { blob, .. } | Self::Mask { blob, .. } => Some(*blob),
            Self::Answers(_)
            | Self::Found(_)
            | Self::Text { .. }
            | Self::Score(_)
            | Self::Failed { .. }
            | Self::Cancelled
            | Self::Expired { .. } => None,
        }
    }

    /// The picture, if that is what the job made.
    pub fn image(&self) -> Option<RoundImage> {
        if let Self::Image { blob, size, truncated_tokens } = *self {
            Some(RoundImage { blob, size, truncated_tokens })
        } else {
            None
        }
    }

    /// Whether the job came to what it was asked for.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Image { .. }
            | Self::Answers(_)
            | Self::Found(_)
            | Self::Mask { .. }
            | Self::Text { .. }
            | Self::Score(_) => true,
            Self::Failed { .. } | Self::Cancelled | Self::Expired { .. } => false,
        }
    }

    /// One word: `done`, `failed`, `cancelled` or `expired`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Image { .. }
            | Self::Answers(_)
            | Self::Found(_)
            | Self::Mask { .. }
            | Self::Text { .. }
            | Self::Score(_) => "done",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired { .. } => "expired",
        }
    }
}
