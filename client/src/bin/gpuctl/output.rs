//! Where things are written: results to standard output, words to standard error.

use std::io::{self, Write};

use serde_json::Value;

use crate::failure::Failure;

/// How the user wants to be told.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    /// Results as JSON.
    pub(crate) json: bool,
    /// No words but errors.
    pub(crate) quiet: bool,
}

impl Output {
    /// A result as it is. Whoever reads may stop when they have enough, as in `gpuctl jobs | head -1`: what gpuctl does
    /// goes on nevertheless, and its exit code tells how that ended.
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            written => written.map_err(Failure::Stdout),
        }
    }

    /// A result in words; `text` may have several lines, and lacks the last line break.
    pub(crate) fn text(&self, text: &str) -> Result<(), Failure> {
        self.bytes(format!("{text}\n").as_bytes())
    }

    /// A result as JSON, on one line.
    pub(crate) fn document(&self, document: &Value) -> Result<(), Failure> {
        self.bytes(format!("{document}\n").as_bytes())
    }

    /// An error.
    pub(crate) fn complain(&self, message: &str) {
        // If nobody reads this either, there is nobody to tell.
        let _ = writeln!(io::stderr(), "gpuctl: {message}");
    }

    /// Something to know, unless told to be quiet.
    pub(crate) fn note(&self, message: &str) {
        if !self.quiet {
            self.complain(message);
        }
    }
}
