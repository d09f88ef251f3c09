//! What can go wrong, how it is told, and the exit codes.

use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use gpusched_client::shared::manual::NotWritten;
use gpusched_client::{Error, Outcome};
use serde_json::{Value, json};

use crate::output::Output;
use crate::render::clean;

/// How gpuctl ends; `gpuctl --help` documents these for users.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    Done = 0,
    JobFailed = 1,
    Usage = 2,
    NoDaemon = 3,
    Refused = 4,
    JobEnded = 5,
    Unwell = 6,
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

impl From<&Outcome> for Exit {
    fn from(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Failed { .. } => Self::JobFailed,
            Outcome::Cancelled | Outcome::Expired { .. } => Self::JobEnded,
            Outcome::Image { .. }
            | Outcome::Answers(_)
            | Outcome::Found(_)
            | Outcome::Mask { .. }
            | Outcome::Text { .. }
            | Outcome::Score(_) => Self::Done,
        }
    }
}

/// Why gpuctl could not do what it was told. A job that failed is none: that is a result.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error(transparent)]
    Client(#[from] Error),
    #[error("{0}")]
    Usage(String),
    #[error("cannot write {}: {source}; name another file with -o", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Generate(#[from] NotWritten),
    #[error("cannot write to standard output: {0}")]
    Stdout(#[source] io::Error),
    #[error(
        "cannot run {}, which does `gpuctl {command}`: {source}; install gpuschedd beside gpuctl or on the PATH \
         (`cargo build --release --bins` builds both)",
        program.display()
    )]
    HandOver { command: &'static str, program: PathBuf, source: io::Error },
    #[error("the system refused: {0}")]
    System(#[source] io::Error),
}

impl Failure {
    /// Tells the user.
    pub(crate) fn report(&self, output: &Output) -> Exit {
        // If standard output is no good either, the exit code still tells.
        let _ = if output.json { output.document(&json!({ "error": self.document() })) } else { Ok(()) };
        if !output.json {
            output.complain(&clean(&self.to_string()));
        }
        self.exit()
    }

    fn exit(&self) -> Exit {
        match self {
            Self::Client(Error::NotRunning { .. } | Error::PermissionDenied { .. } | Error::Disconnected) => {
                Exit::NoDaemon
            }
            Self::Client(Error::Gone { .. } | Error::Protocol(_) | Error::Io(_)) | Self::HandOver { .. } => {
                Exit::NoDaemon
            }
            Self::Client(Error::Rejected(_)) => Exit::Refused,
            Self::Client(Error::Damaged { .. }) => Exit::JobFailed,
            Self::Client(Error::Picture { .. }) => Exit::Usage,
            Self::Usage(_) | Self::Write { .. } | Self::Generate(_) | Self::Stdout(_) | Self::System(_) => Exit::Usage,
        }
    }

    /// `code`, `message`, and for a refusal its numbers.
    fn document(&self) -> Value {
        let code = match self {
            Self::Client(Error::Rejected(rejection)) => {
                // Cannot fail: a refusal is strings and numbers. It brings its own code.
                let mut document = serde_json::to_value(rejection).unwrap_or_else(|_| json!({}));
                document["message"] = Value::String(self.to_string());
                return document;
            }
            Self::Client(Error::NotRunning { .. }) => "not_running",
            Self::Client(Error::PermissionDenied { .. }) => "permission_denied",
            Self::Client(Error::Disconnected) => "disconnected",
            Self::Client(Error::Gone { .. }) => "gone",
            Self::Client(Error::Protocol(_)) => "protocol",
            Self::Client(Error::Damaged { .. }) => "damaged",
            Self::Client(Error::Picture { .. }) => "picture",
            Self::Client(Error::Io(_)) | Self::Stdout(_) | Self::System(_) => "io",
            Self::Usage(_) => "usage",
            Self::Write { .. } | Self::Generate(_) => "write",
            Self::HandOver { .. } => "no_gpuschedd",
        };
        json!({ "code": code, "message": self.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use gpusched_client::Rejection;

    use super::*;

    #[test]
    fn refusals_bring_their_code_and_numbers() {
        let failure = Failure::from(Error::from(Rejection::QueueFull {
            class: "batch".to_owned(),
            limit: 8,
            retry_after_ms: 2500,
        }));
        assert_eq!(failure.exit(), Exit::Refused);
        assert_eq!(
            failure.document(),
            json!({
                "code": "queue_full",
                "class": "batch",
                "limit": 8,
                "retry_after_ms": 2500,
                "message": "the queue of class batch is full (8 jobs); try again in 2.5 s"
            })
        );
    }

    #[test]
    fn no_daemon_has_its_own_exit_code() {
        let failure = Failure::from(Error::NotRunning { path: "/x".into() });
        assert_eq!((failure.exit(), failure.document()["code"].as_str()), (Exit::NoDaemon, Some("not_running")));
    }
}
