//! The journal: jobs, attempts and outcomes in SQLite, on a thread of its own, so that the driver never waits for a disk.
//!
//! Everything that has come in while the disk was busy is written in one transaction (group commit). A submission is
//! answered after its transaction has committed; for a class that must survive loss of power, that is after the disk has
//! synced it.

mod schema;
mod store;

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use gpusched_core::{JobRecord, Measurement};
use gpusched_engine::Memory;
use gpusched_shared::{JobId, JobView, Outcome, Rejection, Uid, Usage};
use tokio::sync::{mpsc, oneshot};

use store::Store;

/// Entries of one transaction; more wait for the next.
const GROUP: usize = 256;

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The database cannot be read or written.
    #[error("journal {path}: {source}")]
    Database {
        /// The file.
        path: String,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// The database is of a newer version.
    #[error(
        "journal {path} has schema version {found}, this gpuschedd knows {known}; install the newer gpuschedd again"
    )]
    Newer {
        /// The file.
        path: String,
        /// Its version.
        found: i64,
        /// The newest version known here.
        known: i64,
    },
    /// Its file cannot be made, or its thread not be started.
    #[error("cannot open the journal: {0}")]
    Open(#[from] io::Error),
}

/// Something to write.
#[derive(Debug)]
pub enum Entry {
    /// A submission; answered with [`Reply::Recorded`] or [`Reply::RecordFailed`].
    Submission(Arc<JobRecord>),
    /// The record of a job has changed.
    Amendment(Arc<JobRecord>),
    /// A lane has been given the job.
    Attempt {
        /// The job.
        job: JobId,
        /// Which try, from 1.
        attempt: u32,
        /// The lane's name.
        lane: String,
        /// Wall-clock time.
        unix_ms: u64,
    },
    /// The job has ended; answered with [`Reply::Concluded`] or [`Reply::Poisoned`].
    Outcome {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// How long it waited, in microseconds.
        wait_us: u64,
        /// How long lanes held it, in microseconds.
        run_us: u64,
        /// What its lanes measured.
        usage: Usage,
        /// Wall-clock time.
        unix_ms: u64,
    },
    /// What jobs of a shape were measured to need; replaces what was known of it.
    Footprint(Measurement),
    /// The memory of a class was flushed.
    Flush {
        /// The class.
        class: String,
        /// Memory before.
        before: Memory,
        /// Memory after.
        after: Memory,
        /// Wall-clock time.
        unix_ms: u64,
    },
}

/// What the journal says to the driver.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    /// The submission is on record.
    Recorded(JobId),
    /// The submission could not be written, and is not on record.
    RecordFailed(JobId, Rejection),
    /// The outcome is on record.
    Concluded(JobId),
    /// An outcome could not be written. What the file holds is no longer known for sure: the daemon must stop.
    Poisoned(String),
}

/// A question about jobs that have ended.
#[derive(Debug)]
pub enum Query {
    /// One job.
    Show(JobId, oneshot::Sender<Option<JobView>>),
    /// A page of a uid's jobs, newest first.
    List {
        /// Whose; `None` for everyone's.
        uid: Option<Uid>,
        /// Only jobs before this one.
        before: Option<JobId>,
        /// At most so many.
        limit: u32,
        /// Where the answer goes.
        reply: oneshot::Sender<Vec<JobView>>,
    },
}

enum Message {
    Write(Box<Entry>),
    Ask(Query),
}

/// What the journal held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// Jobs that had not ended, oldest first.
    pub unfinished: Vec<JobRecord>,
    /// What jobs were measured to need.
    pub footprints: Vec<Measurement>,
    /// One above the highest job number ever given.
    pub next_id: JobId,
}

/// The journal's handle. Its queue is not bounded by itself, but by what fills it: jobs by the queues of their classes,
/// questions by the requests that clients may have open.
#[derive(Debug)]
pub struct Journal {
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the database, brings its schema up to date and starts the thread. `replies` gets the answers to entries.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(
        path: &Path,
        power_durable: BTreeSet<String>,
        replies: mpsc::Sender<Reply>,
    ) -> Result<(Self, Recovered), JournalError> {
        let store = Store::open(path, power_durable)?;
        let recovered = store.recover()?;
        let (queue, messages) = channel();
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || serve(store, &messages, &replies))?;
        Ok((Self { queue: Some(queue), thread: Some(thread) }, recovered))
    }

    /// Has something written.
    pub fn write(&self, entry: Entry) {
        self.send(Message::Write(Box::new(entry)));
    }

    /// Asks something.
    pub fn ask(&self, query: Query) {
        self.send(Message::Ask(query));
    }

    fn send(&self, message: Message) {
        if let Some(queue) = &self.queue {
            // Fails only when the thread is gone, which the driver learns from the closed reply channel.
            let _ = queue.send(message);
        }
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(mut store: Store, messages: &Receiver<Message>, replies: &mpsc::Sender<Reply>) {
    while let Ok(first) = messages.recv() {
        let mut entries = Vec::new();
        let mut queries = Vec::new();
        for message in std::iter::once(first).chain(messages.try_iter()).take(GROUP) {
            match message {
                Message::Write(entry) => entries.push(*entry),
                Message::Ask(query) => queries.push(query),
            }
        }
        for reply in store.commit(entries) {
            if replies.blocking_send(reply).is_err() {
                return;
            }
        }
        for query in queries {
            store.answer(query);
        }
    }
}
