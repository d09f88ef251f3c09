//! A job's life: its states, what moves it between them, and the clock of its waiting and running.

pub mod state;
pub mod transition;

use std::sync::Arc;

use gpusched_shared::{Activity, JobState, JobView, Usage};

use crate::effect::JobRecord;
use crate::footprint::Shape;
use crate::input::{SessionId, Ticket};
use crate::ledger::Lease;
use crate::policy::ordering::Turn;
use crate::stages::Programmed;
use crate::time::Time;
use state::State;

/// A job that has not ended.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) record: Arc<JobRecord>,
    /// Index of its class in the plan.
    pub(crate) class: usize,
    /// What it needs memory and time by.
    pub(crate) shape: Shape,
    pub(crate) state: State,
    /// Who waits for its acceptance: one, and whoever asked for the same with the same key meanwhile.
    pub(crate) tickets: Vec<Ticket>,
    /// Its program and stages, if it takes several.
    pub(crate) program: Option<Box<Programmed>>,
    /// How old it was when it came, in milliseconds, and when that was.
    pub(crate) age_ms: u64,
    pub(crate) since: Time,
    /// The connection it came by.
    pub(crate) session: Option<SessionId>,
    /// When it is worth nothing any more.
    pub(crate) deadline: Option<Time>,
    /// When it must have a lane.
    pub(crate) queue_until: Option<Time>,
    /// When its lane must be done with it; known while it runs.
    pub(crate) run_until: Option<Time>,
    /// When it is tried again at latest, while it backs off.
    pub(crate) retry_at: Option<Time>,
    /// Until when its client may come back for it.
    pub(crate) reattach_until: Option<Time>,
    /// What is to be freed before it is worth trying again, while it backs off.
    pub(crate) lacking_bytes: u64,
    /// Its memory, exactly while it holds a lane.
    pub(crate) lease: Option<Lease>,
    /// The lane time its uid has been charged for the present attempt, in microseconds.
    pub(crate) charged_us: u64,
    /// Whether its model was not in memory when the present attempt began.
    pub(crate) cold: bool,
    /// When others first went before it because its model was not in memory.
    pub(crate) passed_since: Option<Time>,
    /// How often a lane has started it.
    pub(crate) attempts: u32,
    /// The number within its class of the lane that holds it, or held it last.
    pub(crate) lane: u32,
    pub(crate) activity: Activity,
    pub(crate) clock: Clock,
    /// What its lanes measured, attempts that are over included.
    pub(crate) usage: Usage,
}

impl Job {
    /// A job of no connection and without time limits, which nobody waits for.
    pub(crate) fn new(record: JobRecord, class: usize, shape: Shape, state: State, now: Time) -> Self {
        Self {
            class,
            shape,
            state,
            tickets: Vec::new(),
            program: Programmed::of(&record.spec),
            age_ms: 0,
            since: now,
            session: None,
            deadline: None,
            queue_until: None,
            run_until: None,
            retry_at: None,
            reattach_until: None,
            lacking_bytes: 0,
            lease: None,
            charged_us: 0,
            cold: false,
            passed_since: None,
            attempts: record.attempts,
            lane: 0,
            activity: Activity::Starting,
            clock: Clock::new(now),
            usage: Usage::default(),
            record: Arc::new(record),
        }
    }

    /// Its place in the order of acceptance.
    pub(crate) fn turn(&self) -> Turn {
        let id = self.record.id;
        Turn { asked_for: self.record.part.map_or(id, |part| part.of), id }
    }

    /// The job for its owner, in the given state.
    pub(crate) fn view(&self, state: JobState, now: Time) -> JobView {
        let record = &self.record;
        let parked_us = self.usage.parked_us + self.clock.parked_us(now);
        JobView {
            id: record.id,
            uid: record.uid,
            class: record.class.clone(),
            spec: record.spec.clone(),
            attached: record.attached,
            state,
            attempts: self.attempts,
            submitted_unix_ms: record.submitted_unix_ms,
            wait_us: self.clock.wait_us(now),
            run_us: self.clock.run_us(now),
            usage: Usage { parked_us, ..self.usage },
            retries: record.retries,
            backoff_us: self.clock.backoff_us(now),
            reflection: self.program.as_ref().and_then(|program| program.reflection()),
        }
    }

    /// Adds what a lane measured of an attempt that is over.
    pub(crate) fn add_usage(&mut self, usage: Usage) {
        self.usage.parked_us += usage.parked_us;
        self.usage.yields += usage.yields;
        self.usage.longest_gap_us = self.usage.longest_gap_us.max(usage.longest_gap_us);
        self.usage.peak_bytes = self.usage.peak_bytes.max(usage.peak_bytes);
    }
}

/// What a job's time counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Waiting,
    /// Waiting, too, but to be tried again.
    BackingOff,
    Working,
    Parked,
    /// Nothing counts any more, or it is its stages' time that counts.
    Over,
}

impl Phase {
    pub(crate) fn of(state: &State) -> Self {
        match state {
            State::Recording(_) | State::Queued => Self::Waiting,
            State::BackingOff => Self::BackingOff,
            State::Launching(_) | State::Running(_) | State::Stopping(..) => Self::Working,
            State::Parked(_) => Self::Parked,
            State::Storing | State::Underway | State::Ceasing(_) | State::Concluding(_) | State::Done(_) => Self::Over,
        }
    }
}

/// Adds up how long a job waits, works and is parked, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    since: Time,
    phase: Phase,
    waited: u64,
    backed_off: u64,
    worked: u64,
    /// Parked in attempts that are over, and in the present one.
    parked_before: u64,
    parked: u64,
    /// What it had worked when the present attempt began.
    worked_before: u64,
}

impl Clock {
    pub(crate) fn new(now: Time) -> Self {
        Self {
            since: now,
            phase: Phase::Waiting,
            waited: 0,
            backed_off: 0,
            worked: 0,
            parked_before: 0,
            parked: 0,
            worked_before: 0,
        }
    }

    /// From here on, time counts as `phase`.
    pub(crate) fn turn(&mut self, phase: Phase, now: Time) {
        let passed = now.since(self.since);
        match self.phase {
            Phase::Waiting => self.waited += passed,
            Phase::BackingOff => self.backed_off += passed,
            Phase::Working => self.worked += passed,
            Phase::Parked => self.parked += passed,
            Phase::Over => {}
        }
        (self.since, self.phase) = (now, phase);
    }

    /// Adds the time of a stage: what it waited, if that is to count, what of it was backing off, and what lanes held it.
    pub(crate) fn add(&mut self, waited_us: u64, backed_off_us: u64, held_us: u64) {
        self.waited += waited_us.saturating_sub(backed_off_us);
        self.backed_off += backed_off_us;
        self.worked += held_us;
    }

    /// A new attempt begins.
    pub(crate) fn begin(&mut self) {
        self.worked_before = self.worked;
        self.parked_before += std::mem::take(&mut self.parked);
    }

    pub(crate) fn wait_us(&self, now: Time) -> u64 {
        self.waited + self.passed(Phase::Waiting, now) + self.backoff_us(now)
    }

    /// The part of the waiting that was backing off.
    pub(crate) fn backoff_us(&self, now: Time) -> u64 {
        self.backed_off + self.passed(Phase::BackingOff, now)
    }

    /// Time on lanes, parked or not.
    pub(crate) fn run_us(&self, now: Time) -> u64 {
        self.worked
            + self.passed(Phase::Working, now)
            + self.parked_before
            + self.parked
            + self.passed(Phase::Parked, now)
    }

    /// Time on lanes in the present attempt, but for time parked.
    pub(crate) fn worked_us(&self, now: Time) -> u64 {
        self.worked + self.passed(Phase::Working, now) - self.worked_before
    }

    /// Time parked in the present attempt; 0 once it is over, when the lane has said how long it was.
    pub(crate) fn parked_us(&self, now: Time) -> u64 {
        match self.phase {
            Phase::Working | Phase::Parked => self.parked + self.passed(Phase::Parked, now),
            Phase::Waiting | Phase::BackingOff | Phase::Over => 0,
        }
    }

    fn passed(&self, phase: Phase, now: Time) -> u64 {
        if self.phase == phase { now.since(self.since) } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_once() {
        let mut clock = Clock::new(Time(10));
        assert_eq!(clock.wait_us(Time(15)), 5);
        for (phase, at) in [(Phase::Working, 20), (Phase::Parked, 50), (Phase::Working, 90), (Phase::Waiting, 100)] {
            clock.turn(phase, Time(at));
        }
        let now = Time(103);
        assert_eq!(
            (clock.wait_us(now), clock.run_us(now), clock.worked_us(now), clock.parked_us(now)),
            (13, 80, 40, 0)
        );
        clock.turn(Phase::Working, Time(105));
        clock.begin();
        let now = Time(106);
        assert_eq!((clock.wait_us(now), clock.run_us(now), clock.worked_us(now), clock.parked_us(now)), (15, 81, 1, 0));
        clock.turn(Phase::Over, Time(107));
        let now = Time(1000);
        assert_eq!((clock.wait_us(now), clock.run_us(now), clock.worked_us(now), clock.parked_us(now)), (15, 82, 2, 0));
    }
}
