//! Answers to what sessions ask, from the scheduler for jobs that live and from the journal for those that have ended.

use std::fs::File;
use std::sync::Arc;

use gpusched_core::{Input, Ticket};
use gpusched_shared::{BlobRef, JobId, JobState, JobView, ModelView, Outcome, Rejection, StatusView, Uid, Update};
use tokio::sync::{oneshot, watch};

use super::{Driver, unix_ms};
use crate::blobs::Blobs;
use crate::journal::Query;
use crate::server::{Ask, Peer, Reply};

impl Driver {
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Submit { peer, session, spec, pictures, attached, reply } => {
                let resolved = random_seed().and_then(|seed| self.catalog.resolve(spec, seed));
                let spec = match resolved {
                    Ok(spec) => spec,
                    Err(rejection) => return drop(reply.send(Err(rejection))),
                };
                let ticket = Ticket(self.next_ticket);
                self.next_ticket += 1;
                self.tickets.insert(ticket, reply);
                let (uid, unix_ms) = (peer.uid, unix_ms());
                self.input(Input::Submit { ticket, uid, session, spec, pictures, attached, unix_ms });
            }
            Ask::Watch(peer, job, reply) => self.watch(peer, job, reply),
            Ask::Cancel(peer, job, reply) => {
                let live = self.scheduler.view(job, self.now()).is_some_and(|view| peer.may_touch(view.uid));
                self.watch(peer, job, reply);
                if live {
                    tracing::info!(JOB_ID = job.0, CLIENT_UID = peer.uid, "cancel");
                    self.input(Input::Cancel(job));
                }
            }
            Ask::Show(peer, job, reply) => match self.live(peer, job) {
                Some(found) => drop(reply.send(found)),
                None => self.ask_ended(peer, job, move |found| drop(reply.send(found))),
            },
            Ask::List { peer, ended, before, limit, reply } => self.list(peer, ended, before, limit, reply),
            Ask::Fetch(peer, job, reply) => match self.live(peer, job) {
                Some(found) => {
                    let state = found.map(|view| match view.state {
                        JobState::Running { .. } => "still running",
                        JobState::Queued { .. } | JobState::Done(_) => "still queued",
                    });
                    let refused = state.map(|state| Rejection::NothingToFetch { job, state: state.to_owned() });
                    drop(reply.send(Err(refused.unwrap_or_else(|rejection| rejection))));
                }
                None => {
                    let blobs = Arc::clone(&self.blobs);
                    self.ask_ended(peer, job, move |found| {
                        drop(reply.send(found.and_then(|view| open(&blobs, &view))));
                    });
                }
            },
            Ask::Status(peer, reply) => drop(reply.send(Ok(self.status(peer)))),
            Ask::Closed(session) => self.input(Input::SessionClosed(session)),
        }
    }

    /// A live job, or the refusal to show it; `None` if it is not live.
    fn live(&self, peer: Peer, job: JobId) -> Option<Result<JobView, Rejection>> {
        let view = self.scheduler.view(job, self.now())?;
        Some(if peer.may_touch(view.uid) { Ok(view) } else { Err(Rejection::NoSuchJob { job }) })
    }

    /// Asks the journal for an ended job of `peer`'s and hands it on.
    fn ask_ended(&self, peer: Peer, job: JobId, then: impl FnOnce(Result<JobView, Rejection>) + Send + 'static) {
        let (reply, answer) = oneshot::channel();
        self.journal.ask(Query::Show(job, reply));
        tokio::spawn(async move {
            match answer.await {
                Ok(Some(view)) if peer.may_touch(view.uid) => then(Ok(view)),
                Ok(_) => then(Err(Rejection::NoSuchJob { job })),
                // Dropping `then` drops the session's reply channel, which it reports as the journal's failure.
                Err(_) => drop(then),
            }
        });
    }

    fn watch(&mut self, peer: Peer, job: JobId, reply: Reply<watch::Receiver<Update>>) {
        match self.live(peer, job) {
            Some(Ok(view)) => {
                let update = match view.state {
                    JobState::Queued { ahead } => Update::Queued { ahead },
                    JobState::Running { lane, activity } => Update::Running { lane, activity },
                    JobState::Done(_) => Update::Done(view),
                };
                let news = self.watchers.entry(job).or_insert_with(|| watch::Sender::new(update)).subscribe();
                let _ = reply.send(Ok(news));
            }
            Some(Err(rejection)) => drop(reply.send(Err(rejection))),
            None => self.ask_ended(peer, job, move |found| {
                let _ = reply.send(found.map(|view| watch::Sender::new(Update::Done(view)).subscribe()));
            }),
        }
    }

    fn list(&self, peer: Peer, ended: bool, before: Option<JobId>, limit: u32, reply: Reply<Vec<JobView>>) {
        let now = self.now();
        let wanted = self
            .scheduler
            .live()
            .filter(|(id, record)| peer.may_touch(record.uid) && before.is_none_or(|before| *id < before));
        let mut jobs: Vec<JobView> =
            wanted.take(limit as usize).filter_map(|(id, _)| self.scheduler.view(id, now)).collect();
        if !ended {
            return drop(reply.send(Ok(jobs)));
        }
        let uid: Option<Uid> = (!peer.admin).then_some(peer.uid);
        let (ask, answer) = oneshot::channel();
        self.journal.ask(Query::List { uid, before, limit, reply: ask });
        tokio::spawn(async move {
            if let Ok(ended) = answer.await {
                // A job that has ended since counts as ended.
                jobs.retain(|job| ended.iter().all(|other| other.id != job.id));
                jobs.extend(ended);
                jobs.sort_by_key(|job| std::cmp::Reverse(job.id));
                jobs.truncate(limit as usize);
                let _ = reply.send(Ok(jobs));
            }
        });
    }

    fn status(&self, peer: Peer) -> StatusView {
        let now = self.now();
        let mut lanes = self.scheduler.lanes();
        for lane in &mut lanes {
            // That a lane is busy is everyone's to know; whose job it is, is not.
            let foreign = |job: &JobId| self.scheduler.view(*job, now).is_none_or(|view| !peer.may_touch(view.uid));
            lane.job = lane.job.map(|job| if foreign(&job) { JobId(0) } else { job });
        }
        let models = self.catalog.models().iter().map(|model| ModelView {
            name: model.name.clone(),
            kind: model.kind.clone(),
            bytes: model.bytes,
            resident: self.resident.contains(&model.name),
        });
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: now.0,
            draining: self.scheduler.is_draining(),
            classes: self.scheduler.classes(),
            lanes,
            models: models.collect(),
        }
    }
}

fn open(blobs: &Blobs, view: &JobView) -> Result<(BlobRef, File), Rejection> {
    let job = view.id;
    let nothing = |state: &str| Rejection::NothingToFetch { job, state: state.to_owned() };
    let JobState::Done(outcome) = &view.state else { return Err(nothing("still running")) };
    let blob = outcome.blob().ok_or_else(|| {
        nothing(if matches!(outcome, Outcome::Answers(_)) { "an answer, see `gpuctl show`" } else { outcome.word() })
    })?;
    let file = blobs.get(blob.hash);
    file.map(|file| (blob, file)).map_err(|e| Rejection::Internal { reason: format!("picture of job {job}: {e}") })
}

fn random_seed() -> Result<u64, Rejection> {
    // 32 bits are enough for a seed and short enough to read out.
    getrandom::u32().map(u64::from).map_err(|e| Rejection::Internal { reason: format!("no random numbers: {e}") })
}
