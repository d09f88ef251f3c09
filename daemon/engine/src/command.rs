//! What the engine is told.

use std::fmt;
use std::path::PathBuf;

use gpusched_shared::{JobId, JobSpec};

/// A command to the engine.
#[derive(Debug, Clone, PartialEq)]
pub enum Command {
    /// Run a stage on a free lane. Answered by `Started`, any number of `Progress`, then `Finished` or `Interrupted`.
    Run {
        /// The job it belongs to; one at a time.
        job: JobId,
        /// The lane, by its place in the list given at the start.
        lane: usize,
        /// What to do.
        stage: Stage,
    },
    /// Leave the job's stage at its next yield point.
    Stop(JobId),
}

/// One unit of work for a lane.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// What to do, with nothing left open.
    pub spec: JobSpec,
    /// Its picture files.
    pub pictures: Vec<PathBuf>,
}

/// A lane to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneSpec {
    /// Its class.
    pub class: String,
    /// Its number within the class, from 0.
    pub index: u32,
    /// Threads of its compute pool.
    pub threads: usize,
}

impl fmt::Display for LaneSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.class, self.index)
    }
}
