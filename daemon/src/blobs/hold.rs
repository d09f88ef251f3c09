//! Who needs a blob that no row of the journal names yet.
//!
//! A blob is held before anyone looks whether its file is there, and held until the row that names it is committed (or will
//! never be). Blobs are removed while the table of holds is locked, and only if nobody holds them. So whoever holds a blob
//! either finds its file, and it stays, or writes it anew.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpusched_shared::BlobHash;

/// Keeps a blob from being removed for as long as it lives.
#[derive(Debug)]
pub struct Hold {
    hash: BlobHash,
    holds: Arc<Holds>,
}

impl Hold {
    /// The blob that is held.
    pub fn hash(&self) -> BlobHash {
        self.hash
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut table = self.holds.lock();
        if let Some(count) = table.held.get_mut(&self.hash) {
            *count -= 1;
            if *count == 0 {
                table.held.remove(&self.hash);
                table.released.insert(self.hash);
            }
        }
    }
}

/// The table of holds, and how many bytes the blobs take: what must not change while a file is put there or removed.
#[derive(Debug, Default)]
pub(super) struct Holds(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    held: HashMap<BlobHash, u32>,
    /// Not held or named any more, and not looked at since by whoever collects.
    released: BTreeSet<BlobHash>,
    bytes: u64,
}

impl Holds {
    pub(super) fn hold(self: &Arc<Self>, hash: BlobHash) -> Hold {
        *self.lock().held.entry(hash).or_default() += 1;
        Hold { hash, holds: Arc::clone(self) }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    pub(super) fn set_bytes(&self, bytes: u64) {
        self.lock().bytes = bytes;
    }

    pub(super) fn release(&self, hash: BlobHash) {
        self.lock().released.insert(hash);
    }

    pub(super) fn take_released(&self) -> BTreeSet<BlobHash> {
        std::mem::take(&mut self.lock().released)
    }

    /// Puts a file there while nobody can remove it; `put` returns how many bytes there were before and are now.
    pub(super) fn place(&self, put: impl FnOnce() -> io::Result<(u64, u64)>) -> io::Result<()> {
        let mut table = self.lock();
        let (before, now) = put()?;
        table.bytes = table.bytes.saturating_sub(before).saturating_add(now);
        Ok(())
    }

    /// Removes a blob unless someone holds it; `remove` returns how many bytes it had.
    pub(super) fn remove(&self, hash: BlobHash, remove: impl FnOnce() -> io::Result<u64>) -> io::Result<()> {
        let mut table = self.lock();
        if !table.held.contains_key(&hash) {
            table.bytes = table.bytes.saturating_sub(remove()?);
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
