//! A thread for what commands cause and must not wait for: dropping gigabytes takes time, and a listener may be slow.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use gpusched_shared::JobId;

use crate::Sink;
use crate::event::Event;
use crate::partition::Partition;
use crate::residency::Resident;

enum Chore {
    /// Drop a model, if it is there, and then say something.
    Drop(Vec<Arc<Resident>>, Event),
    /// Give free memory back to the system.
    Flush(Arc<Partition>, JobId),
}

/// Drops models, flushes, and says so, one after the other.
#[derive(Debug)]
pub(crate) struct Housekeeper {
    // As many as there are commands that its thread has not come round to; the caller bounds those.
    chores: Sender<Chore>,
    thread: JoinHandle<()>,
}

impl Housekeeper {
    pub(crate) fn start(sink: Sink) -> io::Result<Self> {
        let (chores, work) = channel();
        let thread = std::thread::Builder::new().name("housekeeper".to_owned()).spawn(move || serve(&work, &sink))?;
        Ok(Self { chores, thread })
    }

    /// Drops a model, as many lanes as it is on, and then says `event`.
    pub(crate) fn drop_and_say(&self, dropped: Vec<Arc<Resident>>, said: Event) {
        // Its thread ends only after this object.
        let _ = self.chores.send(Chore::Drop(dropped, said));
    }

    /// Gives free memory of a partition back to the system for a job, and says so.
    pub(crate) fn flush(&self, partition: Arc<Partition>, job: JobId) {
        let _ = self.chores.send(Chore::Flush(partition, job));
    }

    /// Waits for what is still to be done.
    pub(crate) fn finish(self) {
        drop(self.chores);
        let _ = self.thread.join();
    }
}

fn serve(work: &Receiver<Chore>, sink: &Sink) {
    for chore in work {
        match chore {
            Chore::Drop(dropped, said) => {
                drop(dropped);
                sink(said);
            }
            Chore::Flush(partition, job) => sink(partition.flush(job)),
        }
    }
}
