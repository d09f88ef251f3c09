//! Who holds which allocation of the device: so that it is credited to whom it was charged, whichever thread frees it.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use gpusched_engine::device::Owner;

/// Parts of the table, each with a lock of its own, so that lanes do not wait for each other.
const SHARDS: usize = 16;

type Shard = HashMap<u64, (Owner, u64)>;

static TABLE: LazyLock<[Mutex<Shard>; SHARDS]> = LazyLock::new(|| std::array::from_fn(|_| Mutex::default()));

fn shard(address: u64) -> MutexGuard<'static, Shard> {
    // Allocations begin at multiples of 512 bytes.
    let at = (address >> 9) as usize % SHARDS;
    TABLE[at].lock().unwrap_or_else(PoisonError::into_inner)
}

/// The calling thread has taken so many bytes at an address.
pub(crate) fn took(address: u64, bytes: u64) {
    let owner = Owner::current();
    owner.charge(bytes);
    shard(address).insert(address, (owner, bytes));
}

/// What lies at an address is about to be given back. To be said before it is: afterwards somebody else may have it.
pub(crate) fn frees(address: u64) {
    if let Some((owner, bytes)) = shard(address).remove(&address) {
        owner.credit(bytes);
    }
}
