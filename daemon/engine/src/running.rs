//! The jobs on lanes, and how each is told to stop.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpusched_shared::JobId;

use crate::partition::Partition;

/// The jobs on lanes.
#[derive(Debug, Default)]
pub(crate) struct Running {
    jobs: Mutex<HashMap<JobId, Stop>>,
}

/// A job's stop flag, and the partition at whose gate it may be parked.
#[derive(Debug)]
struct Stop {
    flag: Arc<AtomicBool>,
    partition: Arc<Partition>,
}

impl Stop {
    fn raise(&self) {
        self.flag.store(true, Ordering::Relaxed);
        if let Some(gate) = &self.partition.gate {
            gate.wake();
        }
    }
}

impl Running {
    /// Adds a job and returns its stop flag.
    pub(crate) fn add(&self, job: JobId, partition: &Arc<Partition>) -> Arc<AtomicBool> {
        let flag = Arc::new(AtomicBool::new(false));
        self.lock().insert(job, Stop { flag: Arc::clone(&flag), partition: Arc::clone(partition) });
        flag
    }

    pub(crate) fn remove(&self, job: JobId) {
        self.lock().remove(&job);
    }

    /// Tells a job to stop, if it is there.
    pub(crate) fn stop(&self, job: JobId) {
        if let Some(stop) = self.lock().get(&job) {
            stop.raise();
        }
    }

    /// Tells all jobs to stop.
    pub(crate) fn stop_all(&self) {
        self.lock().values().for_each(Stop::raise);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, Stop>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
