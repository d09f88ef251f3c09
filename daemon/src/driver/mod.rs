//! The driver: the one loop in which everything that happens meets the scheduler.
//!
//! ```text
//! sessions ──Ask──▶┐                              ┌──▶ answers to sessions, news to watchers
//! engine ──Event──▶├─▶ Happening ─▶ Scheduler ─▶ Effects ──▶ journal entries
//! journal ──Reply─▶│                              └──▶ engine commands
//! signals, timer ─▶┘
//! ```
//!
//! It is the only part that knows server, journal, blobs and engine; they do not know each other. It never blocks: disks
//! are the journal's thread's and the blocking pool's business.

mod questions;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use gpusched_core::{Catalog, Effect, Input, JobRecord, LaneId, ModelInfo, Scheduler, Ticket, Time};
use gpusched_engine::{Command, Engine, Event, Failure, ModelReport, Product, Stage};
use gpusched_shared::{JobId, Outcome, Rejection, Update};
use tokio::sync::{mpsc, watch};

use crate::blobs::Blobs;
use crate::journal::{Entry, Journal, Reply as JournalReply};
use crate::server::{Ask, Reply};

/// Diffusion steps and guidance (in thousandths) where none are asked for: for distilled models and for others.
const DISTILLED: (u32, u32) = (4, 1000);
const UNDISTILLED: (u32, u32) = (20, 3000);

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
    catalog: Catalog,
    engine: Engine,
    journal: Journal,
    blobs: Arc<Blobs>,
    lanes: Vec<String>,
    /// Submissions that wait for the journal.
    tickets: HashMap<Ticket, Reply<JobId>>,
    next_ticket: u64,
    /// News of live jobs that somebody watches.
    watchers: HashMap<JobId, watch::Sender<Update>>,
    resident: Vec<String>,
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
        let catalog = Catalog::new(engine.models().into_iter().map(model_info).collect());
        Self {
            scheduler,
            catalog,
            engine,
            journal,
            blobs,
            lanes,
            tickets: HashMap::new(),
            next_ticket: 0,
            watchers: HashMap::new(),
            resident: Vec::new(),
            stored: mpsc::channel(64),
            started: Instant::now(),
            stop_timeout,
            stopping: Stopping::No,
        }
    }

    /// Puts jobs of an earlier run back. Call before [`run`](Self::run).
    pub fn restore(&mut self, records: Vec<JobRecord>) {
        for record in records {
            tracing::info!(JOB_ID = record.id.0, CLIENT_UID = record.uid, "restored");
            let age_ms = unix_ms().saturating_sub(record.submitted_unix_ms);
            self.input(Input::Restore { record, age_ms });
        }
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
            Happening::Stored(job, outcome) => self.input(Input::Finished(job, outcome)),
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

    fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Record(record) => self.journal.write(Entry::Submission(record)),
            Effect::Accept(ticket, job) => self.reply(ticket, Ok(job)),
            Effect::Reject(ticket, rejection) => self.reply(ticket, Err(rejection)),
            Effect::Launch { job, attempt, lane: LaneId(lane), spec, pictures } => {
                let name = self.lanes.get(lane).cloned().unwrap_or_default();
                tracing::info!(JOB_ID = job.0, LANE = name, ATTEMPT = attempt, "launched");
                self.journal.write(Entry::Attempt { job, attempt, lane: name, unix_ms: unix_ms() });
                let pictures = pictures.iter().map(|blob| self.blobs.path(blob.hash)).collect();
                let refused = self.engine.command(Command::Run { job, lane, stage: Stage { spec, pictures } }).err();
                return refused.map(|failure| Input::Finished(job, failed(failure)));
            }
            Effect::Stop(job) => {
                // Stop is never refused: a job that is not running has ended, and says so itself.
                let _ = self.engine.command(Command::Stop(job));
            }
            Effect::Conclude { job, outcome, wait_ms, run_ms } => {
                tracing::info!(
                    JOB_ID = job.0,
                    OUTCOME = outcome.word(),
                    WAIT_MS = wait_ms,
                    RUN_MS = run_ms,
                    "ended{}",
                    if let Outcome::Failed { kind, message } = &outcome {
                        format!(": {kind}: {message}")
                    } else {
                        String::new()
                    }
                );
                self.journal.write(Entry::Outcome { job, outcome, wait_ms, run_ms, unix_ms: unix_ms() });
            }
            Effect::Advanced => self.tell_places(),
            Effect::Tell(job, update) => {
                let last = matches!(update, Update::Done(_));
                if let Some(news) = self.watchers.get(&job) {
                    news.send_replace(update);
                }
                if last {
                    self.watchers.remove(&job);
                }
            }
        }
        None
    }

    fn reply(&mut self, ticket: Ticket, answer: Result<JobId, Rejection>) {
        if let Some(reply) = self.tickets.remove(&ticket) {
            let _ = reply.send(answer);
        }
    }

    /// Tells those who watch waiting jobs how many go before theirs, and forgets jobs that nobody watches any more.
    fn tell_places(&mut self) {
        self.watchers.retain(|_, news| news.receiver_count() > 0);
        if self.watchers.is_empty() {
            return;
        }
        for (job, ahead) in self.scheduler.places() {
            if let Some(news) = self.watchers.get(&job) {
                let place = Update::Queued { ahead };
                news.send_if_modified(|update| {
                    *update != place && {
                        *update = place;
                        true
                    }
                });
            }
        }
    }

    fn engine_event(&mut self, event: Event) {
        match event {
            Event::Started(job) => self.input(Input::Started(job)),
            Event::Progress(job, activity) => self.input(Input::Progress(job, activity)),
            Event::Interrupted(job) => self.input(Input::Interrupted(job)),
            Event::Loaded(model) => {
                tracing::info!(MODEL = model, "loaded");
                self.resident.push(model);
            }
            Event::Finished(job, Ok(Product::Answers(answers))) => {
                self.input(Input::Finished(job, Outcome::Answers(answers)));
            }
            Event::Finished(job, Err(failure)) => self.input(Input::Finished(job, failed(failure))),
            Event::Finished(job, Ok(Product::Image { png, size, truncated_tokens })) => {
                let (blobs, stored) = (Arc::clone(&self.blobs), self.stored.0.clone());
                tokio::task::spawn_blocking(move || {
                    let outcome = match blobs.put(&png) {
                        Ok(blob) => Outcome::Image { blob, size, truncated_tokens },
                        Err(e) => failed(Failure {
                            kind: gpusched_shared::FailureKind::Engine,
                            message: format!("cannot store the picture: {e}"),
                        }),
                    };
                    let _ = stored.blocking_send((job, outcome));
                });
            }
        }
    }

    fn stop(&mut self) {
        let patience = Instant::now() + self.stop_timeout;
        match self.stopping {
            Stopping::No => {
                tracing::info!("stopping: running jobs have {} s to finish", self.stop_timeout.as_secs());
                self.stopping = Stopping::Draining(patience);
                self.input(Input::Drain);
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
        let deadline = self.scheduler.next_timer().map(|at| self.started + Duration::from_millis(at.0));
        let stopping = match self.stopping {
            Stopping::No => None,
            Stopping::Draining(until) | Stopping::Abandoning(until) => Some(until),
        };
        deadline.into_iter().chain(stopping).min()
    }

    fn now(&self) -> Time {
        Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX))
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

fn model_info(report: ModelReport) -> ModelInfo {
    let (default_steps, default_guidance_milli) = if report.distilled { DISTILLED } else { UNDISTILLED };
    ModelInfo {
        name: report.name,
        kind: report.kind,
        tasks: report.tasks,
        bytes: report.bytes,
        default_size: report.default_size,
        size_multiple: report.size_multiple,
        max_pixels: report.max_pixels,
        default_steps,
        default_guidance_milli,
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
