//! Answers to "why": why a job waits, what goes when, which rule sends a job where.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};
use crate::id::JobId;
use crate::units::Bytes;
use crate::view::JobView;

/// Why a job is where it is, and what is likely to become of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Explanation {
    /// The job.
    pub job: JobView,
    /// What it waits for, the most pressing first; empty if nothing holds it up.
    pub reasons: Vec<Reason>,
    /// Milliseconds from now until a lane is likely to take it, from measured run times; `None` once one has, or where
    /// nothing has been measured or nothing moves.
    pub starts_in_ms: Option<u64>,
    /// Milliseconds from now until it is likely to be done; `None` likewise.
    pub ends_in_ms: Option<u64>,
}

/// Something that keeps a job from running.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Reason {
    /// Other jobs go first.
    Behind {
        /// How many.
        jobs: u32,
        /// How long they are likely to take, in lane-milliseconds.
        lane_ms: u64,
    },
    /// Every lane of its class has a job.
    LanesBusy {
        /// The class.
        class: String,
        /// How many lanes it has.
        lanes: u32,
    },
    /// Under the policy `fifo` one job runs at a time, whatever its class.
    OneAtATime {
        /// The job that runs; hidden (0) where it is someone else's.
        job: JobId,
    },
    /// Its partition has too little memory free.
    Memory {
        /// The class, which names the partition.
        class: String,
        /// What the job needs: weights that are not resident yet, and what it uses while it runs.
        needs_bytes: u64,
        /// What is free.
        free_bytes: u64,
        /// The partition.
        cap_bytes: u64,
    },
    /// Another model must leave memory first.
    Evicting {
        /// The job's model.
        model: String,
        /// What makes room.
        evicts: Vec<String>,
    },
    /// Jobs of a model that is in memory go first for a while, so that models are not swapped for each job.
    Batching {
        /// The job's model.
        model: String,
        /// For how long at most, in milliseconds.
        at_most_ms: u64,
    },
    /// Its owner has as many jobs on lanes as a uid may have.
    RunningQuota {
        /// The quota.
        limit: u32,
    },
    /// Its class is paused.
    Paused {
        /// The class.
        class: String,
    },
    /// The daemon is stopping; the job runs after the next start.
    Stopping,
    /// It ran out of memory, and waits to be tried again.
    BackingOff {
        /// Which retry comes next, from 1.
        retry: u32,
        /// The most there will be.
        budget: u32,
        /// When at the latest; sooner if memory is freed before.
        within_ms: u64,
    },
    /// The engine has died and is being started again.
    EngineDown,
    /// A job that ran when the engine died is run alone first.
    Suspect {
        /// That job; hidden (0) where it is someone else's.
        job: JobId,
    },
    /// It is parked at a yield point.
    Parked {
        /// The classes whose jobs it makes way for.
        classes: Vec<String>,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Behind { jobs: 1, lane_ms } => write!(f, "1 job goes first ({} of lane time)", seconds(*lane_ms)),
            Self::Behind { jobs, lane_ms } => write!(f, "{jobs} jobs go first ({} of lane time)", seconds(*lane_ms)),
            Self::LanesBusy { class, lanes: 1 } => write!(f, "the lane of class {class} is busy"),
            Self::LanesBusy { class, lanes } => write!(f, "all {lanes} lanes of class {class} are busy"),
            Self::OneAtATime { job: JobId(0) } => f.write_str("policy fifo runs one job at a time, now someone else's"),
            Self::OneAtATime { job } => write!(f, "policy fifo runs one job at a time, now job {job}"),
            Self::Memory { class, needs_bytes, free_bytes, cap_bytes } => write!(
                f,
                "needs {}, partition {class} has {} of {} free",
                Bytes(*needs_bytes),
                Bytes(*free_bytes),
                Bytes(*cap_bytes)
            ),
            Self::Evicting { model, evicts } => {
                write!(f, "{} leaves memory to make room for {model}", evicts.join(", "))
            }
            Self::Batching { model, at_most_ms } => {
                write!(f, "jobs of models in memory go before {model} is loaded, for at most {}", seconds(*at_most_ms))
            }
            Self::RunningQuota { limit } => write!(f, "its owner has {limit} on lanes, which is the quota"),
            Self::Paused { class } => write!(f, "class {class} is paused; `gpuctl resume {class}` starts it again"),
            Self::BackingOff { retry, budget, within_ms } => write!(
                f,
                "ran out of memory; retry {retry} of {budget} when memory is freed, at latest in {}",
                seconds(*within_ms)
            ),
            Self::EngineDown => f.write_str("the engine has died and is being started again"),
            Self::Suspect { job: JobId(0) } => {
                f.write_str("someone else's job that ran when the engine died is run alone first")
            }
            Self::Suspect { job } => write!(f, "job {job}, which ran when the engine died, is run alone first"),
            Self::Stopping => f.write_str("the daemon is stopping; the job runs after the next start"),
            Self::Parked { classes } => write!(f, "parked at a yield point while {} works", classes.join(", ")),
        }
    }
}

fn seconds(ms: u64) -> String {
    format!("{:.1} s", ms as f64 / 1000.0)
}

/// One place in the queues: a job on a lane, or one that waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct QueueView {
    /// The class.
    pub class: String,
    /// The job; hidden (0) where it is someone else's.
    pub job: JobId,
    /// Its lane's number within the class, if it has one.
    pub lane: Option<u32>,
    /// Its priority among its owner's jobs; hidden (0) likewise.
    pub priority: i8,
    /// Its model; hidden (empty) likewise.
    pub model: String,
    /// Milliseconds it has waited.
    pub waited_ms: u64,
    /// Milliseconds from now until a lane is likely to take it; `None` on a lane, and where nothing can be said.
    pub starts_in_ms: Option<u64>,
    /// Milliseconds from now until it is likely to be done; `None` where nothing can be said.
    pub ends_in_ms: Option<u64>,
}

/// Where a job would go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct RouteView {
    /// The class, or `None` if no rule takes it.
    pub class: Option<String>,
    /// The rules in order, up to and including the one that takes it.
    pub rules: Vec<RuleView>,
    /// What the job needs beside the model's weights, in bytes.
    pub run_bytes: u64,
    /// The model's weights in memory, in bytes.
    pub weights_bytes: u64,
    /// How long a lane is likely to work on it, in milliseconds; `None` if nothing like it has run yet.
    pub run_ms: Option<u64>,
}

/// One routing rule and what it says to a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct RuleView {
    /// The rule, as in the configuration.
    pub rule: String,
    /// The condition that the job does not meet; `None` if it meets them all.
    pub fails: Option<String>,
}
