//! The scheduler: wiring between inputs, jobs, lanes, memory and effects. Decisions live in [`crate::job::transition`] and
//! [`crate::policy`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gpusched_shared::{FailureKind, JobId, Outcome, Uid};

use crate::catalog::{Catalog, ModelId};
use crate::class::Class;
use crate::effect::{Effect, JobRecord};
use crate::footprint::{Footprints, Measurement};
use crate::input::{Input, SessionId};
use crate::job::Job;
use crate::job::state::{Ending, State};
use crate::job::transition::Event;
use crate::lane::Lanes;
use crate::ledger::Ledger;
use crate::plan::Plan;
use crate::policy::preemption::Gate;
use crate::queue::Queue;
use crate::time::Time;
use crate::timers::Timers;

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
    pub(crate) sessions: BTreeMap<SessionId, BTreeSet<JobId>>,
    pub(crate) timers: Timers,
    pub(crate) next_id: JobId,
    /// Jobs with a key, by their owner and it.
    pub(crate) keys: BTreeMap<(Uid, String), JobId>,
    /// By class: jobs that ran out of memory and wait to be tried again, and how often jobs did run out of it.
    pub(crate) backing_off: Vec<BTreeSet<JobId>>,
    pub(crate) out_of_memory: Vec<u64>,
    /// Jobs that were on lanes when the engine died and have not been found innocent since.
    pub(crate) suspects: BTreeSet<JobId>,
    /// The models that jobs of several stages will need, by class, and how many such jobs.
    pub(crate) wanted: BTreeMap<(usize, ModelId), u32>,
    /// True while there is an engine.
    pub(crate) engine_up: bool,
    pub(crate) draining: bool,
    pub(crate) leaving: bool,
    /// True if a queue has moved since the last effects were handed out.
    pub(crate) advanced: bool,
    /// Events that cannot happen if everyone keeps their word, for the shell to log.
    pub(crate) impossible: Vec<String>,
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
            keys: BTreeMap::new(),
            backing_off: vec![BTreeSet::new(); count],
            out_of_memory: vec![0; count],
            suspects: BTreeSet::new(),
            wanted: BTreeMap::new(),
            engine_up: true,
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
            Input::Submit { ticket, uid, session, spec, pictures, attached, key, unix_ms, boot } => {
                let (id, class) = (self.next_id, String::new());
                let record = JobRecord {
                    id,
                    uid,
                    class,
                    spec,
                    pictures,
                    attached,
                    submitted_unix_ms: unix_ms,
                    submitted_boot: boot,
                    attempts: 0,
                    key,
                    retries: 0,
                    suspect: false,
                    deaths: 0,
                    part: None,
                };
                if self.repeated(&record, ticket, session, effects) {
                    return;
                }
                effects.push_back(match self.submit(record, ticket, session, now) {
                    Ok(record) => Effect::Record(record),
                    Err(rejection) => Effect::Reject(ticket, rejection),
                });
            }
            Input::Recorded(id) => {
                let tickets = self.jobs.get_mut(&id).map(|job| std::mem::take(&mut job.tickets));
                effects.extend(tickets.into_iter().flatten().map(|ticket| Effect::Accept(ticket, id)));
                let has_program = self.jobs.get(&id).is_some_and(|job| job.program.is_some());
                self.apply(id, if has_program { &Event::Begun } else { &Event::Recorded }, now, effects);
            }
            Input::RecordFailed(id, rejection) => {
                let Some(job) = self.forget(id) else { return };
                if job.record.part.is_some() {
                    let outcome = Outcome::Failed { kind: FailureKind::Storage, message: rejection.to_string() };
                    self.stage_ended(&job, outcome, now, effects);
                } else {
                    self.waiting[job.class] -= 1;
                    self.release_uid(job.record.uid, |held| held.waiting -= 1);
                    effects.extend(job.tickets.into_iter().map(|ticket| Effect::Reject(ticket, rejection.clone())));
                }
            }
            Input::Restore(jobs) => {
                self.restore_all(jobs, now, effects);
            }
            Input::Started(id) => self.apply(id, &Event::Started, now, effects),
            Input::Progress(id, activity) => self.progress(id, activity, effects),
            Input::Parked(id) => self.apply(id, &Event::Parked, now, effects),
            Input::Resumed(id) => self.apply(id, &Event::Resumed, now, effects),
            Input::Previewed(id, image) => self.previewed(id, image, now, effects),
            Input::Made(id, usage) => {
                self.learn(id, usage, now, effects);
                self.measured(id, usage);
                self.apply(id, &Event::Made, now, effects);
            }
            Input::Stored(id, outcome) => self.apply(id, &Event::Finished(outcome), now, effects),
            Input::Finished(id, outcome, usage) => {
                self.measured(id, usage);
                if let Outcome::Failed { kind: FailureKind::OutOfMemory(oom), .. } = &outcome {
                    let oom = oom.clone();
                    let shape = self.jobs.get(&id).map(|job| job.shape);
                    let kept =
                        shape.and_then(|shape| self.footprints.learn_peak(&self.catalog, shape, oom.requested_bytes));
                    effects.extend(kept.map(Effect::Keep));
                    return self.ran_out_of_memory(id, &oom, outcome, now, effects);
                }
                if outcome.is_done() {
                    self.learn(id, usage, now, effects);
                }
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
                    let freed_bytes = self.ledger.left(class, model);
                    self.memory_freed(class, freed_bytes, now, effects);
                }
            }
            Input::EngineReady => self.engine_up = true,
            Input::EngineLost(blame) => self.engine_lost(blame, now, effects),
            Input::Concluded(id) => self.apply(id, &Event::Concluded, now, effects),
            // Whoever knows the number of a stage means its job.
            Input::Cancel(id) => self.apply(self.asked_for(id), &Event::End(Ending::Cancelled), now, effects),
            Input::SessionClosed(session) => {
                for id in self.sessions.remove(&session).unwrap_or_default() {
                    if self.jobs.get(&id).is_some_and(|job| job.record.attached) {
                        self.apply(id, &Event::End(Ending::Cancelled), now, effects);
                    }
                }
            }
            Input::SetPriority(id, priority) => self.set_priority(self.asked_for(id), priority, effects),
            Input::Pause { class, paused } => {
                if let Some(slot) = self.paused.get_mut(class) {
                    *slot = paused;
                }
            }
            Input::Rules(plan) => self.keep_to(*plan, now),
            Input::Drain(on) => self.draining = on,
            Input::Leave => self.leaving = true,
            Input::Abandon => {
                self.leaving = true;
                effects.extend(self.lanes.iter().filter_map(|(_, lane)| lane.job).map(Effect::Stop));
            }
            Input::Tick => {}
        }
    }

    /// Works by other rules from here on.
    fn keep_to(&mut self, plan: Plan, now: Time) {
        self.plan.adopt(plan);
        for (index, class) in self.plan.classes().iter().enumerate() {
            self.queues[index].set_aging_ms(class.aging_ms);
            if let (Some(gate), Some(rule)) = (&mut self.gates[index], class.gate) {
                gate.keep_to(rule, now);
            }
        }
    }

    /// When to call with [`Input::Tick`] at the latest.
    pub fn next_timer(&self) -> Option<Time> {
        self.timers.next().into_iter().chain(self.next_gate_change()).min()
    }

    /// True if no lane holds a job and neither the journal nor the store owes anything.
    pub fn is_idle(&self) -> bool {
        self.jobs.values().all(|job| matches!(job.state, State::Queued | State::BackingOff | State::Underway))
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
}
