//! The journal: jobs, attempts and outcomes in SQLite, on a thread of its own, so that the driver never waits for a disk.
//!
//! Everything that has come in while the disk was busy is written in one transaction (group commit). A submission is
//! answered after its transaction has committed; for a class that must survive loss of power, that is after the disk has
//! synced it.
//!
//! Where to look: `worker` is the thread, `store` the database and what can go wrong with it, `write` what entries do to
//! the tables, `read` how questions are answered, `row` what is believed of a row; `recovery` puts things in order at the
//! start, `retention` says what is forgotten and `forget` does it; `quality` is what stays of reflecting jobs, `timeline` what ran when and what memory was in use; `check` and
//! `backup` are for people (`cli`).
//!
//! A stage of a reflecting job is a row of its own, with that job as its `parent`. It is in no list, its files are noted as
//! that job's, and it is forgotten with it.

pub mod backup;
pub mod check;
pub mod cli;
mod forget;
mod quality;
mod read;
mod recovery;
mod retention;
pub mod row;
mod schema;
mod store;
#[cfg(test)]
mod tests;
mod timeline;
mod worker;
mod write;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::JoinHandle;

use gpusched_core::{EndedPart, JobRecord, Measurement, Ticket};
use gpusched_shared::{
    AttemptEnd, AttemptView, BlobHash, Cursor, JobId, JobView, MemorySample, Outcome, Parked, QualityView, Reflection,
    Rejection, StageView, StorageView, TimelinePage, Track, Uid, Usage,
};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::{mpsc, oneshot};

use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config::RetentionConfig;
use store::{Fault, Store};
use worker::Worker;

/// The database's file in the state directory.
pub const FILE: &str = "journal.sqlite";

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
    /// The database contradicts itself.
    #[error(
        "journal {path} is damaged: {what}; see `gpuschedd journal check`, then bring back a backup, or move the state \
         directory out of the way to begin anew"
    )]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// What it holds cannot be recovered just now.
    #[error("journal {path}: {what}; see to the disk, then start the daemon again")]
    Disk {
        /// The file.
        path: String,
        /// What is wrong.
        what: String,
        /// Whether there is no room.
        full: bool,
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
    /// The lane is done with the attempt.
    AttemptEnd {
        /// The job.
        job: JobId,
        /// Which try, from 1.
        attempt: u32,
        /// How it ended.
        end: AttemptEnd,
        /// What it was like there.
        stay: Stay,
        /// Wall-clock time.
        unix_ms: u64,
    },
    /// The job waits to be tried again. An attempt or an outcome ends that.
    BackOff {
        /// The job.
        job: JobId,
        /// Which retry comes next, from 1.
        retry: u32,
        /// When at the latest.
        retry_at_unix_ms: u64,
    },
    /// The job has ended; answered with [`Reply::Concluded`] when it is on record, however long that takes on a full disk.
    Outcome {
        /// The job.
        job: JobId,
        /// How.
        outcome: Outcome,
        /// How long it waited, in microseconds.
        wait_us: u64,
        /// How long lanes held it, in microseconds.
        run_us: u64,
        /// Of `wait_us`, how long it backed off, in microseconds.
        backoff_us: u64,
        /// What its lanes measured.
        usage: Usage,
        /// What its rounds came to, if it reflects.
        reflection: Option<Box<Reflection>>,
        /// Wall-clock time.
        unix_ms: u64,
    },
    /// What jobs of a shape were measured to need; replaces what was known of it.
    Footprint(Measurement),
    /// What the memory of a class held.
    Memory(MemorySample),
}

/// What was noted of an attempt while a lane had it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Stay {
    /// When it was parked, at most [`MAX_PARKS`](gpusched_shared::timeline::MAX_PARKS) times.
    pub parked: Vec<Parked>,
    /// The most memory it used beside its model's weights, in bytes; 0 if that was not measured.
    pub peak_bytes: u64,
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
    /// The answer to [`Query::KeyOf`].
    KeyOf {
        /// As asked.
        ticket: Ticket,
        /// The job that has the key, and the fingerprint that it has it with.
        found: Option<(JobId, BlobHash)>,
    },
    /// What there is on the disk, when the journal has been opened and whenever that has changed noticeably, at most once a
    /// second.
    Storage(StorageView),
    /// The disk failed, or what it holds makes no sense. What it holds is no longer known for sure: the daemon must stop.
    /// There is no further reply.
    Poisoned(String),
}

/// A question about jobs that have ended.
#[derive(Debug)]
pub enum Query {
    /// One job.
    Show(JobId, oneshot::Sender<Option<JobView>>),
    /// A page of a uid's jobs, newest first. Stages are not among them, and reflections come without their rounds.
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
    /// What became of each attempt at a job, oldest first; of many, the last 1000.
    History(JobId, oneshot::Sender<Vec<AttemptView>>),
    /// The stages of a job, oldest first.
    Stages(JobId, oneshot::Sender<Vec<StageView>>),
    /// How well pictures show what was asked for.
    Quality {
        /// Only jobs that ended at or after this.
        since_unix_ms: u64,
        /// How many jobs the recent rate covers at most.
        window: u32,
        /// The most points of the trend.
        points: u32,
        /// Where the answer goes.
        reply: oneshot::Sender<QualityView>,
    },
    /// A page of what ran when, or of what memory was in use, newest first, and where to go on.
    Timeline {
        /// Which of the two.
        track: Track,
        /// Whose attempts are told in full; `None` for everyone's.
        uid: Option<Uid>,
        /// Only what began at or after this and before that, in milliseconds since the Unix epoch.
        between_unix_ms: (u64, u64),
        /// Where the page before ended.
        before: Option<Cursor>,
        /// At most so many.
        limit: u32,
        /// Where the answer goes.
        reply: oneshot::Sender<(TimelinePage, Option<Cursor>)>,
    },
    /// Which job has a key. Answered with [`Reply::KeyOf`], in order with the other replies: whoever knows the jobs that
    /// have not ended by these replies finds each key in one place or the other.
    KeyOf {
        /// Returned with the answer.
        ticket: Ticket,
        /// Whose key.
        uid: Uid,
        /// The key.
        key: String,
    },
}

enum Message {
    Write(Box<Entry>),
    Ask(Query),
    Retain(RetentionConfig),
}

/// What the journal held when it was opened.
#[derive(Debug)]
pub struct Recovered {
    /// Jobs that had not ended, oldest first.
    pub unfinished: Vec<Recovering>,
    /// What jobs were measured to need.
    pub footprints: Vec<Measurement>,
    /// One above the highest job number ever given.
    pub next_id: JobId,
}

/// A job that had not ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Recovering {
    /// Its record.
    pub record: JobRecord,
    /// If it backed off: when it is tried again at the latest.
    pub retry_at_unix_ms: Option<u64>,
    /// Its stages that have ended, if it reflects, in the order of rounds.
    pub ended: Vec<EndedPart>,
    /// If one of its pictures is damaged or gone, or the row of one of its stages: what is wrong, for a person. Stages of a
    /// job with such a row have it, too.
    pub damage: Option<String>,
}

/// How the journal is kept.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// The classes whose acknowledgements must survive loss of power.
    pub power_durable: BTreeSet<String>,
    /// What is forgotten.
    pub retention: RetentionConfig,
    /// What ages are measured with.
    pub clock: Clock,
    /// Takes how long each commit took, in seconds.
    pub commits: Option<Histogram>,
    /// The name of the SQLite file system to use instead of the usual one, for tests.
    pub vfs: Option<String>,
}

/// The journal's handle. Its queue is not bounded by itself, but by what fills it: jobs by the queues of their classes,
/// questions by the requests that clients may have open.
#[derive(Debug)]
pub struct Journal {
    queue: Option<Sender<Message>>,
    thread: Option<JoinHandle<()>>,
}

impl Journal {
    /// Opens the database in the state directory that `blobs` are in, brings its schema up to date, puts the blob store in
    /// order and starts the thread. `replies` gets the answers to entries.
    ///
    /// # Errors
    /// [`JournalError`].
    pub fn open(
        settings: &Settings,
        blobs: Arc<Blobs>,
        replies: mpsc::Sender<Reply>,
    ) -> Result<(Self, Recovered), JournalError> {
        let (store, recovered) = match recover(settings, &blobs) {
            // The reserve is for finishing what was accepted, and that begins with reading it.
            Err(e) if e.is_full() && blobs.disk().give_up_reserve() => recover(settings, &blobs)?,
            recovered => recovered?,
        };
        let (queue, messages) = channel();
        let worker = Worker::new(store, settings.retention.clone(), settings.commits.clone(), replies);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || worker.run(&messages))?;
        Ok((Self { queue: Some(queue), thread: Some(thread) }, recovered))
    }

    /// Has something written.
    pub fn write(&self, entry: Entry) {
        self.send(Message::Write(Box::new(entry)));
    }

    /// Has other limits kept from here on to what is forgotten.
    pub fn retain(&self, retention: RetentionConfig) {
        self.send(Message::Retain(retention));
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

fn recover(settings: &Settings, blobs: &Arc<Blobs>) -> Result<(Store, Recovered), JournalError> {
    let mut store = Store::open(settings, Arc::clone(blobs))?;
    let recovered = store.recover();
    let path = store.path().display().to_string();
    let recovered = recovered.map_err(|fault| JournalError::Disk {
        path,
        what: fault.to_string(),
        full: matches!(fault, Fault::Full),
    })?;
    Ok((store, recovered))
}

impl JournalError {
    fn is_full(&self) -> bool {
        match self {
            Self::Database { source, .. } => store::is_full(source),
            Self::Disk { full, .. } => *full,
            Self::Open(e) => crate::disk::is_full(e),
            Self::Newer { .. } | Self::Damaged { .. } => false,
        }
    }
}
