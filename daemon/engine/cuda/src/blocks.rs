//! Who holds which allocation of the device: so that it is credited to whom it was charged, whichever thread frees it, and so
//! that what tensors of several lanes are over is free when the last of them is gone.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use candle_core::cuda_backend::cudarc::driver::CudaStream;
use gpusched_engine::device::Owner;

/// Parts of the table, each with a lock of its own, so that lanes do not wait for each other.
const SHARDS: usize = 16;

#[derive(Debug)]
struct Block {
    owner: Owner,
    bytes: u64,
    /// How many tensors have it; each says once that it frees it.
    holders: usize,
    /// Those of all tensors that have or had it, if there were several.
    streams: Vec<Arc<CudaStream>>,
}

/// What is to be done about a block that a tensor frees.
#[derive(Debug)]
pub(crate) enum Freeing {
    /// Nothing: another tensor has it.
    Not,
    /// It is given back, after what these streams have been handed so far.
    After(Vec<Arc<CudaStream>>),
}

type Shard = HashMap<u64, Block>;

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
    shard(address).insert(address, Block { owner, bytes, holders: 1, streams: Vec::new() });
}

/// One more tensor has the block at an address, and these are its stream and that of a tensor that has it already. False if
/// nothing was taken there.
pub(crate) fn share(address: u64, streams: [&Arc<CudaStream>; 2]) -> bool {
    let mut shard = shard(address);
    let Some(block) = shard.get_mut(&address) else { return false };
    block.holders += 1;
    for stream in streams {
        if !block.streams.iter().any(|known| known.cu_stream() == stream.cu_stream()) {
            block.streams.push(Arc::clone(stream));
        }
    }
    true
}

/// A tensor frees what lies at an address. To be said before it is given back: afterwards somebody else may have it.
pub(crate) fn frees(address: u64) -> Freeing {
    match shard(address).entry(address) {
        Entry::Occupied(mut entry) if entry.get().holders > 1 => {
            entry.get_mut().holders -= 1;
            Freeing::Not
        }
        Entry::Occupied(entry) => {
            let Block { owner, bytes, streams, .. } = entry.remove();
            owner.credit(bytes);
            Freeing::After(streams)
        }
        Entry::Vacant(_) => Freeing::After(Vec::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_free(address: u64) -> bool {
        matches!(frees(address), Freeing::After(_))
    }

    #[test]
    fn a_block_is_free_when_the_last_tensor_is_gone() {
        // No address of the device's.
        let address = u64::MAX - 511;
        took(address, 512);
        let hold = || shard(address).get_mut(&address).expect("taken").holders += 1;
        hold();
        hold();
        assert_eq!([(); 3].map(|()| is_free(address)), [false, false, true]);
        took(address, 512);
        assert!(is_free(address), "whoever has it next has it alone");
    }
}
