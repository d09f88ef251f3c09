//! A memory pool: what it has from the device, in chunks, and what of that is in use.
//!
//! ```text
//! Free ─allocate→ Live ─free submitted→ Pending ─its stream gets there→ Free
//!   ▲                                      └─allocate by the same stream, or by another that is made to wait→ Live
//!   └ a chunk that is free as a whole goes back to the device: at a synchronise above the threshold, by trim, or to make room
//! ```

use std::collections::BTreeMap;

use super::region::Region;
use super::{Mark, StreamId};

/// What the device gives to a pool, and takes from it, is a multiple of this.
pub(crate) const CHUNK_BYTES: u64 = 2 << 20;
/// What a pool gives is a multiple of this.
const BLOCK_BYTES: u64 = 512;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Free,
    Live,
    /// Freed in the order of a stream that has not got there.
    Pending(Mark),
}

#[derive(Debug)]
struct Block {
    bytes: u64,
    state: State,
}

#[derive(Debug)]
struct Chunk {
    region: Region,
    /// All of the region, by address.
    blocks: BTreeMap<u64, Block>,
}

impl Chunk {
    fn idle(&self) -> bool {
        self.blocks.values().all(|block| block.state == State::Free)
    }

    /// The address of the first run of neighbouring blocks, all of which are `usable`, that is long enough.
    fn find(&self, bytes: u64, usable: impl Fn(State) -> bool) -> Option<u64> {
        let mut run: Option<(u64, u64)> = None;
        for (at, block) in &self.blocks {
            run =
                usable(block.state).then(|| run.map_or((*at, block.bytes), |(from, long)| (from, long + block.bytes)));
            if let Some((from, long)) = run
                && long >= bytes
            {
                return Some(from);
            }
        }
        None
    }

    /// Makes one free block of the one at `address` and its free neighbours.
    fn join(&mut self, address: u64) {
        let free = |(at, block): (&u64, &Block)| (block.state == State::Free).then_some((*at, block.bytes));
        let before = self.blocks.range(..address).next_back().and_then(free);
        let after = self.blocks.range(address + 1..).next().and_then(free);
        if let Some((at, bytes)) = after
            && let Some(block) = self.blocks.get_mut(&address)
        {
            block.bytes += bytes;
            self.blocks.remove(&at);
        }
        if let Some((at, _)) = before
            && let Some(block) = self.blocks.remove(&address)
            && let Some(first) = self.blocks.get_mut(&at)
        {
            first.bytes += block.bytes;
        }
    }
}

/// Memory that a pool gave.
#[derive(Debug)]
pub(crate) struct Placed {
    pub(crate) address: u64,
    /// Where other streams must have got to before it may be used.
    pub(crate) after: Vec<Mark>,
}

/// One pool. Sizes are in bytes.
#[derive(Debug)]
pub(crate) struct Pool {
    /// `None` is as much as the device has.
    pub(crate) cap: Option<u64>,
    /// What it keeps at a synchronise.
    pub(crate) threshold: u64,
    /// Whether a stream may be made to wait for another that has memory pending.
    pub(crate) internal_dependencies: bool,
    chunks: BTreeMap<u64, Chunk>,
    used: Level,
    reserved: Level,
}

/// An amount, and the highest that it was since somebody asked for that anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Level {
    pub(crate) current: u64,
    pub(crate) high: u64,
}

impl Level {
    fn add(&mut self, bytes: u64) {
        self.current += bytes;
        self.high = self.high.max(self.current);
    }
}

impl Pool {
    pub(crate) fn new(cap: Option<u64>) -> Self {
        let (used, reserved) = (Level::default(), Level::default());
        Self { cap, threshold: 0, internal_dependencies: true, chunks: BTreeMap::new(), used, reserved }
    }

    pub(crate) fn used(&self) -> Level {
        self.used
    }

    pub(crate) fn reserved(&self) -> Level {
        self.reserved
    }

    pub(crate) fn reset_used_high(&mut self) {
        self.used.high = 0;
    }

    pub(crate) fn reset_reserved_high(&mut self) {
        self.reserved.high = 0;
    }

    /// Memory for `stream`; `room` is what the device has left. `None` if there is no room, or none below the cap, where that
    /// is enforced.
    pub(crate) fn allocate(&mut self, bytes: u64, stream: StreamId, room: u64, enforced: bool) -> Option<Placed> {
        let room =
            self.cap.filter(|_| enforced).map_or(room, |cap| room.min(cap.saturating_sub(self.reserved.current)));
        let bytes = bytes.max(1).checked_next_multiple_of(BLOCK_BYTES)?;
        let own = |state| matches!(state, State::Pending(mark) if mark.stream == stream);
        if let Some(placed) = self.place(bytes, |state| state == State::Free) {
            return Some(placed);
        }
        if let Some(mut placed) = self.place(bytes, |state| state == State::Free || own(state)) {
            // The stream has freed it before it uses it.
            placed.after.clear();
            return Some(placed);
        }
        // Chunks that are idle, but too small, make room for one that is not.
        if self.grow(bytes, room) || self.regrow(bytes, room) {
            return self.place(bytes, |state| state == State::Free);
        }
        if self.internal_dependencies {
            let mut placed = self.place(bytes, |state| state != State::Live)?;
            placed.after.retain(|mark| mark.stream != stream);
            return Some(placed);
        }
        None
    }

    /// Says that `mark` has freed the block at `address`, which is in use until the stream gets there.
    pub(crate) fn pend(&mut self, address: u64, mark: Mark) {
        let chunk = self.chunks.range_mut(..=address).next_back();
        if let Some(block) = chunk.and_then(|(_, chunk)| chunk.blocks.get_mut(&address)) {
            block.state = State::Pending(mark);
        }
    }

    /// The stream got to `mark`: what it freed, the block at `address`, is free but for what has been given to somebody again.
    pub(crate) fn free(&mut self, address: u64, bytes: u64, mark: Mark) {
        let Some((_, chunk)) = self.chunks.range_mut(..=address).next_back() else { return };
        let end = address + bytes.max(1);
        let pending = chunk.blocks.range_mut(address..end).filter(|(_, block)| block.state == State::Pending(mark));
        let mut freed = Vec::new();
        for (at, block) in pending {
            block.state = State::Free;
            self.used.current -= block.bytes;
            freed.push(*at);
        }
        for at in freed {
            chunk.join(at);
        }
    }

    /// Gives idle chunks back until no more than `keep` is reserved, or none is idle.
    pub(crate) fn release(&mut self, keep: u64) {
        while self.reserved.current > keep
            && let Some(base) = self.chunks.iter().find(|(_, chunk)| chunk.idle()).map(|(base, _)| *base)
            && let Some(chunk) = self.chunks.remove(&base)
        {
            self.reserved.current -= chunk.region.bytes();
        }
    }

    /// Whether all of a range lies in what the pool has from the device.
    pub(crate) fn contains(&self, address: u64, bytes: u64) -> bool {
        let chunk = self.chunks.range(..=address).next_back();
        chunk.is_some_and(|(base, chunk)| address.saturating_add(bytes) <= base + chunk.region.bytes())
    }

    /// Marks the first run of usable blocks that is long enough as live, and names what was pending of it.
    fn place(&mut self, bytes: u64, usable: impl Fn(State) -> bool) -> Option<Placed> {
        let (chunk, address) =
            self.chunks.values_mut().find_map(|chunk| chunk.find(bytes, &usable).map(|address| (chunk, address)))?;
        let mut after = Vec::new();
        let mut rest = bytes;
        while rest > 0 {
            let at = address + (bytes - rest);
            let block = chunk.blocks.remove(&at)?;
            let taken = block.bytes.min(rest);
            if let State::Pending(mark) = block.state {
                after.push(mark);
                self.used.current -= taken;
            }
            if taken < block.bytes {
                chunk.blocks.insert(at + taken, Block { bytes: block.bytes - taken, state: block.state });
            }
            rest -= taken;
        }
        chunk.blocks.insert(address, Block { bytes, state: State::Live });
        self.used.add(bytes);
        Some(Placed { address, after })
    }

    fn grow(&mut self, bytes: u64, room: u64) -> bool {
        let long = bytes.checked_next_multiple_of(CHUNK_BYTES).filter(|long| *long <= room);
        let Some(region) = long.and_then(Region::new) else { return false };
        let (base, long) = (region.base(), region.bytes());
        self.chunks.insert(
            base,
            Chunk { region, blocks: BTreeMap::from([(base, Block { bytes: long, state: State::Free })]) },
        );
        self.reserved.add(long);
        true
    }

    /// Gives back all that is idle, if that makes enough room.
    fn regrow(&mut self, bytes: u64, room: u64) -> bool {
        let idle: u64 = self.chunks.values().filter(|chunk| chunk.idle()).map(|chunk| chunk.region.bytes()).sum();
        if bytes > room + idle {
            return false;
        }
        self.release(0);
        self.grow(bytes, room + idle)
    }

    /// Gives everything back, used or not.
    pub(crate) fn clear(&mut self) {
        self.chunks.clear();
        (self.used.current, self.reserved.current) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn mark(stream: StreamId, seq: u64) -> Mark {
        Mark { stream, seq }
    }

    fn taken(pool: &Pool) -> (u64, u64) {
        (pool.used().current, pool.reserved().current)
    }

    #[test]
    fn a_free_counts_when_its_stream_gets_there_and_trim_gives_back_what_is_idle() {
        let mut pool = Pool::new(Some(8 * MIB));
        let placed = pool.allocate(3 * MIB, 1, 100 * MIB, true).unwrap();
        assert_eq!(taken(&pool), (3 * MIB, 4 * MIB));
        pool.pend(placed.address, mark(1, 5));
        pool.release(0);
        assert_eq!(taken(&pool), (3 * MIB, 4 * MIB));
        pool.free(placed.address, 3 * MIB, mark(1, 5));
        assert_eq!(taken(&pool), (0, 4 * MIB));
        pool.release(4 * MIB);
        assert_eq!(taken(&pool), (0, 4 * MIB));
        pool.release(4 * MIB - 1);
        assert_eq!(taken(&pool), (0, 0));
        assert_eq!((pool.used().high, pool.reserved().high), (3 * MIB, 4 * MIB));
    }

    #[test]
    fn the_cap_and_the_device_are_limits_and_idle_chunks_make_room() {
        let mut pool = Pool::new(Some(8 * MIB));
        assert!(pool.allocate(8 * MIB + 1, 1, 100 * MIB, true).is_none());
        assert!(pool.allocate(8 * MIB, 1, 7 * MIB, true).is_none());
        let each: Vec<_> = (0..4).map(|_| pool.allocate(2 * MIB, 1, 100 * MIB, true).unwrap().address).collect();
        assert!(pool.allocate(1, 1, 100 * MIB, true).is_none());
        for (n, address) in each.iter().enumerate() {
            pool.pend(*address, mark(1, n as u64));
            pool.free(*address, 2 * MIB, mark(1, n as u64));
        }
        // Four chunks of 2 MiB, none of which is big enough.
        pool.allocate(8 * MIB, 1, 0, true).unwrap();
        assert_eq!(taken(&pool), (8 * MIB, 8 * MIB));
    }

    #[test]
    fn its_own_stream_reuses_what_is_pending_at_once_and_another_has_to_wait() {
        let mut pool = Pool::new(Some(2 * MIB));
        let first = pool.allocate(2 * MIB, 1, 100 * MIB, true).unwrap();
        pool.pend(first.address, mark(1, 7));
        let second = pool.allocate(MIB, 1, 100 * MIB, true).unwrap();
        assert_eq!((second.address, second.after.len()), (first.address, 0));
        // The stream gets to the first free: of what was freed, only the half that was not given again is.
        let third = pool.allocate(MIB, 2, 100 * MIB, true).unwrap();
        assert_eq!(third.after, [mark(1, 7)]);
        pool.free(first.address, 2 * MIB, mark(1, 7));
        assert_eq!(taken(&pool), (2 * MIB, 2 * MIB));
        pool.pend(second.address, mark(1, 9));
        pool.internal_dependencies = false;
        assert!(pool.allocate(MIB, 2, 100 * MIB, true).is_none());
    }

    #[test]
    fn free_neighbours_become_one() {
        let mut pool = Pool::new(Some(2 * MIB));
        let each: Vec<_> = (0..4).map(|_| pool.allocate(MIB / 2, 1, 100 * MIB, true).unwrap().address).collect();
        for at in [0, 2, 1] {
            pool.pend(each[at], mark(1, at as u64));
            pool.free(each[at], MIB / 2, mark(1, at as u64));
        }
        assert_eq!(pool.allocate(3 * MIB / 2, 1, 0, true).unwrap().address, each[0]);
        assert!(pool.allocate(1, 1, 0, true).is_none());
    }
}
