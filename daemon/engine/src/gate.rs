//! The gate of a class: while it is closed, stages of the class park at their next yield point.
//!
//! ```text
//!            begin              close               park
//!  Loading ─────────▶ Computing ──────▶ Due ──────────────▶ Parked
//!   │   ▲               │ ▲  ▲           │                  │ │ │
//!   │   │               │ │  └── missed ─┘                  │ │ │
//!   │   │               └─┼─────────────── park ───────────▶┘ │ │
//!   │   │                 └─────────── open, stop ────────────┘ │
//!   │   └──────────────────────────────────────── open, stop ───┘
//!   └──────────────────────────────────────────── park ────────▶
//! ```

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gpusched_shared::JobId;

/// Where a stage stands to the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// It finds its model.
    Loading,
    /// It works and owes nothing.
    Computing,
    /// It worked as the gate was closed: how long it takes to park is a sample of preemption.
    Due,
    /// It waits.
    Parked,
}

#[derive(Debug, Default)]
struct State {
    closed_at: Option<Instant>,
    stages: HashMap<JobId, Phase>,
}

/// A gate; open at first.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    /// As `closed_at` in the state, to be looked at without its lock.
    closed: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

impl Gate {
    /// A stage of the class has begun to look for its model.
    pub(crate) fn enter(&self, job: JobId) {
        self.lock().stages.insert(job, Phase::Loading);
    }

    /// The stage has its model and computes from here on.
    pub(crate) fn begin(&self, job: JobId) {
        self.lock().stages.insert(job, Phase::Computing);
    }

    /// The stage is over.
    pub(crate) fn leave(&self, job: JobId) {
        if self.lock().stages.remove(&job) == Some(Phase::Due) {
            self.changed.notify_all();
        }
    }

    /// Waits until no stage that worked as the gate was closed works on, but no longer than `patience`.
    pub(crate) fn settle(&self, patience: Duration) {
        if self.closed.load(Ordering::Relaxed) {
            let due = |state: &mut State| state.stages.values().any(|phase| *phase == Phase::Due);
            // However it ends, the caller goes on.
            let _ = self.changed.wait_timeout_while(self.lock(), patience, due);
        }
    }

    /// Closes the gate, if it is open.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        if state.closed_at.is_none() {
            state.closed_at = Some(Instant::now());
            for phase in state.stages.values_mut().filter(|phase| **phase == Phase::Computing) {
                *phase = Phase::Due;
            }
            self.closed.store(true, Ordering::Relaxed);
        }
    }

    /// Opens the gate and returns how many stages it was closed for in vain: they came to no yield point meanwhile.
    pub(crate) fn open(&self) -> usize {
        let mut state = self.lock();
        state.closed_at = None;
        self.closed.store(false, Ordering::Relaxed);
        let due = state.stages.values_mut().filter(|phase| **phase == Phase::Due);
        let missed = due.map(|phase| *phase = Phase::Computing).count();
        self.changed.notify_all();
        missed
    }

    /// Whether a stage that came to it now would park.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    /// Makes parked stages look whether they were told to stop.
    pub(crate) fn wake(&self) {
        // With the lock, so that none is between its look and its sleep.
        let _state = self.lock();
        self.changed.notify_all();
    }

    /// Waits while the gate is closed and `stop` is not set. `parked` is called before the wait, if there is one, with
    /// the time from the gate's closing if it is a sample of preemption. Returns how long the wait was.
    ///
    /// A gate that opens and closes again before the stage has woken up finds it still parked, as if it had not opened.
    pub(crate) fn pass(
        &self,
        job: JobId,
        stop: &AtomicBool,
        parked: impl FnOnce(Option<Duration>),
    ) -> Option<Duration> {
        if !self.is_closed() {
            return None;
        }
        let mut state = self.lock();
        let closed_at = state.closed_at?;
        let now = Instant::now();
        let before = state.stages.insert(job, Phase::Parked);
        self.changed.notify_all();
        drop(state);
        parked((before == Some(Phase::Due)).then(|| now - closed_at));
        state = self.lock();
        let waits = |state: &mut State| state.closed_at.is_some() && !stop.load(Ordering::Relaxed);
        state = self.changed.wait_while(state, waits).unwrap_or_else(PoisonError::into_inner);
        let loading = before == Some(Phase::Loading);
        state.stages.insert(job, if loading { Phase::Loading } else { Phase::Computing });
        Some(now.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::mpsc::channel;

    use super::*;

    /// Longer than any test takes.
    const FOR_EVER: Duration = Duration::from_secs(3600);

    #[test]
    fn who_is_made_way_for_waits_until_it_is() {
        let gate = Arc::new(Gate::default());
        let job = JobId(1);
        gate.enter(job);
        gate.begin(job);
        // Open, there is nothing to wait for.
        gate.settle(FOR_EVER);
        gate.close();
        // Not for longer than its patience.
        gate.settle(Duration::ZERO);
        let (settled, told) = channel();
        let waiting = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || {
                gate.settle(FOR_EVER);
                settled.send(()).expect("somebody listens");
            }
        });
        let working = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.pass(job, &AtomicBool::new(false), |after| assert!(after.is_some(), "a sample"))
        });
        told.recv().expect("it has settled");
        gate.open();
        assert!(working.join().expect("well").is_some(), "it was parked");
        waiting.join().expect("well");
    }

    #[test]
    fn a_stage_that_ends_makes_way_too() {
        let gate = Arc::new(Gate::default());
        let job = JobId(1);
        gate.enter(job);
        gate.begin(job);
        gate.close();
        let waiting = std::thread::spawn({
            let gate = Arc::clone(&gate);
            move || gate.settle(FOR_EVER)
        });
        gate.leave(job);
        waiting.join().expect("well");
        assert_eq!(gate.open(), 0, "nothing was missed");
    }
}
