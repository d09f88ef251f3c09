//! Device memory: who has how much, what is in use by which stream, and what must not be done to it.

use std::collections::BTreeMap;

use super::engine::Op;
use super::pool::Pool;
use super::slots::{self, Slots};
use super::trace::Entry;
use super::{Gpu, Mark, StreamId};
use crate::status::Status;

/// What a context takes of the device, in bytes.
pub(crate) const CONTEXT_BYTES: u64 = 256 << 20;

/// Memory that is in nobody's pool: by `cuMemAlloc`, or the libraries' own.
pub(crate) const PLAIN: PoolId = 0;
/// The device's default pool.
pub(crate) const DEFAULT: PoolId = 1;

/// A pool's number. Unlike its handle it is not used again.
pub(crate) type PoolId = u32;

/// Memory that somebody has the address of.
#[derive(Debug)]
struct Allocation {
    bytes: u64,
    pool: PoolId,
    /// From when on it is there.
    born: Option<Mark>,
    /// The last use by each stream.
    uses: Vec<Mark>,
}

pub(crate) struct Memory {
    pools: BTreeMap<PoolId, Pool>,
    pub(crate) handles: Slots<PoolId>,
    /// The pool that `cuMemAllocAsync` draws on.
    pub(crate) current: PoolId,
    /// The handle of the default pool.
    pub(crate) default: usize,
    /// Destroyed, and there until nothing of them is in use.
    closing: Vec<PoolId>,
    allocations: BTreeMap<u64, Allocation>,
    next_pool: PoolId,
}

impl Memory {
    pub(crate) fn new() -> Self {
        let mut handles = Slots::new(slots::POOL);
        let default = handles.insert(DEFAULT);
        let pools = BTreeMap::from([(PLAIN, Pool::new(None)), (DEFAULT, Pool::new(None))]);
        let (closing, allocations) = (Vec::new(), BTreeMap::new());
        Self { pools, handles, current: DEFAULT, default, closing, allocations, next_pool: DEFAULT + 1 }
    }

    /// A new pool's handle.
    pub(crate) fn create_pool(&mut self, cap: Option<u64>) -> usize {
        let id = self.next_pool;
        self.next_pool += 1;
        self.pools.insert(id, Pool::new(cap));
        self.handles.insert(id)
    }

    pub(crate) fn destroy_pool(&mut self, handle: usize) -> Result<(), Status> {
        if handle == self.default {
            return Err(Status::INVALID_VALUE);
        }
        let id = self.handles.remove(handle).ok_or(Status::INVALID_VALUE)?;
        if self.current == id {
            self.current = DEFAULT;
        }
        self.closing.push(id);
        self.close();
        Ok(())
    }

    pub(crate) fn pool(&mut self, handle: usize) -> Result<&mut Pool, Status> {
        let id = self.handles.get(handle).ok_or(Status::INVALID_VALUE)?;
        self.pools.get_mut(id).ok_or(Status::INVALID_VALUE)
    }

    /// The handle of a pool, for as long as it has one.
    pub(crate) fn handle(&self, pool: PoolId) -> Option<usize> {
        self.handles.find(|id| *id == pool)
    }

    /// What the pools and everything outside them have of the device, in bytes.
    pub(crate) fn reserved(&self) -> u64 {
        self.pools.values().map(|pool| pool.reserved().current).sum()
    }

    /// What a synchronise does: each pool gives back what is idle above its threshold.
    pub(crate) fn release(&mut self) {
        for pool in self.pools.values_mut() {
            pool.release(pool.threshold);
        }
    }

    /// A stream got to a free.
    pub(crate) fn freed(&mut self, address: u64, bytes: u64, mark: Mark) {
        if let Some(pool) = self.pools.values_mut().find(|pool| pool.contains(address, bytes)) {
            pool.free(address, bytes, mark);
        }
        // Outside the pools nothing is kept for later.
        if let Some(plain) = self.pools.get_mut(&PLAIN) {
            plain.release(0);
        }
        self.close();
    }

    /// Whether all of a range is memory of the device, in use or not.
    pub(crate) fn mapped(&self, address: u64, bytes: u64) -> bool {
        self.pools.values().any(|pool| pool.contains(address, bytes))
    }

    /// Frees everything; the pools themselves stay.
    pub(crate) fn clear(&mut self) {
        self.allocations.clear();
        for pool in self.pools.values_mut() {
            pool.clear();
        }
        self.close();
    }

    fn close(&mut self) {
        let Self { closing, pools, .. } = self;
        closing.retain(|id| {
            let over = pools.get(id).is_none_or(|pool| pool.used().current == 0);
            if over {
                pools.remove(id);
            }
            !over
        });
    }

    /// The allocation that an address lies in, and where that begins.
    fn around(&self, address: u64) -> Option<(u64, &Allocation)> {
        let (base, allocation) = self.allocations.range(..=address).next_back()?;
        (address < base + allocation.bytes.max(1)).then_some((*base, allocation))
    }
}

impl Gpu {
    /// What nobody has of the device, in bytes.
    pub(crate) fn room(&self) -> u64 {
        let context = if self.retained > 0 { CONTEXT_BYTES } else { 0 };
        self.settings.memory.saturating_sub(self.settings.others).saturating_sub(context + self.memory.reserved())
    }

    /// Memory of a pool for a stream, as a program asks for it.
    pub(crate) fn allocate(&mut self, bytes: u64, pool: PoolId, stream: Option<StreamId>) -> Result<u64, Status> {
        self.alive()?;
        if pool != PLAIN && !self.settings.pools {
            return Err(Status::NOT_SUPPORTED);
        }
        if bytes == 0 {
            return Err(Status::INVALID_VALUE);
        }
        let due = self.settings.oom_at.next();
        if self.settings.goes_wrong(due) {
            return Err(Status::OUT_OF_MEMORY);
        }
        self.take(bytes, pool, stream)
    }

    /// The same for the driver and its libraries themselves, which is not counted as asked for.
    pub(crate) fn take(&mut self, bytes: u64, pool: PoolId, stream: Option<StreamId>) -> Result<u64, Status> {
        let (room, enforced) = (self.room(), self.settings.cap);
        let from = self.memory.pools.get_mut(&pool).ok_or(Status::INVALID_VALUE)?;
        let placed =
            from.allocate(bytes, stream.unwrap_or(super::LEGACY), room, enforced).ok_or(Status::OUT_OF_MEMORY)?;
        let mut born = None;
        if let Some(stream) = stream {
            for mark in &placed.after {
                self.wait_for(stream, *mark, &BTreeMap::new())?;
            }
            born = Some(self.submit(stream, Op::Allocate)?);
        }
        self.memory.allocations.insert(placed.address, Allocation { bytes, pool, born, uses: Vec::new() });
        Ok(placed.address)
    }

    /// Frees memory in the order of a stream.
    pub(crate) fn free(&mut self, address: u64, stream: StreamId) -> Result<(), Status> {
        self.alive()?;
        let allocation = self.memory.allocations.get(&address).ok_or(Status::INVALID_VALUE)?;
        let foreign = allocation.uses.iter().chain(&allocation.born).find(|mark| !self.ordered(stream, **mark));
        if let Some(mark) = foreign {
            let what = format!("free-of-{address:#x}-pending-on-stream-{}", mark.stream);
            return Err(self.hazard(stream, &what, allocation.bytes));
        }
        let mark = Mark { stream, seq: self.tail(stream).seq + 1 };
        if let Some(Allocation { bytes, pool, .. }) = self.memory.allocations.remove(&address) {
            if let Some(pool) = self.memory.pools.get_mut(&pool) {
                pool.pend(address, mark);
            }
            self.submit(stream, Op::Free { address, bytes })?;
        }
        Ok(())
    }

    /// What an operation that is submitted to `stream` next does with memory. It must be there by then, and stay.
    ///
    /// # Errors
    /// Invalid value for what is not memory of the device, or beyond an allocation's end.
    pub(crate) fn touch(&mut self, stream: StreamId, address: u64, bytes: u64) -> Result<(), Status> {
        let mark = Mark { stream, seq: self.tail(stream).seq + 1 };
        let Some((base, allocation)) = self.memory.around(address) else {
            let freed = self.memory.mapped(address, bytes);
            return Err(if freed {
                self.hazard(stream, &format!("use-of-{address:#x}-after-free"), bytes)
            } else {
                Status::INVALID_VALUE
            });
        };
        if address + bytes > base + allocation.bytes {
            return Err(Status::INVALID_VALUE);
        }
        if let Some(born) = allocation.born.filter(|born| !self.ordered(stream, *born)) {
            return Err(self.hazard(
                stream,
                &format!("use-of-{address:#x}-before-stream-{}-has-it", born.stream),
                bytes,
            ));
        }
        if let Some(allocation) = self.memory.allocations.get_mut(&base) {
            match allocation.uses.iter_mut().find(|known| known.stream == stream) {
                Some(known) => *known = mark,
                None => allocation.uses.push(mark),
            }
        }
        Ok(())
    }

    /// What a kernel that is launched on `stream` next does with memory at an address that it is given, of which nobody knows how
    /// far it goes: it may be the end of an allocation, or no address of memory at all.
    pub(crate) fn use_around(&mut self, stream: StreamId, address: u64) -> Result<(), Status> {
        let known = |address| self.memory.around(address).is_some();
        if known(address) || (self.memory.mapped(address, 1) && !known(address.wrapping_sub(1))) {
            return self.touch(stream, address, 0);
        }
        Ok(())
    }

    /// What on real hardware might go unnoticed, or break something else: here it is said, and the device is lost.
    fn hazard(&mut self, stream: StreamId, what: &str, bytes: u64) -> Status {
        eprintln!("softcuda: hazard on stream {stream}: {what}");
        let priority = self.streams.get(&stream).map_or(0, |stream| stream.priority);
        let at = self.now;
        self.trace.push(Entry {
            submitted: at,
            begin: at,
            end: at,
            stream,
            priority,
            kind: "hazard",
            name: what.to_owned(),
            bytes,
        });
        self.failed = Some(Status::ILLEGAL_ADDRESS);
        Status::ILLEGAL_ADDRESS
    }
}
