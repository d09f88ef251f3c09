//! Copies a state directory while a daemon uses it.
//!
//! The database is copied as it is at one moment, then the files that its rows name. No hard links: whatever damages such a
//! file would damage its backup as well. Where the file system can share blocks until they are written, the system's copying
//! does that. What is made can be used as a state directory as it is.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use gpusched_shared::BlobHash;
use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use super::check::{CheckError, Report, check, open};
use super::{FILE, row};
use crate::blobs;

/// Pages of the database that are copied at a time.
const PAGES: i32 = 256;

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The journal cannot be read.
    #[error(transparent)]
    Journal(#[from] CheckError),
    /// There is something already.
    #[error("{} is there already; name a directory that is not", .0.display())]
    There(PathBuf),
    /// It cannot be written.
    #[error("cannot write {}: {source}; what there is of the backup is of no use", path.display())]
    Write {
        /// What cannot be written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The database cannot be copied.
    #[error("cannot copy the journal: {0}; what there is of the backup is of no use")]
    Copy(#[from] rusqlite::Error),
    /// What was copied is not whole.
    #[error("the journal is damaged, and so is its backup: {first}; see `gpuschedd journal check`")]
    Damaged {
        /// The first thing wrong.
        first: String,
    },
}

/// Copies the state directory into a directory `to`, which is made, and checks what was made. `progress` is told how many
/// of how many steps are done.
///
/// # Errors
/// [`BackupError`].
pub fn backup(state_dir: &Path, to: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Report, BackupError> {
    let source = open(state_dir)?;
    let write = |path: &Path| {
        let path = path.to_owned();
        move |source| BackupError::Write { path, source }
    };
    match DirBuilder::new().mode(0o700).create(to) {
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return Err(BackupError::There(to.into())),
        made => made.map_err(write(to))?,
    }
    let copy = copy(&source, &to.join(FILE), &mut progress)?;
    drop(source);

    let (from, into) = (blobs::directory(state_dir), blobs::directory(to));
    DirBuilder::new().mode(0o700).create(&into).map_err(write(&into))?;
    let files = files(&copy)?;
    let of = files.len() as u64;
    for (done, hash) in (1..).zip(files) {
        match take(&blobs::below(&from, hash), &blobs::below(&into, hash)) {
            // A daemon that runs may have forgotten the job since; else the check finds that the file is missing.
            Err(e) if e.kind() == io::ErrorKind::NotFound => forget(&copy, &open(state_dir)?, hash)?,
            taken => taken.map_err(write(&blobs::below(&into, hash)))?,
        }
        progress(done, of);
    }
    // One file, without a log beside it.
    copy.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    copy.close().map_err(|(_, e)| e)?;
    for directory in [&into, to] {
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(write(directory))?;
    }
    let report = check(to, |_, _| {})?;
    match report.problems.first() {
        Some(first) => Err(BackupError::Damaged { first: first.clone() }),
        None => Ok(report),
    }
}

/// Copies the database as it is now, whatever is written to it meanwhile.
fn copy(source: &Connection, path: &Path, progress: &mut impl FnMut(u64, u64)) -> Result<Connection, BackupError> {
    let written = fs::OpenOptions::new().write(true).create_new(true).open(path);
    written
        .and_then(|file| file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600)))
        .map_err(|source| BackupError::Write { path: path.into(), source })?;
    // Whoever has begun to read keeps seeing the same state.
    let state = source.unchecked_transaction()?;
    state.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut copy = Connection::open(path)?;
    {
        let backup = Backup::new(source, &mut copy)?;
        loop {
            let step = backup.step(PAGES)?;
            let (of, left) = (backup.progress().pagecount, backup.progress().remaining);
            progress(u64::from((of - left).unsigned_abs()), u64::from(of.unsigned_abs()));
            // Else there is more to do; a source that is only read cannot be locked for long.
            if step == StepResult::Done {
                break;
            }
        }
    }
    Ok(copy)
}

fn files(copy: &Connection) -> Result<Vec<BlobHash>, BackupError> {
    let mut statement = copy.prepare("SELECT DISTINCT hash FROM blob_refs")?;
    let names = statement.query_map([], |row| row.get::<_, String>(0))?.collect::<Result<Vec<_>, _>>()?;
    Ok(names.iter().filter_map(|name| row::hash(0, name).ok()).collect())
}

fn take(from: &Path, to: &Path) -> io::Result<()> {
    let directory = to.parent().unwrap_or(to);
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e),
        Ok(()) | Err(_) => {}
    }
    fs::copy(from, to)?;
    File::open(to)?.sync_all()?;
    File::open(directory)?.sync_all()
}

/// Forgets, in the copy, the jobs that named a file and that the source has forgotten.
fn forget(copy: &Connection, source: &Connection, hash: BlobHash) -> rusqlite::Result<()> {
    let mut statement = copy.prepare("SELECT job FROM blob_refs WHERE hash = ?1")?;
    let jobs = statement.query_map([hash.to_string()], |row| row.get::<_, i64>(0))?.collect::<Result<Vec<_>, _>>()?;
    for job in jobs {
        if !source.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?.exists([job])? {
            for sql in super::forget::ROWS_OF_A_JOB {
                copy.execute(sql, [job])?;
            }
        }
    }
    Ok(())
}
