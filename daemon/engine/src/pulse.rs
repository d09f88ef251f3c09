//! Whether lanes get on: what each does, and when it last moved. Looked at from outside, without a lock.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use gpusched_shared::codec::{Decode, Encode};

use crate::memory::MemoryUse;

/// What a lane does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub enum Phase {
    /// It waits for a stage.
    Idle,
    /// It finds its stage's model.
    Loading,
    /// It computes.
    Running,
    /// It waits at the gate.
    Parked,
}

/// A lane at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Encode, Decode)]
pub struct LaneBeat {
    /// What it does.
    pub phase: Phase,
    /// For how long it has come no further, in milliseconds.
    pub still_ms: u64,
}

/// The engine at one moment, by which others see that it lives.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Beat {
    /// The lanes, in the order given at the start.
    pub lanes: Vec<LaneBeat>,
    /// What each partition holds, likewise.
    pub memory: Vec<MemoryUse>,
}

/// What a lane notes of itself.
#[derive(Debug)]
pub(crate) struct Pulse {
    born: Instant,
    phase: AtomicU8,
    /// When it moved last, in milliseconds since it was born.
    moved_ms: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { born: Instant::now(), phase: AtomicU8::new(Phase::Idle as u8), moved_ms: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// The lane does something else from here on.
    pub(crate) fn enter(&self, phase: Phase) {
        // In this order: whoever sees the new phase must not take it for as old as the one before.
        self.moved();
        self.phase.store(phase as u8, Ordering::Release);
    }

    /// The lane has come further.
    pub(crate) fn moved(&self) {
        self.moved_ms.store(millis(self.born.elapsed()), Ordering::Relaxed);
    }

    /// What it does.
    pub(crate) fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            phase if phase == Phase::Loading as u8 => Phase::Loading,
            phase if phase == Phase::Running as u8 => Phase::Running,
            phase if phase == Phase::Parked as u8 => Phase::Parked,
            _ => Phase::Idle,
        }
    }

    pub(crate) fn beat(&self) -> LaneBeat {
        let phase = self.phase();
        let moved_ms = self.moved_ms.load(Ordering::Relaxed);
        LaneBeat { phase, still_ms: millis(self.born.elapsed()).saturating_sub(moved_ms) }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_seen_as_it_was_entered() {
        let pulse = Pulse::default();
        assert_eq!(pulse.phase(), Phase::Idle);
        for phase in [Phase::Loading, Phase::Running, Phase::Parked, Phase::Idle] {
            pulse.enter(phase);
            assert_eq!(pulse.beat().phase, phase);
        }
    }

    #[test]
    fn moving_ends_stillness() {
        let born = Instant::now().checked_sub(Duration::from_secs(100)).expect("the machine runs for longer");
        let pulse = Pulse { born, ..Pulse::default() };
        assert!(pulse.beat().still_ms >= 100_000);
        pulse.moved();
        assert!(pulse.beat().still_ms < 100_000);
    }
}
