//! What comes of jobs.

use gpusched_shared::{Answer, BlobHash, BlobRef, Outcome, Size};

/// What comes of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Makes {
    Picture,
    /// Answers that nobody looks at.
    Answers,
    /// Whether a picture passes a check.
    Check {
        passes: bool,
    },
}

impl Makes {
    /// What a lane gives back; `None` for what is stored first.
    pub(crate) fn outcome(self) -> Option<Outcome> {
        match self {
            Self::Picture => None,
            Self::Answers => Some(Outcome::Answers(Vec::new())),
            Self::Check { passes } => {
                let label = if passes { "yes" } else { "no" };
                Some(Outcome::Answers(vec![Answer { label: label.to_owned(), score: 1.0 }]))
            }
        }
    }
}

/// What a finished picture is stored as. It has one pixel, so that decoding it takes no memory: what a job needs is its
/// model's affair here.
pub(crate) fn picture() -> Outcome {
    let blob = BlobRef { hash: BlobHash([0; 32]), bytes: 0 };
    Outcome::Image { blob, size: Size { width: 1, height: 1 }, truncated_tokens: 0 }
}
