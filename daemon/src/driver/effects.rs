//! What the scheduler wants done.

use std::sync::Arc;

use gpusched_core::{Effect, Input, JobRecord, LaneId, Ticket};
use gpusched_engine::{Command, Stage};
use gpusched_shared::{JobId, Outcome, Rejection, Update, Usage};

use super::{Driver, failed, unix_ms};
use crate::journal::Entry;

impl Driver {
    /// Carries out an effect. What the engine refuses is an input in turn.
    pub(super) fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Record(record) => self.journal.write(Entry::Submission(record)),
            Effect::Amend(record) => self.journal.write(Entry::Amendment(record)),
            Effect::Keep(measurement) => self.journal.write(Entry::Footprint(measurement)),
            Effect::Accept(ticket, job) => self.reply(ticket, Ok(job)),
            Effect::Reject(ticket, rejection) => self.reply(ticket, Err(rejection)),
            Effect::Launch { job, attempt, lane, record, lease_bytes, flush } => {
                return self.launch(job, attempt, lane, &record, lease_bytes, flush);
            }
            Effect::Stop(job) => {
                // Stop is never refused: a job that is not running has ended, and says so itself.
                let _ = self.engine.command(Command::Stop(job));
            }
            Effect::Gate { class, closed } => self.order(Command::Gate { class, closed }),
            Effect::Evict { class, model } => self.order(Command::Unload { class, model }),
            Effect::AttemptEnded { .. } | Effect::BackOff { .. } | Effect::Flush { .. } => {}
            Effect::Conclude { job, outcome, wait_us, run_us, backoff_us: _, usage } => {
                tracing::info!(
                    JOB_ID = job.0,
                    OUTCOME = outcome.word(),
                    WAIT_US = wait_us,
                    RUN_US = run_us,
                    PARKED_US = usage.parked_us,
                    PEAK_BYTES = usage.peak_bytes,
                    "ended{}",
                    why(&outcome)
                );
                self.journal.write(Entry::Outcome { job, outcome, wait_us, run_us, usage, unix_ms: unix_ms() });
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

    fn launch(
        &mut self,
        job: JobId,
        attempt: u32,
        LaneId(lane): LaneId,
        record: &Arc<JobRecord>,
        lease_bytes: u64,
        flush: bool,
    ) -> Option<Input> {
        let name = self.lanes.get(lane).cloned().unwrap_or_default();
        tracing::info!(JOB_ID = job.0, LANE = name, ATTEMPT = attempt, "launched");
        let pictures = record.pictures.iter().map(|picture| self.blobs.path(picture.blob.hash)).collect();
        let stage = Stage { spec: record.spec.clone(), pictures };
        let refused = self.engine.command(Command::Run { job, lane, stage, lease_bytes, flush }).err();
        // The lane is at work already while this is noted.
        self.journal.write(Entry::Attempt { job, attempt, lane: name, unix_ms: unix_ms() });
        refused.map(|failure| Input::Finished(job, failed(failure), Usage::default()))
    }

    /// A command that the engine refuses only if it and the scheduler disagree about what there is.
    fn order(&mut self, command: Command) {
        if let Err(failure) = self.engine.command(command.clone()) {
            tracing::error!("the engine refuses {command:?}: {failure}");
        }
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
}

/// What to add to the log of a job's end. Never what the job was about.
fn why(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Failed { kind, message } => format!(": {kind}: {message}"),
        Outcome::Expired { limit } => format!(": {limit}"),
        Outcome::Image { .. } | Outcome::Answers(_) | Outcome::Cancelled => String::new(),
    }
}
