//! Accounts of memory: how many bytes are live on whose behalf.
//!
//! ```text
//!  partition ◀── lane         what its stage uses beside the weights
//!            ◀── model        the weights, and what loading them takes
//! ```
//!
//! The accounts are entries of one static table, because [`Allocator`](crate::Allocator), which writes them, can
//! neither allocate nor wait. A thread knows the lane it works for, and the lane's entry says whom its threads charge
//! at present: while a lane loads a model that is the model, so that one store switches all threads of the lane at once.
//! A block remembers the account that it was charged to and is credited there, whichever thread frees it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};

/// Accounts in the process, for partitions, lanes and resident models together.
const ACCOUNTS: usize = 4096;

/// The index of an account; 0 is nobody's.
pub(crate) type Index = u16;
const NOBODY: Index = 0;

/// Its own cache lines, so that lanes do not slow each other down by counting.
#[repr(align(128))]
struct Entry {
    taken: AtomicBool,
    live: AtomicU64,
    peak: AtomicU64,
    /// The account that everything is charged to as well.
    parent: AtomicU16,
    /// For a lane: whom its threads charge at present.
    charges: AtomicU16,
}

impl Entry {
    const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            live: AtomicU64::new(0),
            peak: AtomicU64::new(0),
            parent: AtomicU16::new(NOBODY),
            charges: AtomicU16::new(NOBODY),
        }
    }

    fn add(&self, bytes: u64) {
        let live = self.live.fetch_add(bytes, Ordering::Relaxed) + bytes;
        // Most allocations are below the peak and get by with a load.
        if live > self.peak.load(Ordering::Relaxed) {
            self.peak.fetch_max(live, Ordering::Relaxed);
        }
    }

    /// What came before is done by the time an account that this brings to 0 is opened anew: [`Account::open`] acquires.
    fn subtract(&self, bytes: u64) {
        // Not below 0: a count that wraps round would keep every stage out of the partition.
        self.live.update(Ordering::Release, Ordering::Relaxed, |live| live.saturating_sub(bytes));
    }
}

// Counters are statistics: nothing else is read on the strength of them, so relaxed order does. Except that an account
// which was closed is another's as soon as it is at 0.
static TABLE: [Entry; ACCOUNTS] = [const { Entry::new() }; ACCOUNTS];

thread_local! {
    /// The lane that the thread works for. Constant and without a destructor: the allocator may read it at any time.
    static LANE: Cell<Index> = const { Cell::new(NOBODY) };
}

fn entry(index: Index) -> &'static Entry {
    // Every index that is handed out is within the table; the remainder tells the compiler so.
    &TABLE[usize::from(index) % ACCOUNTS]
}

/// Whom the calling thread charges.
pub(crate) fn current() -> Index {
    match LANE.get() {
        NOBODY => NOBODY,
        lane => entry(lane).charges.load(Ordering::Relaxed),
    }
}

/// Counts `bytes` more for `index` and the account above it.
pub(crate) fn charge(index: Index, bytes: u64) {
    if index != NOBODY {
        let entry = entry(index);
        entry.add(bytes);
        if let parent @ 1.. = entry.parent.load(Ordering::Relaxed) {
            self::entry(parent).add(bytes);
        }
    }
}

/// Counts `bytes` less.
pub(crate) fn credit(index: Index, bytes: u64) {
    if index != NOBODY {
        let entry = entry(index);
        // First of all: once a closed account is at 0, another may open it, under another parent. The parent stays what
        // it is until its turn, for these bytes are still counted there.
        let parent = entry.parent.load(Ordering::Relaxed);
        entry.subtract(bytes);
        if parent != NOBODY {
            self::entry(parent).subtract(bytes);
        }
    }
}

/// Counts what was `old` bytes as `new`: by the difference, so that a closed account which holds nothing else is not at 0,
/// and another's, in between.
pub(crate) fn resize(index: Index, old: u64, new: u64) {
    if new > old {
        charge(index, new - old);
    } else {
        credit(index, old - new);
    }
}

/// An account, open until it is dropped. Without [`Allocator`](crate::Allocator) in the process it stays at 0.
#[derive(Debug)]
pub(crate) struct Account {
    index: Index,
    /// Kept open as long as this one.
    _parent: Option<Arc<Account>>,
}

impl Account {
    /// Opens an account; what is charged to it is charged to `parent` as well. `None` if there are too many.
    pub(crate) fn open(parent: Option<&Arc<Self>>) -> Option<Self> {
        let free = |entry: &Entry| {
            if entry.taken.swap(true, Ordering::Acquire) {
                return false;
            }
            // What outlived the account's last owner is still counted there: not a clean start for another. Looked at
            // only now, when nobody else can open it, use it and close it again.
            let clean = entry.live.load(Ordering::Acquire) == 0;
            if !clean {
                entry.taken.store(false, Ordering::Release);
            }
            clean
        };
        let index = (1..).zip(&TABLE[1..]).find_map(|(index, entry)| free(entry).then_some(index))?;
        let entry = entry(index);
        entry.parent.store(parent.map_or(NOBODY, |parent| parent.index), Ordering::Relaxed);
        entry.charges.store(index, Ordering::Relaxed);
        entry.peak.store(0, Ordering::Relaxed);
        Some(Self { index, _parent: parent.map(Arc::clone) })
    }

    /// Bytes in use.
    pub(crate) fn live(&self) -> u64 {
        entry(self.index).live.load(Ordering::Relaxed)
    }

    /// The most bytes in use at once since the account was opened or [`Self::restart_peak`] was called.
    pub(crate) fn peak(&self) -> u64 {
        entry(self.index).peak.load(Ordering::Relaxed)
    }

    /// Forgets the peak so far and returns it.
    pub(crate) fn restart_peak(&self) -> u64 {
        let entry = entry(self.index);
        let peak = entry.peak.swap(0, Ordering::Relaxed);
        // Not stored: what other threads charge meanwhile may have raised it already.
        entry.peak.fetch_max(entry.live.load(Ordering::Relaxed), Ordering::Relaxed);
        peak
    }

    /// Makes the calling thread one of this lane's, for good.
    pub(crate) fn adopt_thread(&self) {
        LANE.set(self.index);
    }

    /// Runs `work` with all threads of this lane charging `other`, or nobody.
    pub(crate) fn charging<T>(&self, other: Option<&Self>, work: impl FnOnce() -> T) -> T {
        let charges = &entry(self.index).charges;
        let before = charges.swap(other.map_or(NOBODY, |other| other.index), Ordering::Relaxed);
        // Also when `work` panics.
        let _restore = Restore { charges, before };
        work()
    }
}

struct Restore {
    charges: &'static AtomicU16,
    before: Index,
}

impl Drop for Restore {
    fn drop(&mut self) {
        self.charges.store(self.before, Ordering::Relaxed);
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        entry(self.index).taken.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parent_counts_all_and_peaks_stay() {
        let partition = Arc::new(Account::open(None).unwrap());
        let (lane, model) = (Account::open(Some(&partition)).unwrap(), Account::open(Some(&partition)).unwrap());
        charge(lane.index, 100);
        charge(model.index, 50);
        credit(lane.index, 70);
        charge(lane.index, 10);
        assert_eq!([lane.live(), model.live(), partition.live()], [40, 50, 90]);
        assert_eq!([lane.peak(), model.peak(), partition.peak()], [100, 50, 150]);
        assert_eq!(lane.restart_peak(), 100);
        assert_eq!([lane.peak(), partition.peak()], [40, 150]);
        resize(lane.index, 40, 60);
        resize(lane.index, 60, 40);
        assert_eq!([lane.live(), lane.peak(), partition.live()], [40, 60, 90]);
        credit(lane.index, 40);
        credit(model.index, 50);
    }

    #[test]
    fn an_account_that_holds_bytes_is_given_to_nobody_else() {
        let first = Account::open(None).unwrap();
        let index = first.index;
        charge(index, 1);
        drop(first);
        let others: Vec<_> = (0..8).map(|_| Account::open(None).unwrap()).collect();
        assert!(others.iter().all(|other| other.index != index && other.live() == 0));
        credit(index, 1);
    }

    #[test]
    fn what_outlives_an_account_is_credited_to_its_parent_whoever_opens_it_next() {
        let (first, second) = (Arc::new(Account::open(None).unwrap()), Arc::new(Account::open(None).unwrap()));
        // Each thread opens what the other closed, most often the very account.
        let both = std::sync::Barrier::new(2);
        let open_and_outlive = |parent: &Arc<Account>| {
            both.wait();
            for _ in 0..500_000 {
                let account = Account::open(Some(parent)).unwrap();
                let index = account.index;
                charge(index, 1);
                drop(account);
                credit(index, 1);
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| open_and_outlive(&first));
            scope.spawn(|| open_and_outlive(&second));
        });
        assert_eq!([first.live(), second.live()], [0, 0]);
    }

    #[test]
    fn a_thread_charges_whom_its_lane_charges() {
        let (lane, model) = (Account::open(None).unwrap(), Account::open(None).unwrap());
        std::thread::scope(|scope| {
            scope.spawn(|| {
                assert_eq!(current(), NOBODY);
                lane.adopt_thread();
                assert_eq!(current(), lane.index);
                lane.charging(Some(&model), || {
                    assert_eq!(current(), model.index);
                    lane.charging(None, || assert_eq!(current(), NOBODY));
                    assert_eq!(current(), model.index);
                });
                assert_eq!(current(), lane.index);
            });
        });
        assert_eq!(current(), NOBODY);
    }
}
