//! A thread for what commands cause and must not wait for: dropping gigabytes takes time, and a listener may be slow.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use crate::Sink;
use crate::event::Event;
use crate::residency::Resident;

struct Chore {
    dropped: Option<Arc<Resident>>,
    said: Event,
}

/// Drops models and says so, one after the other.
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

    /// Drops a model, if there is one, and then says `event`.
    pub(crate) fn drop_and_say(&self, dropped: Option<Arc<Resident>>, said: Event) {
        // Its thread ends only after this object.
        let _ = self.chores.send(Chore { dropped, said });
    }

    /// Waits for what is still to be done.
    pub(crate) fn finish(self) {
        drop(self.chores);
        let _ = self.thread.join();
    }
}

fn serve(work: &Receiver<Chore>, sink: &Sink) {
    for Chore { dropped, said } in work {
        drop(dropped);
        sink(said);
    }
}
