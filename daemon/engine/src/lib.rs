//! The engine: owns the device, holds the models, runs stages on lanes. It never sees a client.
//!
//! The rest of the daemon knows it by two plain enums, [`Command`] in and [`Event`] out, so that it can live in threads
//! of the same process (this form), in a child process, or in a simulation.

pub mod command;
pub mod event;
mod lane;
pub mod picture;
mod product;
mod residency;
mod stage;

pub use command::{Command, LaneSpec, Stage};
pub use event::{Event, Failure, ModelReport, Product};

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use gpusched_shared::JobId;

use lane::Assignment;
use residency::Residency;

/// Where events go. Called from lane threads; may block them, which is how a slow listener slows the engine down.
pub type Sink = Arc<dyn Fn(Event) + Send + Sync>;

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The models could not be listed.
    #[error("cannot read the models: {0}")]
    Models(#[from] gpusched_models::Error),
    /// A lane's threads could not be made.
    #[error("cannot start the threads of lane {lane}: {reason}")]
    Threads {
        /// The lane.
        lane: String,
        /// What the system said.
        reason: String,
    },
}

/// The in-process engine: one thread and one compute pool for each lane, models shared between lanes.
///
/// Dropping it stops what runs at its next yield point and waits for the lanes.
#[derive(Debug)]
pub struct Engine {
    lanes: Vec<(SyncSender<Assignment>, JoinHandle<()>)>,
    /// The stop flag of each job on a lane.
    running: Arc<Mutex<HashMap<JobId, Arc<AtomicBool>>>>,
    residency: Arc<Residency>,
}

impl Engine {
    /// Starts lanes on the CPU, in the order given, with the models found in `directories`.
    ///
    /// # Errors
    /// [`StartError`]; nothing is left running then.
    pub fn start(lanes: &[LaneSpec], directories: &[PathBuf], sink: &Sink) -> Result<Self, StartError> {
        let residency = Arc::new(Residency::scan(directories)?);
        let running = Arc::new(Mutex::new(HashMap::new()));
        let started = lanes.iter().map(|spec| {
            lane::start(spec, Arc::clone(&residency), Arc::clone(&running), Arc::clone(sink))
                .map_err(|e: io::Error| StartError::Threads { lane: spec.to_string(), reason: e.to_string() })
        });
        Ok(Self { lanes: started.collect::<Result<_, _>>()?, running, residency })
    }

    /// The models there are.
    pub fn models(&self) -> Vec<ModelReport> {
        self.residency.report()
    }

    /// Carries out a command.
    ///
    /// # Errors
    /// When the lane is not there or not free, which is a mistake of the caller's; there will be no events then.
    pub fn command(&self, command: Command) -> Result<(), Failure> {
        match command {
            Command::Run { job, lane, stage } => {
                let stop = Arc::new(AtomicBool::new(false));
                self.flags().insert(job, Arc::clone(&stop));
                let assignment = Assignment { job, stage, stop };
                let taken = self.lanes.get(lane).is_some_and(|(queue, _)| queue.try_send(assignment).is_ok());
                if !taken {
                    self.flags().remove(&job);
                    return Err(Failure::engine(format!("lane {lane} cannot take a job")));
                }
            }
            Command::Stop(job) => {
                if let Some(stop) = self.flags().get(&job) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Ends without waiting for lanes that do not come to a yield point; they end with the process.
    pub fn leave(mut self) {
        self.lanes.clear();
    }

    fn flags(&self) -> MutexGuard<'_, HashMap<JobId, Arc<AtomicBool>>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        for stop in self.flags().values() {
            stop.store(true, Ordering::Relaxed);
        }
        for (queue, thread) in self.lanes.drain(..) {
            drop(queue);
            // A lane that panicked has said so already.
            let _ = thread.join();
        }
    }
}
