//! Answers to "why" and "when": why a job waits, what goes when, where a job would go.

use gpusched_shared::{Explanation, JobId, JobSpec, QueueView, Reason, RouteView, Uid};

use crate::footprint::{Shape, steps};
use crate::job::Job;
use crate::job::state::State;
use crate::plan::Policy;
use crate::policy::admission::Admission;
use crate::policy::forecast::forecast;
use crate::policy::routing;
use crate::scheduler::Scheduler;
use crate::time::Time;
use crate::view::count;

/// Microseconds from now until a job starts, if it has not, and until it ends.
type Likely = (Option<u64>, Option<u64>);

impl Scheduler {
    /// Why a job that is on record and has not ended is where it is.
    pub fn explain(&self, id: JobId, now: Time) -> Option<Explanation> {
        let view = self.view(id, now)?;
        let job = self.jobs.get(&id)?;
        let (starts_in_us, ends_in_us) = match job.state {
            State::Queued => self.when(job.class, now).into_iter().find(|(other, _)| *other == id)?.1,
            State::Underway | State::Ceasing(_) => (None, None),
            State::Recording(_)
            | State::BackingOff
            | State::Launching(_)
            | State::Running(_)
            | State::Parked(_)
            | State::Stopping(..)
            | State::Storing
            | State::Concluding(_)
            | State::Done(_) => (None, self.remaining_us(job, now)),
        };
        let ms = |us: u64| us.div_ceil(1000);
        Some(Explanation {
            job: view,
            reasons: self.reasons(id, job, now),
            starts_in_ms: starts_in_us.map(ms),
            ends_in_ms: ends_in_us.map(ms),
        })
    }

    /// What is on lanes and what waits, class by class in the order in which it is likely to go, with whose it is.
    pub fn queue(&self, now: Time) -> Vec<(Uid, QueueView)> {
        let mut places = Vec::new();
        for class in 0..self.queues.len() {
            let on_lanes = self.lanes.jobs(class).filter_map(|id| Some((id, self.jobs.get(&id)?)));
            places.extend(on_lanes.map(|(id, job)| (id, (None, self.remaining_us(job, now)))));
            if self.plan.policy == Policy::MultiQueue {
                places.extend(self.when(class, now));
            }
        }
        if self.plan.policy == Policy::Fifo {
            places.extend(self.when(0, now));
        }
        let view = |(id, (start, end)): (JobId, Likely)| {
            let job = self.jobs.get(&id)?;
            let place = QueueView {
                class: job.record.class.clone(),
                job: self.asked_for(id),
                lane: job.state.lane().map(|_| job.lane),
                priority: job.record.spec.priority,
                model: job.record.spec.model.clone().unwrap_or_default(),
                waited_ms: job.clock.wait_us(now) / 1000,
                starts_in_ms: start.map(|us| us.div_ceil(1000)),
                ends_in_ms: end.map(|us| us.div_ceil(1000)),
            };
            Some((job.record.uid, place))
        };
        places.into_iter().filter_map(view).collect()
    }

    /// Where a job of a uid would go, and why. `spec` has nothing left open.
    pub fn route(&self, spec: &JobSpec, uid: Uid) -> RouteView {
        let routes = self.plan.routes();
        let model = spec.model.as_deref().and_then(|name| self.catalog.id_of(name));
        // Without pictures, which are not known here.
        let shape = model.map(|model| Shape::of(model, spec, &[]));
        let class = routing::route(routes, spec, uid).and_then(|name| self.plan.class_named(name));
        let demand = class.zip(shape).map(|(class, shape)| self.whole_demand(class, shape)).unwrap_or_default();
        // A job with pictures is likely to take what jobs of its class do.
        let run_us = shape.and_then(|shape| self.footprints.cost_us(shape, steps(spec)));
        let run_us = run_us.or(class.and_then(|class| self.mean_us[class]));
        RouteView {
            class: class.map(|class| self.plan.classes()[class].name.clone()),
            rules: routing::explain(routes, spec, uid),
            run_bytes: demand.run_bytes,
            weights_bytes: demand.weights_bytes,
            run_ms: run_us.map(|us| us.div_ceil(1000)),
        }
    }

    fn reasons(&self, id: JobId, job: &Job, now: Time) -> Vec<Reason> {
        let class = &self.plan.classes()[job.class];
        let name = || class.name.clone();
        match job.state {
            State::Parked(_) => {
                let classes = self.makes_way_for(job.class).map(|c| self.plan.classes()[c].name.clone());
                return vec![Reason::Parked { classes: classes.collect() }];
            }
            State::BackingOff => {
                let within_ms = job.retry_at.map_or(0, |at| at.since(now).div_ceil(1000));
                let (retry, budget) = (job.record.retries, self.plan.retry.budget);
                return vec![Reason::BackingOff { retry, budget, within_ms }];
            }
            // What holds its stage up holds it up.
            State::Underway => {
                let stages = job.program.iter().flat_map(|program| program.stages());
                let mut stages = stages.filter_map(|stage| Some((stage, self.jobs.get(&stage)?)));
                let stage = stages.find(|(_, stage)| stage.state.is_waiting());
                return stage.map_or_else(Vec::new, |(id, stage)| self.reasons(id, stage, now));
            }
            State::Queued => {}
            State::Recording(_)
            | State::Ceasing(_)
            | State::Launching(_)
            | State::Running(_)
            | State::Stopping(..)
            | State::Storing
            | State::Concluding(_)
            | State::Done(_) => return Vec::new(),
        }
        let mut reasons = Vec::new();
        if self.leaving {
            reasons.push(Reason::Stopping);
        }
        if !self.engine_up {
            reasons.push(Reason::EngineDown);
        }
        if let Some(job) = self.foremost_suspect().filter(|suspect| *suspect != id) {
            reasons.push(Reason::Suspect { job: self.asked_for(job) });
        }
        if self.paused[job.class] {
            reasons.push(Reason::Paused { class: name() });
        }
        if self.at_running_quota(job.record.uid) {
            reasons.push(Reason::RunningQuota { limit: self.plan.quotas.running_per_uid });
        }
        match self.admission(job.class, job) {
            // A job that could never run ends as soon as it is its turn.
            Admission::Admit | Admission::Reject => {}
            Admission::Defer => {
                let room = self.ledger.room(job.class, job.shape.model);
                reasons.push(Reason::Memory {
                    class: name(),
                    needs_bytes: self.demand(job.class, job).bytes(),
                    free_bytes: room.free_bytes,
                    cap_bytes: room.cap_bytes,
                });
            }
            Admission::Evict(victims) => {
                let model = job.record.spec.model.clone().unwrap_or_default();
                let waited_ms = job.passed_since.map(|since| now.since(since) / 1000);
                reasons.push(match waited_ms {
                    Some(ms) => Reason::Batching { model, at_most_ms: class.batch_wait_ms.saturating_sub(ms) },
                    None => {
                        let names = victims.iter().filter_map(|victim| self.catalog.model(*victim));
                        Reason::Evicting { model, evicts: names.map(|model| model.name.clone()).collect() }
                    }
                });
            }
        }
        let ahead: Vec<JobId> = self.order(job.class).into_iter().take_while(|other| *other != id).collect();
        if !ahead.is_empty() {
            let cost = |id: &JobId| self.jobs.get(id).and_then(|job| self.likely_us(job)).unwrap_or(0);
            let lane_ms = ahead.iter().map(cost).sum::<u64>() / 1000;
            reasons.push(Reason::Behind { jobs: count(ahead.len()), lane_ms });
        }
        let busy = self.lanes.iter().find_map(|(_, lane)| lane.job);
        match (self.plan.policy, busy) {
            (Policy::Fifo, Some(job)) => reasons.push(Reason::OneAtATime { job: self.asked_for(job) }),
            (Policy::MultiQueue, _) if self.lanes.free(job.class).is_none() => {
                reasons.push(Reason::LanesBusy { class: name(), lanes: class.lanes });
            }
            (Policy::Fifo, None) | (Policy::MultiQueue, _) => {}
        }
        reasons
    }

    /// When the waiting jobs of a class (under `fifo` of all) are likely to start and to end.
    fn when(&self, class: usize, now: Time) -> Vec<(JobId, Likely)> {
        let order = self.order(class);
        let lanes: Option<Vec<u64>> = match self.plan.policy {
            Policy::MultiQueue => {
                let free = self.plan.classes()[class].lanes as usize - self.lanes.jobs(class).count();
                let busy = self.lanes.jobs(class).filter_map(|id| self.jobs.get(&id));
                busy.map(|job| self.remaining_us(job, now)).chain(std::iter::repeat_n(Some(0), free)).collect()
            }
            Policy::Fifo => {
                let busy = self.lanes.iter().filter_map(|(_, lane)| self.jobs.get(&lane.job?));
                busy.map(|job| self.remaining_us(job, now)).sum::<Option<u64>>().map(|us| vec![us])
            }
        };
        let costs: Option<Vec<(JobId, u64)>> =
            order.iter().map(|id| Some((*id, self.jobs.get(id).and_then(|job| self.likely_us(job))?))).collect();
        match (lanes, costs) {
            (Some(lanes), Some(costs)) if !self.leaving && !self.paused[class] => {
                let likely = forecast(&lanes, costs.into_iter());
                likely.map(|f| (f.job, (Some(f.start_us), Some(f.end_us)))).collect()
            }
            _ => order.into_iter().map(|id| (id, (None, None))).collect(),
        }
    }

    /// How long a job on a lane is likely to need yet.
    fn remaining_us(&self, job: &Job, now: Time) -> Option<u64> {
        Some(self.likely_us(job)?.saturating_sub(job.clock.worked_us(now)))
    }
}
