//! What happens after things went wrong: jobs that ran out of memory are tried again, and jobs that ran when the engine
//! died are run alone until it is known which of them it died of.
//!
//! A job that runs out of memory leaves its lane; the engine flushes its partition, idle models leave it, and the job waits
//! until as much memory has been freed as was lacking, at latest until its back-off is over.
//!
//! When the engine dies, whatever was on lanes is *suspect*: once there is a fresh engine, suspects run before all others
//! and each alone, so that a further death tells on one of them. Deaths of which exactly one job can be the cause count
//! against it; at [`DEATHS`] it is quarantined, which means that it fails. Bystanders lose an attempt and nothing else.

use std::collections::VecDeque;
use std::sync::Arc;

use gpusched_shared::{FailureKind, JobId, OutOfMemory, Outcome, Update};

use crate::effect::Effect;
use crate::input::Blame;
use crate::job::Job;
use crate::job::state::State;
use crate::job::transition::Event;
use crate::lane::LaneId;
use crate::policy::backoff::delay_ms;
use crate::policy::residency::{Idle, victims};
use crate::scheduler::Scheduler;
use crate::time::Time;
use crate::timers::Timer;

/// Deaths of the engine of which a job must be the cause to be quarantined.
const DEATHS: u32 = 2;

impl Scheduler {
    /// A job ran out of memory, and what it was found to need has been learnt: it is tried again, unless it can never have
    /// that much, or has been tried too often.
    pub(crate) fn ran_out_of_memory(
        &mut self,
        id: JobId,
        oom: &OutOfMemory,
        outcome: Outcome,
        now: Time,
        effects: &mut VecDeque<Effect>,
    ) {
        let Some(job) = self.jobs.get(&id) else { return self.apply(id, &Event::Finished(outcome), now, effects) };
        let (class, model) = (job.class, job.shape.model);
        self.out_of_memory[class] += 1;
        let never_fits = self.whole_demand(class, job.shape).bytes() > self.ledger.room(class, model).most_bytes();
        if never_fits || job.record.retries >= self.plan.retry.budget {
            let outcome = if let (Outcome::Failed { kind, message }, tries @ 2..) = (&outcome, job.attempts) {
                Outcome::Failed { kind: kind.clone(), message: format!("{message} (attempt {tries}, the last)") }
            } else {
                outcome
            };
            return self.apply(id, &Event::Finished(outcome), now, effects);
        }
        self.apply(id, &Event::BackOff, now, effects);
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.state == State::BackingOff) else { return };
        let retry = job.record.retries + 1;
        let within_ms = delay_ms(&self.plan.retry, id.0, retry);
        job.lacking_bytes = oom.used_bytes.saturating_sub(oom.cap_bytes).max(1);
        let lacking_bytes = job.lacking_bytes;
        Arc::make_mut(&mut job.record).retries = retry;
        effects.push_back(Effect::Amend(Arc::clone(&job.record)));
        effects.push_back(Effect::BackOff { job: id, retry, within_ms });
        effects.push_back(Effect::Flush { class, job: id });
        self.back_off(id, within_ms, now, effects);
        // Models that nobody uses make room: all of them where what they have is too little, for what took the memory may be
        // none of ours. Its own it will need again.
        let idle: Vec<Idle> = self.ledger.idle(class).into_iter().filter(|idle| idle.model != model).collect();
        let all = idle.iter().map(|idle| idle.model).collect();
        for model in victims(idle, lacking_bytes).unwrap_or(all) {
            self.evict(class, model, effects);
        }
    }

    /// A job that backs off is tried again in so many milliseconds at latest.
    pub(crate) fn back_off(&mut self, id: JobId, within_ms: u64, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let at = now.after_ms(within_ms);
        job.retry_at = Some(at);
        self.timers.set(at, Timer::Retry(id));
        self.backing_off[job.class].insert(id);
        let update = Update::BackingOff { retry: job.record.retries, within_ms };
        self.tell(id, update, effects);
    }

    /// A job does not back off any more.
    pub(crate) fn end_back_off(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        self.timers.clear(job.retry_at.take(), Timer::Retry(id));
        self.backing_off[job.class].remove(&id);
    }

    /// So many bytes of a partition are free that were not before. Jobs that lacked no more than what has been freed since
    /// need not wait for their time; in the order of acceptance.
    pub(crate) fn memory_freed(&mut self, class: usize, bytes: u64, now: Time, effects: &mut VecDeque<Effect>) {
        let waiting: Vec<JobId> = self.backing_off[class].iter().copied().collect();
        for id in waiting {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.lacking_bytes = job.lacking_bytes.saturating_sub(bytes);
            if job.lacking_bytes == 0 {
                self.apply(id, &Event::Retry, now, effects);
            }
        }
    }

    /// The engine is gone, with all that was on lanes.
    pub(crate) fn engine_lost(&mut self, blame: Blame, now: Time, effects: &mut VecDeque<Effect>) {
        self.engine_up = false;
        let lost: Vec<(JobId, LaneId)> = self.lanes.iter().filter_map(|(lane, slot)| Some((slot.job?, lane))).collect();
        self.ledger.forget_models();
        self.gates.iter_mut().flatten().for_each(|gate| gate.reset(now));
        for (id, lane) in &lost {
            let (suspect, certain) = match blame {
                Blame::Nobody => (false, false),
                Blame::Everyone => (true, lost.len() == 1),
                Blame::Anyone => (true, false),
                Blame::Lane(guilty) => (guilty == *lane, guilty == *lane),
            };
            // What had not begun may not even have reached the engine.
            let begun = self.jobs.get(id).is_some_and(|job| !matches!(job.state, State::Launching(_)));
            let certain = certain && begun;
            let deaths = if suspect { self.suspect(*id, certain, effects) } else { 0 };
            self.apply(*id, &Event::EngineLost, now, effects);
            // One that was told to stop has done so.
            if let Some(quarantined) = quarantine(deaths)
                && self.jobs.get(id).is_some_and(|job| job.state == State::Queued)
            {
                self.apply(*id, &Event::Finished(quarantined), now, effects);
            }
        }
        for class in 0..self.backing_off.len() {
            self.memory_freed(class, u64::MAX, now, effects);
        }
    }

    /// A job ran when the engine died; if it is `certain` that it died of it, that counts. How often that was so.
    fn suspect(&mut self, id: JobId, certain: bool, effects: &mut VecDeque<Effect>) -> u32 {
        let Some(job) = self.jobs.get_mut(&id) else { return 0 };
        let record = Arc::make_mut(&mut job.record);
        record.suspect = true;
        record.deaths += u32::from(certain);
        self.suspects.insert(id);
        effects.push_back(Effect::Amend(Arc::clone(&job.record)));
        job.record.deaths
    }

    /// A lane is done with a job, and the engine has not died of it.
    pub(crate) fn exonerate(&mut self, id: JobId) {
        if self.suspects.remove(&id)
            && let Some(job) = self.jobs.get_mut(&id)
        {
            Arc::make_mut(&mut job.record).suspect = false;
        }
    }

    /// True while a suspect is on a lane: whatever else the engine could do at the same time must wait, or its death would not
    /// tell on the suspect.
    pub fn tries_a_suspect(&self) -> bool {
        self.lanes.iter().filter_map(|(_, lane)| lane.job).any(|id| self.suspects.contains(&id))
    }

    /// The suspect that is on a lane or, if none is, the one that goes next. Nothing else is started meanwhile.
    pub(crate) fn foremost_suspect(&self) -> Option<JobId> {
        let on_lane = |job: &Job| job.state.lane().is_some();
        let next = |job: &Job| job.state == State::Queued && !self.stopped(job.class);
        let first = |which: &dyn Fn(&Job) -> bool| {
            self.suspects.iter().copied().find(|id| self.jobs.get(id).is_some_and(which))
        };
        first(&on_lane).or_else(|| first(&next))
    }
}

/// How a job ends of which the engine died so often, if that was too often.
pub(crate) fn quarantine(deaths: u32) -> Option<Outcome> {
    (deaths >= DEATHS).then(|| {
        let kind = FailureKind::Quarantined { deaths };
        Outcome::Failed { message: format!("{kind}; it is not run again"), kind }
    })
}
