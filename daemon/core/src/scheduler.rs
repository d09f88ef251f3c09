//! The scheduler: wiring between inputs, jobs, lanes, memory and effects. Decisions live in [`crate::job::transition`] and
//! [`crate::policy`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use gpusched_shared::{Activity, FailureKind, JobId, Outcome, Quota, Rejection, TimeLimit, Uid, Update};

use crate::catalog::{Catalog, ModelId};
use crate::class::Class;
use crate::effect::{Effect, JobRecord};
use crate::footprint::{Footprints, Measurement, Shape};
use crate::input::{Input, SessionId, Ticket};
use crate::job::state::{Ending, State};
use crate::job::transition::{Event, Next, next};
use crate::job::{Job, Phase};
use crate::lane::Lanes;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::policy::preemption::Gate;
use crate::policy::routing::route;
use crate::queue::Queue;
use crate::time::Time;
use crate::timers::{Timer, Timers};

/// How long to wait for a place in a full queue where nothing has been measured yet, in milliseconds.
const RETRY_AFTER_MS: u64 = 1000;

/// See the [crate's documentation](crate).
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) plan: Plan,
    pub(crate) catalog: Catalog,
    /// Jobs that have not ended; those that have are the journal's.
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) lanes: Lanes,
    pub(crate) ledger: Ledger,
    pub(crate) footprints: Footprints,
    /// The following by class. Jobs waiting for a lane:
    pub(crate) queues: Vec<Queue>,
    pub(crate) gates: Vec<Option<Gate>>,
    pub(crate) pinned: Vec<BTreeSet<ModelId>>,
    pub(crate) paused: Vec<bool>,
    /// Jobs whose submissions are being written, and jobs waiting.
    pub(crate) waiting: Vec<u32>,
    /// Jobs whose results are being stored.
    pub(crate) storing: Vec<u32>,
    pub(crate) finished: Vec<u64>,
    /// How long jobs hold a lane, in microseconds: a mean in which later ones weigh more.
    pub(crate) mean_us: Vec<Option<u64>>,
    /// What each uid with jobs holds.
    pub(crate) uids: BTreeMap<Uid, Held>,
    /// Unfinished jobs of each connection.
    sessions: BTreeMap<SessionId, BTreeSet<JobId>>,
    pub(crate) timers: Timers,
    next_id: JobId,
    pub(crate) draining: bool,
    pub(crate) leaving: bool,
    /// True if a queue has moved since the last effects were handed out.
    advanced: bool,
    /// Events that cannot happen if everyone keeps their word, for the shell to log.
    impossible: Vec<String>,
}

/// Jobs of one uid.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) waiting: u32,
    pub(crate) running: u32,
}

impl Scheduler {
    /// A scheduler with nothing to do. `next_id` is above every job number the journal knows.
    pub fn new(plan: Plan, catalog: Catalog, next_id: JobId) -> Self {
        let classes = plan.classes();
        let count = classes.len();
        let pinned = |class: &Class| class.pinned.iter().filter_map(|name| catalog.id_of(name)).collect();
        Self {
            lanes: Lanes::of(classes),
            ledger: Ledger::of(classes),
            footprints: Footprints::default(),
            queues: classes.iter().map(|class| Queue::new(class.aging_ms)).collect(),
            gates: classes.iter().map(|class| class.gate.map(Gate::new)).collect(),
            pinned: classes.iter().map(pinned).collect(),
            paused: vec![false; count],
            waiting: vec![0; count],
            storing: vec![0; count],
            finished: vec![0; count],
            mean_us: vec![None; count],
            jobs: BTreeMap::new(),
            uids: BTreeMap::new(),
            sessions: BTreeMap::new(),
            timers: Timers::default(),
            next_id,
            draining: false,
            leaving: false,
            advanced: false,
            impossible: Vec::new(),
            plan,
            catalog,
        }
    }

    /// Takes back what was measured in earlier runs of the daemon.
    pub fn recall(&mut self, measurements: &[Measurement]) {
        for kept in measurements {
            self.footprints.recall(&self.catalog, kept);
        }
    }

    /// Takes in what happened and returns what to do about it, in order.
    pub fn handle(&mut self, input: Input, now: Time) -> VecDeque<Effect> {
        let mut effects = VecDeque::new();
        self.take_in(input, now, &mut effects);
        // Before a lane is given to a job that is worth nothing any more.
        while let Some(timer) = self.timers.take_due(now) {
            self.ring(timer, now, &mut effects);
        }
        self.dispatch(now, &mut effects);
        self.update_gates(now, &mut effects);
        if std::mem::take(&mut self.advanced) {
            effects.push_back(Effect::Advanced);
        }
        self.check(now);
        effects
    }

    fn take_in(&mut self, input: Input, now: Time, effects: &mut VecDeque<Effect>) {
        match input {
            Input::Submit { ticket, uid, session, spec, pictures, attached, unix_ms } => {
                let (id, class) = (self.next_id, String::new());
                let record =
                    JobRecord { id, uid, class, spec, pictures, attached, submitted_unix_ms: unix_ms, attempts: 0 };
                effects.push_back(match self.submit(record, ticket, session, now) {
                    Ok(record) => Effect::Record(record),
                    Err(rejection) => Effect::Reject(ticket, rejection),
                });
            }
            Input::Recorded(id) => {
                let ticket = self.jobs.get_mut(&id).and_then(|job| job.ticket.take());
                effects.extend(ticket.map(|ticket| Effect::Accept(ticket, id)));
                self.apply(id, &Event::Recorded, now, effects);
            }
            Input::RecordFailed(id, reason) => {
                if let Some(job) = self.forget(id) {
                    self.waiting[job.class] -= 1;
                    self.release_uid(job.record.uid, |held| held.waiting -= 1);
                    effects.extend(job.ticket.map(|ticket| Effect::Reject(ticket, Rejection::Internal { reason })));
                }
            }
            Input::Restore { record, age_ms } => self.restore(record, age_ms, now, effects),
            Input::Started(id) => self.apply(id, &Event::Started, now, effects),
            Input::Progress(id, activity) => self.progress(id, activity, effects),
            Input::Parked(id) => self.apply(id, &Event::Parked, now, effects),
            Input::Resumed(id) => self.apply(id, &Event::Resumed, now, effects),
            Input::Made(id, usage) => {
                self.learn(id, usage, now, effects);
                self.measured(id, usage);
                self.apply(id, &Event::Made, now, effects);
            }
            Input::Stored(id, outcome) => self.apply(id, &Event::Finished(outcome), now, effects),
            Input::Finished(id, outcome, usage) => {
                match &outcome {
                    Outcome::Failed { kind: FailureKind::OutOfMemory(oom), .. } => {
                        let shape = self.jobs.get(&id).map(|job| job.shape);
                        let kept = shape
                            .and_then(|shape| self.footprints.learn_peak(&self.catalog, shape, oom.requested_bytes));
                        effects.extend(kept.map(Effect::Keep));
                    }
                    Outcome::Image { .. } | Outcome::Answers(_) => self.learn(id, usage, now, effects),
                    Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Expired { .. } => {}
                }
                self.measured(id, usage);
                self.apply(id, &Event::Finished(outcome), now, effects);
            }
            Input::Interrupted(id, usage) => {
                self.measured(id, usage);
                self.apply(id, &Event::Interrupted, now, effects);
            }
            Input::Loaded { class, model, bytes } => {
                if let Some(model) = self.catalog.id_of(&model) {
                    self.ledger.loaded(class, model, bytes);
                    self.footprints.learn_weights(model, bytes);
                }
            }
            Input::Unloaded { class, model } => {
                if let Some(model) = self.catalog.id_of(&model) {
                    self.ledger.left(class, model);
                }
            }
            Input::EngineLost => {
                for id in self.jobs.keys().copied().collect::<Vec<_>>() {
                    self.apply(id, &Event::EngineLost, now, effects);
                }
                self.ledger.forget_models();
                self.gates.iter_mut().flatten().for_each(|gate| gate.reset(now));
            }
            Input::Concluded(id) => self.apply(id, &Event::Concluded, now, effects),
            Input::Cancel(id) => self.apply(id, &Event::End(Ending::Cancelled), now, effects),
            Input::SessionClosed(session) => {
                for id in self.sessions.remove(&session).unwrap_or_default() {
                    if self.jobs.get(&id).is_some_and(|job| job.record.attached) {
                        self.apply(id, &Event::End(Ending::Cancelled), now, effects);
                    }
                }
            }
            Input::SetPriority(id, priority) => self.set_priority(id, priority, effects),
            Input::Pause { class, paused } => {
                if let Some(slot) = self.paused.get_mut(class) {
                    *slot = paused;
                }
            }
            Input::Drain(on) => self.draining = on,
            Input::Leave => self.leaving = true,
            Input::Abandon => {
                self.leaving = true;
                effects.extend(self.lanes.iter().filter_map(|(_, lane)| lane.job).map(Effect::Stop));
            }
            Input::Tick => {}
        }
    }

    /// When to call with [`Input::Tick`] at the latest.
    pub fn next_timer(&self) -> Option<Time> {
        self.timers.next().into_iter().chain(self.next_gate_change()).min()
    }

    /// True if no lane holds a job and neither the journal nor the store owes anything.
    pub fn is_idle(&self) -> bool {
        self.jobs.values().all(|job| job.state == State::Queued)
    }

    /// True if no new jobs are taken.
    pub fn is_draining(&self) -> bool {
        self.draining || self.leaving
    }

    /// What it works by.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The models it knows.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// What cannot have happened and yet did, since the last call; for the log.
    pub fn take_impossible(&mut self) -> Vec<String> {
        std::mem::take(&mut self.impossible)
    }

    fn submit(
        &mut self,
        mut record: JobRecord,
        ticket: Ticket,
        session: SessionId,
        now: Time,
    ) -> Result<Arc<JobRecord>, Rejection> {
        if self.is_draining() {
            return Err(Rejection::Draining);
        }
        let (class, shape) = self.place(&record)?;
        let Class { name, queue_limit, cap_bytes, .. } = &self.plan.classes()[class];
        let demand = self.footprints.demand(&self.catalog, shape);
        if demand.bytes() > *cap_bytes {
            return Err(Rejection::NeverFits {
                class: name.clone(),
                model: record.spec.model.clone().unwrap_or_default(),
                weights_bytes: demand.weights_bytes,
                run_bytes: demand.run_bytes,
                cap_bytes: *cap_bytes,
            });
        }
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
        self.insert(Job { ticket: Some(ticket), session: Some(session), deadline, queue_until, ..job });
        Ok(record)
    }

    /// Takes a job of an earlier run back. Its client is gone, so an attached one ends; so does one that today's
    /// configuration has no place for.
    fn restore(&mut self, mut record: JobRecord, age_ms: u64, now: Time, effects: &mut VecDeque<Effect>) {
        let (id, attached) = (record.id, record.attached);
        let place = self.place(&record);
        let (class, shape) = *place.as_ref().unwrap_or(&(0, Shape::of(ModelId(usize::MAX), &record.spec, 0)));
        if place.is_ok() {
            record.class.clone_from(&self.plan.classes()[class].name);
        }
        let remaining = |ms: Option<u64>| ms.map(|ms| now.after_ms(ms.saturating_sub(age_ms)));
        let (deadline, queue_until) = (remaining(record.spec.deadline_ms), remaining(record.spec.queue_timeout_ms));
        let job = Job::new(record, class, shape, State::Recording(None), now);
        self.insert(Job { deadline, queue_until, ..job });
        match place {
            Ok(_) if attached => {
                self.apply(id, &Event::End(Ending::Cancelled), now, effects);
                self.apply(id, &Event::Recorded, now, effects);
            }
            Ok(_) => self.apply(id, &Event::Recorded, now, effects),
            Err(rejection) => {
                let message = rejection.to_string();
                self.enter(id, State::Concluding(Outcome::Failed { kind: FailureKind::Input, message }), now, effects);
            }
        }
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
        Ok((class, Shape::of(model, &record.spec, record.pictures.len())))
    }

    /// When a place in a full queue is likely to be free: as soon as one lane has ended one job.
    fn retry_after_ms(&self, class: usize) -> u64 {
        let lanes = u64::from(self.plan.classes()[class].lanes);
        self.mean_us[class].map_or(RETRY_AFTER_MS, |mean| (mean / 1000 / lanes).max(1))
    }

    fn insert(&mut self, job: Job) {
        let id = job.record.id;
        for (at, timer) in [(job.deadline, Timer::Deadline(id)), (job.queue_until, Timer::QueueTimeout(id))] {
            if let Some(at) = at {
                self.timers.set(at, timer);
            }
        }
        self.waiting[job.class] += 1;
        self.uids.entry(job.record.uid).or_default().waiting += 1;
        self.jobs.insert(id, job);
    }

    fn forget(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.timers.clear(job.deadline, Timer::Deadline(id));
        self.timers.clear(job.queue_until, Timer::QueueTimeout(id));
        if let Some(session) = job.session
            && let Some(theirs) = self.sessions.get_mut(&session)
        {
            theirs.remove(&id);
            if theirs.is_empty() {
                self.sessions.remove(&session);
            }
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

    fn measured(&mut self, id: JobId, usage: gpusched_shared::Usage) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.add_usage(usage);
        }
    }

    fn set_priority(&mut self, id: JobId, priority: i8, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let before = std::mem::replace(&mut Arc::make_mut(&mut job.record).spec.priority, priority);
        effects.push_back(Effect::Amend(Arc::clone(&job.record)));
        if job.state == State::Queued {
            self.queues[job.class].reprioritise(job.record.uid, id, before, priority);
            self.advanced = true;
        }
    }

    pub(crate) fn apply(&mut self, id: JobId, event: &Event, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get(&id) else {
            // Jobs leave when they are done; a cancel may arrive after that, nothing else may.
            if !matches!(event, Event::End(_)) {
                self.impossible.push(format!("{event:?} for job {id}, which is not here"));
            }
            return;
        };
        match next(&job.state, event) {
            Next::To(state) => self.enter(id, state, now, effects),
            Next::Ignore => {}
            Next::Impossible => self.impossible.push(format!("{event:?} for job {id} in {:?}", job.state)),
        }
    }

    /// Moves a job to `state`: keeps queues, lanes and memory in step and says what the new state asks for.
    fn enter(&mut self, id: JobId, state: State, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (class, uid, priority) = (job.class, job.record.uid, job.record.spec.priority);
        let before = std::mem::replace(&mut job.state, state.clone());
        job.clock.turn(Phase::of(&state), now);
        self.recount(class, uid, &before, &state);
        if before == State::Queued {
            self.advanced = true;
            if state.lane().is_none() {
                self.queues[class].remove(uid, priority, id);
            }
        }
        if let (Some(lane), None) = (before.lane(), state.lane()) {
            self.leave_lane(id, lane, now);
        }
        self.set_run_timer(id, &state, now);
        match state {
            State::Recording(_) | State::Storing => {}
            State::Queued => {
                self.queues[class].insert(uid, priority, id);
                self.advanced = true;
            }
            State::Launching(lane) => self.take_lane(id, lane, now, effects),
            State::Running(_) | State::Parked(_) => self.tell_running(id, effects),
            State::Stopping(..) => effects.push_back(Effect::Stop(id)),
            State::Concluding(outcome) => {
                let Some(job) = self.jobs.get(&id) else { return };
                let (wait_us, run_us) = (job.clock.wait_us(now), job.clock.run_us(now));
                effects.push_back(Effect::Conclude { job: id, outcome, wait_us, run_us, usage: job.usage });
            }
            State::Done(_) => {
                self.finished[class] += 1;
                if let Some(view) = self.view(id, now) {
                    effects.push_back(Effect::Tell(id, Update::Done(view)));
                }
                self.forget(id);
            }
        }
    }

    /// Keeps the counts of jobs in step with their states.
    fn recount(&mut self, class: usize, uid: Uid, before: &State, after: &State) {
        match (before.is_waiting(), after.is_waiting()) {
            (true, false) => {
                self.waiting[class] -= 1;
                self.release_uid(uid, |held| held.waiting -= 1);
            }
            (false, true) => {
                self.waiting[class] += 1;
                self.uids.entry(uid).or_default().waiting += 1;
            }
            (true, true) | (false, false) => {}
        }
        match (*before == State::Storing, *after == State::Storing) {
            (true, false) => self.storing[class] -= 1,
            (false, true) => self.storing[class] += 1,
            (true, true) | (false, false) => {}
        }
    }

    /// Arms the run timeout while a lane works on the job, and only then. A job that has its lane has met its queue timeout.
    fn set_run_timer(&mut self, id: JobId, state: &State, now: Time) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if state.lane().is_some() {
            self.timers.clear(job.queue_until.take(), Timer::QueueTimeout(id));
        }
        self.timers.clear(job.run_until.take(), Timer::RunTimeout(id));
        if let (State::Launching(_) | State::Running(_), Some(ms)) = (state, job.record.spec.run_timeout_ms) {
            // `begin` has not been called yet for a launch, and what an earlier attempt worked is not this one's.
            let worked = if matches!(state, State::Launching(_)) { 0 } else { job.clock.worked_us(now) };
            let until = now.after(ms.saturating_mul(1000).saturating_sub(worked));
            job.run_until = Some(until);
            self.timers.set(until, Timer::RunTimeout(id));
        }
    }

    fn progress(&mut self, id: JobId, activity: Activity, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.activity = activity;
        if matches!(job.state, State::Running(_) | State::Parked(_)) {
            self.tell_running(id, effects);
        }
    }

    fn tell_running(&self, id: JobId, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (lane, activity, parked) = (job.lane, job.activity, matches!(job.state, State::Parked(_)));
        effects.push_back(Effect::Tell(id, Update::Running { lane, activity, parked }));
    }

    fn ring(&mut self, timer: Timer, now: Time, effects: &mut VecDeque<Effect>) {
        let (id, limit) = match timer {
            Timer::Deadline(id) => (id, TimeLimit::Deadline),
            Timer::QueueTimeout(id) => (id, TimeLimit::QueueTimeout),
            Timer::RunTimeout(id) => (id, TimeLimit::RunTimeout),
            Timer::KeepAlive(class, model) => return self.keep_alive(class, model, now, effects),
        };
        if let Some(job) = self.jobs.get_mut(&id) {
            let set = match limit {
                TimeLimit::Deadline => &mut job.deadline,
                TimeLimit::QueueTimeout => &mut job.queue_until,
                TimeLimit::RunTimeout => &mut job.run_until,
            };
            *set = None;
        }
        self.apply(id, &Event::End(Ending::Expired(limit)), now, effects);
    }
}
