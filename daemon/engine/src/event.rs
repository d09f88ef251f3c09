//! What the engine says.

use gpusched_shared::view::Activity;
use gpusched_shared::{Answer, FailureKind, JobId, Size, TaskKind};

/// News of the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The lane has begun with the job.
    Started(JobId),
    /// The lane got further.
    Progress(JobId, Activity),
    /// The lane is done with the job and free.
    Finished(JobId, Result<Product, Failure>),
    /// The lane left the job at a yield point, because it was told to, and is free.
    Interrupted(JobId),
    /// A model has been loaded.
    Loaded(String),
}

/// What a stage made.
#[derive(Debug, Clone, PartialEq)]
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
}

/// Why a stage failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
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

/// A model the engine can load.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelReport {
    /// Its name: that of its directory.
    pub name: String,
    /// Its architecture.
    pub kind: String,
    /// What it can do.
    pub tasks: Vec<TaskKind>,
    /// Bytes of its weight files.
    pub bytes: u64,
    /// The picture size it makes where none is asked for.
    pub default_size: Size,
    /// Sides of a picture must be multiples of this.
    pub size_multiple: u32,
    /// The most pixels a picture may have.
    pub max_pixels: u64,
    /// True if it was distilled to few steps without guidance.
    pub distilled: bool,
}
