//! What memory the process holds.

use gpusched_shared::codec::{Decode, Encode};

use crate::account::Account;
use crate::device::Pool;

/// Memory at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Memory {
    /// What a partition holds: weights, and what its lanes use. 0 on a CPU without [`Allocator`](crate::Allocator).
    pub live_bytes: u64,
    /// What has been taken from the system for it, in use or not. On a CPU, where there is one heap for all, the process's
    /// resident set size. 0 where that cannot be read.
    pub resident_bytes: u64,
}

/// What a partition holds and held, in bytes. All are 0 on a CPU without [`Allocator`](crate::Allocator).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct MemoryUse {
    /// Weights, and what its lanes use.
    pub live_bytes: u64,
    /// The most of it at once since the start.
    pub peak_bytes: u64,
    /// Weights of resident models, those being loaded included.
    pub weights_bytes: u64,
}

impl Memory {
    pub(crate) fn now(partition: &Account, pool: &dyn Pool) -> Self {
        Self { live_bytes: partition.live(), resident_bytes: pool.held_bytes() }
    }
}

/// The process's resident set size. Linux says it in pages, as the second number of a file.
pub(crate) fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
