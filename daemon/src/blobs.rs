//! The blob store: files named by the BLAKE3 hash of what they hold.
//!
//! A blob is written under a temporary name, synced, renamed, and its directory synced, so a name that exists holds what
//! it says. The same bytes are kept once.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use gpusched_shared::{BlobHash, BlobRef};

const TEMPORARY: &str = "tmp";

/// A directory of blobs.
#[derive(Debug)]
pub struct Blobs {
    root: PathBuf,
    counter: AtomicU64,
}

impl Blobs {
    /// Opens the store below `root`, makes it if it is not there, and removes what an earlier run left half-written.
    ///
    /// # Errors
    /// When the directories cannot be made or read.
    pub fn open(root: &Path) -> io::Result<Self> {
        let temporary = root.join(TEMPORARY);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&temporary)?;
        for entry in fs::read_dir(&temporary)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { root: root.into(), counter: AtomicU64::new(0) })
    }

    /// Keeps `bytes`. When it returns they survive loss of power. Blocks on the disk.
    ///
    /// # Errors
    /// When the disk is full or fails; nothing is left behind then.
    pub fn put(&self, bytes: &[u8]) -> io::Result<BlobRef> {
        let blob = BlobRef { hash: BlobHash::of(bytes), bytes: bytes.len() as u64 };
        let path = self.path(blob.hash);
        let directory = path.parent().unwrap_or(&self.root);
        // What is there may be damaged, or not durable yet: it counts only once it has been read and synced.
        if fs::read(&path).is_ok_and(|there| there == bytes) {
            File::open(&path)?.sync_all()?;
            File::open(directory)?.sync_all()?;
            return Ok(blob);
        }
        fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join(TEMPORARY).join(number.to_string());
        let written = write_synced(&temporary, bytes)
            .and_then(|()| fs::rename(&temporary, &path))
            .and_then(|()| File::open(directory)?.sync_all())
            .and_then(|()| File::open(&self.root)?.sync_all());
        if let Err(e) = written {
            let _ = fs::remove_file(&temporary);
            return Err(e);
        }
        Ok(blob)
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
        let name = hash.to_string();
        self.root.join(&name[..2]).join(name)
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn keeps_bytes_once_and_sweeps_leftovers() {
        let root = tempfile::tempdir().expect("a temporary directory");
        let blobs = Blobs::open(root.path()).expect("opens");
        let blob = blobs.put(b"picture").expect("stored");
        assert_eq!(blobs.put(b"picture").expect("stored"), blob);
        let mut bytes = Vec::new();
        blobs.get(blob.hash).expect("there").read_to_end(&mut bytes).expect("readable");
        assert_eq!(bytes, b"picture");

        fs::write(blobs.path(blob.hash), b"damaged").expect("written");
        blobs.put(b"picture").expect("stored");
        assert_eq!(fs::read(blobs.path(blob.hash)).expect("there"), b"picture", "mended");

        let leftover = root.path().join(TEMPORARY).join("9");
        fs::write(&leftover, b"half").expect("written");
        Blobs::open(root.path()).expect("opens again");
        assert!(!leftover.exists());
        assert!(blobs.get(blob.hash).is_ok());
    }
}
