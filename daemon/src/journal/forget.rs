//! Forgetting jobs that have ended, and removing files that nobody needs any more.

use gpusched_shared::BlobHash;
use rusqlite::Transaction;

use super::retention::{Excess, Kept};
use super::row;
use super::store::{Fault, Store};

/// Jobs that are forgotten in one transaction.
const BATCH: u32 = 64;

/// Removes all rows of a job, one statement after the other.
pub(super) const ROWS_OF_A_JOB: [&str; 3] =
    ["DELETE FROM blob_refs WHERE job = ?1", "DELETE FROM attempts WHERE job = ?1", "DELETE FROM jobs WHERE id = ?1"];

impl Store {
    /// How much there is.
    pub(super) fn kept(&self) -> Result<Kept, Fault> {
        let ended = "SELECT count(*) FROM jobs WHERE outcome IS NOT NULL";
        Ok(Kept {
            jobs: self.connection.query_row(ended, [], |row| row.get::<_, i64>(0))?.unsigned_abs(),
            journal_bytes: self.used_bytes()?,
            blob_bytes: self.blobs.bytes(),
        })
    }

    /// The newest time in the journal.
    pub(super) fn newest_unix_ms(&self) -> Result<u64, Fault> {
        let sql = "SELECT max(coalesce((SELECT submitted_unix_ms FROM jobs ORDER BY id DESC LIMIT 1), 0), \
                   coalesce((SELECT max(ended_unix_ms) FROM jobs WHERE outcome IS NOT NULL), 0))";
        Ok(self.connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Forgets jobs that ended first, a batch at most; returns how many.
    pub(super) fn forget(&mut self, excess: Excess) -> Result<usize, Fault> {
        if excess == Excess::default() {
            return Ok(0);
        }
        let oldest = excess.oldest.min(u64::from(BATCH));
        let before = row::integer(excess.before_unix_ms);
        // The newest job stays, or its number would be given again.
        let jobs: Vec<i64> = self
            .connection
            .prepare_cached(
                "SELECT id, ended_unix_ms FROM jobs WHERE outcome IS NOT NULL AND id < (SELECT max(id) FROM jobs) \
                 ORDER BY ended_unix_ms, id LIMIT ?1",
            )?
            .query_map([BATCH], |row| Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?)))?
            .zip(0_u64..)
            .filter_map(|(row, index)| {
                row.map(|(id, ended)| (index < oldest || ended.is_some_and(|at| at < before)).then_some(id)).transpose()
            })
            .collect::<Result<_, _>>()?;
        if jobs.is_empty() {
            return Ok(0);
        }
        // Synced before a file goes, or a loss of power could bring the row back without it.
        let files = self.transact(true, |transaction| {
            let mut files = Vec::new();
            for job in &jobs {
                files.extend(forget(transaction, *job)?);
            }
            Ok(files)
        })?;
        for hash in files {
            self.remove_unless_needed(hash)?;
        }
        Ok(jobs.len())
    }

    /// Removes files that were held for jobs and are not any more, unless a row names them.
    pub(super) fn collect(&self) -> Result<(), Fault> {
        for hash in self.blobs.take_released() {
            self.remove_unless_needed(hash)?;
        }
        Ok(())
    }

    fn remove_unless_needed(&self, hash: BlobHash) -> Result<(), Fault> {
        let mut statement = self.connection.prepare_cached("SELECT 1 FROM blob_refs WHERE hash = ?1 LIMIT 1")?;
        if !statement.exists([hash.to_string()])? {
            self.blobs.remove(hash)?;
        }
        Ok(())
    }
}

/// Removes all rows of a job; returns the files that they named.
fn forget(transaction: &Transaction<'_>, job: i64) -> Result<Vec<BlobHash>, Fault> {
    let names: Vec<String> = transaction
        .prepare_cached("SELECT hash FROM blob_refs WHERE job = ?1")?
        .query_map([job], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for sql in ROWS_OF_A_JOB {
        transaction.prepare_cached(sql)?.execute([job])?;
    }
    Ok(names.iter().filter_map(|name| row::hash(job, name).ok()).collect())
}
