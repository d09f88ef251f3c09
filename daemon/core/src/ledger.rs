//! The memory of every partition: who was promised what, and which models are in it.

use std::collections::BTreeMap;

use gpusched_shared::PartitionView;

use crate::catalog::ModelId;
use crate::class::Class;
use crate::policy::admission::{Demand, Room};
use crate::policy::residency::Idle;
use crate::time::Time;

/// An exclusive claim on bytes of a partition, for one job on a lane. It is moved, never copied, and only the ledger takes
/// it back.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a lease that is dropped is never given back"]
pub(crate) struct Lease {
    partition: usize,
    model: ModelId,
    bytes: u64,
}

impl Lease {
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// Where a model is on its way through memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stay {
    /// A job has been launched that loads it.
    Loading,
    /// In memory.
    Resident,
    /// The engine has been told to drop it.
    Leaving,
}

/// A model in a partition.
#[derive(Debug)]
struct Resident {
    bytes: u64,
    stay: Stay,
    /// Jobs on lanes that use it.
    users: u32,
    used: Time,
    pinned: bool,
    /// Whether a timer watches over its keep-alive.
    watched: bool,
}

#[derive(Debug)]
struct Partition {
    cap_bytes: u64,
    leased_bytes: u64,
    models: BTreeMap<ModelId, Resident>,
}

/// One partition for each class, in the order of the plan.
#[derive(Debug)]
pub(crate) struct Ledger(Vec<Partition>);

impl Ledger {
    pub(crate) fn of(classes: &[Class]) -> Self {
        let partition =
            |class: &Class| Partition { cap_bytes: class.cap_bytes, leased_bytes: 0, models: BTreeMap::new() };
        Self(classes.iter().map(partition).collect())
    }

    /// A partition as a job of `model` finds it.
    pub(crate) fn room(&self, partition: usize, model: ModelId) -> Room {
        let Some(Partition { cap_bytes, leased_bytes, models }) = self.0.get(partition) else {
            return Room { cap_bytes: 0, free_bytes: 0, leaving_bytes: 0, pinned_bytes: 0 };
        };
        let sum = |which: &dyn Fn(&ModelId, &Resident) -> bool| -> u64 {
            models.iter().filter(|(id, resident)| which(id, resident)).map(|(_, resident)| resident.bytes).sum()
        };
        let weights = sum(&|_, _| true);
        Room {
            cap_bytes: *cap_bytes,
            free_bytes: cap_bytes.saturating_sub(leased_bytes.saturating_add(weights)),
            leaving_bytes: sum(&|_, resident| resident.stay == Stay::Leaving),
            pinned_bytes: sum(&|id, resident| resident.pinned && *id != model),
        }
    }

    /// Where a model is in a partition; `None` if it is not there.
    pub(crate) fn stay(&self, partition: usize, model: ModelId) -> Option<Stay> {
        self.0.get(partition)?.models.get(&model).map(|resident| resident.stay)
    }

    /// The models of a partition that may be evicted; which of them are wanted it does not know.
    pub(crate) fn idle(&self, partition: usize) -> Vec<Idle> {
        let models = self.0.get(partition).into_iter().flat_map(|partition| &partition.models);
        let idle = models.filter(|(_, r)| r.stay == Stay::Resident && r.users == 0 && !r.pinned);
        idle.map(|(model, r)| Idle { model: *model, bytes: r.bytes, used: r.used, wanted: false }).collect()
    }

    /// Promises a job its memory. Whoever asks has seen to it that there is room.
    pub(crate) fn lease(&mut self, partition: usize, model: ModelId, demand: Demand, pinned: bool, now: Time) -> Lease {
        let bytes = demand.run_bytes;
        if let Some(p) = self.0.get_mut(partition) {
            p.leased_bytes += bytes;
            let resident = p.models.entry(model).or_insert(Resident {
                bytes: demand.weights_bytes,
                stay: Stay::Loading,
                users: 0,
                used: now,
                pinned,
                watched: false,
            });
            debug_assert!(resident.stay != Stay::Leaving, "nobody launches on a model that is leaving");
            resident.users += 1;
        }
        Lease { partition, model, bytes }
    }

    /// Takes a lease back. True if the model is now idle and nobody watches over its keep-alive; whoever hears that does
    /// so from here on.
    pub(crate) fn release(&mut self, lease: Lease, now: Time) -> bool {
        let Lease { partition, model, bytes } = lease;
        let Some(p) = self.0.get_mut(partition) else { return false };
        p.leased_bytes -= bytes;
        let Some(resident) = p.models.get_mut(&model) else { return false };
        resident.users -= 1;
        resident.used = now;
        if resident.users > 0 {
            return false;
        }
        if resident.stay == Stay::Loading {
            // The only jobs that would have loaded it have left before it was there.
            p.models.remove(&model);
            return false;
        }
        !resident.pinned && !std::mem::replace(&mut resident.watched, true)
    }

    /// A model is in memory and takes `bytes`.
    pub(crate) fn loaded(&mut self, partition: usize, model: ModelId, bytes: u64) {
        if let Some(resident) = self.0.get_mut(partition).and_then(|p| p.models.get_mut(&model)) {
            resident.stay = Stay::Resident;
            // An engine that does not count says 0.
            resident.bytes = if bytes > 0 { bytes } else { resident.bytes };
        }
    }

    /// The engine has been told to drop a model.
    pub(crate) fn leaving(&mut self, partition: usize, model: ModelId) {
        if let Some(resident) = self.0.get_mut(partition).and_then(|p| p.models.get_mut(&model)) {
            debug_assert_eq!(resident.users, 0, "a model in use is never evicted");
            resident.stay = Stay::Leaving;
        }
    }

    /// A model has left; the bytes that are free now.
    pub(crate) fn left(&mut self, partition: usize, model: ModelId) -> u64 {
        let left = self.0.get_mut(partition).and_then(|p| p.models.remove(&model));
        left.map_or(0, |resident| resident.bytes)
    }

    /// The keep-alive timer of a model rang: `Ok` if it has been idle for `keep_us` and may go, else when to look again,
    /// or `Err(None)` if there is nothing to watch over any more.
    pub(crate) fn idle_for(
        &mut self,
        partition: usize,
        model: ModelId,
        keep_us: u64,
        now: Time,
    ) -> Result<(), Option<Time>> {
        let resident = self.0.get_mut(partition).and_then(|p| p.models.get_mut(&model)).ok_or(None)?;
        resident.watched = resident.users == 0 && resident.stay == Stay::Resident;
        match resident.used.after(keep_us) {
            _ if !resident.watched => Err(None),
            until if until > now => Err(Some(until)),
            _ => Ok(()),
        }
    }

    /// The engine is gone, and with it all models. Leases come back one by one as their jobs hear of it.
    pub(crate) fn forget_models(&mut self) {
        for partition in &mut self.0 {
            partition.models.clear();
        }
    }

    /// The classes whose partitions hold a model.
    pub(crate) fn holders(&self, model: ModelId) -> impl Iterator<Item = usize> {
        let holds = move |p: &Partition| p.models.get(&model).is_some_and(|resident| resident.stay == Stay::Resident);
        self.0.iter().enumerate().filter(move |(_, p)| holds(p)).map(|(index, _)| index)
    }

    /// A partition for people; what the engine counts is not in it.
    pub(crate) fn view(&self, partition: usize) -> PartitionView {
        let Some(p) = self.0.get(partition) else { return PartitionView::default() };
        let weights_bytes = p.models.values().map(|resident| resident.bytes).sum();
        PartitionView {
            cap_bytes: p.cap_bytes,
            weights_bytes,
            leased_bytes: p.leased_bytes,
            ..PartitionView::default()
        }
    }

    /// Checks a partition against the leases of the jobs on its lanes: the bytes and the model of each.
    pub(crate) fn check(&self, partition: usize, leases: &[&Lease]) {
        let Some(p) = self.0.get(partition) else { return };
        assert_eq!(p.leased_bytes, leases.iter().map(|lease| lease.bytes).sum::<u64>(), "leases add up");
        assert!(p.leased_bytes <= p.cap_bytes, "leases never exceed the cap");
        for (model, resident) in &p.models {
            let users = leases.iter().filter(|lease| lease.model == *model).count();
            assert_eq!(resident.users as usize, users, "{model:?} knows its users");
            assert!(resident.users == 0 || resident.stay != Stay::Leaving, "a model in use stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const M: ModelId = ModelId(0);
    const N: ModelId = ModelId(1);
    const DEMAND: Demand = Demand { weights_bytes: 30, run_bytes: 20 };

    /// One partition of 100 bytes.
    fn ledger() -> Ledger {
        Ledger::of(&[Class { cap_bytes: 100, ..Class::new("c", 1) }])
    }

    fn free(ledger: &Ledger) -> u64 {
        ledger.room(0, M).free_bytes
    }

    /// A model that has been loaded and used until `used`.
    fn use_once(ledger: &mut Ledger, model: ModelId, pinned: bool, used: u64) {
        let lease = ledger.lease(0, model, DEMAND, pinned, Time(0));
        ledger.loaded(0, model, 0);
        ledger.release(lease, Time(used));
    }

    #[test]
    fn what_is_leased_is_not_free() {
        let mut ledger = ledger();
        assert_eq!(free(&ledger), 100);
        let first = ledger.lease(0, M, DEMAND, false, Time(0));
        assert_eq!((first.bytes(), free(&ledger)), (20, 50));
        assert_eq!(ledger.stay(0, M), Some(Stay::Loading));
        let second = ledger.lease(0, M, Demand { weights_bytes: 0, ..DEMAND }, false, Time(0));
        assert_eq!(free(&ledger), 30, "weights are there once");
        ledger.check(0, &[&first, &second]);
        // Measured, they are more than was declared.
        ledger.loaded(0, M, 35);
        assert_eq!((ledger.stay(0, M), free(&ledger)), (Some(Stay::Resident), 25));
        let view = ledger.view(0);
        assert_eq!((view.cap_bytes, view.weights_bytes, view.leased_bytes), (100, 35, 40));
        assert!(!ledger.release(first, Time(1)));
        assert!(ledger.idle(0).is_empty(), "it is in use");
        assert!(ledger.release(second, Time(2)), "now it is idle");
        assert_eq!(ledger.idle(0), [Idle { model: M, bytes: 35, used: Time(2), wanted: false }]);
        assert_eq!(free(&ledger), 65);
        ledger.check(0, &[]);
    }

    #[test]
    fn an_engine_that_does_not_count_leaves_the_declared_bytes() {
        let mut ledger = ledger();
        use_once(&mut ledger, M, false, 1);
        assert_eq!(ledger.view(0).weights_bytes, 30);
    }

    #[test]
    fn a_model_that_never_came_is_not_there() {
        let mut ledger = ledger();
        let lease = ledger.lease(0, M, DEMAND, false, Time(0));
        assert!(!ledger.release(lease, Time(1)), "nothing to keep alive");
        assert_eq!((ledger.stay(0, M), free(&ledger)), (None, 100));
    }

    #[test]
    fn what_is_leaving_still_takes_its_room() {
        let mut ledger = ledger();
        use_once(&mut ledger, M, false, 1);
        ledger.leaving(0, M);
        let room = ledger.room(0, N);
        assert_eq!((room.free_bytes, room.leaving_bytes), (70, 30));
        assert_eq!(ledger.stay(0, M), Some(Stay::Leaving));
        assert!(ledger.idle(0).is_empty() && ledger.holders(M).next().is_none());
        ledger.left(0, M);
        assert_eq!((ledger.stay(0, M), free(&ledger)), (None, 100));
    }

    #[test]
    fn pinned_models_stay() {
        let mut ledger = ledger();
        let lease = ledger.lease(0, M, DEMAND, true, Time(0));
        ledger.loaded(0, M, 0);
        assert!(!ledger.release(lease, Time(1)), "no keep-alive for it");
        assert!(ledger.idle(0).is_empty());
        assert_eq!(ledger.room(0, N).pinned_bytes, 30);
        assert_eq!(ledger.room(0, M).pinned_bytes, 0, "its own jobs count its weights themselves");
        assert_eq!(ledger.holders(M).collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn idle_time_counts_from_the_last_use() {
        let mut ledger = ledger();
        use_once(&mut ledger, M, false, 10);
        // Used again and let go at 25, while its timer runs: nobody else need watch.
        let lease = ledger.lease(0, M, Demand { weights_bytes: 0, ..DEMAND }, false, Time(20));
        assert!(!ledger.release(lease, Time(25)));
        assert_eq!(ledger.idle_for(0, M, 5, Time(15)), Err(Some(Time(30))));
        assert_eq!(ledger.idle_for(0, M, 5, Time(29)), Err(Some(Time(30))));
        assert_eq!(ledger.idle_for(0, M, 5, Time(30)), Ok(()));
        // In use when the timer rings: whoever lets go of it sets the next.
        let lease = ledger.lease(0, M, Demand { weights_bytes: 0, ..DEMAND }, false, Time(31));
        assert_eq!(ledger.idle_for(0, M, 5, Time(40)), Err(None));
        assert!(ledger.release(lease, Time(41)));
        ledger.leaving(0, M);
        assert_eq!(ledger.idle_for(0, M, 5, Time(99)), Err(None), "it is leaving already");
        ledger.left(0, M);
        assert_eq!(ledger.idle_for(0, M, 5, Time(99)), Err(None));
    }

    #[test]
    fn a_lost_engine_takes_models_with_it_and_leases_come_back() {
        let mut ledger = ledger();
        let lease = ledger.lease(0, M, DEMAND, false, Time(0));
        ledger.loaded(0, M, 0);
        ledger.forget_models();
        assert_eq!((ledger.stay(0, M), free(&ledger)), (None, 80));
        assert!(!ledger.release(lease, Time(1)));
        assert_eq!(free(&ledger), 100);
    }

    #[test]
    fn there_is_no_room_where_there_is_no_partition() {
        assert_eq!(ledger().room(7, M).cap_bytes, 0);
        assert_eq!(ledger().stay(7, M), None);
    }
}
