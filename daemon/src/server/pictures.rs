//! Takes pictures from clients' descriptors into the blob store.
//!
//! A descriptor is hostile until read: it may be a pipe that never ends, a file that changes or shrinks, a file system
//! that hangs. So it is never mapped, but read once into memory, with a limit on bytes and on time, by a bounded number of
//! readers. Nor is it decoded here: the engine does that, which may die of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;
use std::time::Duration;

use gpusched_shared::spec::MAX_IMAGE_BYTES;
use gpusched_shared::{BlobRef, Rejection};
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::statfs::{FUSE_SUPER_MAGIC, fstatfs};
use tokio::sync::Semaphore;

use crate::blobs::{Blobs, Hold, StoreError};

/// A picture in the store, kept there until the job that it came with is on record.
pub(super) struct Taken {
    /// Its file.
    pub(super) blob: BlobRef,
    /// Dropped, it may be collected again.
    pub(super) hold: Hold,
}

/// Reads the pictures and keeps them, in order. Whether they are pictures is for the engine to say.
///
/// # Errors
/// [`Rejection::BadImage`] for the first one that cannot be taken, [`Rejection::DiskFull`] or [`Rejection::StoreFull`] if
/// there is no room for it, [`Rejection::Internal`] when the store fails.
pub(super) async fn take(
    descriptors: Vec<OwnedFd>,
    blobs: &Arc<Blobs>,
    readers: &Arc<Semaphore>,
    limit: Duration,
) -> Result<Vec<Taken>, Rejection> {
    let mut taken = Vec::with_capacity(descriptors.len());
    for (index, descriptor) in (0u8..).zip(descriptors) {
        let bad = |reason: String| Rejection::BadImage { index, reason };
        let blobs = Arc::clone(blobs);
        let Ok(Ok(place)) = tokio::time::timeout(limit, Arc::clone(readers).acquire_owned()).await else {
            return Err(bad("the daemon is busy reading other pictures; try again".to_owned()));
        };
        let reading = async move {
            // The reader keeps its place until it is really done, also when nobody waits for it any more.
            let read = tokio::task::spawn_blocking(move || {
                let _place = place;
                take_one(index, descriptor, &blobs)
            });
            read.await.unwrap_or_else(|e| Err(Rejection::Internal { reason: e.to_string() }))
        };
        match tokio::time::timeout(limit, reading).await {
            Ok(read) => taken.push(read?),
            Err(_) => return Err(bad(format!("not read within {} s", limit.as_secs()))),
        }
    }
    Ok(taken)
}

fn take_one(index: u8, descriptor: OwnedFd, blobs: &Blobs) -> Result<Taken, Rejection> {
    let bytes = read(File::from(descriptor)).map_err(|reason| Rejection::BadImage { index, reason })?;
    match blobs.put_input(&bytes) {
        Ok((blob, hold)) => Ok(Taken { blob, hold }),
        Err(StoreError::Full { free_bytes, low_water_bytes }) => {
            Err(Rejection::DiskFull { free_bytes, low_water_bytes })
        }
        Err(StoreError::Quota { quota_bytes }) => Err(Rejection::StoreFull { quota_bytes }),
        Err(passing @ StoreError::Passing(_)) => Err(Rejection::Internal { reason: passing.to_string() }),
        Err(StoreError::Io(e)) => Err(Rejection::Internal { reason: format!("cannot store a picture: {e}") }),
    }
}

fn read(file: File) -> Result<Vec<u8>, String> {
    let unreadable = |e: io::Error| format!("cannot be read: {e}");
    let meta = file.metadata().map_err(unreadable)?;
    if !meta.is_file() {
        return Err("neither a regular file nor a memfd".to_owned());
    }
    if meta.size() > MAX_IMAGE_BYTES {
        return Err(format!("{} bytes, the limit is {MAX_IMAGE_BYTES}", meta.size()));
    }
    if fstatfs(&file).is_ok_and(|fs| fs.filesystem_type() == FUSE_SUPER_MAGIC) {
        return Err("lies on a FUSE file system, which may hang; send it as a sealed memfd".to_owned());
    }
    if is_memfd(&file) && !is_sealed(&file) {
        return Err("the memfd is not sealed against writing, growing and shrinking".to_owned());
    }
    let mut bytes = Vec::new();
    let mut chunk = vec![0; 256 * 1024];
    loop {
        let count = file.read_at(&mut chunk, bytes.len() as u64).map_err(unreadable)?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&chunk[..count]);
        if bytes.len() as u64 > MAX_IMAGE_BYTES {
            return Err(format!("more than {MAX_IMAGE_BYTES} bytes, which is the limit"));
        }
    }
}

/// Files on tmpfs answer questions about seals just as memfds do; only the name tells them apart.
fn is_memfd(file: &File) -> bool {
    std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))
        .is_ok_and(|name| name.as_os_str().as_encoded_bytes().starts_with(b"/memfd:"))
}

fn is_sealed(file: &File) -> bool {
    let needed = SealFlag::F_SEAL_WRITE | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SHRINK;
    fcntl(file, FcntlArg::F_GET_SEALS).is_ok_and(|seals| SealFlag::from_bits_retain(seals).contains(needed))
}
