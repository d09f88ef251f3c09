//! The engine: owns the device, holds the models, runs stages on lanes. It never sees a client.
//!
//! The rest of the daemon knows it by two plain enums, [`Command`] in and [`Event`] out, so that it can live in threads
//! of the same process (this form), in a child process, or in a simulation.

mod account;
mod allocator;
mod catalog;
pub mod command;
pub mod event;
mod gate;
mod housekeeper;
mod lane;
mod lease;
pub mod memory;
mod partition;
pub mod picture;
mod product;
mod residency;
mod running;
mod stage;
mod yield_point;

pub use allocator::Allocator;
pub use command::{Command, LaneSpec, PartitionSpec, Stage};
pub use event::{Event, Failure, Product};
pub use memory::{Memory, MemoryUse};

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use gpusched_shared::ModelInfo;

use catalog::Catalog;
use housekeeper::Housekeeper;
use lane::{Assignment, Surroundings};
use partition::Partition;
use running::Running;

/// Where events go. Called from the engine's own threads, never from the caller of [`Engine::command`]; may block them,
/// which is how a slow listener slows the engine down.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The models could not be listed.
    #[error("cannot read the models: {0}")]
    Models(#[from] gpusched_models::Error),
    /// A thread could not be made, or what counts its memory.
    #[error("cannot start {thread}: {reason}")]
    Threads {
        /// The lane, or what else the thread is for.
        thread: String,
        /// What the system said.
        reason: String,
    },
    /// A lane is of a class that has no partition.
    #[error("lane {0} has no partition")]
    NoPartition(String),
    /// There are more partitions than can be counted for.
    #[error("too many partitions")]
    TooManyPartitions,
}

/// The in-process engine: one thread and one compute pool for each lane; the lanes of a class share a partition with its
/// models.
///
/// Dropping it stops what runs at its next yield point and waits for the lanes.
#[derive(Debug)]
pub struct Engine {
    lanes: Vec<Lane>,
    partitions: Vec<Arc<Partition>>,
    running: Arc<Running>,
    catalog: Arc<Catalog>,
    /// There until the engine ends.
    housekeeper: Option<Housekeeper>,
}

#[derive(Debug)]
struct Lane {
    queue: SyncSender<Assignment>,
    thread: JoinHandle<()>,
    partition: Arc<Partition>,
}

impl Engine {
    /// Starts lanes on the CPU, in the order given, with the models found in `directories`. Of the partitions there is one
    /// for each class, in the order that commands, events and lanes number them by.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(
        lanes: &[LaneSpec],
        partitions: &[PartitionSpec],
        directories: &[PathBuf],
        sink: &Sink,
    ) -> Result<Self, StartError> {
        let failed = |thread: String| move |e: std::io::Error| StartError::Threads { thread, reason: e.to_string() };
        let partitions = partitions.iter().enumerate().map(|(class, spec)| Partition::new(class, spec).map(Arc::new));
        let partitions: Vec<_> = partitions.collect::<Option<_>>().ok_or(StartError::TooManyPartitions)?;
        let catalog = Arc::new(Catalog::scan(directories)?);
        let running = Arc::new(Running::default());
        let started = lanes.iter().map(|spec| {
            let partition = partitions.get(spec.class_index);
            let partition = Arc::clone(partition.ok_or_else(|| StartError::NoPartition(spec.to_string()))?);
            let surroundings = Surroundings {
                partition: Arc::clone(&partition),
                partitions: partitions.clone(),
                catalog: Arc::clone(&catalog),
                running: Arc::clone(&running),
                sink: Arc::clone(sink),
            };
            let (queue, thread) = lane::start(spec, surroundings).map_err(failed(format!("lane {spec}")))?;
            Ok(Lane { queue, thread, partition })
        });
        let lanes = started.collect::<Result<_, StartError>>()?;
        let housekeeper = Housekeeper::start(Arc::clone(sink)).map_err(failed("the housekeeper".to_owned()))?;
        Ok(Self { lanes, partitions, running, catalog, housekeeper: Some(housekeeper) })
    }

    /// The models there are.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.catalog.models()
    }

    /// What each partition holds, in the order given at the start.
    pub fn memory(&self) -> Vec<MemoryUse> {
        self.partitions.iter().map(|partition| partition.memory()).collect()
    }

    /// Carries out a command. Takes no time to speak of: whatever does is left to the engine's threads.
    ///
    /// # Errors
    /// When the lane or the class is not there, the lane not free, the class without a gate or the model being loaded;
    /// each is a mistake of the caller's. Nothing has changed then, and there will be no events.
    pub fn command(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Run { job, lane, stage, lease_bytes, flush } => {
                let refused = || Failure::engine(format!("lane {lane} cannot take a job"));
                let lane = self.lanes.get(lane).ok_or_else(refused)?;
                let stop = self.running.add(job, &lane.partition);
                lane.queue.try_send(Assignment { job, stage, stop, lease_bytes, flush }).map_err(|_| {
                    self.running.remove(job);
                    refused()
                })
            }
            Command::Stop(job) => {
                self.running.stop(job);
                Ok(())
            }
            Command::Gate { class, closed } => {
                let gate = self.partition(class)?.gate.as_ref();
                let gate = gate.ok_or_else(|| Failure::engine(format!("class {class} has no gate")))?;
                if closed {
                    gate.close();
                } else {
                    (0..gate.open()).for_each(|_| self.leave_to_housekeeper(None, Event::Missed { class }));
                }
                Ok(())
            }
            Command::Unload { class, model } => {
                let dropped = self.partition(class)?.residency.take(&model)?;
                self.leave_to_housekeeper(dropped, Event::Unloaded { class, model });
                Ok(())
            }
        }
    }

    /// Ends without waiting for lanes that do not come to a yield point; they end with the process.
    pub fn leave(mut self) {
        self.lanes.clear();
        self.housekeeper = None;
    }

    fn partition(&self, class: usize) -> Result<&Partition, Failure> {
        let partition = self.partitions.get(class).map(Arc::as_ref);
        partition.ok_or_else(|| Failure::engine(format!("there is no class {class}")))
    }

    fn leave_to_housekeeper(&self, dropped: Option<Arc<residency::Resident>>, said: Event) {
        if let Some(housekeeper) = &self.housekeeper {
            housekeeper.drop_and_say(dropped, said);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.running.stop_all();
        for Lane { queue, thread, .. } in self.lanes.drain(..) {
            drop(queue);
            // A lane that panicked has said so already.
            let _ = thread.join();
        }
        if let Some(housekeeper) = self.housekeeper.take() {
            housekeeper.finish();
        }
    }
}
