//! The allocator that counts: the system's, with a note in front of each larger block of whom it is charged to.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;

use crate::account::{self, Index};

/// Smaller blocks, in bytes, carry no note and are not counted: tensors are not among them, and most allocations are.
const COUNTED: usize = 1024;

/// The note in front of a block, and what it is aligned to.
const NOTE: usize = size_of::<Index>();
const ALIGN: usize = align_of::<Index>();

/// The system's allocator, which also counts what lanes and models hold. Declare it in a program's `main.rs`:
///
/// ```
/// #[global_allocator]
/// static ALLOCATOR: gpusched_engine::Allocator = gpusched_engine::Allocator;
/// ```
///
/// In a program that does not, everything works and all counts are 0.
#[derive(Debug, Clone, Copy, Default)]
pub struct Allocator;

/// The block asked of the system for one of `layout`, aligned for a note too, and where in it the caller's begins.
/// `None` if the sum is more than a layout can say, which is an allocation that must fail.
fn noted(layout: Layout) -> Option<(Layout, usize)> {
    // As long as the alignment, so that what follows it is aligned too. 16 is what malloc aligns to in any case.
    let offset = layout.align().max(16);
    let size = layout.size().checked_add(offset)?;
    Layout::from_size_align(size, layout.align().max(ALIGN)).ok().map(|noted| (noted, offset))
}

const _: () = assert!(NOTE <= 16 && 16 % ALIGN == 0);

/// Writes the note of a block and counts it.
///
/// # Safety
/// `base` is null or the begin of a block of `whole`, and both came with `offset` from [`noted`].
unsafe fn enter(base: *mut u8, whole: Layout, offset: usize, payer: Index) -> *mut u8 {
    if base.is_null() {
        return base;
    }
    // SAFETY: the caller's part begins at `offset`, at least 16 bytes into the block, so a note fits before it. It is
    // aligned, because the block is aligned for a note, and offset and length of a note are multiples of that.
    unsafe {
        let block = base.add(offset);
        block.sub(NOTE).cast::<Index>().write(payer);
        account::charge(payer, whole.size() as u64);
        block
    }
}

/// Whom a block is charged to.
///
/// # Safety
/// `block` came from [`enter`], or was moved with its note since.
unsafe fn payer(block: *mut u8) -> Index {
    // SAFETY: the note was written right before the block, where it is aligned, and nobody else writes there.
    unsafe { block.sub(NOTE).cast::<Index>().read() }
}

// SAFETY: every block comes from `System`, which keeps the contract. Whether it has a note in front, and how far in it
// begins, follows from the layout alone, which the caller must give back unchanged; so it is undone as it was done.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() < COUNTED {
            // SAFETY: the caller's promise, passed on.
            return unsafe { System.alloc(layout) };
        }
        let Some((whole, offset)) = noted(layout) else { return ptr::null_mut() };
        // SAFETY: `whole` is larger than `layout`, so not empty, and `offset` is within it.
        unsafe { enter(System.alloc(whole), whole, offset, account::current()) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() < COUNTED {
            // SAFETY: the caller's promise, passed on.
            return unsafe { System.alloc_zeroed(layout) };
        }
        let Some((whole, offset)) = noted(layout) else { return ptr::null_mut() };
        // SAFETY: as in `alloc`; the note lies outside what the caller expects to be zero.
        unsafe { enter(System.alloc_zeroed(whole), whole, offset, account::current()) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() < COUNTED {
            // SAFETY: a block of this size was handed out as the system gave it.
            return unsafe { System.dealloc(block, layout) };
        }
        // `alloc` found the sum to fit.
        let Some((whole, offset)) = noted(layout) else { return };
        // SAFETY: a block of this size has a note, and `offset` bytes before it begins what the system gave for
        // `whole`.
        unsafe {
            account::credit(payer(block), whole.size() as u64);
            System.dealloc(block.sub(offset), whole);
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // The caller promises that the new size is a valid one for the alignment.
        let Ok(wanted) = Layout::from_size_align(size, layout.align()) else { return ptr::null_mut() };
        if layout.size() < COUNTED && size < COUNTED {
            // SAFETY: such blocks are the system's own, before and after.
            return unsafe { System.realloc(block, layout, size) };
        }
        if layout.size() >= COUNTED && size >= COUNTED {
            let (Some((old, offset)), Some((new, _))) = (noted(layout), noted(wanted)) else {
                return ptr::null_mut();
            };
            // SAFETY: as in `dealloc`. The system moves the note along with the block, and it stays where it was in
            // it, because the alignment, which decides on `offset`, is the same.
            unsafe {
                let base = System.realloc(block.sub(offset), old, new.size());
                if base.is_null() {
                    return base;
                }
                let moved = base.add(offset);
                account::resize(payer(moved), old.size() as u64, new.size() as u64);
                return moved;
            }
        }
        // A note comes or goes: into a new block.
        // SAFETY: both layouts are valid; the blocks are distinct, and as long as what is copied.
        unsafe {
            let moved = self.alloc(wanted);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// Gives free memory back to the system, as far as the system's allocator can.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: it takes no pointer and may be called at any time from any thread.
    unsafe {
        nix::libc::malloc_trim(0);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::account::Account;

    /// A block with its layout, filled with a pattern.
    struct Block {
        at: *mut u8,
        layout: Layout,
    }

    // SAFETY: a block belongs to no thread; that is one of the things tested.
    unsafe impl Send for Block {}

    fn pattern(i: usize) -> u8 {
        (i * 7 + i / 251) as u8
    }

    impl Block {
        fn new(size: usize, align: usize) -> Self {
            let layout = Layout::from_size_align(size, align).unwrap();
            // SAFETY: no size in these tests is 0.
            let at = unsafe { Allocator.alloc(layout) };
            assert!(!at.is_null() && at.addr().is_multiple_of(align), "{size} {align}");
            // SAFETY: the block is that long.
            (0..size).for_each(|i| unsafe { at.add(i).write(pattern(i)) });
            Self { at, layout }
        }

        fn resize(&mut self, size: usize) {
            let kept = self.layout.size().min(size);
            // SAFETY: it is a block of that layout.
            self.at = unsafe { Allocator.realloc(self.at, self.layout, size) };
            self.layout = Layout::from_size_align(size, self.layout.align()).unwrap();
            assert!(!self.at.is_null() && self.at.addr().is_multiple_of(self.layout.align()));
            // SAFETY: the block is that long.
            unsafe {
                assert!((0..kept).all(|i| self.at.add(i).read() == pattern(i)), "{kept} of {size}");
                (0..size).for_each(|i| self.at.add(i).write(pattern(i)));
            }
        }
    }

    impl Drop for Block {
        fn drop(&mut self) {
            // SAFETY: it is a block of that layout, dropped once.
            unsafe { Allocator.dealloc(self.at, self.layout) };
        }
    }

    /// Runs `work` on a thread of a lane with the account given.
    fn on_lane<T: Send>(account: &Account, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                account.adopt_thread();
                work()
            });
            worker.join().unwrap()
        })
    }

    #[test]
    fn blocks_of_all_sizes_and_alignments_hold_what_is_written() {
        let account = Account::open(None).unwrap();
        on_lane(&account, || {
            for align in [1, 8, 16, 64, 4096, 1 << 16] {
                for size in [1, 100, 1023, 1024, 1025, 5000, 1 << 17] {
                    let block = Block::new(size, align);
                    let expected = if size < COUNTED { 0 } else { size + align.max(16) };
                    assert_eq!(account.live(), expected as u64);
                    drop(block);
                    assert_eq!(account.live(), 0);
                }
            }
        });
    }

    #[test]
    fn the_note_is_aligned_whatever_the_block_is() {
        for align in [1, 2, 16, 4096] {
            let (whole, offset) = noted(Layout::from_size_align(5000, align).unwrap()).unwrap();
            assert!(whole.align() >= align.max(ALIGN) && offset.is_multiple_of(align));
            assert!((offset - NOTE).is_multiple_of(ALIGN));
        }
    }

    #[test]
    fn resizing_across_the_threshold_keeps_bytes_and_counts() {
        let account = Account::open(None).unwrap();
        on_lane(&account, || {
            for align in [1, 64, 4096] {
                let mut block = Block::new(10, align);
                for size in [1023, 1024, 1025, 1 << 20, 2000, 1024, 1000, 1, 3000] {
                    block.resize(size);
                    let expected = if size < COUNTED { 0 } else { size + align.max(16) };
                    assert_eq!(account.live(), expected as u64, "{size}");
                }
                drop(block);
                assert_eq!(account.live(), 0);
            }
        });
        assert!(account.peak() > 1 << 20);
    }

    #[test]
    fn zeroed_blocks_are_zero_also_where_others_were() {
        for size in [10, 1023, 1024, 4000, 1 << 18] {
            for _ in 0..4 {
                drop(Block::new(size, 32));
                let layout = Layout::from_size_align(size, 32).unwrap();
                // SAFETY: the block is read within its length and freed once.
                unsafe {
                    let at = Allocator.alloc_zeroed(layout);
                    assert!((0..size).all(|i| at.add(i).read() == 0));
                    Allocator.dealloc(at, layout);
                }
            }
        }
    }

    #[test]
    fn a_block_is_credited_where_it_was_charged_whoever_frees_it() {
        let (sender, receiver) = std::sync::mpsc::channel::<Block>();
        let partition = Arc::new(Account::open(None).unwrap());
        let (makes, frees) = (Account::open(Some(&partition)).unwrap(), Account::open(Some(&partition)).unwrap());
        std::thread::scope(|scope| {
            let freeing = scope.spawn(|| {
                frees.adopt_thread();
                for (i, mut block) in receiver.into_iter().enumerate() {
                    if i % 2 == 0 {
                        block.resize(block.layout.size() * 2);
                    }
                }
            });
            scope.spawn(|| {
                makes.adopt_thread();
                (0..1000).for_each(|i| sender.send(Block::new(1024 + i, 8)).unwrap());
                drop(sender);
            });
            freeing.join().unwrap();
        });
        assert_eq!([makes.live(), partition.live()], [0, 0]);
        assert!(makes.peak() >= 2048 && partition.peak() >= makes.peak());
        assert_eq!(frees.peak(), 0, "resizing does not change who pays");
    }

    #[test]
    fn what_cannot_be_had_is_null_and_not_counted() {
        let account = Account::open(None).unwrap();
        on_lane(&account, || {
            let huge = isize::MAX as usize - 4096;
            let mut block = Block::new(2000, 8);
            // SAFETY: the sizes are valid, and the block stays as it was.
            unsafe {
                assert!(Allocator.alloc(Layout::from_size_align(huge, 8).unwrap()).is_null());
                assert!(Allocator.alloc(Layout::from_size_align(isize::MAX as usize - 7, 8).unwrap()).is_null());
                assert!(Allocator.realloc(block.at, block.layout, huge).is_null());
            }
            assert_eq!(account.live(), 2016);
            block.resize(3000);
        });
        assert_eq!(account.live(), 0);
    }
}
