//! The waiting jobs of one class, in the order that [`crate::policy::ordering`] asks for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use gpusched_shared::{JobId, Uid};

use crate::policy::ordering::{Rank, Turn, is_overdue, rank, re_entry};

/// Waiting jobs of each uid that are looked at for a free lane. One whose jobs all lack memory hides nobody else's.
const LOOK_AHEAD: usize = 16;

/// A waiting job as the selection sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) id: JobId,
    pub(crate) uid: Uid,
    pub(crate) charged_us: u64,
    pub(crate) overdue: bool,
}

/// What one uid has waiting and was charged for.
#[derive(Debug, Default)]
struct Account {
    charged_us: u64,
    on_lanes: u32,
    /// Its waiting jobs in the order in which they go.
    ranks: BTreeSet<Rank>,
    /// The same by arrival.
    arrivals: BTreeSet<Turn>,
    /// Lane time of jobs that were started though the oldest that waits came before them.
    passes: BTreeMap<Turn, u64>,
    passed_us: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    accounts: BTreeMap<Uid, Account>,
    /// Accounts with waiting jobs, those charged least first, and of those the one with the job that came first.
    backlog: BTreeSet<(u64, Turn, Uid)>,
    /// Accounts with jobs waiting or on lanes, likewise.
    active: BTreeSet<(u64, Uid)>,
    /// The least that an active account was charged when there last was one.
    floor_us: u64,
    waiting: usize,
    aging_us: u64,
}

impl Queue {
    pub(crate) fn new(aging_ms: u64) -> Self {
        let mut queue = Self::default();
        queue.set_aging_ms(aging_ms);
        queue
    }

    /// How much lane time of later jobs a waiting one lets past from here on.
    pub(crate) fn set_aging_ms(&mut self, aging_ms: u64) {
        self.aging_us = aging_ms.saturating_mul(1000);
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// A job waits.
    pub(crate) fn insert(&mut self, uid: Uid, priority: i8, turn: impl Into<Turn>) {
        let turn = turn.into();
        let least = self.active.first().map_or(self.floor_us, |(charged, _)| *charged);
        self.change(uid, |account| {
            if account.is_idle() {
                account.charged_us = re_entry(account.charged_us, least);
            }
            account.ranks.insert(rank(priority, turn));
            account.arrivals.insert(turn);
        });
        self.waiting += 1;
    }

    /// A job waits no more, for whatever reason but a lane.
    pub(crate) fn remove(&mut self, uid: Uid, priority: i8, turn: impl Into<Turn>) {
        self.change(uid, |account| account.take(priority, turn.into()));
        self.waiting -= 1;
    }

    /// A waiting job gets another priority.
    pub(crate) fn reprioritise(&mut self, uid: Uid, turn: impl Into<Turn>, from: i8, to: i8) {
        let turn = turn.into();
        self.change(uid, |account| {
            account.ranks.remove(&rank(from, turn));
            account.ranks.insert(rank(to, turn));
        });
    }

    /// A job waits no more because a lane takes it, which is likely to take `cost_us`.
    pub(crate) fn launch(&mut self, uid: Uid, priority: i8, turn: impl Into<Turn>, cost_us: u64) {
        let turn = turn.into();
        self.change(uid, |account| {
            account.take(priority, turn);
            account.on_lanes += 1;
            account.charged_us = account.charged_us.saturating_add(cost_us);
            if account.arrivals.first().is_some_and(|oldest| *oldest < turn) {
                // A job that was taken off its lane may pass again.
                *account.passes.entry(turn).or_default() += cost_us;
                account.passed_us += cost_us;
            }
        });
        self.waiting -= 1;
    }

    /// A lane has left a job that it was charged `cost_us` for; it took `used_us`.
    pub(crate) fn settle(&mut self, uid: Uid, turn: impl Into<Turn>, cost_us: u64, used_us: u64) {
        let turn = turn.into();
        self.change(uid, |account| {
            account.on_lanes -= 1;
            account.charged_us = account.charged_us.saturating_add(used_us).saturating_sub(cost_us);
            if let Some(pass) = account.passes.get_mut(&turn) {
                *pass = pass.saturating_add(used_us).saturating_sub(cost_us);
                account.passed_us = account.passed_us.saturating_add(used_us).saturating_sub(cost_us);
            }
        });
    }

    /// Waiting jobs of the uids that `may_go`, in the order in which they may: a uid that has an overdue job offers only
    /// that one.
    pub(crate) fn candidates(&self, may_go: impl Fn(Uid) -> bool) -> impl Iterator<Item = Waiting> {
        let uids = self.backlog.iter().map(|(_, _, uid)| *uid).filter(move |uid| may_go(*uid));
        let accounts = uids.filter_map(|uid| Some((uid, self.accounts.get(&uid)?)));
        accounts.flat_map(|(uid, account)| {
            let oldest = account.arrivals.first().filter(|_| is_overdue(account.passed_us, self.aging_us));
            let others = account.ranks.iter().map(|(_, turn)| turn).filter(move |_| oldest.is_none());
            let charged_us = account.charged_us;
            let waiting = move |turn: &Turn| Waiting { id: turn.id, uid, charged_us, overdue: oldest.is_some() };
            oldest.into_iter().chain(others).take(LOOK_AHEAD).map(waiting)
        })
    }

    /// The job that was accepted first.
    pub(crate) fn oldest(&self) -> Option<Turn> {
        self.accounts.values().filter_map(|account| account.arrivals.first().copied()).min()
    }

    /// All jobs in the order in which they are likely to go, if each takes what `cost_us` says and none lacks memory.
    pub(crate) fn order(&self, cost_us: impl Fn(JobId) -> u64) -> impl Iterator<Item = JobId> {
        let mut accounts: BinaryHeap<_> = self
            .backlog
            .iter()
            .filter_map(|(charged, _, uid)| {
                let ranks = self.accounts.get(uid)?.ranks.iter();
                Some(Reverse((*charged, *uid, ranks.map(|(_, turn)| turn.id).collect::<Vec<_>>(), 0)))
            })
            .collect();
        std::iter::from_fn(move || {
            let Reverse((charged, uid, jobs, next)) = accounts.pop()?;
            let id = *jobs.get(next)?;
            if next + 1 < jobs.len() {
                accounts.push(Reverse((charged.saturating_add(cost_us(id)), uid, jobs, next + 1)));
            }
            Some(id)
        })
    }

    /// One waiting job.
    pub(crate) fn waiting(&self, uid: Uid, turn: impl Into<Turn>) -> Option<Waiting> {
        let turn = turn.into();
        let account = self.accounts.get(&uid).filter(|account| account.arrivals.contains(&turn))?;
        Some(Waiting { id: turn.id, uid, charged_us: account.charged_us, overdue: false })
    }

    pub(crate) fn contains(&self, uid: Uid, turn: impl Into<Turn>) -> bool {
        let turn = turn.into();
        self.accounts.get(&uid).is_some_and(|account| account.arrivals.contains(&turn))
    }

    /// Changes an account and puts it in its places again.
    fn change(&mut self, uid: Uid, change: impl FnOnce(&mut Account)) {
        let account = self.accounts.entry(uid).or_default();
        let (before, place) = ((account.charged_us, uid), account.place(uid));
        change(account);
        let (after, new_place, idle) = ((account.charged_us, uid), account.place(uid), account.is_idle());
        if let Some(place) = place {
            self.backlog.remove(&place);
        }
        self.active.remove(&before);
        self.backlog.extend(new_place);
        if !idle {
            self.active.insert(after);
        }
        if let Some((least, _)) = self.active.first() {
            self.floor_us = self.floor_us.max(*least);
        }
        // With nothing on lanes all charges are final, and what an idle uid was charged matters only if that is more than
        // it would re-enter with. Before that, the least may yet turn out to be less.
        if self.active.is_empty() {
            let floor_us = self.floor_us;
            self.accounts.retain(|_, account| account.charged_us > floor_us);
        }
    }
}

impl Account {
    /// Its place in the backlog, if anything of it waits.
    fn place(&self, uid: Uid) -> Option<(u64, Turn, Uid)> {
        self.arrivals.first().map(|oldest| (self.charged_us, *oldest, uid))
    }

    fn is_idle(&self) -> bool {
        self.ranks.is_empty() && self.on_lanes == 0
    }

    fn take(&mut self, priority: i8, turn: Turn) {
        self.ranks.remove(&rank(priority, turn));
        self.arrivals.remove(&turn);
        // Nobody that still waits came before those, and nobody goes past himself.
        let oldest = self.arrivals.first();
        while let Some(pass) = self.passes.first_entry().filter(|pass| oldest.is_none_or(|oldest| pass.key() <= oldest))
        {
            self.passed_us -= pass.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uid = 1;
    const B: Uid = 2;

    /// A queue with an aging bound of 1 ms in which jobs wait, given as uid and priority and numbered from 1.
    fn queue(jobs: &[(Uid, i8)]) -> Queue {
        let mut queue = Queue::new(1);
        for ((uid, priority), id) in jobs.iter().zip(1..) {
            queue.insert(*uid, *priority, JobId(id));
        }
        queue
    }

    fn candidates(queue: &Queue) -> Vec<u64> {
        queue.candidates(|_| true).map(|waiting| waiting.id.0).collect()
    }

    fn charge(queue: &Queue, uid: Uid) -> Option<u64> {
        queue.accounts.get(&uid).map(|account| account.charged_us)
    }

    #[test]
    fn the_uid_charged_least_goes_first() {
        let mut queue = queue(&[(A, 0), (A, 0), (B, 0), (B, 0)]);
        assert_eq!(candidates(&queue), [1, 2, 3, 4]);
        queue.launch(A, 0, JobId(1), 10);
        assert_eq!(candidates(&queue), [3, 4, 2]);
        queue.launch(B, 0, JobId(3), 20);
        assert_eq!(candidates(&queue), [2, 4]);
        // What it really took counts, as soon as that is known.
        queue.settle(B, JobId(3), 20, 5);
        assert_eq!(candidates(&queue), [4, 2]);
        assert_eq!((charge(&queue, A), charge(&queue, B)), (Some(10), Some(5)));
        assert_eq!((queue.len(), queue.is_empty(), Queue::new(1).is_empty()), (2, false, true));
    }

    #[test]
    fn within_a_uid_priority_and_then_arrival_decide() {
        let mut queue = queue(&[(A, 0), (A, 5), (A, -5), (A, 5)]);
        assert_eq!(candidates(&queue), [2, 4, 1, 3]);
        queue.reprioritise(A, JobId(3), -5, 9);
        assert_eq!(candidates(&queue), [3, 2, 4, 1]);
        queue.remove(A, 5, JobId(2));
        assert_eq!(candidates(&queue), [3, 4, 1]);
        assert_eq!(queue.oldest(), Some(JobId(1).into()));
        assert!(queue.contains(A, JobId(1)) && !queue.contains(A, JobId(2)) && !queue.contains(B, JobId(1)));
        assert_eq!(queue.waiting(A, JobId(4)).map(|waiting| waiting.id), Some(JobId(4)));
        assert_eq!(queue.waiting(A, JobId(2)), None);
    }

    #[test]
    fn uids_that_may_not_go_are_left_out() {
        let queue = queue(&[(A, 0), (B, 0), (A, 0)]);
        let left: Vec<JobId> = queue.candidates(|uid| uid != A).map(|waiting| waiting.id).collect();
        assert_eq!(left, [JobId(2)]);
    }

    #[test]
    fn who_was_idle_begins_where_the_others_are() {
        let mut queue = queue(&[(A, 0), (A, 0)]);
        queue.launch(A, 0, JobId(1), 100);
        queue.insert(B, 0, JobId(3));
        assert_eq!(charge(&queue, B), Some(100), "nothing was saved up");
        queue.launch(B, 0, JobId(3), 1000);
        queue.settle(B, JobId(3), 1000, 1000);
        queue.insert(B, 0, JobId(4));
        assert_eq!(charge(&queue, B), Some(1100), "a debt stays");
        // All are gone: whoever comes next begins where the last one was.
        queue.settle(A, JobId(1), 100, 100);
        queue.remove(A, 0, JobId(2));
        queue.remove(B, 0, JobId(4));
        assert_eq!(queue.accounts.len(), 0, "nobody is ahead of the others, so nothing need be remembered");
        queue.insert(7, 0, JobId(5));
        assert_eq!(charge(&queue, 7), Some(1100));
    }

    #[test]
    fn an_idle_uid_that_ran_ahead_is_remembered() {
        let mut queue = queue(&[(A, 0), (B, 0)]);
        queue.launch(B, 0, JobId(2), 500);
        queue.settle(B, JobId(2), 500, 600);
        assert_eq!(charge(&queue, B), Some(600), "A waits, charged 0");
        queue.insert(B, 0, JobId(3));
        assert_eq!(candidates(&queue), [1, 3]);
    }

    #[test]
    fn a_debt_outlives_a_guess_that_was_too_high() {
        let mut queue = queue(&[(A, 0), (A, 0)]);
        queue.launch(A, 0, JobId(1), 1000);
        queue.insert(B, 0, JobId(3));
        queue.launch(B, 0, JobId(3), 1000);
        queue.settle(B, JobId(3), 1000, 0);
        // B is idle, charged 1000 as much as A was thought to take; now A turns out to have taken less.
        queue.settle(A, JobId(1), 1000, 10);
        queue.insert(B, 0, JobId(4));
        assert_eq!((charge(&queue, A), charge(&queue, B)), (Some(10), Some(1000)));
    }

    #[test]
    fn a_job_that_let_its_bound_past_goes_next_and_alone() {
        let mut queue = queue(&[(A, 0), (A, 9), (A, 9), (A, 9), (B, 0)]);
        queue.launch(A, 9, JobId(2), 999);
        assert_eq!(candidates(&queue), [5, 3, 4, 1], "999 us are within the bound of 1 ms");
        queue.settle(A, JobId(2), 999, 999);
        queue.launch(A, 9, JobId(3), 1);
        assert_eq!(candidates(&queue), [5, 1], "later jobs of its uid wait for it, other uids do not");
        let overdue: Vec<bool> = queue.candidates(|_| true).map(|waiting| waiting.overdue).collect();
        assert_eq!(overdue, [false, true]);
        // It turns out that less went past.
        queue.settle(A, JobId(3), 1, 0);
        assert_eq!(candidates(&queue), [5, 4, 1]);
    }

    #[test]
    fn only_what_came_later_has_gone_past() {
        let mut queue = queue(&[(A, 9), (A, 0), (A, 9), (A, 0), (A, 0)]);
        queue.launch(A, 9, JobId(1), 5000);
        assert_eq!(candidates(&queue), [3, 2, 4, 5], "it came before those that wait");
        queue.launch(A, 9, JobId(3), 5000);
        assert_eq!(candidates(&queue), [2]);
        queue.launch(A, 0, JobId(2), 10);
        assert_eq!(candidates(&queue), [4, 5], "nobody that waits was passed by 3");
        queue.remove(A, 0, JobId(4));
        queue.remove(A, 0, JobId(5));
        queue.insert(A, 0, JobId(6));
        assert_eq!(candidates(&queue), [6]);
    }

    #[test]
    fn what_goes_past_twice_counts_twice() {
        let mut queue = queue(&[(A, 0), (A, 9), (A, 9)]);
        for used in [600, 500] {
            assert_eq!(candidates(&queue), [2, 3, 1]);
            queue.launch(A, 9, JobId(2), 100);
            queue.settle(A, JobId(2), 100, used);
            queue.insert(A, 9, JobId(2));
        }
        assert_eq!(candidates(&queue), [1]);
        queue.remove(A, 9, JobId(3));
        assert_eq!(candidates(&queue), [1], "still so after the next change");
    }

    #[test]
    fn nobody_goes_past_himself() {
        let mut queue = queue(&[(A, 0), (A, 9), (A, 0)]);
        queue.launch(A, 9, JobId(2), 1000);
        queue.settle(A, JobId(2), 1000, 1000);
        queue.insert(A, -9, JobId(2));
        queue.launch(A, 0, JobId(1), 10);
        assert_eq!(candidates(&queue), [3, 2]);
    }

    #[test]
    fn the_order_ahead_takes_charges_into_account() {
        let queue = queue(&[(A, 0), (A, 0), (A, 1), (B, 0), (B, 0)]);
        let cost = |id: JobId| if id == JobId(3) { 25 } else { 10 };
        let order: Vec<u64> = queue.order(cost).map(|id| id.0).collect();
        // A at 0, B at 0, B at 10, A at 25, A at 35.
        assert_eq!(order, [3, 4, 5, 1, 2]);
    }
}
