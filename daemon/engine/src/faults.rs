//! Faults on purpose, to see whether everything else can live with them. What befalls an attempt is drawn from a seed, the
//! job and the attempt, so that a run that failed can be looked at again.

use gpusched_shared::JobId;
use gpusched_shared::codec::{Decode, Encode};
use gpusched_shared::mix::mix;

/// What share of attempts is to fail, and of what. Nothing does by default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
pub struct Faults {
    /// Another one draws other attempts.
    pub seed: u64,
    /// Of 100 attempts, how many are told that they are out of memory.
    pub oom_percent: u8,
    /// Of 100 attempts, how many have their lease and their partition's cap lowered to what is in use, so that they do run
    /// out of memory.
    pub squeeze_percent: u8,
    /// Of 100 attempts, how many end the process.
    pub crash_percent: u8,
    /// A stage whose text contains this ends the process.
    pub crash_on: Option<String>,
    /// A stage whose text contains this hangs.
    pub hang_on: Option<String>,
    /// A picture so many pixels wide ends the process when it is looked at.
    pub crash_on_width: Option<u32>,
}

/// A fault that waits for its yield point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) kind: Kind,
    /// The yield points, of those at which the stage computes, that it lets pass. A stage with fewer meets it at its end.
    pub(crate) after: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    OutOfMemory,
    Squeeze,
    Crash,
    Hang,
}

/// Yield points among which the one is drawn: about as many as the shortest stages have.
const SPREAD: u64 = 12;

impl Faults {
    /// What befalls an attempt at a job whose prompt or question is `text`.
    pub(crate) fn draw(&self, JobId(job): JobId, attempt: u32, text: &str) -> Option<Fault> {
        let mixed = mix(mix(mix(self.seed) ^ job) ^ u64::from(attempt));
        let named = |word: &Option<String>| word.as_ref().is_some_and(|word| text.contains(word.as_str()));
        let kind = if named(&self.crash_on) {
            Kind::Crash
        } else if named(&self.hang_on) {
            Kind::Hang
        } else {
            // The shares lie one after the other on a line of 100.
            let shares = [
                (Kind::OutOfMemory, self.oom_percent),
                (Kind::Squeeze, self.squeeze_percent),
                (Kind::Crash, self.crash_percent),
            ];
            let mut left = mixed % 100;
            shares.into_iter().find_map(|(kind, share)| {
                let hit = left < u64::from(share);
                left = left.saturating_sub(u64::from(share));
                hit.then_some(kind)
            })?
        };
        // Within the range of u32, because SPREAD is.
        Some(Fault { kind, after: u32::try_from(mix(mixed) % SPREAD).unwrap_or(0) })
    }
}

/// Ends the process as a wild pointer would.
pub(crate) fn crash() -> ! {
    use nix::sys::signal::{Signal, raise};
    // At the first, the handler that the standard library has for stacks that overflow takes itself away.
    for _ in 0..2 {
        let _ = raise(Signal::SIGSEGV);
    }
    std::process::abort();
}

/// Computes for ever without coming to a yield point.
pub(crate) fn hang() -> ! {
    loop {
        std::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults() -> Faults {
        Faults { seed: 7, oom_percent: 10, squeeze_percent: 20, crash_percent: 5, ..Faults::default() }
    }

    #[test]
    fn shares_are_kept_and_places_spread() {
        let faults = faults();
        let drawn: Vec<_> = (0..5000)
            .flat_map(|job| (1..=4).map(move |n| (job, n)))
            .map(|(j, n)| faults.draw(JobId(j), n, "x"))
            .collect();
        for (kind, percent) in [(Kind::OutOfMemory, 10), (Kind::Squeeze, 20), (Kind::Crash, 5), (Kind::Hang, 0)] {
            let count = drawn.iter().flatten().filter(|fault| fault.kind == kind).count();
            let expected = drawn.len() * percent / 100;
            // Five standard deviations of 20000 draws are less than 300.
            assert!(count.abs_diff(expected) < 300, "{kind:?}: {count}, not {expected}");
        }
        for after in 0..SPREAD {
            let there = drawn.iter().flatten().filter(|fault| u64::from(fault.after) == after).count();
            assert!(there > 400, "{there} of 7000 at {after}");
        }
    }

    #[test]
    fn an_attempt_meets_the_same_fault_again_and_the_next_attempt_another() {
        let faults = faults();
        let of = |attempt| (0..200).map(|job| faults.draw(JobId(job), attempt, "x")).collect::<Vec<_>>();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        let other = Faults { seed: 8, ..faults.clone() };
        assert_ne!(of(1), (0..200).map(|job| other.draw(JobId(job), 1, "x")).collect::<Vec<_>>());
    }

    #[test]
    fn words_befall_whoever_says_them() {
        let (crash_on, hang_on) = (Some("poison".to_owned()), Some("tar".to_owned()));
        let faults = Faults { crash_on, hang_on, ..Faults::default() };
        for attempt in 1..10 {
            let kind = |text| faults.draw(JobId(1), attempt, text).map(|fault| fault.kind);
            assert_eq!(kind("a poisoned apple"), Some(Kind::Crash));
            assert_eq!(kind("a pit of tar"), Some(Kind::Hang));
            assert_eq!(kind("a red circle"), None);
        }
    }

    #[test]
    fn all_of_a_hundred_and_none() {
        let all = Faults { squeeze_percent: 100, ..Faults::default() };
        assert!((0..1000).all(|job| all.draw(JobId(job), 1, "").is_some_and(|fault| fault.kind == Kind::Squeeze)));
        assert!((0..1000).all(|job| Faults::default().draw(JobId(job), 1, "").is_none()));
    }
}
