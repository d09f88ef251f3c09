//! What the scheduler wants done.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use gpusched_core::{Effect, Input, JobRecord, LaneId};
use gpusched_engine::{Command, Failure, Stage};
use gpusched_shared::{FailureKind, Update, Usage};

use super::results::Stored;
use super::{Driver, outcome_of};
use crate::disk::is_passing;
use crate::journal::Entry;

/// How long a job waits for its pictures to be readable.
const AGAIN: Duration = Duration::from_millis(200);

impl Driver {
    /// Carries out an effect. What the engine refuses is an input in turn.
    pub(super) fn carry_out(&mut self, effect: Effect) -> Option<Input> {
        match effect {
            Effect::Record(record) => self.journal.write(Entry::Submission(record)),
            Effect::Amend(record) => self.journal.write(Entry::Amendment(record)),
            Effect::Keep(measurement) => self.journal.write(Entry::Footprint(measurement)),
            Effect::Accept(ticket, job) => self.reply(ticket, Ok(job)),
            Effect::Reject(ticket, rejection) => self.reply(ticket, Err(rejection)),
            Effect::Launch { job: _, attempt, lane, record, lease_bytes, flush, preview_after } => {
                return self.launch(attempt, lane, &record, lease_bytes, flush, preview_after);
            }
            Effect::Stop(job) => {
                // Stop is never refused: a job that is not running has ended, and says so itself.
                let _ = self.engine.command(Command::Stop(job), Vec::new());
            }
            Effect::Gate { class, closed } => self.order(Command::Gate { class, closed }),
            Effect::Evict { class, model } => self.order(Command::Unload { class, model }),
            Effect::AttemptEnded { job, attempt, end } => self.attempt_ended(job, attempt, end),
            Effect::BackOff { job, retry, within_ms } => {
                let retry_at_unix_ms = self.clock.unix_ms().saturating_add(within_ms);
                self.journal.write(Entry::BackOff { job, retry, retry_at_unix_ms });
            }
            Effect::Flush { class, job } => self.order(Command::Flush { class, job }),
            Effect::Conclude { job, outcome, wait_us, run_us, backoff_us, usage, reflection } => {
                let unix_ms = self.clock.unix_ms();
                self.journal.write(Entry::Outcome {
                    job,
                    outcome,
                    wait_us,
                    run_us,
                    backoff_us,
                    usage,
                    reflection,
                    unix_ms,
                });
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
        attempt: u32,
        lane: LaneId,
        record: &Arc<JobRecord>,
        lease_bytes: u64,
        flush: bool,
        preview_after: Option<u32>,
    ) -> Option<Input> {
        let job = record.id;
        let (LaneId(lane), name) = (lane, self.observer.lane(lane).to_owned());
        let unix_ms = self.clock.unix_ms();
        self.journal.write(Entry::Attempt { job, attempt, lane: name, unix_ms });
        self.attempt_began(job);
        // Opening a file of our own directory is no wait to speak of.
        let files = record.pictures.iter().map(|picture| self.blobs.get(picture.blob.hash).map(OwnedFd::from));
        let failed = match files.collect::<Result<Vec<_>, _>>() {
            Ok(files) => {
                let stage = Stage { spec: record.spec.clone(), pictures: files.len(), preview_after };
                let run = Command::Run { job, attempt, lane, stage, lease_bytes, flush };
                self.engine.command(run, files).err()
            }
            Err(e) if is_passing(&e) => {
                // Out of descriptors, say. The job keeps its lane for that moment, so that this goes on no faster.
                let stored = self.stored.0.clone();
                tokio::spawn(async move {
                    tokio::time::sleep(AGAIN).await;
                    let _ = stored.send(Stored::NotBegun(job)).await;
                });
                None
            }
            Err(e) => Some(Failure { kind: FailureKind::Storage, message: format!("cannot read its picture: {e}") }),
        };
        failed.map(|failure| Input::Finished(job, outcome_of(failure), Usage::default()))
    }

    /// A command that the engine refuses only if it and the scheduler disagree about what there is.
    fn order(&mut self, command: Command) {
        if let Err(failure) = self.engine.command(command.clone(), Vec::new()) {
            tracing::error!("the engine refuses {command:?}: {failure}");
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
