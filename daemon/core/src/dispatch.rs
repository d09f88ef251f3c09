//! What free lanes take. Late binding: a job gets a lane when there is a free one, not before.

use std::collections::VecDeque;

use gpusched_shared::{FailureKind, JobId, OutOfMemory, Outcome, Uid, Usage};

use crate::catalog::ModelId;
use crate::class::FlushRule;
use crate::effect::Effect;
use crate::footprint::{Shape, steps};
use crate::job::Job;
use crate::job::transition::Event;
use crate::lane::LaneId;
use crate::ledger::{Lease, Stay};
use crate::plan::Policy;
use crate::policy::admission::{Admission, Demand, admit};
use crate::policy::ordering::Turn;
use crate::policy::residency::Idle;
use crate::policy::selection::{Bounds, Candidate, Choice, choose};
use crate::queue::Waiting;
use crate::scheduler::Scheduler;
use crate::time::Time;

/// Jobs of a class whose results may be on their way to the store; no more are started until some have got there.
const STORING: u32 = 8;
/// What a job is charged at first where no job of its class has been measured, in microseconds.
const UNKNOWN_COST_US: u64 = 1_000_000;

/// What to do about the free lanes of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Launch(JobId),
    /// Evict these models for the job.
    MakeRoom(Vec<ModelId>),
    /// The job can never run.
    Fail(JobId),
    Wait,
}

impl Scheduler {
    /// Does what can be done. One decision may change those of every other class, by a uid's quota or, under `fifo`, by
    /// who is first; so all are asked again until none has anything to do.
    pub(crate) fn dispatch(&mut self, now: Time, effects: &mut VecDeque<Effect>) {
        while (0..self.queues.len()).any(|class| self.dispatch_one(class, now, effects)) {}
    }

    /// Carries out the next decision of a class; false if it has none.
    fn dispatch_one(&mut self, class: usize, now: Time, effects: &mut VecDeque<Effect>) -> bool {
        let (decision, passed) = self.decide(class, now);
        for id in passed {
            if let Some(job) = self.jobs.get_mut(&id) {
                job.passed_since.get_or_insert(now);
            }
        }
        match decision {
            Decision::Launch(id) => {
                let Some(lane) = self.lanes.free(class) else { return false };
                self.apply(id, &Event::Assigned(lane), now, effects);
            }
            Decision::MakeRoom(models) => models.iter().for_each(|model| self.evict(class, *model, effects)),
            Decision::Fail(id) => {
                let outcome = self.never_fits(id);
                self.apply(id, &Event::Finished(outcome), now, effects);
            }
            Decision::Wait => return false,
        }
        true
    }

    /// What to do about the free lanes of a class, and which jobs lacked memory and are passed by it.
    pub(crate) fn decide(&self, class: usize, now: Time) -> (Decision, Vec<JobId>) {
        let queue = &self.queues[class];
        if queue.is_empty() || self.stopped(class) || self.lanes.free(class).is_none() {
            return (Decision::Wait, Vec::new());
        }
        let alone = self.foremost_suspect();
        if alone.is_some() && self.lanes.iter().any(|(_, lane)| lane.job.is_some()) {
            return (Decision::Wait, Vec::new());
        }
        let rules = &self.plan.classes()[class];
        let just = |turn: Option<Turn>| {
            let waiting = turn.and_then(|turn| queue.waiting(self.jobs.get(&turn.id)?.record.uid, turn));
            (
                Bounds { aging_us: 0, batch_wait_ms: 0 },
                Box::new(waiting.into_iter()) as Box<dyn Iterator<Item = Waiting> + '_>,
            )
        };
        let (bounds, candidates) = match self.plan.policy {
            _ if alone.is_some() => just(alone.and_then(|id| Some(self.jobs.get(&id)?.turn()))),
            Policy::MultiQueue => {
                let aging_us = rules.aging_ms.saturating_mul(1000);
                let candidates = queue.candidates(|uid| !self.at_running_quota(uid));
                (Bounds { aging_us, batch_wait_ms: rules.batch_wait_ms }, Box::new(candidates) as _)
            }
            // One job at a time, in the order of acceptance over all classes.
            Policy::Fifo => {
                let first = (0..self.queues.len()).filter(|class| !self.stopped(*class));
                let first = first.filter_map(|class| self.queues[class].oldest()).min();
                let idle = self.lanes.iter().all(|(_, lane)| lane.job.is_none());
                just(queue.oldest().filter(|oldest| idle && first == Some(*oldest)))
            }
        };
        let mut looked_at = Vec::new();
        let choice = choose(
            candidates.filter_map(|waiting| {
                let candidate = self.candidate(class, waiting, now)?;
                looked_at.push((waiting.id, candidate.admission.clone()));
                Some(candidate)
            }),
            bounds,
        );
        let decision = match choice {
            Choice::Launch(place) => Decision::Launch(looked_at[place].0),
            Choice::Fail(place) => Decision::Fail(looked_at[place].0),
            Choice::MakeRoom(place) => match looked_at.swap_remove(place).1 {
                Admission::Evict(models) => Decision::MakeRoom(models),
                Admission::Admit | Admission::Defer | Admission::Reject => Decision::Wait,
            },
            Choice::Wait => Decision::Wait,
        };
        let passed = match choice {
            Choice::Launch(place) => {
                looked_at.truncate(place);
                looked_at.into_iter().map(|(id, _)| id).collect()
            }
            Choice::MakeRoom(_) | Choice::Fail(_) | Choice::Wait => Vec::new(),
        };
        (decision, passed)
    }

    /// True if jobs of the class are not started now, whatever lanes and memory there are.
    pub(crate) fn stopped(&self, class: usize) -> bool {
        self.leaving || !self.engine_up || self.paused[class] || self.storing[class] >= STORING
    }

    fn candidate(&self, class: usize, waiting: Waiting, now: Time) -> Option<Candidate> {
        let job = self.jobs.get(&waiting.id)?;
        Some(Candidate {
            charged_us: waiting.charged_us,
            overdue: waiting.overdue,
            passed_ms: job.passed_since.map_or(0, |since| now.since(since) / 1000),
            swaps_in: self.ledger.stay(class, job.shape.model).is_none_or(|stay| stay == Stay::Leaving),
            admission: self.admission(class, job),
        })
    }

    /// Whether a uid has as many jobs on lanes as it may.
    pub(crate) fn at_running_quota(&self, uid: Uid) -> bool {
        let limit = self.plan.quotas.running_per_uid;
        limit > 0 && self.uids.get(&uid).is_some_and(|held| held.running >= limit)
    }

    /// What a job of this shape needs of its partition, weights included.
    pub(crate) fn whole_demand(&self, class: usize, shape: Shape) -> Demand {
        self.footprints.demand(&self.catalog, shape, self.plan.classes()[class].cap_bytes)
    }

    /// What a job needs of its partition beyond what is there already.
    pub(crate) fn demand(&self, class: usize, job: &Job) -> Demand {
        let demand = self.whole_demand(class, job.shape);
        match self.ledger.stay(class, job.shape.model) {
            Some(Stay::Loading | Stay::Resident) => Demand { weights_bytes: 0, ..demand },
            Some(Stay::Leaving) | None => demand,
        }
    }

    pub(crate) fn admission(&self, class: usize, job: &Job) -> Admission {
        let model = job.shape.model;
        if self.ledger.stay(class, model) == Some(Stay::Leaving) {
            // It must have left before it can be loaded again.
            return Admission::Defer;
        }
        let room = self.ledger.room(class, model);
        let mut demand = self.demand(class, job);
        if demand.weights_bytes == 0 {
            // Weights that are there count when it comes to what could ever fit.
            let whole = self.whole_demand(class, job.shape);
            if whole.bytes() > room.most_bytes() {
                return Admission::Reject;
            }
            demand = Demand { weights_bytes: 0, ..whole };
        }
        // Cheap first: most jobs find room.
        if demand.bytes() <= room.free_bytes {
            return Admission::Admit;
        }
        let idle = self.ledger.idle(class).into_iter().filter(|idle| idle.model != model);
        let idle = idle.map(|idle| Idle { wanted: self.wanted.contains_key(&(class, idle.model)), ..idle });
        admit(demand, room, idle.collect())
    }

    /// What a lane is likely to need for a job, in microseconds, if anything like it has been measured.
    pub(crate) fn likely_us(&self, job: &Job) -> Option<u64> {
        let measured = self.footprints.cost_us(job.shape, steps(&job.record.spec));
        measured.or(self.mean_us[job.class])
    }

    /// Gives a queued job its lane: memory, charge, and the order to run.
    pub(crate) fn take_lane(&mut self, id: JobId, lane: LaneId, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (class, shape, uid) = (job.class, job.shape, job.record.uid);
        // At this moment alone: a quota may be lowered below what runs already.
        debug_assert!(!self.at_running_quota(uid), "uid {uid} keeps to its quota");
        let (demand, preview_after) = (self.demand(class, job), self.preview_after(job));
        let cost_us = self.likely_us(job).unwrap_or(UNKNOWN_COST_US);
        let cold = self.ledger.stay(class, shape.model) != Some(Stay::Resident);
        let pinned = self.pinned[class].contains(&shape.model);
        let lease = self.ledger.lease(class, shape.model, demand, pinned, now);
        let lease_bytes = lease.bytes();
        let room = self.ledger.room(class, shape.model);
        let flush = match self.plan.classes()[class].flush {
            FlushRule::BeforeEach => true,
            FlushRule::OnPressure => room.free_bytes < room.cap_bytes / 10,
            FlushRule::Never => false,
        };
        self.queues[class].launch(uid, job.record.spec.priority, job.turn(), cost_us);
        self.lanes.occupy(lane, id);
        self.uids.entry(uid).or_default().running += 1;
        let index = self.lanes.index(lane);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.clock.begin();
        job.lease = Some(lease);
        (job.charged_us, job.cold, job.lane) = (cost_us, cold, index);
        job.attempts += 1;
        job.passed_since = None;
        job.activity = gpusched_shared::Activity::Starting;
        let (attempt, record) = (job.attempts, job.record.clone());
        effects.push_back(Effect::Launch { job: id, attempt, lane, record, lease_bytes, flush, preview_after });
    }

    /// Takes the lane back that a job has just left.
    pub(crate) fn leave_lane(&mut self, id: JobId, lane: LaneId, now: Time, effects: &mut VecDeque<Effect>) {
        self.lanes.vacate(lane);
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (class, uid, model) = (job.class, job.record.uid, job.shape.model);
        let used_us = job.clock.worked_us(now);
        let (charged_us, lease) = (std::mem::take(&mut job.charged_us), job.lease.take());
        self.queues[class].settle(uid, job.turn(), charged_us, used_us);
        self.release_uid(uid, |held| held.running -= 1);
        let freed_bytes = lease.as_ref().map_or(0, Lease::bytes);
        let idle = lease.is_some_and(|lease| self.ledger.release(lease, now));
        if idle && let Some(keep_ms) = self.plan.classes()[class].keep_alive_ms {
            self.timers.set(now.after_ms(keep_ms), crate::timers::Timer::KeepAlive(class, model));
        }
        self.memory_freed(class, freed_bytes, now, effects);
    }

    /// A model's keep-alive timer rang.
    pub(crate) fn keep_alive(&mut self, class: usize, model: ModelId, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(keep_ms) = self.plan.classes()[class].keep_alive_ms else { return };
        match self.ledger.idle_for(class, model, keep_ms.saturating_mul(1000), now) {
            Ok(()) => self.evict(class, model, effects),
            Err(Some(at)) => self.timers.set(at, crate::timers::Timer::KeepAlive(class, model)),
            Err(None) => {}
        }
    }

    pub(crate) fn evict(&mut self, class: usize, model: ModelId, effects: &mut VecDeque<Effect>) {
        self.ledger.leaving(class, model);
        if let Some(info) = self.catalog.model(model) {
            effects.push_back(Effect::Evict { class, model: info.name.clone() });
        }
    }

    /// Learns from a job whose lane succeeded with it.
    pub(crate) fn learn(&mut self, id: JobId, usage: Usage, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (class, shape, run_us) = (job.class, job.shape, job.clock.worked_us(now));
        let kept = if job.cold {
            // Loading its model took part of the time.
            self.footprints.learn_peak(&self.catalog, shape, usage.peak_bytes)
        } else {
            let mean = self.mean_us[class].map_or(run_us, |mean| (mean.saturating_mul(3) + run_us) / 4);
            self.mean_us[class] = Some(mean);
            let steps = steps(&job.record.spec);
            self.footprints.learn(&self.catalog, shape, usage.peak_bytes, steps, run_us)
        };
        effects.extend(kept.map(Effect::Keep));
    }

    /// How a job ends that was accepted but needs more, as has been measured since, than its partition can ever give.
    fn never_fits(&self, id: JobId) -> Outcome {
        let facts = self.jobs.get(&id).map(|job| {
            let demand = self.whole_demand(job.class, job.shape);
            (self.plan.classes()[job.class].name.clone(), self.ledger.view(job.class), demand)
        });
        let (partition, view, demand) = facts.unwrap_or_default();
        let oom = OutOfMemory {
            partition,
            requested_bytes: demand.bytes(),
            used_bytes: view.leased_bytes.saturating_add(view.weights_bytes),
            cap_bytes: view.cap_bytes,
        };
        let message = format!("{oom}; ask for less, or give the class a larger partition");
        Outcome::Failed { kind: FailureKind::OutOfMemory(oom), message }
    }
}
