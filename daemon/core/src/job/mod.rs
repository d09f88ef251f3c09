//! A job's life: its states, what moves it between them, and the clock of its waiting and running.

pub mod state;
pub mod transition;

use gpusched_shared::view::Activity;

use crate::effect::JobRecord;
use crate::input::{SessionId, Ticket};
use crate::time::Time;
use state::State;

/// A job that has not ended.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) record: JobRecord,
    /// Index of its class in the plan.
    pub(crate) class: usize,
    pub(crate) state: State,
    /// Who waits for its acceptance.
    pub(crate) ticket: Option<Ticket>,
    /// Its connection, if it is attached.
    pub(crate) session: Option<SessionId>,
    pub(crate) expires: Option<Time>,
    /// The number within its class of the lane that holds it, or held it last.
    pub(crate) lane: u32,
    pub(crate) activity: Activity,
    pub(crate) clock: Clock,
}

impl Job {
    /// A job of no connection and without a deadline, which nobody waits for.
    pub(crate) fn new(record: JobRecord, class: usize, state: State, now: Time) -> Self {
        let clock = Clock::new(now);
        let activity = Activity::Starting;
        Self { record, class, state, ticket: None, session: None, expires: None, lane: 0, activity, clock }
    }
}

/// Adds up how long a job waits and runs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    since: Time,
    on_lane: bool,
    wait_ms: u64,
    run_ms: u64,
}

impl Clock {
    pub(crate) fn new(now: Time) -> Self {
        Self { since: now, on_lane: false, wait_ms: 0, run_ms: 0 }
    }

    /// Moves the hand: from here on, time counts as waiting or as running.
    pub(crate) fn turn(&mut self, on_lane: bool, now: Time) {
        (self.wait_ms, self.run_ms) = self.read(now);
        (self.since, self.on_lane) = (now, on_lane);
    }

    /// Stops the hand for good: what it reads from here on is what it reads now.
    pub(crate) fn stop(&mut self, now: Time) {
        self.turn(false, now);
        self.since = Time(u64::MAX);
    }

    /// Milliseconds waited and run so far.
    pub(crate) fn read(&self, now: Time) -> (u64, u64) {
        let passed = now.since(self.since);
        if self.on_lane { (self.wait_ms, self.run_ms + passed) } else { (self.wait_ms + passed, self.run_ms) }
    }
}
