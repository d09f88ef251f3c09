//! Whether a job's memory can be promised to it now.

use crate::catalog::ModelId;
use crate::policy::residency::{Idle, victims};

/// What a job needs of its partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Demand {
    /// Its model's weights; 0 if they are in the partition already or on their way there.
    pub weights_bytes: u64,
    /// What it uses beside them while it runs.
    pub run_bytes: u64,
}

impl Demand {
    /// All of it.
    pub fn bytes(self) -> u64 {
        self.weights_bytes.saturating_add(self.run_bytes)
    }
}

/// A partition as it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// The most it may hold.
    pub cap_bytes: u64,
    /// Neither leased, nor weights, nor about to be.
    pub free_bytes: u64,
    /// Weights that are on their way out.
    pub leaving_bytes: u64,
    /// Weights that stay whatever happens, the job's own model's excepted.
    pub pinned_bytes: u64,
}

impl Room {
    /// The most that a job could ever have, for pinned models never make room.
    pub fn most_bytes(self) -> u64 {
        self.cap_bytes.saturating_sub(self.pinned_bytes)
    }
}

/// May it run?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// Now.
    Admit,
    /// Once these idle models have left.
    Evict(Vec<ModelId>),
    /// When others have ended, or what is leaving has left.
    Defer,
    /// Never: it needs more than the partition can give.
    Reject,
}

/// Decides. `idle` are the models that may be evicted for it.
pub fn admit(demand: Demand, room: Room, idle: Vec<Idle>) -> Admission {
    let needs = demand.bytes();
    if needs > room.most_bytes() {
        Admission::Reject
    } else if needs <= room.free_bytes {
        Admission::Admit
    } else if needs <= room.free_bytes.saturating_add(room.leaving_bytes) {
        // Whatever is needed is on its way out; evicting more would be too much.
        Admission::Defer
    } else {
        let short = needs - room.free_bytes - room.leaving_bytes;
        victims(idle, short).map_or(Admission::Defer, Admission::Evict)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Time;

    #[test]
    fn every_answer_has_its_numbers() {
        let room = Room { cap_bytes: 100, free_bytes: 30, leaving_bytes: 10, pinned_bytes: 20 };
        let idle = || vec![Idle { model: ModelId(7), bytes: 15, used: Time(0), wanted: false }];
        let ask = |weights_bytes, run_bytes| admit(Demand { weights_bytes, run_bytes }, room, idle());
        assert_eq!(ask(20, 10), Admission::Admit);
        assert_eq!(ask(0, 31), Admission::Defer, "what is leaving is enough");
        assert_eq!(ask(30, 10), Admission::Defer);
        assert_eq!(ask(30, 11), Admission::Evict(vec![ModelId(7)]));
        assert_eq!(ask(30, 25), Admission::Evict(vec![ModelId(7)]));
        assert_eq!(ask(30, 26), Admission::Defer, "evicting would not be enough");
        assert_eq!(ask(70, 10), Admission::Defer);
        assert_eq!(ask(70, 11), Admission::Reject);
        assert_eq!(ask(u64::MAX, 1), Admission::Reject);
    }
}
