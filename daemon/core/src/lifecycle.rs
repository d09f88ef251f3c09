//! How jobs move through their states, and what each new state asks for.

use std::collections::VecDeque;
use std::sync::Arc;

use gpusched_shared::{Activity, AttemptEnd, FailureKind, JobId, Outcome, TimeLimit, Uid, Update, Usage};

use crate::effect::Effect;
use crate::job::state::{Ending, State};
use crate::job::transition::{Event, Next, next};
use crate::job::{Job, Phase};
use crate::scheduler::Scheduler;
use crate::time::Time;
use crate::timers::Timer;

impl Scheduler {
    pub(crate) fn apply(&mut self, id: JobId, event: &Event, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get(&id) else {
            // Jobs leave when they are done; a cancel may arrive after that, nothing else may.
            if !matches!(event, Event::End(_)) {
                self.impossible.push(format!("{event:?} for job {id}, which is not here"));
            }
            return;
        };
        match next(&job.state, event) {
            Next::To(state) => {
                if job.state.lane().is_some() && state.lane().is_none() {
                    let end = attempt_end(event);
                    effects.push_back(Effect::AttemptEnded { job: id, attempt: job.attempts, end });
                    if !matches!(end, AttemptEnd::Stopped | AttemptEnd::EngineLost) {
                        self.exonerate(id);
                    }
                }
                self.enter(id, state, now, effects);
            }
            Next::Ignore => {}
            Next::Impossible => self.impossible.push(format!("{event:?} for job {id} in {:?}", job.state)),
        }
    }

    /// Moves a job to `state`: keeps queues, lanes and memory in step and says what the new state asks for.
    pub(crate) fn enter(&mut self, id: JobId, state: State, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let (class, uid, priority, turn) = (job.class, job.record.uid, job.record.spec.priority, job.turn());
        let before = std::mem::replace(&mut job.state, state.clone());
        job.clock.turn(Phase::of(&state), now);
        if job.record.part.is_none() {
            self.recount(class, uid, &before, &state);
        }
        self.recount_storing(class, &before, &state);
        if before == State::Queued {
            self.advanced = true;
            if state.lane().is_none() {
                self.queues[class].remove(uid, priority, turn);
            }
        }
        if let (Some(lane), None) = (before.lane(), state.lane()) {
            self.leave_lane(id, lane, now, effects);
        }
        if before == State::BackingOff {
            self.end_back_off(id);
        }
        self.set_run_timer(id, &state, now);
        match state {
            // Who sends it there says until when.
            State::Recording(_) | State::BackingOff | State::Storing => {}
            State::Underway => self.advance(id, now, effects),
            State::Ceasing(ending) => self.end_stages(id, ending, now, effects),
            State::Queued => {
                self.queues[class].insert(uid, priority, turn);
                self.advanced = true;
            }
            State::Launching(lane) => self.take_lane(id, lane, now, effects),
            State::Running(_) | State::Parked(_) => self.tell_running(id, effects),
            State::Stopping(..) => effects.push_back(Effect::Stop(id)),
            State::Concluding(outcome) => {
                let Some(job) = self.jobs.get(&id) else { return };
                let Job { clock, usage, .. } = job;
                let (wait_us, run_us, backoff_us) = (clock.wait_us(now), clock.run_us(now), clock.backoff_us(now));
                let reflection = job.program.as_ref().and_then(|program| program.reflection());
                let (usage, reflection) = (*usage, reflection.map(Box::new));
                effects.push_back(Effect::Conclude {
                    job: id,
                    outcome,
                    wait_us,
                    run_us,
                    backoff_us,
                    usage,
                    reflection,
                });
            }
            State::Done(outcome) => {
                if let Some(view) = self.view(id, now) {
                    effects.push_back(Effect::Tell(id, Update::Done(view)));
                }
                match self.forget(id) {
                    Some(stage) if stage.record.part.is_some() => self.stage_ended(&stage, outcome, now, effects),
                    Some(_) => self.finished[class] += 1,
                    None => {}
                }
            }
        }
    }

    /// Keeps the counts of jobs that clients asked for in step with their states.
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
    }

    fn recount_storing(&mut self, class: usize, before: &State, after: &State) {
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

    pub(crate) fn progress(&mut self, id: JobId, activity: Activity, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        job.activity = activity;
        if matches!(job.state, State::Running(_) | State::Parked(_)) {
            self.tell_running(id, effects);
        }
    }

    fn tell_running(&self, id: JobId, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get(&id) else { return };
        let (lane, activity, parked) = (job.lane, job.activity, matches!(job.state, State::Parked(_)));
        self.tell(id, Update::Running { lane, activity, parked }, effects);
    }

    pub(crate) fn ring(&mut self, timer: Timer, now: Time, effects: &mut VecDeque<Effect>) {
        let (id, limit) = match timer {
            Timer::Deadline(id) => (id, TimeLimit::Deadline),
            Timer::QueueTimeout(id) => (id, TimeLimit::QueueTimeout),
            Timer::RunTimeout(id) => (id, TimeLimit::RunTimeout),
            Timer::KeepAlive(class, model) => return self.keep_alive(class, model, now, effects),
            Timer::Retry(id) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.retry_at = None;
                }
                return self.apply(id, &Event::Retry, now, effects);
            }
            Timer::Reattach(id) => {
                if let Some(job) = self.jobs.get_mut(&id) {
                    job.reattach_until = None;
                }
                return self.apply(id, &Event::End(Ending::Cancelled), now, effects);
            }
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

    pub(crate) fn measured(&mut self, id: JobId, usage: Usage) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.add_usage(usage);
        }
    }

    pub(crate) fn set_priority(&mut self, id: JobId, priority: i8, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.record.spec.priority != priority) else { return };
        let before = std::mem::replace(&mut Arc::make_mut(&mut job.record).spec.priority, priority);
        effects.push_back(Effect::Amend(Arc::clone(&job.record)));
        if job.state == State::Queued {
            self.queues[job.class].reprioritise(job.record.uid, job.turn(), before, priority);
            self.advanced = true;
        }
        let stages: Vec<JobId> = job.program.iter().flat_map(|program| program.stages()).collect();
        stages.into_iter().for_each(|stage| self.set_priority(stage, priority, effects));
    }
}

/// How an attempt ends by an event that takes the job off its lane.
fn attempt_end(event: &Event) -> AttemptEnd {
    let of_outcome = |outcome: &Outcome| match outcome {
        Outcome::Failed { kind: FailureKind::OutOfMemory(_), .. } => AttemptEnd::OutOfMemory,
        Outcome::Failed { .. } => AttemptEnd::Failed,
        Outcome::Cancelled | Outcome::Expired { .. } => AttemptEnd::Stopped,
        Outcome::Image { .. }
        | Outcome::Answers(_)
        | Outcome::Found(_)
        | Outcome::Mask { .. }
        | Outcome::Text { .. }
        | Outcome::Score(_) => AttemptEnd::Done,
    };
    match event {
        Event::EngineLost => AttemptEnd::EngineLost,
        Event::BackOff => AttemptEnd::OutOfMemory,
        Event::Made => AttemptEnd::Done,
        Event::Finished(outcome) => of_outcome(outcome),
        // Only the first of these takes a job off its lane.
        Event::Interrupted
        | Event::Recorded
        | Event::Begun
        | Event::Assigned(_)
        | Event::Started
        | Event::Parked
        | Event::Resumed
        | Event::Retry
        | Event::End(_)
        | Event::Concluded => AttemptEnd::Stopped,
    }
}
