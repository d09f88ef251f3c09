//! Answers to what sessions ask, from the scheduler for jobs that live and from the journal for those that have ended.

use gpusched_core::{Input, JobRecord};
use gpusched_shared::{
    EngineView, Explanation, JobId, JobSpec, JobState, JobView, ModelView, PartitionView, QualityView, QueueView,
    Reason, Rejection, RouteView, StatusView, Uid, Update,
};
use tokio::sync::{oneshot, watch};

use super::Driver;
use crate::journal::Query;
use crate::server::{Ask, Peer, Reply};
use crate::telemetry::message::{Message, say};

impl Driver {
    pub(super) fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Inspect(file, reply) => self.inspect(file, reply),
            Ask::Submit { peer, session, spec, pictures, holds, attached, key, reply } => {
                self.submit(peer, session, spec, pictures, attached, key, holds, reply);
            }
            Ask::Watch(peer, job, reply) => self.watch(peer, job, reply),
            Ask::Cancel(peer, job, reply) => {
                let live = self.scheduler.view(job, self.now()).is_some_and(|view| peer.may_touch(view.uid));
                self.watch(peer, job, reply);
                if live {
                    let uid = peer.uid;
                    say!(Message::JobCancelAsked, JOB_ID = job.0, CLIENT_UID = uid, "uid {uid} cancels job {job}");
                    self.input(Input::Cancel(job));
                }
            }
            Ask::Show(peer, job, reply) => match self.live(peer, job) {
                Some(found) => drop(reply.send(found)),
                None => self.ask_ended(peer, job, move |found| drop(reply.send(found))),
            },
            Ask::List { peer, ended, before, limit, reply } => self.list(peer, ended, before, limit, reply),
            Ask::Fetch { peer, job, round, reply } => self.fetch(peer, job, round, reply),
            Ask::Status(peer, reply) => drop(reply.send(Ok(self.status(peer)))),
            Ask::Explain(peer, job, reply) => match self.live(peer, job) {
                Some(Ok(_)) => drop(reply.send(self.explain(peer, job))),
                Some(Err(rejection)) => drop(reply.send(Err(rejection))),
                None => self.refuse_ended(peer, job, reply),
            },
            // The journal may not have heard of the last attempt's end yet.
            Ask::History(peer, job, reply) => self.ask_record(peer, job, Query::History, reply),
            Ask::Stages(peer, job, reply) => self.ask_record(peer, job, Query::Stages, reply),
            Ask::Quality { since_unix_ms, window, points, reply } => self.quality(since_unix_ms, window, points, reply),
            Ask::Timeline { peer, track, between_unix_ms, before, limit, reply } => {
                self.timeline(peer, track, between_unix_ms, before, limit, reply);
            }
            Ask::Queue(peer, reply) => drop(reply.send(Ok(self.queue(peer)))),
            Ask::Route(peer, spec, reply) => drop(reply.send(self.route(peer, spec))),
            Ask::SetPriority(peer, job, priority, reply) => match self.live(peer, job) {
                Some(Ok(_)) => {
                    let uid = peer.uid;
                    say!(
                        Message::JobPriority,
                        JOB_ID = job.0,
                        CLIENT_UID = uid,
                        JOB_PRIORITY = priority,
                        "uid {uid} gives job {job} priority {priority}"
                    );
                    self.input(Input::SetPriority(job, priority));
                    let view = self.scheduler.view(job, self.now());
                    drop(reply.send(view.ok_or(Rejection::NoSuchJob { job })));
                }
                Some(Err(rejection)) => drop(reply.send(Err(rejection))),
                None => self.refuse_ended(peer, job, reply),
            },
            Ask::Pause { peer, class, paused, reply } => {
                let answer = self.pause(peer, &class, paused);
                drop(reply.send(answer));
            }
            Ask::Drain(peer, on, reply) => {
                let answer = admin(peer, "drain the daemon").map(|()| {
                    let (uid, message) = (peer.uid, if on { Message::DrainOn } else { Message::DrainOff });
                    say!(message, CLIENT_UID = uid, "uid {uid} has {} jobs taken", if on { "no more" } else { "new" });
                    self.input(Input::Drain(on));
                    self.status(peer)
                });
                drop(reply.send(answer));
            }
            Ask::Closed(session) => {
                self.forget_pending(session);
                self.input(Input::SessionClosed(session));
            }
        }
    }

    /// A live job, or the refusal to show it; `None` if it is not live.
    pub(super) fn live(&self, peer: Peer, job: JobId) -> Option<Result<JobView, Rejection>> {
        if self.scheduler.is_stage(job) {
            return Some(Err(Rejection::NoSuchJob { job }));
        }
        let view = self.scheduler.view(job, self.now())?;
        Some(if peer.may_touch(view.uid) { Ok(view) } else { Err(Rejection::NoSuchJob { job }) })
    }

    /// Asks the journal for an ended job of `peer`'s and hands it on.
    pub(super) fn ask_ended(
        &self,
        peer: Peer,
        job: JobId,
        then: impl FnOnce(Result<JobView, Rejection>) + Send + 'static,
    ) {
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

    /// Answers a question that makes sense only while the job has not ended.
    fn refuse_ended<T: Send + 'static>(&self, peer: Peer, job: JobId, reply: Reply<T>) {
        self.ask_ended(peer, job, move |found| drop(reply.send(found.and_then(|view| Err(ended(&view))))));
    }

    /// What the journal knows of a job of `peer`'s, live or ended.
    fn ask_record<T: Send + 'static>(
        &self,
        peer: Peer,
        job: JobId,
        query: fn(JobId, oneshot::Sender<T>) -> Query,
        reply: Reply<T>,
    ) {
        let (ask, answer) = oneshot::channel();
        match self.live(peer, job) {
            Some(Err(rejection)) => drop(reply.send(Err(rejection))),
            Some(Ok(_)) => {
                self.journal.ask(query(job, ask));
                tokio::spawn(async move {
                    if let Ok(known) = answer.await {
                        let _ = reply.send(Ok(known));
                    }
                });
            }
            None => {
                let (shown, view) = oneshot::channel();
                self.journal.ask(Query::Show(job, shown));
                self.journal.ask(query(job, ask));
                tokio::spawn(async move {
                    let found = match view.await {
                        Ok(Some(view)) if peer.may_touch(view.uid) => answer.await.map(Ok),
                        Ok(_) => Ok(Err(Rejection::NoSuchJob { job })),
                        Err(e) => Err(e),
                    };
                    if let Ok(found) = found {
                        let _ = reply.send(found);
                    }
                });
            }
        }
    }

    fn watch(&mut self, peer: Peer, job: JobId, reply: Reply<watch::Receiver<Update>>) {
        match self.live(peer, job) {
            Some(Ok(view)) => {
                let update = match view.state {
                    JobState::Queued { ahead } => Update::Queued { ahead },
                    JobState::Running { lane, activity, parked } => Update::Running { lane, activity, parked },
                    JobState::BackingOff { retry, within_ms } => Update::BackingOff { retry, within_ms },
                    JobState::Reflecting { round, of, phase } => Update::Reflecting { round, of, phase },
                    JobState::Editing { step, phase } => Update::Editing { step, phase },
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
        let is_wanted =
            |id: JobId, record: &JobRecord| peer.may_touch(record.uid) && before.is_none_or(|before| id < before);
        let wanted = self.scheduler.live().filter(|(id, record)| is_wanted(*id, record));
        let mut jobs: Vec<JobView> =
            wanted.take(limit as usize).filter_map(|(id, _)| self.scheduler.view(id, now)).collect();
        jobs.iter_mut().filter_map(|job| job.reflection.as_mut()).for_each(|reflection| reflection.rounds.clear());
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

    fn quality(&self, since_unix_ms: u64, window: u32, points: u32, reply: Reply<QualityView>) {
        let (ask, answer) = oneshot::channel();
        self.journal.ask(Query::Quality { since_unix_ms, window, points, reply: ask });
        tokio::spawn(async move {
            if let Ok(view) = answer.await {
                let _ = reply.send(Ok(view));
            }
        });
    }

    /// Why a job is where it is. That others' jobs stand in its way is its owner's to know; which ones, is not.
    fn explain(&self, peer: Peer, job: JobId) -> Result<Explanation, Rejection> {
        let mut explanation = self.scheduler.explain(job, self.now()).ok_or(Rejection::NoSuchJob { job })?;
        for reason in &mut explanation.reasons {
            if let Reason::OneAtATime { job } | Reason::Suspect { job } = reason
                && self.scheduler.view(*job, self.now()).is_none_or(|view| !peer.may_touch(view.uid))
            {
                *job = JobId(0);
            }
        }
        Ok(explanation)
    }

    /// What waits and runs; of others' jobs only that there are some.
    fn queue(&self, peer: Peer) -> Vec<QueueView> {
        let places = self.scheduler.queue(self.now()).into_iter().map(|(owner, place)| {
            if peer.may_touch(owner) {
                place
            } else {
                QueueView { job: JobId(0), priority: 0, model: String::new(), ..place }
            }
        });
        places.collect()
    }

    fn route(&self, peer: Peer, spec: JobSpec) -> Result<RouteView, Rejection> {
        let spec = self.scheduler.catalog().resolve(spec, 0)?;
        Ok(self.scheduler.route(&spec, peer.uid))
    }

    fn pause(&mut self, peer: Peer, name: &str, paused: bool) -> Result<StatusView, Rejection> {
        admin(peer, if paused { "pause a class" } else { "resume a class" })?;
        let plan = self.scheduler.plan();
        let class = plan.class_named(name).ok_or_else(|| {
            let names: Vec<&str> = plan.classes().iter().map(|class| class.name.as_str()).collect();
            Rejection::NoSuchClass { name: name.to_owned(), available: names.join(", ") }
        })?;
        let (uid, message) = (peer.uid, if paused { Message::ClassPaused } else { Message::ClassResumed });
        let does = if paused { "pauses" } else { "resumes" };
        say!(message, CLASS = name, CLIENT_UID = uid, "uid {uid} {does} class {name}");
        self.input(Input::Pause { class, paused });
        Ok(self.status(peer))
    }

    fn status(&self, peer: Peer) -> StatusView {
        let now = self.now();
        let mut status = self.overview();
        for lane in &mut status.lanes {
            // That a lane is busy is everyone's to know; whose job it is, is not.
            let foreign = |job: &JobId| self.scheduler.view(*job, now).is_none_or(|view| !peer.may_touch(view.uid));
            lane.job = lane.job.map(|job| if foreign(&job) { JobId(0) } else { job });
        }
        status
    }

    /// The status with nothing hidden.
    pub(super) fn overview(&self) -> StatusView {
        let now = self.now();
        let models = self.scheduler.catalog().models().iter().map(|model| ModelView {
            name: model.name.clone(),
            kind: model.kind.clone(),
            bytes: model.bytes,
            resident: self.scheduler.holders(&model.name),
        });
        let mut classes = self.scheduler.classes();
        for (class, counted) in classes.iter_mut().zip(self.engine.memory()) {
            let (live_bytes, peak_bytes) = (counted.live_bytes, counted.peak_bytes);
            class.partition = PartitionView { live_bytes, peak_bytes, ..class.partition };
        }
        let preemption = self
            .scheduler
            .refusals()
            .map(|(class, refused)| self.preemption[class].view(&classes[class].name, refused));
        let preemption = preemption.collect();
        StatusView {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_ms: now.0 / 1000,
            draining: self.scheduler.is_draining(),
            classes,
            lanes: self.scheduler.lanes(),
            models: models.collect(),
            preemption,
            engine: EngineView { up: self.engine_state.up, pid: self.engine.pid(), deaths: self.engine_state.deaths },
            storage: self.storage,
        }
    }
}

fn admin(peer: Peer, action: &str) -> Result<(), Rejection> {
    if peer.admin { Ok(()) } else { Err(Rejection::NotAllowed { action: action.to_owned() }) }
}

fn ended(view: &JobView) -> Rejection {
    let state = match &view.state {
        JobState::Done(outcome) => outcome.word(),
        JobState::Queued { .. }
        | JobState::BackingOff { .. }
        | JobState::Running { .. }
        | JobState::Reflecting { .. }
        | JobState::Editing { .. } => "running",
    };
    Rejection::HasEnded { job: view.id, state: state.to_owned() }
}
