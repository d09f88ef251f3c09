//! What a stage was promised of its partition, and whether it keeps to that.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use gpusched_shared::OutOfMemory;

use crate::account::Account;
use crate::partition::Partition;

/// A stage's lease and what it takes of it, looked at from yield point to yield point.
pub(crate) struct Lease<'a> {
    lane: &'a Account,
    partition: &'a Partition,
    /// What was promised beside the model's weights.
    bytes: Cell<u64>,
    /// The partition's cap, as far as this stage is concerned.
    cap_bytes: Cell<u64>,
    /// The model being loaded and the bytes it was declared to take.
    loading: RefCell<Option<(Arc<Account>, u64)>>,
    /// The most the stage held at once up to the last check. The lane's account knows the peak since then.
    peak: Cell<u64>,
}

impl<'a> Lease<'a> {
    /// The lease of a stage that begins on the lane now: `bytes` beside the model's weights.
    pub(crate) fn new(lane: &'a Account, partition: &'a Partition, bytes: u64) -> Self {
        lane.restart_peak();
        let cap_bytes = Cell::new(partition.spec.cap_bytes);
        Self { lane, partition, bytes: Cell::new(bytes), cap_bytes, loading: RefCell::default(), peak: Cell::default() }
    }

    /// Lowers lease and cap to `margin_bytes` over what is in use, as if there were no more: a fault on purpose.
    pub(crate) fn squeeze(&self, margin_bytes: u64) {
        let down_to = |limit: &Cell<u64>, used: u64| limit.set(limit.get().min(used + margin_bytes));
        down_to(&self.bytes, self.lane.live());
        down_to(&self.cap_bytes, self.partition.account.live());
    }

    /// What [`Self::check`] would say of a stage that broke its promise: another fault on purpose.
    pub(crate) fn refuse(&self) -> OutOfMemory {
        let recent = self.lane.restart_peak();
        self.peak.set(self.peak.get().max(recent));
        self.out_of_memory(self.peak.get(), self.used_bytes(recent))
    }

    /// What a stage ends with that the device refused `bytes`; 0 if it is not known how many.
    pub(crate) fn refused(&self, bytes: u64) -> OutOfMemory {
        let wanted = self.lane.live() + bytes;
        let requested_bytes = if self.loading.borrow().is_some() { 0 } else { self.peak_bytes().max(wanted).max(1) };
        self.out_of_memory(requested_bytes, self.partition.account.live() + bytes)
    }

    /// Runs `work`, which loads a model that was declared to take so many bytes and charges it to `model`.
    pub(crate) fn load<T>(&self, model: &Arc<Account>, declared_bytes: u64, work: impl FnOnce() -> T) -> T {
        self.loading.replace(Some((Arc::clone(model), declared_bytes)));
        let loaded = work();
        self.loading.replace(None);
        loaded
    }

    /// The most the stage held at once so far, in bytes.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak.get().max(self.lane.peak())
    }

    /// What the stage took since its peak was `peak_bytes` does not count: it did without.
    pub(crate) fn forget_since(&self, peak_bytes: u64) {
        self.lane.restart_peak();
        self.peak.set(peak_bytes);
    }

    /// Refuses a stage that took its partition over the cap at any time since the last check, and was at any time over
    /// what it was promised. Called at every yield point and at the end, it lets no stage succeed that kept neither the
    /// cap nor its lease. Two things it cannot see: what other stages of the partition gave back since this one was at
    /// its peak, and what a load takes in passing between two of its yield points.
    ///
    /// Only stages that broke their own promise are refused. Where all keep theirs and the sum is too much
    /// nevertheless, the ledger that made the promises is wrong, and to end a stage for that would punish one at random;
    /// the ledger learns of it from what is measured.
    ///
    /// # Errors
    /// [`OutOfMemory`], in which the stage requests what it was found to need beside the weights: 0 while they are being
    /// loaded, for then it is they that do not fit.
    pub(crate) fn check(&self) -> Result<(), OutOfMemory> {
        let recent = self.lane.restart_peak();
        let peak = self.peak.get().max(recent);
        self.peak.set(peak);
        let (taken, promised, requested_bytes) = match &*self.loading.borrow() {
            None => (peak, self.bytes.get(), peak),
            Some((model, declared)) => (peak + model.live(), self.bytes.get().saturating_add(*declared), 0),
        };
        let used_bytes = self.used_bytes(recent);
        if used_bytes <= self.cap_bytes.get() || taken <= promised {
            return Ok(());
        }
        Err(self.out_of_memory(requested_bytes, used_bytes))
    }

    /// What the partition held when the stage held `recent` bytes: what others hold now stands for what they held then.
    fn used_bytes(&self, recent: u64) -> u64 {
        self.partition.account.live().saturating_sub(self.lane.live()) + recent
    }

    fn out_of_memory(&self, requested_bytes: u64, used_bytes: u64) -> OutOfMemory {
        let (partition, cap_bytes) = (self.partition.spec.name.clone(), self.cap_bytes.get());
        OutOfMemory { partition, requested_bytes, used_bytes, cap_bytes }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{charge, credit, current};
    use crate::command::{GateKind, PartitionSpec};
    use crate::device::Cpu;
    use crate::event::Failure;

    const CAP: u64 = 100;

    /// Runs `work` on a thread of a lane in a partition of [`CAP`] bytes.
    fn on_lane(work: impl FnOnce(&Account, &Partition) + Send) {
        let spec = PartitionSpec { name: "heavy".to_owned(), cap_bytes: CAP, gate: GateKind::None };
        let partition = Partition::new(0, &spec, Arc::new(Cpu)).unwrap();
        let lane = Account::open(Some(&partition.account)).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                lane.adopt_thread();
                work(&lane, &partition);
            });
        });
        assert_eq!(partition.account.live(), 0, "each test gives back what it takes");
    }

    /// Takes bytes and gives them back.
    fn take_in_passing(bytes: u64) {
        charge(current(), bytes);
        credit(current(), bytes);
    }

    fn out_of_memory(requested_bytes: u64, used_bytes: u64) -> Result<(), OutOfMemory> {
        Err(OutOfMemory { partition: "heavy".to_owned(), requested_bytes, used_bytes, cap_bytes: CAP })
    }

    #[test]
    fn what_is_taken_between_two_checks_counts_with_what_others_hold() {
        on_lane(|lane, partition| {
            let weights = Account::open(Some(&partition.account)).unwrap();
            lane.charging(Some(&weights), || charge(current(), 60));
            let lease = Lease::new(lane, partition, 30);
            take_in_passing(40);
            assert_eq!(lease.check(), Ok(()), "just at the cap");
            take_in_passing(41);
            assert_eq!(lease.check(), out_of_memory(41, 101));
            assert_eq!(lease.check(), Ok(()), "it was before the check before");
            assert_eq!(lease.peak_bytes(), 41);
            lane.charging(Some(&weights), || credit(current(), 60));
        });
    }

    #[test]
    fn who_was_over_its_lease_when_there_was_room_answers_for_it_when_there_is_none() {
        on_lane(|lane, partition| {
            let lease = Lease::new(lane, partition, 30);
            charge(current(), 50);
            assert_eq!(lease.check(), Ok(()));
            credit(current(), 30);
            assert_eq!(lease.check(), Ok(()));
            let other = Account::open(Some(&partition.account)).unwrap();
            lane.charging(Some(&other), || charge(current(), 90));
            assert_eq!(lease.check(), out_of_memory(50, 110));
            lane.charging(Some(&other), || credit(current(), 90));
            credit(current(), 20);
        });
    }

    #[test]
    fn what_a_stage_did_without_is_not_needed() {
        on_lane(|lane, partition| {
            let lease = Lease::new(lane, partition, 30);
            take_in_passing(20);
            let before = lease.peak_bytes();
            take_in_passing(101);
            assert_eq!(lease.check(), out_of_memory(101, 101));
            lease.forget_since(before);
            assert_eq!((lease.check(), lease.peak_bytes()), (Ok(()), 20));
        });
    }

    #[test]
    fn who_keeps_the_lease_is_not_refused() {
        on_lane(|lane, partition| {
            let lease = Lease::new(lane, partition, 150);
            take_in_passing(150);
            assert_eq!(lease.check(), Ok(()));
            take_in_passing(151);
            assert_eq!(lease.check(), out_of_memory(151, 151));
        });
    }

    #[test]
    fn a_stage_does_not_answer_for_the_one_before() {
        on_lane(|lane, partition| {
            take_in_passing(200);
            let lease = Lease::new(lane, partition, 0);
            assert_eq!(lease.check(), Ok(()));
            take_in_passing(7);
            assert_eq!(lease.peak_bytes(), 7, "also before it is checked");
            assert_eq!(lease.check(), Ok(()));
            take_in_passing(3);
            assert_eq!(lease.peak_bytes(), 7);
        });
    }

    #[test]
    fn weights_that_do_not_fit_are_not_what_the_stage_needs() {
        on_lane(|lane, partition| {
            let model = Arc::new(Account::open(Some(&partition.account)).unwrap());
            let lease = Lease::new(lane, partition, 10);
            charge(current(), 5);
            lease.load(&model, 100, || {
                lane.charging(Some(&model), || charge(current(), 105));
                assert_eq!(lease.check(), Ok(()), "lease and declared weights are enough for both");
                lane.charging(Some(&model), || charge(current(), 1));
                let refused = lease.check();
                assert_eq!(refused, out_of_memory(0, 111));
                assert_eq!(
                    Failure::from(refused.unwrap_err()).message,
                    "out of memory: the model's weights do not fit, partition heavy has 111 B of 100 B in use"
                );
            });
            assert_eq!(lease.check(), Ok(()), "beside the weights it keeps its lease");
            lane.charging(Some(&model), || credit(current(), 106));
            credit(current(), 5);
        });
    }

    #[test]
    fn what_a_device_refuses_is_asked_for_beside_what_is_held() {
        on_lane(|lane, partition| {
            let model = Arc::new(Account::open(Some(&partition.account)).unwrap());
            let lease = Lease::new(lane, partition, 90);
            charge(current(), 20);
            assert_eq!(Err(lease.refused(70)), out_of_memory(90, 90));
            take_in_passing(75);
            assert_eq!(Err(lease.refused(70)), out_of_memory(95, 90), "it needed more before");
            lease.load(&model, 100, || assert_eq!(Err(lease.refused(90)), out_of_memory(0, 110)));
            credit(current(), 20);
            let idle = Lease::new(lane, partition, 90).refused(0);
            assert_eq!(idle.requested_bytes, 1, "0 would say that the weights do not fit");
        });
    }

    #[test]
    fn who_is_squeezed_has_what_it_holds_and_the_margin() {
        on_lane(|lane, partition| {
            let lease = Lease::new(lane, partition, 90);
            charge(current(), 20);
            lease.squeeze(5);
            take_in_passing(5);
            assert_eq!(lease.check(), Ok(()));
            take_in_passing(6);
            let refused = lease.check().unwrap_err();
            assert_eq!((refused.requested_bytes, refused.used_bytes, refused.cap_bytes), (26, 26, 25));
            credit(current(), 20);
            let next = Lease::new(lane, partition, 90);
            take_in_passing(90);
            assert_eq!(next.check(), Ok(()), "it was the other stage's alone");
        });
    }
}
