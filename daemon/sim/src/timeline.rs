//! What happened when: the format of the files that simulations and real runs write alike, as JSON.
//!
//! A file is a list with a [`Timeline`] for each run. All times are microseconds since the run began, all sizes bytes.

use serde::{Deserialize, Serialize};

/// The version of the format.
pub const VERSION: u32 = 1;

/// A run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timeline {
    /// The format's [`VERSION`].
    pub version: u32,
    /// What ran, in a line.
    pub title: String,
    /// How waiting jobs were started: `fifo` or `multi-queue`.
    pub policy: String,
    /// The classes, those of the configuration's order.
    pub classes: Vec<ClassLine>,
    /// The jobs that were accepted, in the order in which they ended.
    pub jobs: Vec<JobLine>,
    /// What the partitions held, in the order of time: an entry each time that it changed.
    pub memory: Vec<MemoryPoint>,
    /// True if there was more than is in here.
    pub truncated: bool,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassLine {
    /// Its name, which is also that of its partition.
    pub name: String,
    /// Its lanes.
    pub lanes: u32,
    /// The most its partition may hold.
    pub cap_bytes: u64,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobLine {
    /// Its number.
    pub job: u64,
    /// Its class.
    pub class: String,
    /// Whose it is.
    pub uid: u32,
    /// What it did, for a person: its kind in a simulation, its text in a real run.
    pub what: String,
    /// When it was submitted.
    pub submitted_us: u64,
    /// When it was on which lane; of one that reflects, when its pictures were.
    pub attempts: Vec<AttemptLine>,
    /// When its outcome could be seen.
    pub ended_us: u64,
    /// How it ended: `done`, `failed`, `cancelled` or `expired`.
    pub outcome: String,
}

/// A stay on a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttemptLine {
    /// The number of the lane within the class, from 0.
    pub lane: u32,
    /// When it got the lane.
    pub started_us: u64,
    /// When it was parked there.
    pub parked: Vec<Span>,
    /// When it left the lane.
    pub ended_us: u64,
}

/// A stretch of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    /// Its beginning.
    pub from_us: u64,
    /// Its end.
    pub until_us: u64,
}

/// What a partition held from a time on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryPoint {
    /// From when on.
    pub at_us: u64,
    /// The partition: the name of its class.
    pub partition: String,
    /// Weights, and what jobs use beside them.
    pub live_bytes: u64,
}
