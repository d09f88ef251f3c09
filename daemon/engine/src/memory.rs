//! What memory the process holds.

use gpusched_shared::codec::{Decode, Encode};

use crate::account::Account;

/// Memory at one moment, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Memory {
    /// What a partition holds: weights, and what its lanes use. 0 in a process without [`Allocator`](crate::Allocator).
    pub live_bytes: u64,
    /// What the process holds of the machine's memory, its resident set size; 0 where that cannot be read.
    pub resident_bytes: u64,
}

/// What a partition holds and held, in bytes. All are 0 in a process without [`Allocator`](crate::Allocator).
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
    pub(crate) fn now(partition: &Account) -> Self {
        Self { live_bytes: partition.live(), resident_bytes: resident_bytes().unwrap_or(0) }
    }
}

/// Linux says it in pages, as the second number of a file.
fn resident_bytes() -> Option<u64> {
    let statm = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = statm.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}
