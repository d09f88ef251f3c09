//! How jobs come in: checked against quotas, queues and memory, or taken back from an earlier run; and how they go.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use gpusched_shared::{FailureKind, JobId, Outcome, Quota, Rejection, Uid};

use crate::catalog::ModelId;
use crate::class::Class;
use crate::effect::{Effect, JobRecord};
use crate::footprint::Shape;
use crate::healing::quarantine;
use crate::input::{SessionId, Ticket, Unfinished};
use crate::job::Job;
use crate::job::state::{Ending, State};
use crate::job::transition::Event;
use crate::policy::routing::route;
use crate::scheduler::{Held, Scheduler};
use crate::stages::Programmed;
use crate::time::Time;
use crate::timers::Timer;

/// How long to wait for a place in a full queue where nothing has been measured yet, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

impl Scheduler {
    pub(crate) fn submit(
        &mut self,
        mut record: JobRecord,
        ticket: Ticket,
        session: SessionId,
        now: Time,
    ) -> Result<Arc<JobRecord>, Rejection> {
        if self.is_draining() {
            return Err(Rejection::Draining);
        }
        let (class, shape) = self.fit(&record)?;
        // Nothing is made of which a later stage could make nothing.
        for stage in Programmed::of(&record.spec).iter().flat_map(|program| program.foreseen(&record)) {
            self.fit(&stage)?;
        }
        let Class { name, queue_limit, .. } = &self.plan.classes()[class];
        if self.waiting[class] >= *queue_limit {
            let retry_after_ms = self.retry_after_ms(class);
            return Err(Rejection::QueueFull { class: name.clone(), limit: *queue_limit, retry_after_ms });
        }
        let quotas = self.plan.quotas;
        let waiting = self.uids.get(&record.uid).map_or(0, |held| held.waiting);
        let of_session = self.sessions.get(&session).map_or(0, BTreeSet::len);
        let over = |limit: u32, count: usize| limit > 0 && count >= limit as usize;
        if over(quotas.queued_per_uid, waiting as usize) {
            return Err(Rejection::QuotaExceeded { quota: Quota::QueuedPerUid, limit: quotas.queued_per_uid });
        }
        if over(quotas.jobs_per_connection, of_session) {
            let limit = quotas.jobs_per_connection;
            return Err(Rejection::QuotaExceeded { quota: Quota::JobsPerConnection, limit });
        }
        record.class = name.clone();
        self.next_id = JobId(record.id.0 + 1);
        let spec = &record.spec;
        let (deadline, queue_until) =
            (spec.deadline_ms.map(|ms| now.after_ms(ms)), spec.queue_timeout_ms.map(|ms| now.after_ms(ms)));
        self.sessions.entry(session).or_default().insert(record.id);
        let job = Job::new(record, class, shape, State::Recording(None), now);
        let record = Arc::clone(&job.record);
        self.insert(Job { tickets: vec![ticket], session: Some(session), deadline, queue_until, ..job });
        Ok(record)
    }

    /// Takes a job of an earlier run back. An attached one ends unless its client comes back for it in time; one that today's
    /// configuration has no place for, or whose pictures are damaged, ends at once; and so does a stage of a job that is no
    /// more.
    pub(crate) fn restore(&mut self, job: Unfinished, now: Time, effects: &mut VecDeque<Effect>) {
        let (id, retry_in_ms) = (job.record.id, job.retry_in_ms);
        let (mut job, fate, gone) = self.revive(job, State::Recording(None), now);
        let gone = gone || job.record.part.is_some_and(|part| !self.adopt(&mut job, part));
        self.insert(job);
        match (fate, retry_in_ms) {
            (Some(outcome), _) => self.enter(id, State::Concluding(outcome), now, effects),
            (None, _) if gone => {
                self.apply(id, &Event::End(Ending::Cancelled), now, effects);
                self.apply(id, &Event::Recorded, now, effects);
            }
            (None, Some(within_ms)) => {
                self.enter(id, State::BackingOff, now, effects);
                // Whatever took the memory has gone with the engine; what takes it now is not known.
                self.back_off(id, within_ms, now, effects);
            }
            (None, None) => self.apply(id, &Event::Recorded, now, effects),
        }
    }

    /// A job of an earlier run in a first state, how it ends if it must, and whether nobody can come back for it.
    pub(crate) fn revive(&mut self, job: Unfinished, state: State, now: Time) -> (Job, Option<Outcome>, bool) {
        let Unfinished { mut record, age_ms, retry_in_ms: _, ended: _, damage } = job;
        let place = self.place(&record);
        let (class, shape) = *place.as_ref().unwrap_or(&(0, Shape::of(ModelId(usize::MAX), &record.spec, &[])));
        if place.is_ok() {
            record.class.clone_from(&self.plan.classes()[class].name);
        }
        let failed = |kind, message| Some(Outcome::Failed { kind, message });
        let fate = match (place, damage) {
            (Err(rejection), _) => failed(FailureKind::Input, rejection.to_string()),
            (Ok(_), Some(damage)) => failed(FailureKind::Storage, damage),
            // The daemon died before that was on record.
            (Ok(_), None) => quarantine(record.deaths),
        };
        let remaining = |ms: Option<u64>| ms.map(|ms| now.after_ms(ms.saturating_sub(age_ms)));
        let (deadline, queue_until) = (remaining(record.spec.deadline_ms), remaining(record.spec.queue_timeout_ms));
        // Without a key nobody can ask for it again.
        let gone = record.attached && (record.key.is_none() || self.plan.reattach_grace_ms == 0);
        let reattach_until = (record.attached && !gone).then(|| now.after_ms(self.plan.reattach_grace_ms));
        if record.suspect {
            self.suspects.insert(record.id);
        }
        let job = Job::new(record, class, shape, state, now);
        (Job { age_ms, deadline, queue_until, reattach_until, ..job }, fate, gone)
    }

    /// The class that a job goes to and what it needs memory and time by, if its class can ever have the memory.
    fn fit(&self, record: &JobRecord) -> Result<(usize, Shape), Rejection> {
        let (class, shape) = self.place(record)?;
        let demand = self.whole_demand(class, shape);
        let cap_bytes = self.ledger.room(class, shape.model).most_bytes();
        if demand.bytes() > cap_bytes {
            return Err(Rejection::NeverFits {
                class: self.plan.classes()[class].name.clone(),
                model: record.spec.model.clone().unwrap_or_default(),
                weights_bytes: demand.weights_bytes,
                run_bytes: demand.run_bytes,
                cap_bytes,
            });
        }
        Ok((class, shape))
    }

    /// The class that a job goes to and what it needs memory and time by.
    pub(crate) fn place(&self, record: &JobRecord) -> Result<(usize, Shape), Rejection> {
        let class = route(self.plan.routes(), &record.spec, record.uid)
            .and_then(|name| self.plan.class_named(name))
            .ok_or_else(|| Rejection::NoRoute { task: record.spec.task.kind().to_string() })?;
        let name = record.spec.model.as_deref().unwrap_or_default();
        let model = self.catalog.id_of(name).ok_or_else(|| Rejection::UnknownModel {
            name: name.to_owned(),
            available: "another catalog than when the job was accepted".to_owned(),
        })?;
        Ok((class, Shape::of(model, &record.spec, &record.pictures)))
    }

    /// When a place in a full queue is likely to be free: as soon as one lane has ended one job.
    pub(crate) fn retry_after_ms(&self, class: usize) -> u64 {
        let lanes = u64::from(self.plan.classes()[class].lanes);
        self.mean_us[class].map_or(RETRY_AFTER_MS, |mean| (mean / 1000 / lanes).max(1))
    }

    pub(crate) fn insert(&mut self, mut job: Job) {
        let id = job.record.id;
        for (at, timer) in [
            (job.deadline, Timer::Deadline(id)),
            (job.queue_until, Timer::QueueTimeout(id)),
            (job.reattach_until, Timer::Reattach(id)),
        ] {
            if let Some(at) = at {
                self.timers.set(at, timer);
            }
        }
        if job.takes_a_place(&job.state) {
            self.waiting[job.class] += 1;
            self.uids.entry(job.record.uid).or_default().waiting += 1;
        }
        if let Some(key) = &job.record.key {
            self.keys.insert((job.record.uid, key.name.clone()), id);
        }
        self.want_models(&mut job);
        self.jobs.insert(id, job);
    }

    pub(crate) fn forget(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.timers.clear(job.deadline, Timer::Deadline(id));
        self.timers.clear(job.queue_until, Timer::QueueTimeout(id));
        self.timers.clear(job.reattach_until, Timer::Reattach(id));
        self.suspects.remove(&id);
        self.release_models(&job);
        if let Some(key) = &job.record.key {
            self.keys.remove(&(job.record.uid, key.name.clone()));
        }
        if let Some(session) = job.session {
            self.leave_session(id, session);
        }
        Some(job)
    }

    pub(crate) fn release_uid(&mut self, uid: Uid, release: impl FnOnce(&mut Held)) {
        if let Some(held) = self.uids.get_mut(&uid) {
            release(held);
            if *held == Held::default() {
                self.uids.remove(&uid);
            }
        }
    }
}
