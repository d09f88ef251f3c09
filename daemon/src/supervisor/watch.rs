//! When an engine is stuck. Every lane may be still for as long as what it does allows; all of it must give signs of life.

use std::time::Duration;

use gpusched_engine::{LaneBeat, Phase};

use crate::config::EngineConfig;

/// How late the watcher may wake up before it takes itself, and so perhaps the whole machine, to have stood still.
const LATE: Duration = Duration::from_secs(1);

/// How long what may be still.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    silence: Duration,
    running: Duration,
    loading: Duration,
    parked: Duration,
}

/// What is to be thought of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is well as far as can be known before so long.
    Well(Duration),
    /// It has given no sign of life for too long.
    Silent,
    /// A lane has been still for too long.
    Stuck {
        /// Its number.
        lane: usize,
        /// What it does.
        phase: Phase,
        /// For how long.
        still: Duration,
    },
}

impl Limits {
    pub(super) fn new(config: &EngineConfig) -> Self {
        Self {
            silence: Duration::from_millis(config.heartbeat_timeout_ms),
            running: Duration::from_secs(config.running_timeout_s),
            loading: Duration::from_secs(config.loading_timeout_s),
            parked: Duration::from_secs(config.parked_timeout_s),
        }
    }

    /// How long a lane may be still that does this; `None` for ever.
    fn of(&self, phase: Phase) -> Option<Duration> {
        match phase {
            Phase::Idle => None,
            Phase::Loading => Some(self.loading),
            Phase::Running => Some(self.running),
            Phase::Parked => Some(self.parked),
        }
    }

    /// What to think of an engine whose lanes were like this `since` ago, when it gave its last sign of life.
    pub(super) fn judge(&self, since: Duration, lanes: &[LaneBeat]) -> Verdict {
        if since >= self.silence {
            return Verdict::Silent;
        }
        // A lane that goes over to something else right after this look cannot be stuck at it any sooner.
        let mut again = [self.running, self.loading, self.parked].into_iter().fold(self.silence - since, Duration::min);
        for (lane, LaneBeat { phase, still_ms }) in lanes.iter().enumerate() {
            let Some(limit) = self.of(*phase) else { continue };
            // It has got no further since, as far as is known.
            let still = Duration::from_millis(*still_ms).saturating_add(since);
            match limit.checked_sub(still) {
                None | Some(Duration::ZERO) => return Verdict::Stuck { lane, phase: *phase, still },
                Some(left) => again = again.min(left),
            }
        }
        Verdict::Well(again)
    }
}

/// True if a watcher that meant to sleep for so long was itself held up: the daemon was stopped or the machine slept, and
/// the engine's signs of life may be as late.
pub(super) fn overslept(meant: Duration, slept: Duration) -> bool {
    slept > meant + LATE
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn limits() -> Limits {
        Limits { silence: ms(5000), running: ms(60_000), loading: ms(300_000), parked: ms(3_700_000) }
    }

    fn lane(phase: Phase, still_ms: u64) -> LaneBeat {
        LaneBeat { phase, still_ms }
    }

    #[test]
    fn silence_is_noticed_to_the_moment() {
        assert_eq!(limits().judge(ms(0), &[]), Verdict::Well(ms(5000)));
        assert_eq!(limits().judge(ms(4999), &[]), Verdict::Well(ms(1)));
        assert_eq!(limits().judge(ms(5000), &[]), Verdict::Silent);
        // Whatever the lanes are like: it says no more of them.
        assert_eq!(limits().judge(ms(5000), &[lane(Phase::Running, 60_000)]), Verdict::Silent);
    }

    #[test]
    fn each_phase_has_its_limit() {
        for (phase, limit) in [(Phase::Running, 60_000), (Phase::Loading, 300_000), (Phase::Parked, 3_700_000)] {
            let judged = |still_ms| limits().judge(ms(100), &[lane(Phase::Idle, u64::MAX), lane(phase, still_ms)]);
            assert_eq!(judged(limit - 101), Verdict::Well(ms(1)), "{phase:?}");
            assert_eq!(judged(limit - 100), Verdict::Stuck { lane: 1, phase, still: ms(limit) }, "{phase:?}");
        }
    }

    #[test]
    fn the_next_look_is_when_the_first_limit_is_reached() {
        let lanes = [lane(Phase::Running, 58_000), lane(Phase::Running, 57_000), lane(Phase::Loading, 0)];
        assert_eq!(limits().judge(ms(0), &lanes), Verdict::Well(ms(2000)));
        assert_eq!(limits().judge(ms(1000), &lanes), Verdict::Well(ms(1000)));
    }

    #[test]
    fn a_lane_that_begins_after_a_look_is_not_overlooked() {
        let short = Limits { running: ms(2000), ..limits() };
        assert_eq!(short.judge(ms(0), &[lane(Phase::Idle, 9)]), Verdict::Well(ms(2000)));
        assert_eq!(short.judge(ms(4000), &[lane(Phase::Idle, 9)]), Verdict::Well(ms(1000)));
    }

    #[test]
    fn idle_lanes_may_rest() {
        assert_eq!(limits().judge(ms(0), &[lane(Phase::Idle, u64::MAX)]), Verdict::Well(ms(5000)));
    }

    #[test]
    fn numbers_that_make_no_sense_are_no_panic() {
        let verdict = limits().judge(ms(1), &[lane(Phase::Parked, u64::MAX)]);
        assert!(matches!(verdict, Verdict::Stuck { lane: 0, .. }));
    }

    #[test]
    fn who_was_held_up_himself_blames_nobody() {
        assert!(!overslept(ms(5000), ms(5900)));
        assert!(overslept(ms(5000), ms(6001)));
    }
}
