//! Questions about jobs, answered from the tables.

use gpusched_shared::{AttemptView, JobId, JobView, StageView, Uid};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::row::{self, JobRow, RowError, integer, key};

/// Attempts of one job that are told, the last ones.
const ATTEMPTS: u32 = 1000;

/// What [`job_row`] reads.
pub(super) const COLUMNS: &str = "id, uid, record, attempts, retries, retry_at_unix_ms, outcome, wait_us, run_us, usage, backoff_us, parent, part, reflection";

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReadError {
    #[error(transparent)]
    Database(#[from] rusqlite::Error),
    #[error(transparent)]
    Row(#[from] RowError),
}

/// A row of `SELECT COLUMNS FROM jobs`.
pub(super) fn job_row(row: &Row<'_>) -> rusqlite::Result<JobRow> {
    Ok(JobRow {
        id: row.get(0)?,
        uid: row.get(1)?,
        record: row.get(2)?,
        attempts: row.get(3)?,
        retries: row.get(4)?,
        retry_at_unix_ms: row.get(5)?,
        outcome: row.get(6)?,
        wait_us: row.get(7)?,
        run_us: row.get(8)?,
        usage: row.get(9)?,
        backoff_us: row.get(10)?,
        parent: row.get(11)?,
        part: row.get(12)?,
        reflection: row.get(13)?,
    })
}

/// A job that has ended.
pub(super) fn show(connection: &Connection, job: JobId) -> Result<Option<JobView>, ReadError> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1 AND parent IS NULL AND outcome IS NOT NULL");
    let found = connection.prepare_cached(&sql)?.query_row([key(job)], job_row).optional()?;
    Ok(found.as_ref().map(row::view).transpose()?)
}

/// A page of jobs that have ended, newest first, without their rounds and without the stages they took. Damaged rows are
/// left out and logged.
pub(super) fn list(
    connection: &Connection,
    uid: Option<Uid>,
    before: Option<JobId>,
    limit: u32,
) -> Result<Vec<JobView>, ReadError> {
    // Two statements, because only one that names a uid can use the index of uids.
    let owner = if uid.is_some() { "uid = ?1 AND" } else { "?1 IS NULL AND" };
    let sql = format!(
        "SELECT {COLUMNS} FROM jobs WHERE {owner} parent IS NULL AND outcome IS NOT NULL AND id < ?2 \
         ORDER BY id DESC LIMIT ?3"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let before = before.map_or(i64::MAX, key);
    let rows = statement.query_map(params![uid, before, limit], job_row)?;
    let mut views = Vec::new();
    for row in rows {
        match row::view(&row?) {
            Ok(mut view) => {
                view.reflection.iter_mut().for_each(|reflection| reflection.rounds.clear());
                views.push(view);
            }
            Err(e) => tracing::error!("journal: {e}; it is left out. `gpuschedd journal check` says more"),
        }
    }
    Ok(views)
}

/// The stages of a job that takes several, oldest first; none of one that does not.
pub(super) fn stages(connection: &Connection, job: JobId) -> Result<Vec<StageView>, ReadError> {
    let sql = format!("SELECT {COLUMNS} FROM jobs WHERE parent = ?1 ORDER BY id");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map([key(job)], job_row)?;
    rows.map(|row| Ok(row::stage(&row?)?)).collect()
}

/// What became of each attempt at a job, or at the stages of one that takes several, oldest first.
pub(super) fn history(connection: &Connection, job: JobId) -> Result<Vec<AttemptView>, ReadError> {
    let sql = r#"SELECT row_number() OVER (ORDER BY job, attempt), lane, started_unix_ms, ended_unix_ms, "end" FROM attempts
                 WHERE job = ?1 OR job IN (SELECT id FROM jobs WHERE parent = ?1) ORDER BY job DESC, attempt DESC LIMIT ?2"#;
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map(params![key(job), ATTEMPTS], |row| {
        let end: Option<String> = row.get(4)?;
        let view = AttemptView {
            attempt: row.get(0)?,
            lane: row.get(1)?,
            started_unix_ms: row.get::<_, i64>(2)?.unsigned_abs(),
            ended_unix_ms: row.get::<_, Option<i64>>(3)?.map(i64::unsigned_abs),
            end: None,
        };
        Ok((view, end))
    })?;
    let mut attempts = Vec::new();
    for row in rows {
        let (view, end) = row?;
        let end = end.map(|text| row::attempt_end(integer(job.0), &text)).transpose()?;
        attempts.push(AttemptView { end, ..view });
    }
    attempts.reverse();
    Ok(attempts)
}
