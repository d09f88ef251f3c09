//! What can go wrong with a model directory, a request or the device.

use std::path::{Path, PathBuf};

use crate::yield_point::Interrupted;

/// Result with this crate's [`enum@Error`].
pub type Result<T> = std::result::Result<T, Error>;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The observer asked the work to stop.
    #[error(transparent)]
    Interrupted(#[from] Interrupted),
    /// A file of the model is not there or cannot be read.
    #[error("{}: {source}", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: std::io::Error,
    },
    /// A JSON file is malformed, or says something this crate does not implement.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// The key and value, and what would work.
        reason: String,
    },
    /// A weight file is malformed, or lacks a tensor that the configuration asks for.
    #[error("{}: {reason}", path.display())]
    Weights {
        /// The file, or the component's directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The tokenizer or the chat template cannot be used.
    #[error("{}: {reason}", path.display())]
    Tokenizer {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The request asks for something impossible; the text is for the person who made it.
    #[error("{0}")]
    Input(String),
    /// The device failed, most likely for want of memory.
    #[error("device: {0}")]
    Device(#[from] candle_core::Error),
}

impl Error {
    pub(crate) fn config(path: &Path, reason: impl Into<String>) -> Self {
        Self::Config { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn weights(path: &Path, reason: impl Into<String>) -> Self {
        Self::Weights { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn tokenizer(path: &Path, reason: impl Into<String>) -> Self {
        Self::Tokenizer { path: path.to_owned(), reason: reason.into() }
    }

    pub(crate) fn missing(path: &Path, source: std::io::Error) -> Self {
        Self::Missing { path: path.to_owned(), source }
    }
}
