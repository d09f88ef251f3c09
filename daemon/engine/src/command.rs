//! What the engine is told.

use std::fmt;

use gpusched_shared::codec::{Decode, Encode};
use gpusched_shared::{JobId, JobSpec, Usage};

use crate::event::{Event, Failure};

/// A command to the engine: plain data. The descriptors that belong to it travel beside it.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Command {
    /// Run a stage on a free lane. Answered by `Started`, any number of `Progress`, `Parked` and `Resumed`, then `Finished`
    /// or `Interrupted`.
    Run {
        /// The job it belongs to; one at a time.
        job: JobId,
        /// Which attempt at it this is, from 1.
        attempt: u32,
        /// The lane, by its place in the list given at the start.
        lane: usize,
        /// What to do.
        stage: Stage,
        /// What the stage was promised of its partition, beside the model's weights, in bytes.
        lease_bytes: u64,
        /// Whether free memory goes back to the system first. Answered by `Flushed`, after `Started`.
        flush: bool,
    },
    /// Leave the job's stage at its next yield point, or now if it is parked.
    Stop(JobId),
    /// Close or open the gate of a class that has one. While it is closed the class's stages park at their next yield
    /// point.
    Gate {
        /// The class, by its partition's place in the list given at the start.
        class: usize,
        /// Whether it is to be closed.
        closed: bool,
    },
    /// Drop a model that no stage uses from a class's partition. Answered by `Unloaded`, also if it was not there.
    Unload {
        /// The class, likewise.
        class: usize,
        /// The model.
        model: String,
    },
    /// Give free memory back to the system. Answered by `Flushed`.
    Flush {
        /// The class, likewise.
        class: usize,
        /// The job that needs it.
        job: JobId,
    },
    /// Decode a picture, whose file comes with the command, to see whether it is one. Answered by `Inspected`.
    Inspect {
        /// What the answer is told apart by.
        ticket: u64,
    },
}

/// One unit of work for a lane.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub struct Stage {
    /// What to do, with nothing left open.
    pub spec: JobSpec,
    /// How many picture files come with the command, in the order in which the stage takes them.
    pub pictures: usize,
    /// After how many diffusion steps to show what the picture is about to become. Answered by `Previewed`, unless it cannot
    /// be shown, which is no failure.
    pub preview_after: Option<u32>,
}

impl Command {
    /// How many descriptors come with it.
    pub fn files(&self) -> usize {
        match self {
            Self::Run { stage, .. } => stage.pictures,
            Self::Inspect { .. } => 1,
            Self::Stop(_) | Self::Gate { .. } | Self::Unload { .. } | Self::Flush { .. } => 0,
        }
    }

    /// What a listener is told in place of the answer that it waits for, if the engine refuses the command. `None` where
    /// nobody waits.
    pub fn refused(self, failure: Failure) -> Option<Event> {
        match self {
            Self::Run { job, .. } => Some(Event::Finished(job, Err(failure), Usage::default())),
            Self::Inspect { ticket } => Some(Event::Inspected { ticket, result: Err(failure.message) }),
            Self::Stop(_) | Self::Gate { .. } | Self::Unload { .. } | Self::Flush { .. } => None,
        }
    }
}

/// A lane to start.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct LaneSpec {
    /// Its class.
    pub class: String,
    /// Its class's partition, by its place in the list given at the start.
    pub class_index: usize,
    /// Its number within the class, from 0.
    pub index: u32,
    /// Threads of its compute pool.
    pub threads: usize,
    /// Niceness of its threads, −20 to 19; higher gives way to lower. Below the process's own takes a privilege.
    pub nice: i32,
}

/// The memory of a class, and whether its work makes way.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct PartitionSpec {
    /// The class.
    pub name: String,
    /// The most bytes that its weights and stages may hold together.
    pub cap_bytes: u64,
    /// Where its work makes way.
    pub gate: GateKind,
}

/// Where the work of a class makes way for classes of higher priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub enum GateKind {
    /// Nowhere: it has no gate, and never parks.
    #[default]
    None,
    /// At yield points.
    Block,
    /// At yield points, and on a device that has kernels before each of them.
    Kernel,
}

impl fmt::Display for LaneSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.class, self.index)
    }
}
