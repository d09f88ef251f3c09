//! The driver: the one loop in which everything that happens meets the scheduler.
//!
//! ```text
//! sessions ──Ask──▶┐                              ┌──▶ answers to sessions, news to watchers
//! engine ──Event──▶├─▶ Happening ─▶ Scheduler ─▶ Effects ──▶ journal entries
//! journal ──Reply─▶│                              └──▶ engine commands
//! signals, timer ─▶┘
//! ```
//!
//! What goes into the scheduler and what comes out of it the observer sees, too, and tells log and metrics.
//!
//! Where to look: `effects` is what the scheduler wants done, `news` what the engine says, `course` what is noted of it,
//! `questions` what sessions ask, `submissions` how jobs come in, `results` how what they made is kept and `service` what the
//! service manager is told. It is the only part that knows server, journal, blobs and engine; they do not know each other.
//! It never blocks: disks
//! are the journal's thread's and the blocking pool's business.

mod course;
mod effects;
mod fetch;
mod news;
mod questions;
mod results;
mod service;
mod submissions;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpusched_core::{Effect, Input, Scheduler, Time, Unfinished};
use gpusched_engine::Failure;
use gpusched_shared::{Bytes, JobId, Outcome, StorageView, Update};
use tokio::sync::{mpsc, watch};

use crate::blobs::{Blobs, Hold};
use crate::clock::Clock;
use crate::journal::{Journal, Recovering, Reply as JournalReply};
use crate::server::Ask;
use crate::supervisor::{Form, News};
use crate::telemetry::Observer;
use crate::telemetry::message::{Message, say};
use crate::telemetry::metrics::page::TakeDown;
use crate::telemetry::preemption::Preemption;
use course::Course;
use results::Stored;
pub use service::{Configuration, Service};
use submissions::Underway;

/// How long jobs that are told to leave get to come to a yield point when the daemon ends.
const TO_NEXT_YIELD_POINT: Duration = Duration::from_secs(5);

/// What the driver listens to.
pub struct Channels {
    /// Questions of sessions.
    pub asks: mpsc::Receiver<Ask>,
    /// News of the engine.
    pub events: mpsc::Receiver<News>,
    /// Answers of the journal.
    pub replies: mpsc::Receiver<JournalReply>,
    /// Orders to stop; a second one is impatient.
    pub stops: mpsc::Receiver<()>,
    /// What becomes of orders to read the configuration anew.
    pub configurations: mpsc::Receiver<Configuration>,
    /// Somebody wants the metrics.
    pub readings: mpsc::Receiver<TakeDown>,
}

/// Why the daemon stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// What the journal holds is no longer known for sure.
    #[error("the journal failed ({0}); see to the disk, then start the daemon again")]
    JournalPoisoned(String),
    /// The store of results fails.
    #[error("{0}; see to the disk, then start the daemon again")]
    Disk(String),
    /// A thread is gone.
    #[error("the {0} thread has died; its log says why")]
    ThreadDied(&'static str),
}

enum Happening {
    Ask(Ask),
    Engine(News),
    Journal(JournalReply),
    Stored(Stored),
    Configuration(Configuration),
    Reading(TakeDown),
    Timer,
    /// Nothing, for so long that the service manager wants to hear of it.
    Idle,
    Stop,
    Died(&'static str),
}

/// See the [module's documentation](self).
pub struct Driver {
    scheduler: Scheduler,
    engine: Form,
    engine_state: EngineState,
    journal: Journal,
    storage: StorageView,
    blobs: Arc<Blobs>,
    clock: Clock,
    observer: Observer,
    /// Submissions and pictures on their way.
    underway: Underway,
    /// News of live jobs that somebody watches.
    watchers: HashMap<JobId, watch::Sender<Update>>,
    /// How fast each class makes way, in the order of the classes.
    preemption: Vec<Preemption>,
    course: Course,
    /// Results that the blocking pool has stored.
    stored: (mpsc::Sender<Stored>, mpsc::Receiver<Stored>),
    /// What keeps results in the store until the outcomes that name them are on record, and previews until those of the jobs
    /// whose they are; for by then the stages that look at them are on record.
    holds: HashMap<JobId, Vec<Hold>>,
    started: Instant,
    stop_timeout: Duration,
    stopping: Stopping,
    service: Service,
}

/// What is known of the engine.
struct EngineState {
    up: bool,
    deaths: u64,
}

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
        engine: Form,
        journal: Journal,
        blobs: Arc<Blobs>,
        clock: Clock,
        observer: Observer,
        service: Service,
    ) -> Self {
        Self {
            preemption: vec![Preemption::default(); scheduler.plan().classes().len()],
            scheduler,
            engine,
            engine_state: EngineState { up: true, deaths: 0 },
            journal,
            storage: StorageView::default(),
            blobs,
            clock,
            observer,
            underway: Underway::default(),
            watchers: HashMap::new(),
            course: Course::default(),
            stored: mpsc::channel(64),
            holds: HashMap::new(),
            started: Instant::now(),
            stop_timeout: service.stop_timeout(),
            stopping: Stopping::No,
            service,
        }
    }

    /// Puts jobs of an earlier run back. Call before [`run`](Self::run).
    pub fn restore(&mut self, jobs: Vec<Recovering>) {
        let now_ms = self.clock.unix_ms();
        let ceiling_ms = self.scheduler.plan().retry.ceiling_ms;
        let unfinished = jobs.into_iter().map(|Recovering { record, retry_at_unix_ms, ended, damage }| {
            // No wait is longer than the ceiling, whatever the wall clock was set to meanwhile.
            let retry_in_ms = retry_at_unix_ms.map(|at| at.saturating_sub(now_ms).min(ceiling_ms));
            Unfinished { age_ms: self.clock.age_ms(&record), record, retry_in_ms, ended, damage }
        });
        let unfinished = unfinished.collect();
        self.input(Input::Restore(unfinished));
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// [`DriverError`].
    pub async fn run(mut self, mut channels: Channels) -> Result<(), DriverError> {
        while !self.has_stopped() {
            let (timer, word) = (self.next_timer(), self.next_word());
            let happening = tokio::select! {
                reply = channels.replies.recv() => reply.map_or(Happening::Died("journal"), Happening::Journal),
                news = channels.events.recv() => news.map_or(Happening::Died("engine's supervisor"), Happening::Engine),
                Some(stored) = self.stored.1.recv() => Happening::Stored(stored),
                Some(ask) = channels.asks.recv() => Happening::Ask(ask),
                Some(()) = channels.stops.recv() => Happening::Stop,
                Some(news) = channels.configurations.recv() => Happening::Configuration(news),
                Some(done) = channels.readings.recv() => Happening::Reading(done),
                () = sleep_until(timer), if timer.is_some() => Happening::Timer,
                () = sleep_until(word), if word.is_some() => Happening::Idle,
            };
            let moved = !matches!(happening, Happening::Idle);
            self.handle(happening).inspect_err(|e| match e {
                DriverError::JournalPoisoned(_) | DriverError::Disk(_) => say!(Message::JournalPoisoned, "{e}"),
                DriverError::ThreadDied(_) => say!(Message::ThreadDied, "{e}"),
            })?;
            self.turned(moved);
        }
        // The engine's lanes may be waiting to say something that nobody will hear. And sessions tell by it that what is not
        // answered from here on never will be, so it goes before what they wait for; after an error, too, since arguments are
        // dropped last to first.
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
            Happening::Ask(Ask::Submit { .. }) if self.service.hangs() => loop {
                std::thread::park();
            },
            Happening::Ask(ask) => self.answer(ask),
            Happening::Engine(news) => self.engine_news(news),
            Happening::Journal(JournalReply::Recorded(job)) => self.input(Input::Recorded(job)),
            Happening::Journal(JournalReply::RecordFailed(job, why)) => self.input(Input::RecordFailed(job, why)),
            Happening::Journal(JournalReply::Concluded(job)) => {
                self.holds.remove(&job);
                self.input(Input::Concluded(job));
            }
            Happening::Journal(JournalReply::KeyOf { ticket, found }) => self.key_of(ticket, found),
            Happening::Journal(JournalReply::Storage(storage)) => self.disk(storage),
            Happening::Journal(JournalReply::Poisoned(why)) => return Err(DriverError::JournalPoisoned(why)),
            Happening::Stored(stored) => self.stored(stored)?,
            Happening::Configuration(news) => self.configure(news),
            Happening::Reading(done) => {
                let (status, now) = (self.overview(), self.now());
                self.observer.take_down(&status, now);
                let _ = done.send(());
            }
            Happening::Timer => self.timer(),
            Happening::Idle => {}
            Happening::Stop => self.stop(),
            Happening::Died(thread) => return Err(DriverError::ThreadDied(thread)),
        }
        Ok(())
    }

    /// Hands an input to the scheduler and carries out what follows.
    fn input(&mut self, input: Input) {
        let mut effects = self.schedule(input);
        while let Some(effect) = effects.pop_front() {
            // A command that the engine refuses is an input in turn; its effects come after those already due.
            if let Some(refused) = self.carry_out(effect) {
                let more = self.schedule(refused);
                effects.extend(more);
            }
        }
        for impossible in self.scheduler.take_impossible() {
            tracing::error!("this should not happen: {impossible}");
        }
    }

    fn schedule(&mut self, input: Input) -> VecDeque<Effect> {
        let now = self.now();
        self.observer.happens(&input, now);
        let effects = self.scheduler.handle(input, now);
        self.observer.judged(&self.scheduler);
        // Before any of them is carried out: what is carried out may be seen at once.
        effects.iter().for_each(|effect| self.observer.follows(effect, now));
        effects
    }

    /// What there is on the disk. That there is too little is said when it comes to that, and when it is over.
    fn disk(&mut self, storage: StorageView) {
        let is_low = |storage: &StorageView| storage.free_bytes < storage.low_water_bytes;
        let (free, least) = (Bytes(storage.free_bytes), Bytes(storage.low_water_bytes));
        match (is_low(&self.storage), is_low(&storage)) {
            (false, true) => say!(
                Message::DiskLow,
                FREE_BYTES = storage.free_bytes,
                "no jobs are taken: {free} are free on the disk, there must be {least}"
            ),
            (true, false) => {
                say!(
                    Message::DiskRecovered,
                    FREE_BYTES = storage.free_bytes,
                    "jobs are taken again: {free} are free on the disk"
                );
            }
            (true, true) | (false, false) => {}
        }
        self.storage = storage;
    }

    fn stop(&mut self) {
        let patience = Instant::now() + self.stop_timeout;
        match self.stopping {
            Stopping::No => {
                say!(
                    Message::DaemonStopping,
                    "stopping: running jobs have {} s to finish",
                    self.stop_timeout.as_secs()
                );
                self.stopping = Stopping::Draining(patience);
                self.say_stopping();
                self.input(Input::Leave);
            }
            Stopping::Draining(_) => self.abandon(),
            Stopping::Abandoning(_) => {}
        }
    }

    fn abandon(&mut self) {
        say!(Message::DaemonStopping, "stopping: running jobs are interrupted; they run again after the next start");
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
        self.look_if_due();
        self.input(Input::Tick);
    }

    fn next_timer(&self) -> Option<Instant> {
        let deadline = self.scheduler.next_timer().map(|at| self.started + Duration::from_micros(at.0));
        let stopping = match self.stopping {
            Stopping::No => None,
            Stopping::Draining(until) | Stopping::Abandoning(until) => Some(until),
        };
        deadline.into_iter().chain(stopping).chain(self.course.next_look()).min()
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

fn outcome_of(failure: Failure) -> Outcome {
    Outcome::Failed { kind: failure.kind, message: failure.message }
}
