//! The disk under the state directory: how much room it has, what is kept in reserve, and the few ways in which files are
//! changed.
//!
//! Below the low-water mark no jobs are taken. What was accepted may finish: when the disk is full, the *reserve*, a file
//! that was allocated while there was room, is given up for it. It is made anew when there is room again.

use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::statvfs;

use crate::config::StorageConfig;

const RESERVE: &str = "reserve";

/// A change to the disk, about to be made.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// A new, empty file.
    Create(&'a Path),
    /// Bytes into a file, from its beginning.
    Write {
        /// The file.
        path: &'a Path,
        /// What goes there.
        bytes: &'a [u8],
    },
    /// What a file holds, onto the medium.
    Sync(&'a Path),
    /// What names a directory holds, onto the medium.
    SyncDirectory(&'a Path),
    /// A file's name.
    Rename {
        /// The old one.
        from: &'a Path,
        /// The new one; what had it is gone.
        to: &'a Path,
    },
    /// A file goes.
    Remove(&'a Path),
    /// A new directory.
    MakeDirectory(&'a Path),
    /// Room for a file whose content does not matter.
    Allocate {
        /// The file.
        path: &'a Path,
        /// How much.
        bytes: u64,
    },
}

/// Sees every change before it is made, and may let it fail. Tests use it to record what a crash could leave behind, and to
/// have disks that are full or broken; the daemon has none.
pub trait Witness: fmt::Debug + Send + Sync {
    /// A change is about to be made.
    ///
    /// # Errors
    /// What the disk is to answer instead of making it.
    fn before(&self, change: Change<'_>) -> io::Result<()>;

    /// How much is free, given what was measured.
    fn free_bytes(&self, measured: u64) -> u64;
}

/// Too little is free to take jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Low {
    /// What is free.
    pub free_bytes: u64,
    /// The least that must be.
    pub low_water_bytes: u64,
}

/// See the [module's documentation](self).
#[derive(Debug)]
pub struct Disk {
    root: PathBuf,
    config: StorageConfig,
    witness: Option<Arc<dyn Witness>>,
    /// Whether the reserve is there.
    reserve: Mutex<bool>,
}

impl Disk {
    /// The disk with the directory `root`, which is made if it is not there. Makes the reserve if there is room for it.
    ///
    /// # Errors
    /// When the directory cannot be made, or nothing can be changed in it.
    pub fn open(root: &Path, config: &StorageConfig, witness: Option<Arc<dyn Witness>>) -> io::Result<Self> {
        let disk = Self { root: root.into(), config: config.clone(), witness, reserve: Mutex::new(false) };
        disk.make_directory(root)?;
        let reserve = root.join(RESERVE);
        let there = fs::metadata(&reserve).map(|meta| meta.len());
        if there.as_ref().is_ok_and(|bytes| *bytes == config.reserve.0) {
            *disk.lock() = true;
        } else if there.is_ok() {
            disk.remove(&reserve)?;
        }
        disk.renew_reserve()?;
        Ok(disk)
    }

    /// The directory in which everything lies.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the daemon takes of the disk.
    pub fn config(&self) -> &StorageConfig {
        &self.config
    }

    /// How much is free, beside the reserve.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn free_bytes(&self) -> io::Result<u64> {
        let measured = statvfs(&self.root)?;
        let free_bytes = measured.blocks_available().saturating_mul(measured.fragment_size());
        Ok(self.witness.as_ref().map_or(free_bytes, |witness| witness.free_bytes(free_bytes)))
    }

    /// Whether so many more bytes leave as much free as there must be to take jobs.
    ///
    /// # Errors
    /// [`Low`] if not.
    pub fn room_for(&self, bytes: u64) -> Result<(), Low> {
        let low_water_bytes = self.config.low_water.0;
        // What cannot be measured is found out by writing.
        match self.free_bytes() {
            Ok(free_bytes) if free_bytes < low_water_bytes.saturating_add(bytes) => {
                Err(Low { free_bytes, low_water_bytes })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Gives the reserve up. True if there was one, and there is room now.
    pub fn give_up_reserve(&self) -> bool {
        let mut there = self.lock();
        let given = *there && self.remove(&self.root.join(RESERVE)).is_ok();
        *there &= !given;
        if given {
            tracing::warn!("the disk is full: the reserve is given up, so that what runs can finish");
        }
        given
    }

    /// Makes the reserve if it is not there and the disk would be above the low-water mark with it. True if it is there.
    ///
    /// # Errors
    /// When the disk fails; that it is full is no failure.
    pub fn renew_reserve(&self) -> io::Result<bool> {
        let mut there = self.lock();
        let bytes = self.config.reserve.0;
        if !*there && bytes > 0 && self.room_for(bytes).is_ok() {
            let path = self.root.join(RESERVE);
            let create = || match self.create(&path) {
                // One that could neither be made whole nor removed again.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                    self.remove(&path)?;
                    self.create(&path)
                }
                created => created,
            };
            if let Err(e) = create().and_then(|file| self.allocate(&file, &path, bytes)) {
                let _ = fs::remove_file(&path);
                return if is_full(&e) { Ok(false) } else { Err(e) };
            }
            *there = true;
        }
        Ok(*there)
    }

    /// Makes a file with these bytes, which are on the medium when this returns; its name is not until its directory is
    /// synced. What fails leaves nothing behind.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn write_new(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let written = self.create(path).and_then(|mut file| {
            self.tell(Change::Write { path, bytes })?;
            file.write_all(bytes)?;
            self.tell(Change::Sync(path))?;
            file.sync_all()
        });
        if written.is_err() {
            let _ = self.remove(path);
        }
        written
    }

    /// Brings what a file holds onto the medium.
    ///
    /// # Errors
    /// When the file cannot be opened, or what it holds may be lost. The latter is a broken disk also if there was no room.
    pub fn sync(&self, path: &Path) -> io::Result<()> {
        let file = File::open(path)?;
        self.tell(Change::Sync(path)).and_then(|()| file.sync_all()).map_err(lost)
    }

    /// Brings the names in a directory onto the medium.
    ///
    /// # Errors
    /// As of [`sync`](Self::sync).
    pub fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let directory = File::open(path)?;
        self.tell(Change::SyncDirectory(path)).and_then(|()| directory.sync_all()).map_err(lost)
    }

    /// Gives a file another name.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.tell(Change::Rename { from, to })?;
        fs::rename(from, to)
    }

    /// Removes a file.
    ///
    /// # Errors
    /// When it is not there, or the disk fails.
    pub fn remove(&self, path: &Path) -> io::Result<()> {
        self.tell(Change::Remove(path))?;
        fs::remove_file(path)
    }

    /// Makes a directory that only this user may enter, unless it is there. Its name is on the medium when its parent is
    /// synced.
    ///
    /// # Errors
    /// When the disk is full or fails.
    pub fn make_directory(&self, path: &Path) -> io::Result<()> {
        if path.is_dir() {
            return Ok(());
        }
        self.tell(Change::MakeDirectory(path))?;
        match DirBuilder::new().mode(0o700).create(path) {
            // Another thread was faster.
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }

    fn create(&self, path: &Path) -> io::Result<File> {
        self.tell(Change::Create(path))?;
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
    }

    fn allocate(&self, file: &File, path: &Path, bytes: u64) -> io::Result<()> {
        self.tell(Change::Allocate { path, bytes })?;
        Ok(posix_fallocate(file, 0, i64::try_from(bytes).unwrap_or(i64::MAX))?)
    }

    fn tell(&self, change: Change<'_>) -> io::Result<()> {
        self.witness.as_ref().map_or(Ok(()), |witness| witness.before(change))
    }

    fn lock(&self) -> MutexGuard<'_, bool> {
        self.reserve.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a sync answers once: the system drops what it could not write, and says of the next sync that it went well. So there
/// is nothing to wait for, whatever the reason was.
fn lost(error: io::Error) -> io::Error {
    io::Error::other(format!("what was written could not be synced: {error}"))
}

/// Whether there was no room, or no more for this user.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether it was this process that has too much open or in memory, rather than the disk that failed.
pub fn is_passing(error: &io::Error) -> bool {
    let own = [Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM, Errno::EAGAIN, Errno::EINTR];
    error.raw_os_error().is_some_and(|code| own.contains(&Errno::from_raw(code)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    fn config(low_water: u64, reserve: u64) -> StorageConfig {
        StorageConfig { low_water: Size(low_water), reserve: Size(reserve), ..StorageConfig::default() }
    }

    #[test]
    fn the_reserve_is_kept_given_up_once_and_made_anew() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join(RESERVE);
        let disk = Disk::open(root.path(), &config(1, 8192), None).expect("opened");
        assert_eq!(fs::metadata(&path).expect("there").len(), 8192);
        drop(disk);

        let disk = Disk::open(root.path(), &config(1, 4096), None).expect("opened");
        assert_eq!(fs::metadata(&path).expect("there").len(), 4096, "as configured now");
        assert!(disk.give_up_reserve());
        assert!(!path.exists());
        assert!(!disk.give_up_reserve(), "there is none any more");
        assert!(disk.renew_reserve().expect("room"));
        assert!(path.exists());
    }

    #[test]
    fn a_reserve_that_was_left_behind_is_made_anew() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(root.path(), &config(1, 4096), None).expect("opened");
        assert!(disk.give_up_reserve());
        fs::write(root.path().join(RESERVE), b"half").expect("written");
        assert!(disk.renew_reserve().expect("no failure"));
        assert_eq!(fs::metadata(root.path().join(RESERVE)).expect("there").len(), 4096);
    }

    /// A disk that finds out at a sync that it has no room.
    #[derive(Debug)]
    struct Late;

    impl Witness for Late {
        fn before(&self, change: Change<'_>) -> io::Result<()> {
            let late = matches!(change, Change::Sync(_) | Change::SyncDirectory(_));
            if late { Err(Errno::ENOSPC.into()) } else { Ok(()) }
        }

        fn free_bytes(&self, measured: u64) -> u64 {
            measured
        }
    }

    #[test]
    fn a_sync_that_failed_is_not_to_be_tried_again() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(root.path(), &config(1, 0), Some(Arc::new(Late))).expect("opened");
        let path = root.path().join("file");
        fs::write(&path, b"bytes").expect("written");
        for failed in [disk.sync(&path), disk.sync_directory(root.path())] {
            let e = failed.expect_err("no room");
            assert!(!is_full(&e) && !is_passing(&e), "{e}");
            assert!(e.to_string().contains("No space left"), "{e}");
        }
        let e = disk.write_new(&root.path().join("new"), b"bytes").expect_err("no room");
        assert!(is_full(&e), "of a file that is not there any more nothing is lost: {e}");
    }

    #[test]
    fn a_disk_below_the_mark_takes_nothing_and_keeps_no_reserve() {
        let root = tempfile::tempdir().expect("a directory");
        let disk = Disk::open(root.path(), &config(u64::MAX, 4096), None).expect("opened");
        let low = disk.room_for(1).expect_err("low");
        assert_eq!(low.low_water_bytes, u64::MAX);
        assert!(low.free_bytes > 0);
        assert!(!disk.renew_reserve().expect("no failure"));
    }
}
