//! The journal's thread.
//!
//! Its turn: take what has come in, commit it, say so, answer questions; then what is due of the upkeep: try again what did
//! not fit on the disk, sync, copy the log, forget, remove files.
//!
//! What does not fit on a full disk: submissions are refused, but for stages of jobs. These and everything else are about jobs
//! that were accepted, and are *held* here and tried again until they fit, in the order in which they came, at most once a
//! second. How much that can be is bounded by the jobs that were accepted: of each its last amendment, what became of those
//! attempts that it still has, and its next stages.
//! What nothing rests on, what memory was in use, is not held.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use gpusched_shared::{Rejection, StorageView};
use prometheus_client::metrics::histogram::Histogram;
use tokio::sync::mpsc;

use super::read::{self, ReadError};
use super::retention::{Calendar, excess};
use super::store::{Fault, Store};
use super::write::key_of;
use super::{Entry, Message, Query, Reply, quality, timeline};
use crate::config::RetentionConfig;
use crate::disk::Low;

/// Entries of one transaction; more wait for the next.
const GROUP: usize = 256;

/// How long after a failure what is held is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(1);

/// How often the disk is looked at while something is written, and while nothing is.
const LOOK_BUSY: Duration = Duration::from_secs(1);
const LOOK_IDLE: Duration = Duration::from_secs(5);

/// Smaller changes of the storage are not told.
const NOTICEABLE_BYTES: u64 = 64 * 1024;

pub(super) struct Worker {
    store: Store,
    retention: RetentionConfig,
    commits: Option<Histogram>,
    replies: mpsc::Sender<Reply>,
    /// What could not be written, and why.
    held: Vec<Entry>,
    fault: Fault,
    /// Questions about keys that could not be looked up. No more than submissions that wait for an answer.
    put_off: Vec<Query>,
    /// When both are tried again.
    try_at: Option<Instant>,
    calendar: Calendar,
    started: Instant,
    look_at: Instant,
    /// Whether anything was written since the last look.
    busy: bool,
    told: Option<StorageView>,
}

/// Writes entries, and counts how long that took if it was done.
fn timed(store: &mut Store, commits: Option<&Histogram>, entries: &[Entry]) -> Result<Vec<Reply>, Fault> {
    let began = Instant::now();
    let replies = store.write(entries)?;
    if let Some(commits) = commits {
        commits.observe(began.elapsed().as_secs_f64());
    }
    Ok(replies)
}

impl Worker {
    pub(super) fn new(
        store: Store,
        retention: RetentionConfig,
        commits: Option<Histogram>,
        replies: mpsc::Sender<Reply>,
    ) -> Self {
        let calendar = Calendar::new(store.newest_unix_ms().unwrap_or(0), store.clock.unix_ms());
        let started = Instant::now();
        Self {
            store,
            retention,
            commits,
            replies,
            held: Vec::new(),
            fault: Fault::Full,
            put_off: Vec::new(),
            try_at: None,
            calendar,
            started,
            look_at: started,
            busy: false,
            told: None,
        }
    }

    /// Runs until nobody can send messages any more, or the disk fails.
    pub(super) fn run(mut self, messages: &Receiver<Message>) {
        if let Err(fault) = self.serve(messages) {
            tracing::error!("journal: {fault}; the daemon must stop");
            self.say(Reply::Poisoned(fault.to_string()));
        }
    }

    fn serve(&mut self, messages: &Receiver<Message>) -> Result<(), Fault> {
        loop {
            self.upkeep()?;
            let patience = self.due().saturating_duration_since(Instant::now());
            match messages.recv_timeout(patience) {
                Ok(first) => self.turn(std::iter::once(first).chain(messages.try_iter()).take(GROUP))?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.try_held()?;
        if !self.held.is_empty() {
            tracing::error!("{} entries did not fit on the disk; their jobs run again", self.held.len());
        }
        unless_broken(self.store.sync())
    }

    fn turn(&mut self, messages: impl Iterator<Item = Message>) -> Result<(), Fault> {
        let mut entries = Vec::new();
        let mut queries = Vec::new();
        for message in messages {
            match message {
                Message::Write(entry) => entries.push(*entry),
                Message::Ask(query) => queries.push(query),
                Message::Retain(retention) => {
                    self.retention = retention;
                    self.look_at = Instant::now();
                }
            }
        }
        self.commit(entries)?;
        queries.into_iter().try_for_each(|query| self.answer(query))
    }

    fn commit(&mut self, entries: Vec<Entry>) -> Result<(), Fault> {
        if entries.is_empty() {
            return Ok(());
        }
        self.busy = true;
        let low = self.store.blobs.disk().room_for(0).err();
        if low.is_none() && self.held.is_empty() {
            match timed(&mut self.store, self.commits.as_ref(), &entries) {
                Ok(replies) => {
                    self.say_all(replies);
                    return Ok(());
                }
                Err(broken @ Fault::Broken(_)) => return Err(broken),
                Err(fault @ (Fault::Full | Fault::Busy(_))) => {
                    tracing::warn!("journal: {fault}");
                    self.fault = fault;
                    self.hold(entries, &self.refusal());
                }
            }
        } else {
            let refusal = low.map_or_else(|| self.refusal(), refusal);
            self.hold(entries, &refusal);
        }
        // All of it is written each time, so not for every entry that comes while there is no room.
        if self.try_at.is_none() { self.try_held() } else { Ok(()) }
    }

    /// Refuses submissions of clients, and keeps the rest as far as anything rests on it.
    fn hold(&mut self, entries: Vec<Entry>, refusal: &Rejection) {
        for entry in entries {
            match entry {
                Entry::Submission(record) if record.part.is_none() => {
                    self.say(Reply::RecordFailed(record.id, refusal.clone()));
                }
                Entry::Memory(_) => {}
                Entry::Amendment(record) => {
                    // A client may amend its job as often as it likes.
                    self.held.retain(|held| !matches!(held, Entry::Amendment(earlier) if earlier.id == record.id));
                    self.held.push(Entry::Amendment(record));
                }
                Entry::Submission(_)
                | Entry::Attempt { .. }
                | Entry::AttemptEnd { .. }
                | Entry::BackOff { .. }
                | Entry::Outcome { .. }
                | Entry::Footprint(_) => self.held.push(entry),
            }
        }
    }

    fn refusal(&self) -> Rejection {
        let disk = self.store.blobs.disk();
        match &self.fault {
            Fault::Full => {
                refusal(Low { free_bytes: disk.free_bytes().unwrap_or(0), low_water_bytes: disk.config().low_water.0 })
            }
            fault @ (Fault::Busy(_) | Fault::Broken(_)) => Rejection::Internal { reason: fault.to_string() },
        }
    }

    /// Writes what is held, into the reserve if there is no other room.
    fn try_held(&mut self) -> Result<(), Fault> {
        self.try_at = None;
        while !self.held.is_empty() {
            match timed(&mut self.store, self.commits.as_ref(), &self.held) {
                Ok(replies) => {
                    self.held.clear();
                    self.say_all(replies);
                }
                Err(broken @ Fault::Broken(_)) => return Err(broken),
                // The log may have room that is free again once it has been copied.
                Err(Fault::Full) if self.store.blobs.disk().give_up_reserve() => match self.store.checkpoint() {
                    Ok(()) | Err(Fault::Full | Fault::Busy(_)) => {}
                    Err(broken @ Fault::Broken(_)) => return Err(broken),
                },
                Err(fault @ (Fault::Full | Fault::Busy(_))) => {
                    self.fault = fault;
                    self.try_at = Some(Instant::now() + TRY_AGAIN);
                    break;
                }
            }
        }
        Ok(())
    }

    /// Answers a question. While the database cannot be read, nobody gets a wrong answer: those who ask see their reply
    /// channel close, and who may have a key is told later, because a job hangs on it.
    fn answer(&mut self, query: Query) -> Result<(), Fault> {
        let connection = &self.store.connection;
        let answered = match query {
            Query::Show(job, reply) => read::show(connection, job).map(|view| drop(reply.send(view))),
            Query::List { uid, before, limit, reply } => {
                read::list(connection, uid, before, limit).map(|views| drop(reply.send(views)))
            }
            Query::Stages(job, reply) => read::stages(connection, job).map(|stages| drop(reply.send(stages))),
            Query::History(job, reply) => read::history(connection, job).map(|attempts| drop(reply.send(attempts))),
            Query::Quality { since_unix_ms, window, points, reply } => {
                let view = quality::view(connection, since_unix_ms, window, points);
                view.map(|view| drop(reply.send(view))).map_err(ReadError::from)
            }
            Query::Timeline { track, uid, between_unix_ms, before, limit, reply } => {
                let page = timeline::page(connection, track, uid, between_unix_ms, before, limit);
                page.map(|page| drop(reply.send(page)))
            }
            Query::KeyOf { ticket, uid, key } => match key_of(connection, uid, &key).map_err(Fault::from) {
                Ok(found) => {
                    self.say(Reply::KeyOf { ticket, found });
                    Ok(())
                }
                Err(broken @ Fault::Broken(_)) => return Err(broken),
                Err(Fault::Full | Fault::Busy(_)) => {
                    self.put_off.push(Query::KeyOf { ticket, uid, key });
                    self.try_at = self.try_at.or_else(|| Some(Instant::now() + TRY_AGAIN));
                    Ok(())
                }
            },
        };
        match answered {
            Ok(()) => Ok(()),
            // The asker sees its reply channel close.
            Err(ReadError::Row(e)) => {
                tracing::error!("journal: {e}; `gpuschedd journal check` says more");
                Ok(())
            }
            Err(ReadError::Database(e)) => unless_broken(Err(e.into())),
        }
    }

    /// When the next thing is due.
    fn due(&self) -> Instant {
        [Some(self.look_at), self.try_at, self.store.sync_at()].into_iter().flatten().min().unwrap_or(self.look_at)
    }

    fn upkeep(&mut self) -> Result<(), Fault> {
        let now = Instant::now();
        if let Some(why) = self.store.blobs.broken() {
            return Err(Fault::Broken(format!("the blob store failed: {why}")));
        }
        if self.try_at.is_some_and(|at| at <= now) {
            self.try_held()?;
            std::mem::take(&mut self.put_off).into_iter().try_for_each(|query| self.answer(query))?;
        }
        if self.store.sync_at().is_some_and(|at| at <= now) {
            unless_broken(self.store.sync())?;
        }
        if self.store.is_checkpoint_due() {
            unless_broken(self.store.checkpoint())?;
        }
        self.store.collect()?;
        if self.look_at <= now { self.look(now) } else { Ok(()) }
    }

    /// Sees what there is on the disk, tells it, and forgets what is beyond the limits.
    fn look(&mut self, now: Instant) -> Result<(), Fault> {
        if !self.busy && self.store.has_log() {
            unless_broken(self.store.checkpoint())?;
        }
        unless_broken(self.store.blobs.disk().renew_reserve().map(drop).map_err(Fault::from))?;
        let storage = self.storage();
        if self.told.is_none_or(|told| is_noticeable(told, storage)) {
            self.told = Some(storage);
            self.say(Reply::Storage(storage));
        }
        let trusted = self.calendar.look(self.store.clock.unix_ms(), now.duration_since(self.started));
        let helped = match self.forget(storage.blob_quota_bytes, trusted) {
            Err(Fault::Full | Fault::Busy(_)) => false,
            helped => helped?,
        };
        let pause = if self.busy { LOOK_BUSY } else { LOOK_IDLE };
        // A batch at a time, so that submissions do not wait for it.
        self.look_at = if helped { now } else { now + pause };
        self.busy = false;
        Ok(())
    }

    /// Forgets some of what is beyond the limits. True if there is a point in going on at once: only if that brought it
    /// nearer to the limits, or all would be gone before anyone sees that it does not help.
    fn forget(&mut self, quota_bytes: u64, trusted_ms: Option<u64>) -> Result<bool, Fault> {
        let kept = self.store.kept(&self.retention)?;
        let excess = excess(kept, &self.retention, quota_bytes, trusted_ms);
        let forgotten = self.store.forget(excess)?;
        if forgotten == 0 {
            return Ok(false);
        }
        tracing::info!("{forgotten} jobs that ended long ago are forgotten");
        Ok(self.store.kept(&self.retention)?.is_nearer_than(kept, excess))
    }

    fn storage(&self) -> StorageView {
        let (blobs, disk) = (&self.store.blobs, self.store.blobs.disk());
        StorageView {
            journal_bytes: self.store.bytes(),
            blob_bytes: blobs.bytes(),
            blob_quota_bytes: disk.config().blobs.0,
            free_bytes: disk.free_bytes().unwrap_or(0),
            low_water_bytes: disk.config().low_water.0,
        }
    }

    fn say_all(&self, replies: Vec<Reply>) {
        replies.into_iter().for_each(|reply| self.say(reply));
    }

    /// Fails only when nobody listens any more; what is in the queue is still written.
    fn say(&self, reply: Reply) {
        let _ = self.replies.blocking_send(reply);
    }
}

fn refusal(Low { free_bytes, low_water_bytes }: Low) -> Rejection {
    Rejection::DiskFull { free_bytes, low_water_bytes }
}

fn unless_broken(done: Result<(), Fault>) -> Result<(), Fault> {
    match done {
        Err(broken @ Fault::Broken(_)) => Err(broken),
        Ok(()) | Err(Fault::Full | Fault::Busy(_)) => Ok(()),
    }
}

fn is_noticeable(told: StorageView, now: StorageView) -> bool {
    let moved = |a: u64, b: u64| a.abs_diff(b) > NOTICEABLE_BYTES.max(a / 256);
    let low = |view: StorageView| view.free_bytes < view.low_water_bytes;
    low(told) != low(now)
        || moved(told.journal_bytes, now.journal_bytes)
        || moved(told.blob_bytes, now.blob_bytes)
        || moved(told.free_bytes, now.free_bytes)
}
