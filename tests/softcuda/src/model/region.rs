//! A range of this process's addresses that stands for device memory: it takes no memory of the machine until something is
//! written to it.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

/// One mapping, unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Region {
    base: NonNull<c_void>,
    bytes: usize,
}

// SAFETY: The mapping belongs to the process, and to nobody else in it.
unsafe impl Send for Region {}

impl Region {
    /// `None` if the process has no addresses left.
    pub(crate) fn new(bytes: u64) -> Option<Self> {
        let bytes = usize::try_from(bytes).ok()?;
        let flags = MapFlags::MAP_PRIVATE | MapFlags::MAP_NORESERVE;
        // SAFETY: A new mapping; nothing is mapped over.
        let mapped = unsafe {
            mmap_anonymous(None, NonZeroUsize::new(bytes)?, ProtFlags::PROT_READ | ProtFlags::PROT_WRITE, flags)
        };
        Some(Self { base: mapped.ok()?, bytes })
    }

    pub(crate) fn base(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

/// Makes a range of a region zero. What it took of the machine's memory in whole pages is given back.
///
/// # Safety
/// It is part of a region, and nobody is at it.
pub(crate) unsafe fn zero(address: u64, bytes: usize) {
    let page = 4096;
    let start = address as usize;
    let (first, last) = (start.next_multiple_of(page), (start + bytes) / page * page);
    if let Some(pages) = NonNull::new(first as *mut c_void)
        && first < last
        // SAFETY: Whole pages of an anonymous private mapping, which read as zeros afterwards.
        && unsafe { madvise(pages, last - first, MmapAdvise::MADV_DONTNEED) }.is_ok()
    {
        // SAFETY: What is left of the range at both ends.
        unsafe {
            (start as *mut u8).write_bytes(0, first - start);
            (last as *mut u8).write_bytes(0, start + bytes - last);
        }
    } else {
        // SAFETY: By this function's own condition.
        unsafe { (start as *mut u8).write_bytes(0, bytes) };
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: It was mapped with this length, and `memory` hands out no address of a region that is gone.
        // That it cannot fail for these arguments is all there is to say about the result.
        let _ = unsafe { munmap(self.base, self.bytes) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_range_can_be_made_zero() {
        let region = Region::new(5 * 4096).unwrap();
        let all = region.base.as_ptr().cast::<u8>();
        for (from, bytes) in [(0, 5 * 4096), (10, 20), (10, 4096), (4096, 8192), (4000, 3 * 4096), (8190, 4)] {
            // SAFETY: The region is this test's, and as long as that.
            let bytes_there = unsafe {
                all.write_bytes(7, 5 * 4096);
                zero(region.base() + from as u64, bytes);
                std::slice::from_raw_parts(all, 5 * 4096)
            };
            let zeros =
                bytes_there.iter().enumerate().all(|(at, byte)| (*byte == 0) == (from..from + bytes).contains(&at));
            assert!(zeros, "{bytes} from {from}");
        }
    }
}
