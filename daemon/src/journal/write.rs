//! Entries into tables.

use gpusched_core::JobRecord;
use gpusched_shared::{BlobHash, BlobRef, JobId, Rejection};
use rusqlite::{ErrorCode, OptionalExtension, Transaction, params};

use super::row::{blobs, integer, key, part_name, text};
use super::store::Fault;
use super::{Entry, Reply, quality, timeline};

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
                "INSERT INTO jobs (id, uid, class, record, submitted_unix_ms, retries, key, fingerprint, parent, part) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
                params![
                    key(record.id),
                    record.uid,
                    record.class,
                    text(&**record)?,
                    integer(record.submitted_unix_ms),
                    record.retries,
                    name,
                    fingerprint,
                    record.part.map(|part| key(part.of)),
                    record.part.map(part_name)
                ],
            );
            if let Err(error) = &inserted
                && error.sqlite_error_code() == Some(ErrorCode::ConstraintViolation)
                && let Some(rejection) = conflict(transaction, record)?
            {
                // Only this statement was undone.
                return Ok(Some(Reply::RecordFailed(record.id, rejection)));
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
        Entry::AttemptEnd { job, attempt, end, stay, unix_ms } => run(
            r#"UPDATE attempts SET ended_unix_ms = ?3, "end" = ?4, parked = ?5, peak_bytes = ?6 WHERE job = ?1 AND attempt = ?2"#,
            params![key(*job), attempt, integer(*unix_ms), text(end)?, text(&stay.parked)?, integer(stay.peak_bytes)],
        )?,
        Entry::BackOff { job, retry, retry_at_unix_ms } => run(
            "UPDATE jobs SET retries = ?2, retry_at_unix_ms = ?3 WHERE id = ?1 AND outcome IS NULL",
            params![key(*job), retry, integer(*retry_at_unix_ms)],
        )?,
        Entry::Outcome { job, outcome, wait_us, run_us, backoff_us, usage, reflection, unix_ms } => {
            let rounds = reflection.as_deref().map(text).transpose()?;
            let changed = run(
                "UPDATE jobs SET outcome = ?2, wait_us = ?3, run_us = ?4, backoff_us = ?5, usage = ?6, \
                 ended_unix_ms = ?7, reflection = ?8, retry_at_unix_ms = NULL WHERE id = ?1 AND outcome IS NULL",
                params![
                    key(*job),
                    text(outcome)?,
                    integer(*wait_us),
                    integer(*run_us),
                    integer(*backoff_us),
                    text(usage)?,
                    integer(*unix_ms),
                    rounds
                ],
            )?;
            if changed == 0 {
                return Err(Fault::Broken(format!("job {job} ends, but is not on record as one that has not ended")));
            }
            refer(transaction, *job, &outcome.blob().into_iter().collect::<Vec<_>>())?;
            if let Some(reflection) = reflection.as_ref().filter(|reflection| reflection.tells(outcome)) {
                quality::keep(transaction, *job, reflection, *unix_ms)?;
            }
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
        Entry::Memory(sample) => timeline::keep(transaction, sample)?,
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

/// Why a submission could not become a row, if it is not for the disk's sake. The scheduler, and of keys the journal, was
/// asked before, so this is the last guard: that a key names one job, and that no stage is made twice or for no job.
fn conflict(transaction: &Transaction<'_>, record: &JobRecord) -> rusqlite::Result<Option<Rejection>> {
    if let Some(of) = &record.key
        && let Some((job, _)) = key_of(transaction, record.uid, &of.name)?
    {
        return Ok(Some(Rejection::KeyConflict { job }));
    }
    let Some(part) = record.part else { return Ok(None) };
    let (parent, name) = (key(part.of), part_name(part));
    let there = transaction
        .prepare_cached("SELECT id FROM jobs WHERE parent = ?1 AND part = ?2")?
        .query_row(params![parent, name], |row| row.get::<_, i64>(0))
        .optional()?;
    if let Some(there) = there {
        let reason = format!("stage {name} of job {} is on record as job {there}, it is not made twice", part.of);
        return Ok(Some(Rejection::Internal { reason }));
    }
    let has_parent = transaction.prepare_cached("SELECT 1 FROM jobs WHERE id = ?1")?.exists([parent])?;
    let reason = format!("job {} is not on record, so it takes no stage {name}", part.of);
    Ok((!has_parent).then_some(Rejection::Internal { reason }))
}

/// Notes that a job refers to files. Those of a stage are the job's whose stage it is: they are kept as long as that is.
fn refer(transaction: &Transaction<'_>, job: JobId, blobs: &[BlobRef]) -> rusqlite::Result<()> {
    let sql = "INSERT OR IGNORE INTO blob_refs SELECT ?1, coalesce(parent, id), ?3 FROM jobs WHERE id = ?2";
    let mut statement = transaction.prepare_cached(sql)?;
    for blob in blobs {
        statement.execute(params![blob.hash.to_string(), key(job), integer(blob.bytes)])?;
    }
    Ok(())
}
