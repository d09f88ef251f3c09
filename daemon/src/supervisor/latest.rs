//! The latest sign of life of an engine, and since when there might have been another.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gpusched_engine::{Beat, LaneBeat, MemoryUse};

/// See the [module's documentation](self).
#[derive(Debug, Default)]
pub(super) struct Latest {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    beat: Beat,
    /// When it came, or when somebody was last unable to hear another. `None` before the first engine.
    since: Option<Instant>,
    /// True while what the engine said is handed on, and nothing is read meanwhile.
    handing_on: bool,
}

impl Latest {
    /// Another engine begins; or whoever watches was held up, and signs of life may be as late.
    pub(super) fn excuse(&self) {
        self.lock().since = Some(Instant::now());
    }

    /// There is no engine.
    pub(super) fn clear(&self) {
        *self.lock() = State::default();
    }

    /// A sign of life.
    pub(super) fn beat(&self, beat: Beat) {
        let mut state = self.lock();
        state.beat = beat;
        state.since = Some(Instant::now());
    }

    /// Runs `work`, while which no sign of life can be heard.
    pub(super) fn handing_on(&self, work: impl FnOnce()) {
        self.lock().handing_on = true;
        work();
        let mut state = self.lock();
        state.handing_on = false;
        state.since = Some(Instant::now());
    }

    /// For how long there might have been a sign of life and was none, and what the lanes did at the last.
    pub(super) fn look(&self) -> (Duration, Vec<LaneBeat>) {
        let state = self.lock();
        let silent = state.since.filter(|_| !state.handing_on).map_or(Duration::ZERO, |since| since.elapsed());
        (silent, state.beat.lanes.clone())
    }

    /// What the partitions held at the last.
    pub(super) fn memory(&self) -> Vec<MemoryUse> {
        self.lock().beat.memory.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use gpusched_engine::Phase;

    use super::*;

    #[test]
    fn silence_is_counted_only_while_something_could_be_heard() {
        let latest = Latest::default();
        assert_eq!(latest.look().0, Duration::ZERO);
        let long_ago = Instant::now().checked_sub(Duration::from_secs(50)).expect("the machine runs for longer");
        latest.lock().since = Some(long_ago);
        assert!(latest.look().0 >= Duration::from_secs(50));
        latest.handing_on(|| assert_eq!(latest.look().0, Duration::ZERO));
        assert!(latest.look().0 < Duration::from_secs(50));
        latest.lock().since = Some(long_ago);
        latest.excuse();
        assert!(latest.look().0 < Duration::from_secs(50));
        latest.lock().since = Some(long_ago);
        let lanes = vec![LaneBeat { phase: Phase::Running, still_ms: 3 }];
        let memory = vec![MemoryUse { live_bytes: 1, peak_bytes: 2, weights_bytes: 3 }];
        latest.beat(Beat { lanes: lanes.clone(), memory: memory.clone() });
        let (silent, seen) = latest.look();
        assert!(silent < Duration::from_secs(50) && seen == lanes);
        assert_eq!(latest.memory(), memory);
        latest.clear();
        assert_eq!(latest.memory(), []);
    }
}
