//! Which of the waiting jobs of a class a free lane takes: the first in order that can run, with two exceptions, both
//! bounded. One that lacks memory is skipped for one that does not; and one whose model must be swapped in lets jobs of
//! models in memory past, so that models are swapped for batches of jobs and not for each job in turn.

use crate::policy::admission::Admission;
use crate::policy::ordering::may_overtake;

/// A waiting job that a free lane might take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What its uid has been charged.
    pub charged_us: u64,
    /// Whether it has let as many later jobs past as it may.
    pub overdue: bool,
    /// How long it has been let wait for a batch of other models' jobs; 0 if it has not been passed yet.
    pub passed_ms: u64,
    /// Whether its model must be loaded.
    pub swaps_in: bool,
    /// Whether its memory can be had.
    pub admission: Admission,
}

/// The bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// By how much a uid may run ahead of one that waits for memory.
    pub aging_us: u64,
    /// How long a job waits for a batch of other models' jobs.
    pub batch_wait_ms: u64,
}

/// What to do; the number is the candidate's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Start it.
    Launch(usize),
    /// Evict what it needs evicted.
    MakeRoom(usize),
    /// End it: it can never run.
    Fail(usize),
    /// Nothing can be done before something changes.
    Wait,
}

/// Chooses among `candidates`, which come in the order of [`ordering`](crate::policy::ordering): accounts charged least
/// first. They are looked at only as far as need be.
pub fn choose(candidates: impl Iterator<Item = Candidate>, bounds: Bounds) -> Choice {
    // What the first job that lacks memory was charged: nobody far ahead of it may go before it.
    let mut waiting_us = None;
    let mut lacks_room = None;
    for (place, candidate) in candidates.enumerate() {
        if waiting_us.is_some_and(|waiting| !may_overtake(candidate.charged_us, waiting, bounds.aging_us)) {
            break;
        }
        let waited_for_batch = candidate.passed_ms >= bounds.batch_wait_ms;
        match candidate.admission {
            Admission::Admit => return Choice::Launch(place),
            Admission::Reject => return Choice::Fail(place),
            Admission::Evict(_) if candidate.overdue || waited_for_batch => return Choice::MakeRoom(place),
            Admission::Evict(_) => lacks_room = lacks_room.or(Some(place)),
            // Models in use stay so for as long as others go on starting their jobs.
            Admission::Defer if candidate.swaps_in && waited_for_batch => break,
            Admission::Defer => {}
        }
        waiting_us = waiting_us.or(Some(candidate.charged_us));
    }
    lacks_room.map_or(Choice::Wait, Choice::MakeRoom)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::ModelId;

    const BOUNDS: Bounds = Bounds { aging_us: 100, batch_wait_ms: 10 };

    fn candidate(charged_us: u64, admission: Admission) -> Candidate {
        Candidate { charged_us, overdue: false, passed_ms: 0, swaps_in: true, admission }
    }

    fn evict() -> Admission {
        Admission::Evict(vec![ModelId(0)])
    }

    fn choose(candidates: &[Candidate]) -> Choice {
        super::choose(candidates.iter().cloned(), BOUNDS)
    }

    #[test]
    fn blocked_heads_are_skipped_within_the_bound() {
        let near = [candidate(5, Admission::Defer), candidate(105, Admission::Admit)];
        assert_eq!(choose(&near), Choice::Launch(1));
        let far = [candidate(5, Admission::Defer), candidate(106, Admission::Admit)];
        assert_eq!(choose(&far), Choice::Wait);
        // The bound counts from the first that waits, not from the last.
        let chain = [candidate(5, Admission::Defer), candidate(60, Admission::Defer), candidate(110, Admission::Admit)];
        assert_eq!(choose(&chain), Choice::Wait);
    }

    #[test]
    fn models_in_memory_go_first_for_a_while() {
        let fresh = candidate(0, evict());
        assert_eq!(choose(&[fresh.clone(), candidate(0, Admission::Admit)]), Choice::Launch(1));
        assert_eq!(choose(std::slice::from_ref(&fresh)), Choice::MakeRoom(0), "nobody to batch with");
        let patient = Candidate { passed_ms: 9, ..fresh.clone() };
        assert_eq!(choose(&[patient, candidate(0, Admission::Admit)]), Choice::Launch(1));
        let waited = Candidate { passed_ms: 10, ..fresh.clone() };
        assert_eq!(choose(&[waited, candidate(0, Admission::Admit)]), Choice::MakeRoom(0));
        let overdue = Candidate { overdue: true, ..fresh.clone() };
        assert_eq!(choose(&[overdue, candidate(0, Admission::Admit)]), Choice::MakeRoom(0));
        // Other models are in use: no more of their jobs, so that they come to be idle.
        let in_use = Candidate { passed_ms: 10, ..candidate(0, Admission::Defer) };
        assert_eq!(choose(&[in_use.clone(), candidate(0, Admission::Admit)]), Choice::Wait);
        let patient = Candidate { passed_ms: 9, ..in_use.clone() };
        assert_eq!(choose(&[patient, candidate(0, Admission::Admit)]), Choice::Launch(1));
        let there = Candidate { swaps_in: false, ..in_use };
        assert_eq!(choose(&[there, candidate(0, Admission::Admit)]), Choice::Launch(1), "it lacks other memory");
        // Room is made for the first that lacks it.
        assert_eq!(choose(&[candidate(0, Admission::Defer), fresh.clone(), fresh]), Choice::MakeRoom(1));
    }

    #[test]
    fn the_impossible_is_ended() {
        assert_eq!(choose(&[candidate(0, Admission::Defer), candidate(0, Admission::Reject)]), Choice::Fail(1));
        assert_eq!(choose(&[]), Choice::Wait);
    }
}
