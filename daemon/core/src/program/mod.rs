//! Programs: jobs that take several stages. A program is pure. It is told which of its stages have ended and how, and says
//! which it wants next, or how the job ends; the scheduler makes each stage a job of its own, with a [`Part`] in its record.
//!
//! What a program knows it knows from stages whose outcomes are on record, so a daemon that is started again tells it the
//! same and it goes on where it was.

pub mod adjust;
pub mod checks;
pub mod prompt;
pub mod reflect;
mod round;

use gpusched_shared::{JobId, JobSpec, Outcome, Usage};
use serde::{Deserialize, Serialize};

/// Which stage of which job a job is. No two jobs on record are the same part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The job that a client asked for.
    pub of: JobId,
    /// Its round, from 1.
    pub round: u8,
    /// What the stage does in the round.
    pub role: Role,
}

/// What a stage does in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Makes the picture.
    Image,
    /// Asks the question with this number, from 0, about it.
    Check(u8),
    /// Asks that question about what the picture is about to become, while it is made.
    Glance(u8),
}

/// A stage that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedPart {
    /// Which one.
    pub part: Part,
    /// What it was asked to do.
    pub spec: JobSpec,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it waited for a lane, in microseconds.
    pub wait_us: u64,
    /// Of that, how long it backed off.
    pub backoff_us: u64,
    /// How long lanes held it, in microseconds.
    pub run_us: u64,
    /// What they measured.
    pub usage: Usage,
}

impl EndedPart {
    /// How long lanes worked on it, in microseconds; time parked does not count.
    pub fn lane_us(&self) -> u64 {
        self.run_us.saturating_sub(self.usage.parked_us)
    }
}
