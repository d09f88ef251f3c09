//! What of the scheduler's state others may look at.

use gpusched_shared::{ClassView, JobId, JobState, JobView, LaneView};

use crate::effect::JobRecord;
use crate::job::Job;
use crate::job::state::State;
use crate::policy::ordering;
use crate::scheduler::Scheduler;
use crate::time::Time;

impl Scheduler {
    /// A job that is on record and has not ended.
    pub fn view(&self, id: JobId, now: Time) -> Option<JobView> {
        let job = self.jobs.get(&id).filter(|job| is_on_record(job))?;
        let (wait_ms, run_ms) = job.clock.read(now);
        Some(JobView {
            id,
            uid: job.record.uid,
            class: job.record.class.clone(),
            spec: job.record.spec.clone(),
            attached: job.record.attached,
            state: self.state_of(id, job),
            attempts: job.record.attempts,
            submitted_unix_ms: job.record.submitted_unix_ms,
            wait_ms,
            run_ms,
        })
    }

    /// The jobs that are on record and have not ended, newest first.
    pub fn live(&self) -> impl Iterator<Item = (JobId, &JobRecord)> {
        self.jobs.iter().rev().filter(|(_, job)| is_on_record(job)).map(|(id, job)| (*id, &job.record))
    }

    /// The waiting jobs, and how many of their class go before each.
    pub fn places(&self) -> impl Iterator<Item = (JobId, u32)> {
        (0..self.queues.len()).flat_map(|class| ordering::order(self.waiting(class)).into_iter().zip(0..))
    }

    /// The classes as they stand.
    pub fn classes(&self) -> Vec<ClassView> {
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        let views = self.plan.classes().iter().enumerate().map(|(index, class)| ClassView {
            name: class.name.clone(),
            queued: count(self.queues[index].len()),
            running: count(self.lanes.iter().filter(|(_, lane)| lane.class == index && lane.job.is_some()).count()),
            finished: self.finished[index],
        });
        views.collect()
    }

    /// The lanes as they stand.
    pub fn lanes(&self) -> Vec<LaneView> {
        let name = |class: usize| self.plan.classes()[class].name.clone();
        let views = self.lanes.iter().map(|(_, lane)| (name(lane.class), lane.index, lane.job));
        views.map(|(class, index, job)| LaneView { class, index, job }).collect()
    }

    fn state_of(&self, id: JobId, job: &Job) -> JobState {
        match &job.state {
            State::Recording(_) | State::Queued => {
                JobState::Queued { ahead: ordering::ahead(self.waiting(job.class), id) }
            }
            State::Launching(_) | State::Running(_) | State::Stopping(..) => {
                JobState::Running { lane: job.lane, activity: job.activity }
            }
            // Nobody sees an outcome before the journal has it.
            State::Concluding(_) if job.record.attempts == 0 => JobState::Queued { ahead: 0 },
            State::Concluding(_) => JobState::Running { lane: job.lane, activity: job.activity },
            State::Done(outcome) => JobState::Done(outcome.clone()),
        }
    }
}

/// Before that a job may still come to nothing, so nobody may know of it.
fn is_on_record(job: &Job) -> bool {
    !matches!(job.state, State::Recording(_))
}
