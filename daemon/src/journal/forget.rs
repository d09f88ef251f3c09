//! Forgetting jobs that have ended, and removing files that nobody needs any more.

use std::collections::BTreeSet;

use gpusched_shared::BlobHash;
use rusqlite::{Row, Transaction};

use super::retention::{Excess, Kept, is_recent, may_be_large};
use super::row;
use super::store::{Fault, Store};
use crate::config::RetentionConfig;

/// Jobs that are forgotten in one transaction.
const BATCH: u32 = 64;

/// Removes all rows of a job and of its stages, one statement after the other.
pub(super) const ROWS_OF_A_JOB: [&str; 4] = [
    "DELETE FROM blob_refs WHERE job = ?1",
    "DELETE FROM attempts WHERE job IN (SELECT ?1 UNION ALL SELECT id FROM jobs WHERE parent = ?1)",
    "DELETE FROM jobs WHERE parent = ?1",
    "DELETE FROM jobs WHERE id = ?1",
];

/// Jobs that may be forgotten: such as a client asked for, for their stages go with them. That of the newest row stays, or
/// its number would be given again.
const MAY_GO: &str = "outcome IS NOT NULL AND parent IS NULL \
                      AND id <> (SELECT coalesce(parent, id) FROM jobs ORDER BY id DESC LIMIT 1)";

impl Store {
    /// How much there is, as far as it takes to compare it with the limits.
    pub(super) fn kept(&self, config: &RetentionConfig) -> Result<Kept, Fault> {
        let ended = "SELECT count(*) FROM jobs WHERE outcome IS NOT NULL AND parent IS NULL";
        let jobs = self.connection.query_row(ended, [], |row| row.get::<_, i64>(0))?.unsigned_abs();
        let (journal_bytes, blob_bytes) = (self.used_bytes()?, self.blobs.bytes());
        let quota_bytes = self.blobs.disk().config().blobs.0;
        let ended_blob_bytes = if may_be_large(blob_bytes, journal_bytes, config, quota_bytes) {
            let sql = "SELECT coalesce(sum(bytes), 0) FROM (SELECT hash, max(bytes) AS bytes FROM blob_refs GROUP BY hash) \
                       WHERE hash NOT IN (SELECT hash FROM blob_refs WHERE job IN \
                       (SELECT id FROM jobs WHERE outcome IS NULL))";
            self.connection.prepare_cached(sql)?.query_row([], |row| row.get::<_, i64>(0))?.unsigned_abs()
        } else {
            0
        };
        Ok(Kept { jobs, journal_bytes, blob_bytes, ended_blob_bytes })
    }

    /// The newest time in the journal.
    pub(super) fn newest_unix_ms(&self) -> Result<u64, Fault> {
        let sql = "SELECT max(coalesce((SELECT submitted_unix_ms FROM jobs ORDER BY id DESC LIMIT 1), 0), \
                   coalesce((SELECT max(ended_unix_ms) FROM jobs WHERE outcome IS NOT NULL AND parent IS NULL), 0))";
        Ok(self.connection.query_row(sql, [], |row| row.get::<_, i64>(0))?.unsigned_abs())
    }

    /// Forgets jobs that ended first, a batch at most; returns how many.
    pub(super) fn forget(&mut self, excess: Excess) -> Result<usize, Fault> {
        if excess == Excess::default() {
            return Ok(0);
        }
        let mut jobs = self.old(excess.oldest, excess.before_unix_ms)?;
        if excess.with_files > 0 {
            jobs.extend(self.old_with_files(excess.with_files)?);
        }
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
        files.into_iter().for_each(|hash| self.blobs.release(hash));
        self.collect()?;
        Ok(jobs.len())
    }

    /// Jobs that ended first: so many, but for those that ended just now, and those that ended before a time.
    fn old(&self, oldest: u64, before_unix_ms: u64) -> Result<BTreeSet<i64>, Fault> {
        let now = self.clock.unix_ms();
        let is_old = |index: u64, ended: u64| ended < before_unix_ms || (index < oldest && !is_recent(ended, now));
        let sql = format!("SELECT id, ended_unix_ms FROM jobs WHERE {MAY_GO} ORDER BY ended_unix_ms, id LIMIT ?1");
        let jobs = self
            .connection
            .prepare_cached(&sql)?
            .query_map([BATCH], job_and_end)?
            .zip(0..)
            .filter_map(|(row, index)| row.map(|(id, ended)| is_old(index, ended).then_some(id)).transpose())
            .collect::<Result<_, _>>()?;
        Ok(jobs)
    }

    /// So many jobs that ended first, but for those that ended just now, of those with a file that no unfinished job refers
    /// to.
    fn old_with_files(&self, count: u64) -> Result<Vec<i64>, Fault> {
        let now = self.clock.unix_ms();
        let sql = format!(
            "SELECT id, ended_unix_ms FROM jobs WHERE {MAY_GO} \
             AND EXISTS (SELECT 1 FROM blob_refs AS own WHERE own.job = jobs.id AND NOT EXISTS \
             (SELECT 1 FROM blob_refs AS other JOIN jobs AS live ON live.id = other.job \
             WHERE other.hash = own.hash AND live.outcome IS NULL)) \
             ORDER BY ended_unix_ms, id LIMIT ?1"
        );
        let jobs = self
            .connection
            .prepare_cached(&sql)?
            .query_map([row::integer(count)], job_and_end)?
            .filter_map(|row| row.map(|(id, ended)| (!is_recent(ended, now)).then_some(id)).transpose())
            .collect::<Result<_, _>>()?;
        Ok(jobs)
    }

    /// Removes files that were held for jobs or named by them and are not any more, unless a row names them. What cannot be
    /// removed just now is left for the next time.
    pub(super) fn collect(&self) -> Result<(), Fault> {
        let mut released = self.blobs.take_released().into_iter();
        while let Some(hash) = released.next() {
            match self.remove_unless_needed(hash) {
                Ok(()) => {}
                Err(broken @ Fault::Broken(_)) => return Err(broken),
                Err(Fault::Full | Fault::Busy(_)) => {
                    std::iter::once(hash).chain(released).for_each(|hash| self.blobs.release(hash));
                    return Ok(());
                }
            }
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

fn job_and_end(row: &Row<'_>) -> rusqlite::Result<(i64, u64)> {
    Ok((row.get(0)?, row.get::<_, Option<i64>>(1)?.map_or(0, i64::unsigned_abs)))
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
