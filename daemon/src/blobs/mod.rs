//! The blob store: files named by the BLAKE3 hash of what they hold.
//!
//! A blob is written under a temporary name, synced, renamed, and its directory synced, so a name that exists holds what
//! it says. The same bytes are kept once. What no row of the journal names and nobody holds (`hold`) is removed by the
//! journal.

mod hold;

pub use hold::Hold;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use gpusched_shared::{BlobHash, BlobRef, Bytes};

use crate::disk::{Disk, Low, is_full, is_passing};
use hold::Holds;

const ROOT: &str = "blobs";
const TEMPORARY: &str = "tmp";

/// Why a blob was not stored.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room.
    #[error("the disk has {} free, and takes files from {} on; make room in the state directory", Bytes(*free_bytes), Bytes(*low_water_bytes))]
    Full {
        /// What is free.
        free_bytes: u64,
        /// The least that must be.
        low_water_bytes: u64,
    },
    /// Blobs take all that they may.
    #[error("stored files take all of the {} that they may; wait for jobs to end, or raise storage.blobs", Bytes(*quota_bytes))]
    Quota {
        /// The most they may take.
        quota_bytes: u64,
    },
    /// This process has too much open or in memory.
    #[error("the blob store cannot be used just now: {0}; try again")]
    Passing(io::Error),
    /// The disk failed.
    #[error("the blob store failed: {0}; see to the disk")]
    Io(#[from] io::Error),
}

/// What is wrong with a blob.
#[derive(Debug, thiserror::Error)]
pub enum Damage {
    /// It is not there.
    #[error("is gone")]
    Gone,
    /// It does not hold what its name says.
    #[error("is damaged: it has {bytes} bytes that hash to {hash}")]
    Differs {
        /// How many bytes there are.
        bytes: u64,
        /// Their hash.
        hash: BlobHash,
    },
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Unreadable(io::Error),
}

/// A directory of blobs.
#[derive(Debug)]
pub struct Blobs {
    disk: Arc<Disk>,
    root: PathBuf,
    counter: AtomicU64,
    holds: Arc<Holds>,
    /// What the disk said when it failed; from then on nothing is stored.
    broken: OnceLock<String>,
}

impl Blobs {
    /// Opens the store in the state directory of `disk`, makes it if it is not there, and removes what an earlier run left
    /// half-written.
    ///
    /// # Errors
    /// When the directories cannot be made or read.
    pub fn open(disk: Arc<Disk>) -> io::Result<Self> {
        let root = disk.root().join(ROOT);
        let temporary = root.join(TEMPORARY);
        disk.make_directory(&root)?;
        disk.make_directory(&temporary)?;
        disk.sync_directory(disk.root())?;
        for entry in fs::read_dir(&temporary)? {
            disk.remove(&entry?.path())?;
        }
        let store =
            Self { root, counter: AtomicU64::new(0), holds: Arc::new(Holds::default()), broken: OnceLock::new(), disk };
        store.holds.set_bytes(store.list()?.into_iter().map(|blob| blob.bytes).sum());
        Ok(store)
    }

    /// The disk below it.
    pub fn disk(&self) -> &Disk {
        &self.disk
    }

    /// Keeps what a client sent, if there is room for it or it is there already, as it is for a client that attaches again
    /// to its job. When it returns, the bytes survive loss of power. Blocks on the disk.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is left behind then.
    pub fn put_input(&self, bytes: &[u8]) -> Result<(BlobRef, Hold), StoreError> {
        let quota_bytes = self.disk.config().blobs.0;
        let more = bytes.len() as u64;
        // As long a file may still be damaged, and is written anew then; that is rare enough to be tried without room.
        if !fs::metadata(self.path(BlobHash::of(bytes))).is_ok_and(|there| there.len() == more) {
            if self.bytes().saturating_add(more) > quota_bytes {
                return Err(StoreError::Quota { quota_bytes });
            }
            self.disk.room_for(more)?;
        }
        self.put(bytes).map_err(|e| self.failed(e))
    }

    /// Keeps what a job made, also when there is little room: the reserve is for it. Otherwise as
    /// [`put_input`](Self::put_input).
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn put_result(&self, bytes: &[u8]) -> Result<(BlobRef, Hold), StoreError> {
        let put = match self.put(bytes) {
            Err(e) if is_full(&e) && self.disk.give_up_reserve() => self.put(bytes),
            put => put,
        };
        put.map_err(|e| self.failed(e))
    }

    fn put(&self, bytes: &[u8]) -> io::Result<(BlobRef, Hold)> {
        if let Some(why) = self.broken() {
            return Err(io::Error::other(why.to_owned()));
        }
        let blob = BlobRef { hash: BlobHash::of(bytes), bytes: bytes.len() as u64 };
        let hold = self.holds.hold(blob.hash);
        let path = self.path(blob.hash);
        let directory = path.parent().unwrap_or(&self.root);
        // What is there may be damaged, or not durable yet: it counts only once it has been read and synced.
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            self.disk.sync(&path)?;
        } else {
            self.disk.make_directory(directory)?;
            self.write(&path, bytes)?;
        }
        self.disk.sync_directory(directory)?;
        self.disk.sync_directory(&self.root)?;
        Ok((blob, hold))
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(TEMPORARY).join(number.to_string());
        self.disk.write_new(&temporary, bytes)?;
        let placed = self.holds.place(|| {
            let before = fs::metadata(path).map_or(0, |meta| meta.len());
            self.disk.rename(&temporary, path)?;
            Ok((before, bytes.len() as u64))
        });
        if placed.is_err() {
            let _ = self.disk.remove(&temporary);
        }
        placed
    }

    fn failed(&self, error: io::Error) -> StoreError {
        if is_full(&error) {
            let free_bytes = self.disk.free_bytes().unwrap_or(0);
            return StoreError::Full { free_bytes, low_water_bytes: self.disk.config().low_water.0 };
        }
        if is_passing(&error) {
            return StoreError::Passing(error);
        }
        // A sync that failed once may seem to succeed the next time, without the bytes being there.
        let _ = self.broken.set(error.to_string());
        StoreError::Io(error)
    }

    /// What the disk said when it failed. From then on nothing is stored, and the journal says that it is poisoned.
    pub fn broken(&self) -> Option<&str> {
        self.broken.get().map(String::as_str)
    }

    /// Keeps a blob that a row names, or is about to, from being removed.
    pub fn hold(&self, hash: BlobHash) -> Hold {
        self.holds.hold(hash)
    }

    /// Says that a row which named a blob is gone, or that it could not be removed: [`take_released`](Self::take_released)
    /// is to have it.
    pub fn release(&self, hash: BlobHash) {
        self.holds.release(hash);
    }

    /// Blobs that were held and are not any more, or were released, since this was asked last. They go unless a row names
    /// them.
    pub fn take_released(&self) -> BTreeSet<BlobHash> {
        self.holds.take_released()
    }

    /// Removes a blob that no row names, unless someone holds it.
    ///
    /// # Errors
    /// When the disk fails; that it is not there is no failure.
    pub fn remove(&self, hash: BlobHash) -> io::Result<()> {
        self.holds.remove(hash, || {
            let path = self.path(hash);
            let bytes = match fs::metadata(&path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(0),
                meta => meta?.len(),
            };
            self.disk.remove(&path).map(|()| bytes)
        })
    }

    /// How many bytes the blobs take.
    pub fn bytes(&self) -> u64 {
        self.holds.bytes()
    }

    /// All blobs that are there.
    ///
    /// # Errors
    /// When the directories cannot be read.
    pub fn list(&self) -> io::Result<Vec<BlobRef>> {
        list(&self.root)
    }

    /// Opens a blob read-only.
    ///
    /// # Errors
    /// When it is not there or cannot be read.
    pub fn get(&self, hash: BlobHash) -> io::Result<File> {
        File::open(self.path(hash))
    }

    /// Where a blob lies.
    pub fn path(&self, hash: BlobHash) -> PathBuf {
        below(&self.root, hash)
    }

    /// Reads a blob and compares it with its name.
    ///
    /// # Errors
    /// [`Damage`].
    pub fn verify(&self, hash: BlobHash) -> Result<(), Damage> {
        verify(&self.root, hash)
    }
}

impl From<Low> for StoreError {
    fn from(Low { free_bytes, low_water_bytes }: Low) -> Self {
        Self::Full { free_bytes, low_water_bytes }
    }
}

/// Where a state directory's blobs lie.
pub fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join(ROOT)
}

/// Where a blob lies below the directory of blobs.
pub fn below(root: &Path, hash: BlobHash) -> PathBuf {
    let name = hash.to_string();
    root.join(&name[..2]).join(name)
}

/// All blobs below a directory of blobs. Files of other names are none of them.
///
/// # Errors
/// When the directories cannot be read.
pub fn list(root: &Path) -> io::Result<Vec<BlobRef>> {
    let mut blobs = Vec::new();
    for directory in fs::read_dir(root)? {
        let directory = directory?;
        if directory.file_name() == TEMPORARY || !directory.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(directory.path())? {
            let file = file?;
            if let Some(hash) = file.file_name().to_str().and_then(|name| name.parse().ok()) {
                blobs.push(BlobRef { hash, bytes: file.metadata()?.len() });
            }
        }
    }
    Ok(blobs)
}

/// Reads a blob below a directory of blobs and compares it with its name.
///
/// # Errors
/// [`Damage`].
pub fn verify(root: &Path, hash: BlobHash) -> Result<(), Damage> {
    let mut file = File::open(below(root, hash))
        .map_err(|e| if e.kind() == io::ErrorKind::NotFound { Damage::Gone } else { Damage::Unreadable(e) })?;
    let (mut hasher, mut chunk, mut bytes) = (blake3::Hasher::new(), vec![0; 256 * 1024], 0);
    loop {
        match file.read(&mut chunk) {
            Ok(0) => break,
            Ok(count) => {
                hasher.update(&chunk[..count]);
                bytes += count as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Damage::Unreadable(e)),
        }
    }
    let found = BlobHash(*hasher.finalize().as_bytes());
    if found == hash { Ok(()) } else { Err(Damage::Differs { bytes, hash: found }) }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::config::{Size, StorageConfig};

    fn open(root: &Path, blobs: u64) -> Blobs {
        let config = StorageConfig { blobs: Size(blobs), low_water: Size(1), reserve: Size(0) };
        Blobs::open(Arc::new(Disk::open(root, &config, None).expect("a disk"))).expect("opens")
    }

    #[test]
    fn keeps_bytes_once_and_sweeps_leftovers() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let blobs = open(root.path(), 1000);
        let (blob, _hold) = blobs.put_input(b"picture").expect("stored");
        assert_eq!(blobs.put_result(b"picture").expect("stored").0, blob);
        assert_eq!(blobs.bytes(), 7);
        blobs.verify(blob.hash).expect("there, and right");

        fs::write(blobs.path(blob.hash), b"damaged!").expect("written");
        assert!(matches!(blobs.verify(blob.hash), Err(Damage::Differs { bytes: 8, .. })));
        drop(blobs.put_input(b"picture").expect("stored"));
        blobs.verify(blob.hash).expect("mended");

        let leftover = root.path().join("blobs").join(TEMPORARY).join("9");
        fs::write(&leftover, b"half").expect("written");
        let blobs = open(root.path(), 1000);
        assert!(!leftover.exists());
        assert_eq!(blobs.list().expect("read"), [blob]);
        assert_eq!(blobs.bytes(), 7);
    }

    #[test]
    fn a_blob_goes_only_when_nobody_holds_it() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let blobs = open(root.path(), 1000);
        let (blob, first) = blobs.put_input(b"picture").expect("stored");
        let (_, second) = blobs.put_input(b"picture").expect("stored");
        drop(first);
        assert_eq!(blobs.take_released(), BTreeSet::new(), "one holds it still");
        blobs.remove(blob.hash).expect("nothing to do");
        blobs.verify(blob.hash).expect("there");
        drop(second);
        assert_eq!(blobs.take_released(), BTreeSet::from([blob.hash]));
        blobs.remove(blob.hash).expect("removed");
        assert!(matches!(blobs.verify(blob.hash), Err(Damage::Gone)));
        assert_eq!(blobs.bytes(), 0);
        blobs.remove(blob.hash).expect("gone already");
    }

    #[test]
    fn a_picture_that_is_there_needs_no_room() {
        let root = tempfile::tempdir().expect("a temporary directory");
        drop(open(root.path(), 1000).put_input(b"picture").expect("stored"));
        let config = StorageConfig { blobs: Size(1000), low_water: Size(u64::MAX), reserve: Size(0) };
        let disk = Disk::open(root.path(), &config, None).expect("a disk");
        let full = Blobs::open(Arc::new(disk)).expect("opens");
        full.put_input(b"picture").expect("it is there");
        assert!(matches!(full.put_input(b"another"), Err(StoreError::Full { .. })));
    }

    #[test]
    fn pictures_beyond_the_quota_are_refused_and_results_are_not() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let blobs = open(root.path(), 10);
        let _first = blobs.put_input(b"picture").expect("stored");
        assert!(matches!(blobs.put_input(b"another"), Err(StoreError::Quota { quota_bytes: 10 })));
        blobs.put_input(b"picture").expect("takes no more room");
        blobs.put_result(b"another").expect("running work finishes");
        assert_eq!(blobs.bytes(), 14);
    }
}
