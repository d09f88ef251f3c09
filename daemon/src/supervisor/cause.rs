//! Why an engine died, and who is to blame: that decides which jobs are under suspicion.

use std::time::Duration;

use gpusched_core::{Blame, LaneId};
use gpusched_engine::Phase;
use gpusched_engine::device::LOST_EXIT;
use nix::sys::signal::Signal;

/// Why it was killed by us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Killed {
    /// It gave no sign of life; `stopped` if somebody had stopped its process.
    Silent { for_: Duration, stopped: bool },
    /// A lane was stuck.
    Stuck { lane: usize, name: String, phase: Phase, still: Duration },
}

/// How its process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Code(i32),
    Signal(i32),
}

/// All that is known of a death.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) ended: Ended,
    pub(super) ours: Option<Killed>,
    /// Whether the kernel has killed something to free memory since shortly before.
    pub(super) out_of_memory: bool,
    /// What was wrong with what it said, if something was.
    pub(super) nonsense: Option<String>,
}

impl Death {
    /// Who is to blame.
    pub(super) fn blame(&self) -> Blame {
        match (&self.ours, self.ended) {
            (Some(Killed::Silent { stopped: true, .. }), _) => Blame::Nobody,
            (Some(Killed::Silent { stopped: false, .. }), _) => Blame::Everyone,
            (Some(Killed::Stuck { lane, .. }), _) => Blame::Lane(LaneId(*lane)),
            (None, Ended::Signal(signal)) if signal == Signal::SIGKILL as i32 && !self.out_of_memory => Blame::Nobody,
            (None, Ended::Signal(_) | Ended::Code(_)) => Blame::Everyone,
        }
    }

    /// What happened, for a person.
    pub(super) fn why(&self) -> String {
        if let Some(killed) = &self.ours {
            return match killed {
                Killed::Silent { for_, stopped: false } => {
                    format!("no sign of life for {} ms: killed", for_.as_millis())
                }
                Killed::Silent { for_, stopped: true } => {
                    format!("its process was stopped, no sign of life for {} ms: killed", for_.as_millis())
                }
                Killed::Stuck { name, phase, still, .. } => {
                    let (did, seconds) = (doing(*phase), still.as_secs());
                    format!("lane {name} {did} for {seconds} s without coming further: killed")
                }
            };
        }
        let how = match self.ended {
            Ended::Code(LOST_EXIT) => "its device failed, and only a new process can use it again".to_owned(),
            Ended::Code(code) => format!("its process ended with code {code}"),
            Ended::Signal(signal) if signal == Signal::SIGKILL as i32 && self.out_of_memory => {
                "the kernel killed it, for the machine was out of memory".to_owned()
            }
            Ended::Signal(signal) if signal == Signal::SIGKILL as i32 => "somebody else killed it (SIGKILL)".to_owned(),
            Ended::Signal(signal) => match Signal::try_from(signal) {
                Ok(signal) => format!("it crashed ({signal})"),
                Err(_) => format!("it crashed (signal {signal})"),
            },
        };
        match &self.nonsense {
            Some(nonsense) => format!("{how}; before that, {nonsense}"),
            None => how,
        }
    }
}

fn doing(phase: Phase) -> &'static str {
    match phase {
        Phase::Idle => "was idle",
        Phase::Loading => "loaded a model",
        Phase::Running => "computed",
        Phase::Parked => "was parked",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KILL: Ended = Ended::Signal(Signal::SIGKILL as i32);

    fn death(ended: Ended) -> Death {
        Death { ended, ours: None, out_of_memory: false, nonsense: None }
    }

    fn killed(ours: Killed) -> Death {
        Death { ours: Some(ours), ..death(KILL) }
    }

    #[test]
    fn crashes_and_exits_are_blamed_on_whatever_ran() {
        for (ended, why) in [
            (Ended::Signal(Signal::SIGSEGV as i32), "it crashed (SIGSEGV)"),
            (Ended::Signal(Signal::SIGABRT as i32), "it crashed (SIGABRT)"),
            (Ended::Signal(63), "it crashed (signal 63)"),
            (Ended::Code(101), "its process ended with code 101"),
            (Ended::Code(70), "its device failed, and only a new process can use it again"),
            (Ended::Code(0), "its process ended with code 0"),
        ] {
            assert_eq!((death(ended).blame(), death(ended).why().as_str()), (Blame::Everyone, why));
        }
    }

    #[test]
    fn a_kill_from_outside_is_nobodys_fault_unless_it_was_for_memory() {
        assert_eq!(death(KILL).blame(), Blame::Nobody);
        assert_eq!(death(KILL).why(), "somebody else killed it (SIGKILL)");
        let kernel = Death { out_of_memory: true, ..death(KILL) };
        assert_eq!(kernel.blame(), Blame::Everyone);
        assert_eq!(kernel.why(), "the kernel killed it, for the machine was out of memory");
        // What else was killed for memory has nothing to do with a crash.
        let crash = Death { out_of_memory: true, ..death(Ended::Signal(Signal::SIGSEGV as i32)) };
        assert_eq!(crash.why(), "it crashed (SIGSEGV)");
    }

    #[test]
    fn who_is_killed_for_a_lane_is_that_lanes_fault() {
        let stuck = Killed::Stuck {
            lane: 2,
            name: "light-1".to_owned(),
            phase: Phase::Running,
            still: Duration::from_secs(60),
        };
        assert_eq!(killed(stuck.clone()).blame(), Blame::Lane(LaneId(2)));
        assert_eq!(killed(stuck).why(), "lane light-1 computed for 60 s without coming further: killed");
    }

    #[test]
    fn who_is_silent_is_everyones_fault_unless_he_was_stopped() {
        let silent = |stopped| killed(Killed::Silent { for_: Duration::from_millis(5000), stopped });
        assert_eq!(silent(false).blame(), Blame::Everyone);
        assert_eq!(silent(true).blame(), Blame::Nobody);
        assert_eq!(silent(true).why(), "its process was stopped, no sign of life for 5000 ms: killed");
    }

    #[test]
    fn nonsense_is_told() {
        let nonsense = Some("the link carries nonsense".to_owned());
        let death = Death { nonsense, ..death(Ended::Code(0)) };
        assert_eq!(death.why(), "its process ended with code 0; before that, the link carries nonsense");
    }
}
