//! Handles of cuBLAS and cuRAND.

use super::StreamId;

/// A library's handle, and what it keeps.
#[derive(Debug)]
pub(crate) struct Library {
    /// Where its work goes.
    pub(crate) stream: StreamId,
    /// Where on the device its workspace is.
    pub(crate) workspace: Option<u64>,
    /// Of a generator of random numbers.
    pub(crate) state: u64,
}
