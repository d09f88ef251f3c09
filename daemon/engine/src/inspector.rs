//! A thread that decodes pictures to see whether they are any, before a job is accepted that has them. It works for no
//! lane: what it takes is charged to nobody, and a picture that a decoder stumbles over costs that picture alone.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::event::{Event, Failure};
use crate::{Sink, faults, panic, picture};

/// Pictures that may wait. The front has fewer at a time, so more are a mistake.
const QUEUE: usize = 64;

/// See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Inspector {
    queue: SyncSender<(u64, OwnedFd)>,
    thread: JoinHandle<()>,
}

impl Inspector {
    /// A picture that is `crash_on_width` pixels wide ends the process, on purpose.
    pub(crate) fn start(sink: Sink, crash_on_width: Option<u32>) -> io::Result<Self> {
        let (queue, work) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new()
            .name("inspector".to_owned())
            .spawn(move || serve(&work, &sink, crash_on_width))?;
        Ok(Self { queue, thread })
    }

    /// Has a picture looked at.
    ///
    /// # Errors
    /// If too many wait.
    pub(crate) fn inspect(&self, ticket: u64, file: OwnedFd) -> Result<(), Failure> {
        let busy = |_| Failure::engine("the engine is busy looking at other pictures; try again");
        self.queue.try_send((ticket, file)).map_err(busy)
    }

    /// Waits for the picture that is being looked at; those that wait behind it are looked at as well.
    pub(crate) fn finish(self) {
        drop(self.queue);
        let _ = self.thread.join();
    }
}

fn serve(work: &Receiver<(u64, OwnedFd)>, sink: &Sink, crash_on_width: Option<u32>) {
    for (ticket, file) in work {
        let look = || picture::check(&picture::read(&File::from(file))?);
        let looked = catch_unwind(AssertUnwindSafe(look));
        let result = looked.unwrap_or_else(|panic| Err(format!("the decoder failed: {}", panic::message(&*panic))));
        if result.as_ref().is_ok_and(|size| Some(size.width) == crash_on_width) {
            faults::crash();
        }
        sink(Event::Inspected { ticket, result });
    }
}
