//! What a job ends with.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::blob::BlobRef;
use crate::codec::{Decode, Encode};
use crate::spec::Size;

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
    /// Its deadline passed.
    Expired,
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The model refused what it was given: change the request.
    Input,
    /// The model's files are missing, damaged or of a kind this build does not know: see to the models directory.
    Model,
    /// The device or the engine failed.
    Engine,
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Input => "the model refused the input",
            Self::Model => "the model could not be loaded",
            Self::Engine => "the engine failed",
        })
    }
}

impl Outcome {
    /// The picture file, if that is what the job made.
    pub fn blob(&self) -> Option<BlobRef> {
        match self {
            Self::Image { blob, .. } => Some(*blob),
            Self::Answers(_) | Self::Failed { .. } | Self::Cancelled | Self::Expired => None,
        }
    }

    /// One word: `done`, `failed`, `cancelled` or `expired`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Image { .. } | Self::Answers(_) => "done",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }
}
