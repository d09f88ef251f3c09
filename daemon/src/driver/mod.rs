//! The driver: the one loop in which everything that happens meets the scheduler.
//!
//! ```text
//! sessions ──Ask──▶┐                              ┌──▶ answers to sessions, news to watchers
//! engine ──Event──▶├─▶ Happening ─▶ Scheduler ─▶ Effects ──▶ journal entries
//! journal ──Reply─▶│                              └──▶ engine commands
//! signals, timer ─▶┘
//! ```
//!
//! Where to look: `effects` is what the scheduler wants done, `news` what the engine says, `questions` what sessions
//! ask. It is the only part that knows server, journal, blobs and engine; they do not know each other. It never blocks: disks
//! are the journal's thread's and the blocking pool's business.

mod effects;
mod news;
mod questions;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gpusched_core::{Input, JobRecord, Scheduler, Ticket, Time, Unfinished};
use gpusched_engine::{Engine, Event, Failure};
use gpusched_shared::{JobId, Outcome, Update};
use tokio::sync::{mpsc, watch};

use crate::blobs::Blobs;
use crate::journal::{Journal, Reply as JournalReply};
use crate::server::{Ask, Reply};
use crate::telemetry::preemption::Preemption;

/// How long jobs that are told to leave get to come to a yield point when the daemon ends.
const TO_NEXT_YIELD_POINT: Duration = Duration::from_secs(5);

/// What the driver listens to.
pub struct Channels {
    /// Questions of sessions.
    pub asks: mpsc::Receiver<Ask>,
    /// News of the engine.
    pub events: mpsc::Receiver<Event>,
    /// Answers of the journal.
    pub replies: mpsc::Receiver<JournalReply>,
    /// Orders to stop; a second one is impatient.
    pub stops: mpsc::Receiver<()>,
}

/// Why the daemon stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// What the journal holds is no longer known for sure.
    #[error("the journal failed while writing an outcome ({0}); see to the disk, then start the daemon again")]
    JournalPoisoned(String),
    /// A thread is gone.
    #[error("the {0} thread has died; its log says why")]
    ThreadDied(&'static str),
}

enum Happening {
    Ask(Ask),
    Engine(Event),
    Journal(JournalReply),
    Stored(JobId, Outcome),
    Timer,
    Stop,
    Died(&'static str),
}

/// See the [module's documentation](self).
pub struct Driver {
    scheduler: Scheduler,
    engine: Engine,
    journal: Journal,
    blobs: Arc<Blobs>,
    lanes: Vec<String>,
    /// Submissions that wait for the journal.
    tickets: HashMap<Ticket, Reply<JobId>>,
    next_ticket: u64,
    /// News of live jobs that somebody watches.
    watchers: HashMap<JobId, watch::Sender<Update>>,
    /// How fast each class makes way, in the order of the classes.
    preemption: Vec<Preemption>,
    /// Pictures that the blocking pool has stored.
    stored: (mpsc::Sender<Stored>, mpsc::Receiver<Stored>),
    started: Instant,
    stop_timeout: Duration,
    stopping: Stopping,
}

/// A job whose picture is in the blob store, or could not be put there.
type Stored = (JobId, Outcome);

/// How the daemon is being stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stopping {
    No,
    /// Running jobs may finish until then.
    Draining(Instant),
    /// Running jobs have been told to leave; those that do not by then are left behind.
    Abandoning(Instant),
}

impl Driver {
    /// A driver that takes the unfinished jobs of the last run up again.
    pub fn new(
        scheduler: Scheduler,
        engine: Engine,
        journal: Journal,
        blobs: Arc<Blobs>,
        lanes: Vec<String>,
        stop_timeout: Duration,
    ) -> Self {
        Self {
            preemption: vec![Preemption::default(); scheduler.plan().classes().len()],
            scheduler,
            engine,
            journal,
            blobs,
            lanes,
            tickets: HashMap::new(),
            next_ticket: 0,
            watchers: HashMap::new(),
            stored: mpsc::channel(64),
            started: Instant::now(),
            stop_timeout,
            stopping: Stopping::No,
        }
    }

    /// Puts jobs of an earlier run back. Call before [`run`](Self::run).
    pub fn restore(&mut self, records: Vec<JobRecord>) {
        let jobs = records.into_iter().map(|record| {
            tracing::info!(JOB_ID = record.id.0, CLIENT_UID = record.uid, "restored");
            let age_ms = unix_ms().saturating_sub(record.submitted_unix_ms);
            Unfinished { record, age_ms, retry_in_ms: None, damage: None }
        });
        let jobs = jobs.collect();
        self.input(Input::Restore(jobs));
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// [`DriverError`].
    pub async fn run(mut self, mut channels: Channels) -> Result<(), DriverError> {
        while !self.has_stopped() {
            let timer = self.next_timer();
            let happening = tokio::select! {
                reply = channels.replies.recv() => reply.map_or(Happening::Died("journal"), Happening::Journal),
                Some(event) = channels.events.recv() => Happening::Engine(event),
                Some((job, outcome)) = self.stored.1.recv() => Happening::Stored(job, outcome),
                Some(ask) = channels.asks.recv() => Happening::Ask(ask),
                Some(()) = channels.stops.recv() => Happening::Stop,
                () = sleep_until(timer), if timer.is_some() => Happening::Timer,
            };
            self.handle(happening)?;
        }
        // The engine's lanes may be waiting to say something that nobody will hear.
        drop(channels);
        let Self { scheduler, engine, .. } = self;
        if !scheduler.is_idle() {
            tracing::warn!("some jobs did not come to a yield point; they run again after the next start");
            engine.leave();
        }
        Ok(())
    }

    fn handle(&mut self, happening: Happening) -> Result<(), DriverError> {
        match happening {
            Happening::Ask(ask) => self.answer(ask),
            Happening::Engine(event) => self.engine_event(event),
            Happening::Journal(JournalReply::Recorded(job)) => self.input(Input::Recorded(job)),
            Happening::Journal(JournalReply::RecordFailed(job, why)) => self.input(Input::RecordFailed(job, why)),
            Happening::Journal(JournalReply::Concluded(job)) => self.input(Input::Concluded(job)),
            Happening::Journal(JournalReply::Poisoned(why)) => return Err(DriverError::JournalPoisoned(why)),
            Happening::Stored(job, outcome) => self.input(Input::Stored(job, outcome)),
            Happening::Timer => self.timer(),
            Happening::Stop => self.stop(),
            Happening::Died(thread) => return Err(DriverError::ThreadDied(thread)),
        }
        Ok(())
    }

    /// Hands an input to the scheduler and carries out what follows.
    fn input(&mut self, input: Input) {
        let mut effects = self.scheduler.handle(input, self.now());
        while let Some(effect) = effects.pop_front() {
            // A command that the engine refuses is an input in turn; its effects come after those already due.
            if let Some(refused) = self.carry_out(effect) {
                effects.extend(self.scheduler.handle(refused, self.now()));
            }
        }
        for impossible in self.scheduler.take_impossible() {
            tracing::error!("this should not happen: {impossible}");
        }
    }

    fn stop(&mut self) {
        let patience = Instant::now() + self.stop_timeout;
        match self.stopping {
            Stopping::No => {
                tracing::info!("stopping: running jobs have {} s to finish", self.stop_timeout.as_secs());
                self.stopping = Stopping::Draining(patience);
                self.input(Input::Leave);
            }
            Stopping::Draining(_) => self.abandon(),
            Stopping::Abandoning(_) => {}
        }
    }

    fn abandon(&mut self) {
        tracing::info!("stopping: running jobs are interrupted; they run again after the next start");
        self.stopping = Stopping::Abandoning(Instant::now() + TO_NEXT_YIELD_POINT);
        self.input(Input::Abandon);
    }

    fn has_stopped(&self) -> bool {
        match self.stopping {
            Stopping::No => false,
            Stopping::Draining(_) => self.scheduler.is_idle(),
            Stopping::Abandoning(until) => self.scheduler.is_idle() || Instant::now() >= until,
        }
    }

    fn timer(&mut self) {
        if let Stopping::Draining(until) = self.stopping
            && Instant::now() >= until
        {
            self.abandon();
        }
        self.input(Input::Tick);
    }

    fn next_timer(&self) -> Option<Instant> {
        let deadline = self.scheduler.next_timer().map(|at| self.started + Duration::from_micros(at.0));
        let stopping = match self.stopping {
            Stopping::No => None,
            Stopping::Draining(until) | Stopping::Abandoning(until) => Some(until),
        };
        deadline.into_iter().chain(stopping).min()
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

async fn sleep_until(timer: Option<Instant>) {
    if let Some(at) = timer {
        tokio::time::sleep_until(at.into()).await;
    }
}

fn failed(failure: Failure) -> Outcome {
    Outcome::Failed { kind: failure.kind, message: failure.message }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
