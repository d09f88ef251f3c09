//! The scheduler: wiring between inputs, jobs, lanes, policies and effects. Decisions live in [`crate::job::transition`]
//! and [`crate::policy`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gpusched_shared::view::Activity;
use gpusched_shared::{FailureKind, JobId, Outcome, Rejection, Update};

use crate::class::Class;
use crate::effect::{Effect, JobRecord};
use crate::input::{Input, SessionId, Ticket};
use crate::job::Job;
use crate::job::state::{Ending, State};
use crate::job::transition::{Event, Next, next};
use crate::lane::Lanes;
use crate::policy::ordering::{self, Waiting};
use crate::policy::routing::{Route, route};
use crate::time::Time;

/// Classes and routes, checked.
#[derive(Debug, Clone)]
pub struct Plan {
    classes: Vec<Class>,
    routes: Vec<Route>,
}

/// Why classes and routes do not make a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no class.
    #[error("there is no [[class]]; at least one is needed")]
    NoClass,
    /// Two classes share a name.
    #[error("class {0:?} is defined twice")]
    TwoOfAName(String),
    /// A class without lanes would never run anything.
    #[error("class {0:?} has no lanes; give it at least one")]
    NoLanes(String),
    /// A route leads nowhere.
    #[error("a [[route]] leads to class {0:?}, which is not defined")]
    NoSuchClass(String),
}

impl Plan {
    /// A plan of these classes and routes.
    ///
    /// # Errors
    /// [`PlanError`] for the first thing wrong with them.
    pub fn new(classes: Vec<Class>, routes: Vec<Route>) -> Result<Self, PlanError> {
        if classes.is_empty() {
            return Err(PlanError::NoClass);
        }
        let mut names = BTreeSet::new();
        for class in &classes {
            if !names.insert(class.name.as_str()) {
                return Err(PlanError::TwoOfAName(class.name.clone()));
            }
            if class.lanes == 0 {
                return Err(PlanError::NoLanes(class.name.clone()));
            }
        }
        if let Some(route) = routes.iter().find(|route| !names.contains(route.class.as_str())) {
            return Err(PlanError::NoSuchClass(route.class.clone()));
        }
        Ok(Self { classes, routes })
    }

    /// The classes, in the order of the configuration.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }
}

/// See the [crate's documentation](crate).
#[derive(Debug)]
pub struct Scheduler {
    pub(crate) plan: Plan,
    /// Jobs that have not ended; those that have are the journal's.
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) lanes: Lanes,
    /// Jobs waiting for a lane, by class.
    pub(crate) queues: Vec<BTreeSet<JobId>>,
    deadlines: BTreeSet<(Time, JobId)>,
    pub(crate) finished: Vec<u64>,
    next_id: JobId,
    draining: bool,
    /// True if a queue has moved since the last effects were handed out.
    advanced: bool,
    /// Events that cannot happen if everyone keeps their word, for the shell to log.
    impossible: Vec<String>,
}

impl Scheduler {
    /// A scheduler with nothing to do. `next_id` is above every job number the journal knows.
    pub fn new(plan: Plan, next_id: JobId) -> Self {
        let count = plan.classes.len();
        Self {
            lanes: Lanes::of(&plan.classes),
            plan,
            jobs: BTreeMap::new(),
            queues: vec![BTreeSet::new(); count],
            deadlines: BTreeSet::new(),
            finished: vec![0; count],
            next_id,
            draining: false,
            advanced: false,
            impossible: Vec::new(),
        }
    }

    /// Takes in what happened and returns what to do about it, in order.
    pub fn handle(&mut self, input: Input, now: Time) -> VecDeque<Effect> {
        let mut effects = VecDeque::new();
        match input {
            Input::Submit { ticket, uid, session, spec, pictures, attached, unix_ms } => {
                let record = JobRecord {
                    id: self.next_id,
                    uid,
                    class: String::new(),
                    spec,
                    pictures,
                    attached,
                    submitted_unix_ms: unix_ms,
                    attempts: 0,
                };
                match self.submit(record, ticket, session, now) {
                    Ok(record) => effects.push_back(Effect::Record(record)),
                    Err(rejection) => effects.push_back(Effect::Reject(ticket, rejection)),
                }
            }
            Input::Recorded(id) => {
                let ticket = self.jobs.get_mut(&id).and_then(|job| job.ticket.take());
                effects.extend(ticket.map(|ticket| Effect::Accept(ticket, id)));
                self.apply(id, &Event::Recorded, now, &mut effects);
            }
            Input::RecordFailed(id, reason) => {
                if let Some(job) = self.forget(id) {
                    effects.extend(job.ticket.map(|ticket| Effect::Reject(ticket, Rejection::Internal { reason })));
                }
            }
            Input::Restore { record, age_ms } => self.restore(record, age_ms, now, &mut effects),
            Input::Started(id) => self.apply(id, &Event::Started, now, &mut effects),
            Input::Progress(id, activity) => self.progress(id, activity, &mut effects),
            Input::Finished(id, outcome) => self.apply(id, &Event::Finished(outcome), now, &mut effects),
            Input::Interrupted(id) => self.apply(id, &Event::Interrupted, now, &mut effects),
            Input::EngineLost => {
                for id in self.jobs.keys().copied().collect::<Vec<_>>() {
                    self.apply(id, &Event::EngineLost, now, &mut effects);
                }
            }
            Input::Concluded(id) => self.apply(id, &Event::Concluded, now, &mut effects),
            Input::Cancel(id) => self.apply(id, &Event::End(Ending::Cancelled), now, &mut effects),
            Input::SessionClosed(session) => {
                let theirs = self.jobs.iter().filter(|(_, job)| job.session == Some(session));
                for id in theirs.map(|(id, _)| *id).collect::<Vec<_>>() {
                    self.apply(id, &Event::End(Ending::Cancelled), now, &mut effects);
                }
            }
            Input::Drain => self.draining = true,
            Input::Abandon => {
                self.draining = true;
                effects.extend(self.lanes.iter().filter_map(|(_, lane)| lane.job).map(Effect::Stop));
            }
            Input::Tick => {}
        }
        // Before a lane is given to a job that is worth nothing any more.
        self.expire(now, &mut effects);
        self.launch(now, &mut effects);
        if std::mem::take(&mut self.advanced) {
            effects.push_back(Effect::Advanced);
        }
        self.check();
        effects
    }

    /// When to call with [`Input::Tick`] at the latest.
    pub fn next_timer(&self) -> Option<Time> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// True if no lane holds a job and the journal owes nothing.
    pub fn is_idle(&self) -> bool {
        self.jobs.values().all(|job| job.state == State::Queued)
    }

    /// True from [`Input::Drain`] on.
    pub fn is_draining(&self) -> bool {
        self.draining
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
    ) -> Result<JobRecord, Rejection> {
        if self.draining {
            return Err(Rejection::Draining);
        }
        let class = self.class_of(&record)?;
        let waiting = self.jobs.values().filter(|job| job.class == class && job.state.lane().is_none()).count();
        let Class { name, queue_limit, .. } = &self.plan.classes[class];
        if waiting >= *queue_limit as usize {
            return Err(Rejection::QueueFull { class: name.clone(), limit: *queue_limit });
        }
        record.class = name.clone();
        self.next_id = JobId(record.id.0 + 1);
        self.insert(Job {
            ticket: Some(ticket),
            session: record.attached.then_some(session),
            expires: record.spec.deadline_ms.map(|ms| now.after(ms)),
            ..Job::new(record.clone(), class, State::Recording(None), now)
        });
        Ok(record)
    }

    /// Takes a job of an earlier run back. Its client is gone, so an attached one ends; so does one that no rule of
    /// today's configuration takes.
    fn restore(&mut self, mut record: JobRecord, age_ms: u64, now: Time, effects: &mut VecDeque<Effect>) {
        let (id, attached) = (record.id, record.attached);
        let class = self.class_of(&record);
        record.class = class.as_ref().map_or(record.class, |class| self.plan.classes[*class].name.clone());
        let expires = record.spec.deadline_ms.map(|ms| now.after(ms.saturating_sub(age_ms)));
        self.insert(Job { expires, ..Job::new(record, *class.as_ref().unwrap_or(&0), State::Queued, now) });
        match class {
            Ok(class) => {
                self.queues[class].insert(id);
                if attached {
                    self.apply(id, &Event::End(Ending::Cancelled), now, effects);
                }
            }
            Err(rejection) => {
                let message = rejection.to_string();
                let outcome = Outcome::Failed { kind: FailureKind::Input, message };
                self.enter(id, State::Concluding(outcome), now, effects);
            }
        }
    }

    fn class_of(&self, record: &JobRecord) -> Result<usize, Rejection> {
        let name = route(&self.plan.routes, &record.spec);
        name.and_then(|name| self.plan.classes.iter().position(|class| class.name == name))
            .ok_or_else(|| Rejection::NoRoute { task: record.spec.task.kind().to_string() })
    }

    fn insert(&mut self, job: Job) {
        let id = job.record.id;
        self.deadlines.extend(job.expires.map(|at| (at, id)));
        self.jobs.insert(id, job);
    }

    fn forget(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        if let Some(at) = job.expires {
            self.deadlines.remove(&(at, id));
        }
        Some(job)
    }

    fn apply(&mut self, id: JobId, event: &Event, now: Time, effects: &mut VecDeque<Effect>) {
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

    /// Moves a job to `state`: keeps queues and lanes in step and says what the new state asks for.
    fn enter(&mut self, id: JobId, state: State, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (class, before) = (job.class, std::mem::replace(&mut job.state, state.clone()));
        if before.lane().is_some() != state.lane().is_some() {
            job.clock.turn(state.lane().is_some(), now);
        }
        if before == State::Queued {
            self.queues[class].remove(&id);
            self.advanced = true;
        }
        match (before.lane(), state.lane()) {
            (Some(lane), None) => self.lanes.vacate(lane),
            (None, Some(lane)) => self.lanes.occupy(lane, id),
            (None, None) | (Some(_), Some(_)) => {}
        }
        match state {
            State::Recording(_) => {}
            State::Queued => {
                self.queues[class].insert(id);
                effects.push_back(Effect::Tell(id, Update::Queued { ahead: ordering::ahead(self.waiting(class), id) }));
            }
            State::Launching(lane) => {
                job.record.attempts += 1;
                job.activity = Activity::Starting;
                job.lane = self.lanes.index(lane);
                effects.push_back(Effect::Launch {
                    job: id,
                    attempt: job.record.attempts,
                    lane,
                    spec: job.record.spec.clone(),
                    pictures: job.record.pictures.clone(),
                });
            }
            State::Running(lane) => {
                let update = Update::Running { lane: self.lanes.index(lane), activity: Activity::Starting };
                effects.push_back(Effect::Tell(id, update));
            }
            State::Stopping(..) => effects.push_back(Effect::Stop(id)),
            State::Concluding(outcome) => {
                if let Some(at) = job.expires.take() {
                    self.deadlines.remove(&(at, id));
                }
                job.clock.stop(now);
                let (wait_ms, run_ms) = job.clock.read(now);
                effects.push_back(Effect::Conclude { job: id, outcome, wait_ms, run_ms });
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

    fn progress(&mut self, id: JobId, activity: Activity, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if let State::Running(lane) = job.state {
            job.activity = activity;
            effects.push_back(Effect::Tell(id, Update::Running { lane: self.lanes.index(lane), activity }));
        }
    }

    fn expire(&mut self, now: Time, effects: &mut VecDeque<Effect>) {
        while let Some((at, id)) = self.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.deadlines.remove(&(at, id));
            if let Some(job) = self.jobs.get_mut(&id) {
                job.expires = None;
            }
            self.apply(id, &Event::End(Ending::Expired), now, effects);
        }
    }

    /// Late binding: a job gets a lane when there is a free one, not before.
    fn launch(&mut self, now: Time, effects: &mut VecDeque<Effect>) {
        if self.draining {
            return;
        }
        for class in 0..self.plan.classes.len() {
            while let Some(lane) = self.lanes.free(class) {
                let Some(id) = ordering::next(self.waiting(class)) else { break };
                self.apply(id, &Event::Assigned(lane), now, effects);
            }
        }
    }

    pub(crate) fn waiting(&self, class: usize) -> impl Iterator<Item = Waiting> + '_ {
        self.queues[class].iter().map(|id| Waiting { id: *id })
    }
}
