//! The database: how it is opened, and how a group of entries gets into it.
//!
//! Three things can go wrong with a write. The disk is *full*, or the database is *busy*, locked by another program: then
//! nothing has been written, and it may be tried again. Or the disk is *broken*: then nobody knows what it holds.

use std::collections::BTreeSet;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

use super::write::insert;
use super::{Entry, FILE, JournalError, Reply, Settings, schema};
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::disk;

/// What is not synced by its commit is this soon after.
const SYNC_SOON: Duration = Duration::from_millis(100);

/// Entries after which the log is copied into the database, so that the log stays small.
const CHECKPOINT: usize = 500;

/// The log is cut to this when it starts anew.
const LOG_BYTES: i64 = 4 << 20;

/// A database up to this size is looked through before it is used.
const LOOK_THROUGH_BYTES: u64 = 256 << 20;

/// Why a group was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    /// There is no room. Nothing was written.
    #[error("the disk is full")]
    Full,
    /// Another program writes, or this one has too much open. Nothing was written.
    #[error("the journal cannot be written just now: {0}")]
    Busy(String),
    /// The disk failed, or what it holds makes no sense. What was written is not known.
    #[error("{0}")]
    Broken(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            _ if is_full(&error) => Self::Full,
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked | ErrorCode::FileLockingProtocolFailed) => {
                Self::Busy(error.to_string())
            }
            _ => Self::Broken(error.to_string()),
        }
    }
}

/// Whether there was no room, also where only the log's index did not fit, which no answer rests on.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    let Some(ffi::Error { code, extended_code }) = error.sqlite_error() else { return false };
    match *extended_code {
        ffi::SQLITE_IOERR_SHMSIZE => true,
        // SQLite does not know of quotas, but the system's number is still there: what is done after a failed write, which
        // is to take it back, fails only if that does.
        ffi::SQLITE_IOERR_WRITE => Errno::last() == Errno::EDQUOT,
        _ => *code == ErrorCode::DiskFull,
    }
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        match error {
            full if disk::is_full(&full) => Self::Full,
            passing if disk::is_passing(&passing) => Self::Busy(passing.to_string()),
            broken => Self::Broken(broken.to_string()),
        }
    }
}

pub(super) struct Store {
    pub(super) connection: Connection,
    pub(super) blobs: Arc<Blobs>,
    pub(super) clock: Clock,
    path: PathBuf,
    power_durable: BTreeSet<String>,
    /// Since when the log has had something that is not synced.
    unsynced_since: Option<Instant>,
    /// Entries in the log.
    logged: usize,
}

impl Store {
    pub(super) fn open(settings: &Settings, blobs: Arc<Blobs>) -> Result<Self, JournalError> {
        let disk = blobs.disk();
        let path = disk.root().join(FILE);
        // Prompts are nobody else's business. SQLite gives its other files the mode of this one.
        if !path.exists() {
            disk.write_new(&path, b"")?;
            disk.sync_directory(disk.root())?;
        }
        let named = |source| JournalError::Database { path: path.display().to_string(), source };
        fs::set_permissions(&path, Permissions::from_mode(0o600))?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = match settings.vfs.as_deref() {
            Some(vfs) => Connection::open_with_flags_and_vfs(&path, flags, vfs),
            None => Connection::open_with_flags(&path, flags),
        }
        .map_err(named)?;
        for (pragma, value) in [("journal_size_limit", LOG_BYTES), ("wal_autocheckpoint", 0), ("foreign_keys", 1)] {
            connection.pragma_update(None, pragma, value).map_err(named)?;
        }
        connection.pragma_update(None, "temp_store", "MEMORY").map_err(named)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(named)?;
        let (found, known) = (schema::version(&connection).map_err(named)?, schema::newest());
        if found > known {
            return Err(JournalError::Newer { path: path.display().to_string(), found, known });
        }
        if fs::metadata(&path)?.len() <= LOOK_THROUGH_BYTES {
            let said: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(named)?;
            if said != "ok" {
                return Err(JournalError::Damaged { path: path.display().to_string(), what: said });
            }
        }
        schema::migrate(&mut connection).map_err(named)?;
        let power_durable = settings.power_durable.clone();
        let (path, clock) = (path.clone(), settings.clock);
        let mut store = Self { connection, blobs, clock, path, power_durable, unsynced_since: None, logged: 0 };
        // What a killed daemon wrote and did not sync is told again from now on, so it must not get lost any more.
        store.sync().map_err(|e| JournalError::Disk {
            path: store.path.display().to_string(),
            what: e.to_string(),
            full: false,
        })?;
        Ok(store)
    }

    /// The database's file.
    pub(super) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Writes a group of entries in one transaction and says what became of them.
    pub(super) fn write(&mut self, entries: &[Entry]) -> Result<Vec<Reply>, Fault> {
        let power = entries.iter().any(|entry| match entry {
            // Of a stage nothing was promised: one that is lost is asked for again.
            Entry::Submission(record) => record.part.is_none() && self.power_durable.contains(&record.class),
            Entry::Outcome { .. } => true,
            Entry::Amendment(_)
            | Entry::Attempt { .. }
            | Entry::AttemptEnd { .. }
            | Entry::BackOff { .. }
            | Entry::Footprint(_)
            | Entry::Memory(_) => false,
        });
        self.logged += entries.len();
        self.transact(power, |transaction| {
            let replies = entries.iter().map(|entry| insert(transaction, entry));
            replies.filter_map(Result::transpose).collect()
        })
    }

    /// Changes the database in one transaction, which is synced at once or soon.
    pub(super) fn transact<T>(
        &mut self,
        at_once: bool,
        change: impl FnOnce(&rusqlite::Transaction<'_>) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        // FULL syncs the log at commit; with NORMAL `sync` does, or the next commit with FULL.
        self.connection.pragma_update(None, "synchronous", if at_once { "FULL" } else { "NORMAL" })?;
        let transaction = self.connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let changed = change(&transaction)?;
        self.logged += 1;
        transaction.commit()?;
        self.unsynced_since = if at_once { None } else { self.unsynced_since.or_else(|| Some(Instant::now())) };
        Ok(changed)
    }

    /// When the log is to be synced.
    pub(super) fn sync_at(&self) -> Option<Instant> {
        self.unsynced_since.map(|since| since + SYNC_SOON)
    }

    /// Brings the log onto the medium.
    pub(super) fn sync(&mut self) -> Result<(), Fault> {
        let log = self.log();
        let synced = if log.exists() { self.blobs.disk().sync(&log) } else { Ok(()) };
        self.unsynced_since = synced.is_err().then(Instant::now);
        Ok(synced?)
    }

    /// Whether the log has grown enough to be copied into the database.
    pub(super) fn is_checkpoint_due(&self) -> bool {
        self.logged >= CHECKPOINT
    }

    /// Whether the log holds something that is not in the database yet.
    pub(super) fn has_log(&self) -> bool {
        self.logged > 0
    }

    /// Copies the log into the database, as far as nobody reads an older state. SQLite would do so by itself, but keep to
    /// itself that the disk failed.
    pub(super) fn checkpoint(&mut self) -> Result<(), Fault> {
        self.connection.pragma_update(None, "synchronous", "FULL")?;
        self.connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))?;
        self.logged = 0;
        Ok(())
    }

    /// What the database and its log take.
    pub(super) fn bytes(&self) -> u64 {
        let length = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        length(self.path.clone()) + length(self.log())
    }

    /// What the rows take; the file keeps the room of rows that are gone for new ones.
    pub(super) fn used_bytes(&self) -> Result<u64, Fault> {
        let sql = "SELECT (page_count - freelist_count) * page_size
                   FROM pragma_page_count, pragma_freelist_count, pragma_page_size";
        Ok(self.connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    fn log(&self) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        name.into()
    }
}
