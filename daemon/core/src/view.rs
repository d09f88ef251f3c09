//! What of the scheduler's state others may look at.

use std::collections::BTreeSet;

use gpusched_shared::{ClassView, JobId, JobState, JobView, LaneView, PartitionView};

use crate::effect::JobRecord;
use crate::job::Job;
use crate::job::state::State;
use crate::plan::Policy;
use crate::policy::ordering::Turn;
use crate::policy::preemption::Gate;
use crate::scheduler::Scheduler;
use crate::time::Time;

impl Scheduler {
    /// A job that is on record and has not ended.
    pub fn view(&self, id: JobId, now: Time) -> Option<JobView> {
        let job = self.jobs.get(&id).filter(|job| is_on_record(job))?;
        Some(job.view(self.state_of(id, job, now), now))
    }

    /// Whether a job is a stage of another one, which clients do not know of.
    pub fn is_stage(&self, id: JobId) -> bool {
        self.jobs.get(&id).is_some_and(|job| job.record.part.is_some())
    }

    /// The class of a live job, by its place in the plan.
    pub fn class_of(&self, id: JobId) -> Option<usize> {
        self.jobs.get(&id).map(|job| job.class)
    }

    /// The jobs that clients asked for, are on record and have not ended, newest first.
    pub fn live(&self) -> impl Iterator<Item = (JobId, &JobRecord)> {
        self.jobs
            .iter()
            .rev()
            .filter(|(_, job)| is_on_record(job) && job.record.part.is_none())
            .map(|(id, job)| (*id, &*job.record))
    }

    /// The waiting jobs, and how many go before each.
    pub fn places(&self) -> impl Iterator<Item = (JobId, u32)> {
        let lines: Vec<Vec<JobId>> = match self.plan.policy {
            Policy::MultiQueue => (0..self.queues.len()).map(|class| self.order(class)).collect(),
            Policy::Fifo => vec![self.order(0)],
        };
        lines.into_iter().flat_map(|line| line.into_iter().zip(0..))
    }

    /// The classes as they stand. What the engine counts of their memory is not in it.
    pub fn classes(&self) -> Vec<ClassView> {
        let views = self.plan.classes().iter().enumerate().map(|(index, class)| ClassView {
            name: class.name.clone(),
            queued: count(self.queues[index].len()),
            running: count(self.lanes.jobs(index).count()),
            backing_off: count(self.backing_off[index].len()),
            finished: self.finished[index],
            out_of_memory: self.out_of_memory[index],
            paused: self.paused[index],
            partition: self.ledger.view(index),
        });
        views.collect()
    }

    /// The memory of a class, by its place in the plan. What the engine counts of it is not in it.
    pub fn partition(&self, class: usize) -> Option<PartitionView> {
        (class < self.plan.classes().len()).then(|| self.ledger.view(class))
    }

    /// The lanes as they stand.
    pub fn lanes(&self) -> Vec<LaneView> {
        let name = |class: usize| self.plan.classes()[class].name.clone();
        let asked = |job: Option<JobId>| job.map(|id| self.asked_for(id));
        let views = self.lanes.iter().map(|(_, lane)| (name(lane.class), lane.index, asked(lane.job)));
        views.map(|(class, index, job)| LaneView { class, index, job }).collect()
    }

    /// The classes whose partitions hold a model.
    pub fn holders(&self, model: &str) -> Vec<String> {
        let id = self.catalog.id_of(model);
        let holders = id.into_iter().flat_map(|id| self.ledger.holders(id));
        holders.map(|class| self.plan.classes()[class].name.clone()).collect()
    }

    /// The classes that make way for others, and how often each went on because its minimum share was due.
    pub fn refusals(&self) -> impl Iterator<Item = (usize, u64)> + '_ {
        let refused = |(class, gate): (usize, &Option<Gate>)| gate.map(|gate| (class, gate.refused()));
        self.gates.iter().enumerate().filter_map(refused)
    }

    /// The waiting jobs of a class (under `fifo` of all classes) in the order in which they are likely to go.
    pub(crate) fn order(&self, class: usize) -> Vec<JobId> {
        match self.plan.policy {
            Policy::MultiQueue => {
                let cost = |id: JobId| self.jobs.get(&id).and_then(|job| self.likely_us(job)).unwrap_or(1);
                self.queues[class].order(cost).collect()
            }
            Policy::Fifo => {
                let waiting = self.jobs.values().filter(|job| job.state == State::Queued);
                let turns: BTreeSet<Turn> = waiting.map(Job::turn).collect();
                turns.into_iter().map(|turn| turn.id).collect()
            }
        }
    }

    pub(crate) fn state_of(&self, id: JobId, job: &Job, now: Time) -> JobState {
        let running = |parked| JobState::Running { lane: job.lane, activity: job.activity, parked };
        match &job.state {
            State::Recording(_) => JobState::Queued { ahead: 0 },
            State::Queued => {
                let place = self.order(job.class).iter().position(|other| *other == id);
                JobState::Queued { ahead: count(place.unwrap_or(0)) }
            }
            State::BackingOff => {
                let within_ms = job.retry_at.map_or(0, |at| at.since(now).div_ceil(1000));
                JobState::BackingOff { retry: job.record.retries, within_ms }
            }
            State::Parked(_) => running(true),
            State::Launching(_) | State::Running(_) | State::Stopping(..) | State::Storing => running(false),
            State::Underway | State::Ceasing(_) => self.underway(job),
            // Nobody sees an outcome before the journal has it.
            State::Concluding(_) if job.program.is_some() => self.underway(job),
            State::Concluding(_) if job.attempts == 0 => JobState::Queued { ahead: 0 },
            State::Concluding(_) => running(false),
            State::Done(outcome) => JobState::Done(outcome.clone()),
        }
    }
}

/// Before that a job may still come to nothing, so nobody may know of it.
pub(crate) fn is_on_record(job: &Job) -> bool {
    !matches!(job.state, State::Recording(_))
}

pub(crate) fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
