//! Entries into tables.

use gpusched_shared::{BlobHash, BlobRef, JobId, Rejection};
use rusqlite::{ErrorCode, OptionalExtension, Transaction, params};

use super::row::{blobs, integer, key, text};
use super::store::Fault;
use super::{Entry, Reply};

/// Flushes that are kept; older ones are forgotten.
const FLUSHES: i64 = 10_000;

/// Writes an entry; returns what to say once it is committed.
pub(super) fn insert(transaction: &Transaction<'_>, entry: &Entry) -> Result<Option<Reply>, Fault> {
    let run = |sql: &str, values: &[&dyn rusqlite::ToSql]| transaction.prepare_cached(sql)?.execute(values);
    match entry {
        Entry::Submission(record) => {
            let (name, fingerprint) = match &record.key {
                Some(of) => (Some(&of.name), Some(of.fingerprint.to_string())),
                None => (None, None),
            };
            let inserted = run(
                "INSERT INTO jobs (id, uid, class, record, submitted_unix_ms, retries, key, fingerprint) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
                params![
                    key(record.id),
                    record.uid,
                    record.class,
                    text(&**record)?,
                    integer(record.submitted_unix_ms),
                    record.retries,
                    name,
                    fingerprint
                ],
            );
            if let (Some(name), Err(error)) = (name, &inserted)
                && error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
                && let Some((job, _)) = key_of(transaction, record.uid, name)?
            {
                // Only this statement was undone. The scheduler and the journal were asked for the key before, so this is
                // the last guard.
                return Ok(Some(Reply::RecordFailed(record.id, Rejection::KeyConflict { job })));
            }
            inserted?;
            refer(transaction, record.id, &blobs(record, None))?;
            return Ok(Some(Reply::Recorded(record.id)));
        }
        Entry::Amendment(record) => {
            run("UPDATE jobs SET record = ?2 WHERE id = ?1", params![key(record.id), text(&**record)?])?
        }
        Entry::Attempt { job, attempt, lane, unix_ms } => {
            run("UPDATE jobs SET attempts = ?2, retry_at_unix_ms = NULL WHERE id = ?1", params![key(*job), attempt])?;
            run(
                "INSERT INTO attempts (job, attempt, lane, started_unix_ms) VALUES (?1, ?2, ?3, ?4)",
                params![key(*job), attempt, lane, integer(*unix_ms)],
            )?
        }
        Entry::AttemptEnd { job, attempt, end, unix_ms } => run(
            r#"UPDATE attempts SET ended_unix_ms = ?3, "end" = ?4 WHERE job = ?1 AND attempt = ?2"#,
            params![key(*job), attempt, integer(*unix_ms), text(end)?],
        )?,
        Entry::BackOff { job, retry, retry_at_unix_ms } => run(
            "UPDATE jobs SET retries = ?2, retry_at_unix_ms = ?3 WHERE id = ?1 AND outcome IS NULL",
            params![key(*job), retry, integer(*retry_at_unix_ms)],
        )?,
        Entry::Outcome { job, outcome, wait_us, run_us, backoff_us, usage, unix_ms } => {
            let changed = run(
                "UPDATE jobs SET outcome = ?2, wait_us = ?3, run_us = ?4, backoff_us = ?5, usage = ?6, \
                 ended_unix_ms = ?7, retry_at_unix_ms = NULL WHERE id = ?1 AND outcome IS NULL",
                params![
                    key(*job),
                    text(outcome)?,
                    integer(*wait_us),
                    integer(*run_us),
                    integer(*backoff_us),
                    text(usage)?,
                    integer(*unix_ms)
                ],
            )?;
            if changed == 0 {
                return Err(Fault::Broken(format!("job {job} ends, but is not on record as one that has not ended")));
            }
            refer(transaction, *job, &outcome.blob().into_iter().collect::<Vec<_>>())?;
            return Ok(Some(Reply::Concluded(*job)));
        }
        Entry::Footprint(kept) => run(
            "INSERT OR REPLACE INTO footprints VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
            params![
                kept.model,
                kept.width,
                kept.height,
                kept.pictures,
                integer(kept.input_pixels),
                integer(kept.peak_bytes),
                integer(kept.step_us),
                integer(kept.runs)
            ],
        )?,
        Entry::Flush { class, before, after, unix_ms } => {
            run(
                "INSERT INTO flushes VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
                params![
                    integer(*unix_ms),
                    class,
                    integer(before.live_bytes),
                    integer(after.live_bytes),
                    integer(before.resident_bytes),
                    integer(after.resident_bytes)
                ],
            )?;
            run("DELETE FROM flushes WHERE rowid <= ?1", params![transaction.last_insert_rowid() - FLUSHES])?
        }
    };
    Ok(None)
}

/// The job that has a key, and the fingerprint that it has it with.
pub(super) fn key_of(
    connection: &rusqlite::Connection,
    uid: u32,
    name: &str,
) -> rusqlite::Result<Option<(JobId, BlobHash)>> {
    let found = connection
        .prepare_cached("SELECT id, fingerprint FROM jobs WHERE uid = ?1 AND key = ?2")?
        .query_row(params![uid, name], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<String>>(1)?)))
        .optional()?;
    Ok(found.map(|(id, fingerprint)| {
        // A damaged fingerprint fits no request, so that the key is refused rather than given out twice.
        let fingerprint = fingerprint.and_then(|text| text.parse().ok()).unwrap_or(BlobHash([0; 32]));
        (JobId(id.unsigned_abs()), fingerprint)
    }))
}

fn refer(transaction: &Transaction<'_>, job: JobId, blobs: &[BlobRef]) -> rusqlite::Result<()> {
    let mut statement = transaction.prepare_cached("INSERT OR IGNORE INTO blob_refs VALUES (?1, ?2, ?3)")?;
    for blob in blobs {
        statement.execute(params![blob.hash.to_string(), key(job), integer(blob.bytes)])?;
    }
    Ok(())
}
