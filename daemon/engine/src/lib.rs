//! The engine: owns the device, holds the models, runs stages on lanes. It never sees a client.
//!
//! The rest of the daemon knows it by two plain enums, [`Command`] in and [`Event`] out, so that it can live in threads
//! of the same process ([`Engine`]), in a child process ([`child`]; the two talk over a [`link`]), or in a simulation.

mod account;
mod allocator;
mod catalog;
pub mod child;
pub mod command;
pub mod confine;
pub mod device;
pub mod event;
pub mod faults;
mod gate;
mod housekeeper;
mod inpaint;
mod inspector;
mod lane;
mod lease;
pub mod link;
pub mod memory;
mod panic;
mod partition;
pub mod picture;
mod product;
pub mod protocol;
pub mod pulse;
mod region;
mod residency;
mod running;
pub mod sandbox;
mod sealed;
mod stage;
pub mod survey;
mod text;
mod yield_point;

pub use allocator::Allocator;
pub use command::{Command, GateKind, LaneSpec, PartitionSpec, Stage};
pub use device::DeviceSpec;
pub use event::{Event, Failure, Product};
pub use faults::Faults;
pub use memory::{Memory, MemoryUse};
pub use pulse::{Beat, LaneBeat, Phase};

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::thread::JoinHandle;

use gpusched_shared::ModelInfo;

use catalog::Catalog;
use device::{Cpu, Device};
use housekeeper::Housekeeper;
use inspector::Inspector;
use lane::{Assignment, Surroundings};
use partition::Partition;
use pulse::Pulse;
use running::Running;
use yield_point::Sharing;

/// What an engine is made of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Setup {
    /// Its lanes, in the order that commands number them by.
    pub lanes: Vec<LaneSpec>,
    /// One for each class, in the order that commands, events and lanes number them by.
    pub partitions: Vec<PartitionSpec>,
    /// Directories whose subdirectories are models.
    pub models: Vec<PathBuf>,
    /// What is to go wrong.
    pub faults: Faults,
    /// How a device other than the CPU is used.
    pub device: DeviceSpec,
}

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
    /// The device is not there, or does not do what it should.
    #[error("{0}")]
    Device(String),
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
    /// Likewise.
    inspector: Option<Inspector>,
}

#[derive(Debug)]
struct Lane {
    pulse: Arc<Pulse>,
    queue: SyncSender<Assignment>,
    thread: JoinHandle<()>,
    partition: Arc<Partition>,
}

impl Engine {
    /// Starts lanes on the CPU. Everything that happens goes to `sink`.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(setup: &Setup, sink: &Sink) -> Result<Self, StartError> {
        Self::start_on(&(Arc::new(Cpu) as Arc<dyn Device>), setup, sink)
    }

    /// The same, on a device.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start_on(device: &Arc<dyn Device>, setup: &Setup, sink: &Sink) -> Result<Self, StartError> {
        if let Some(lane) = setup.lanes.iter().find(|lane| lane.class_index >= setup.partitions.len()) {
            return Err(StartError::NoPartition(lane.to_string()));
        }
        let opened = device.open(setup).map_err(StartError::Device)?;
        let failed = |thread: String| move |e: std::io::Error| StartError::Threads { thread, reason: e.to_string() };
        let partitions = setup.partitions.iter().zip(opened.pools).enumerate();
        let partitions = partitions.map(|(class, (spec, pool))| Partition::new(class, spec, pool).map(Arc::new));
        let partitions: Vec<_> = partitions.collect::<Option<_>>().ok_or(StartError::TooManyPartitions)?;
        let catalog = Arc::new(Catalog::scan(&setup.models, &**device)?);
        let running = Arc::new(Running::default());
        let faults = Arc::new(setup.faults.clone());
        let sharing = |number: usize, spec: &LaneSpec| {
            let copies = setup.lanes.iter().filter(|lane| lane.class_index == spec.class_index).count() as u64;
            let memory = setup.device.share_weights && copies > 1;
            if device.shares_weights() { Sharing::ALL } else { Sharing { place: number, copies, memory } }
        };
        let started = setup.lanes.iter().zip(opened.streams).enumerate().map(|(number, (spec, stream))| {
            let partition = Arc::clone(&partitions[spec.class_index]);
            let pulse = Arc::new(Pulse::default());
            let surroundings = Surroundings {
                partition: Arc::clone(&partition),
                partitions: partitions.clone(),
                catalog: Arc::clone(&catalog),
                running: Arc::clone(&running),
                faults: Arc::clone(&faults),
                pulse: Arc::clone(&pulse),
                sink: Arc::clone(sink),
                device: Arc::clone(device),
                stream,
                sharing: sharing(number, spec),
            };
            let (queue, thread) = lane::start(spec, surroundings).map_err(failed(format!("lane {spec}")))?;
            Ok(Lane { pulse, queue, thread, partition })
        });
        let lanes = started.collect::<Result<_, StartError>>()?;
        let housekeeper = Housekeeper::start(Arc::clone(sink)).map_err(failed("the housekeeper".to_owned()))?;
        let inspector = Inspector::start(Arc::clone(sink), setup.faults.crash_on_width)
            .map_err(failed("the inspector".to_owned()))?;
        let (housekeeper, inspector) = (Some(housekeeper), Some(inspector));
        Ok(Self { lanes, partitions, running, catalog, housekeeper, inspector })
    }

    /// The models there are.
    pub fn models(&self) -> Vec<ModelInfo> {
        self.catalog.models()
    }

    /// What each partition holds, in the order given at the start.
    pub fn memory(&self) -> Vec<MemoryUse> {
        self.partitions.iter().map(|partition| partition.memory()).collect()
    }

    /// What each lane does at the moment, and what each partition holds.
    pub fn beat(&self) -> Beat {
        Beat { lanes: self.lanes.iter().map(|lane| lane.pulse.beat()).collect(), memory: self.memory() }
    }

    /// Carries out a command, with the files that belong to it. Takes no time to speak of: whatever does is left to the
    /// engine's threads.
    ///
    /// # Errors
    /// When the lane or the class is not there, the lane not free, the class without a gate, the model being loaded, or not
    /// as many files there as the command says; each is a mistake of the caller's. Also when too many pictures are to be
    /// inspected. Nothing has changed then, and there will be no events.
    pub fn command(&self, command: Command, mut files: Vec<OwnedFd>) -> Result<(), Failure> {
        if files.len() != command.files() {
            let (count, wanted) = (files.len(), command.files());
            return Err(Failure::engine(format!("{count} files came with a command that takes {wanted}")));
        }
        match command {
            Command::Run { job, attempt, lane, stage, lease_bytes, flush } => {
                let refused = || Failure::engine(format!("lane {lane} cannot take a job"));
                let lane = self.lanes.get(lane).ok_or_else(refused)?;
                let stop = self.running.add(job, &lane.partition);
                let pictures = files.into_iter().map(File::from).collect();
                let assignment = Assignment { job, attempt, stage, pictures, stop, lease_bytes, flush };
                lane.queue.try_send(assignment).map_err(|_| {
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
                    (0..gate.open()).for_each(|_| self.leave_to_housekeeper(Vec::new(), Event::Missed { class }));
                }
                Ok(())
            }
            Command::Unload { class, model } => {
                let dropped = self.partition(class)?.residency.take(&model)?;
                self.leave_to_housekeeper(dropped, Event::Unloaded { class, model });
                Ok(())
            }
            Command::Flush { class, job } => {
                let partition = Arc::clone(self.partition(class)?);
                if let Some(housekeeper) = &self.housekeeper {
                    housekeeper.flush(partition, job);
                }
                Ok(())
            }
            Command::Inspect { ticket } => match (&self.inspector, files.pop()) {
                (Some(inspector), Some(file)) => inspector.inspect(ticket, file),
                (None, _) | (_, None) => Err(Failure::engine("nobody is there to look at a picture")),
            },
        }
    }

    /// Ends without waiting for lanes that do not come to a yield point; they end with the process.
    pub fn leave(mut self) {
        self.lanes.clear();
        self.housekeeper = None;
        self.inspector = None;
    }

    fn partition(&self, class: usize) -> Result<&Arc<Partition>, Failure> {
        let partition = self.partitions.get(class);
        partition.ok_or_else(|| Failure::engine(format!("there is no class {class}")))
    }

    fn leave_to_housekeeper(&self, dropped: Vec<Arc<residency::Resident>>, said: Event) {
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
        if let Some(inspector) = self.inspector.take() {
            inspector.finish();
        }
    }
}
