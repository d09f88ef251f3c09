//! A range of this process's addresses that stands for device memory: it takes no memory of the machine until something is
//! written to it.

use std::ffi::c_void;
use std::num::NonZeroUsize;
use std::ptr::NonNull;

use nix::sys::mman::{MapFlags, ProtFlags, mmap_anonymous, munmap};

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

impl Drop for Region {
    fn drop(&mut self) {
        // SAFETY: It was mapped with this length, and `memory` hands out no address of a region that is gone.
        // That it cannot fail for these arguments is all there is to say about the result.
        let _ = unsafe { munmap(self.base, self.bytes) };
    }
}
