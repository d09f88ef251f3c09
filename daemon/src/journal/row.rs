//! Rows of the table of jobs, which are not trusted: disks decay, and people have tools. Pure, for the fuzzer's sake.

use gpusched_core::{EndedPart, JobRecord, Part, Role};
use gpusched_shared::{
    AttemptEnd, BlobHash, BlobRef, JobId, JobSpec, JobState, JobView, Outcome, Parked, Reflection, StageView, Usage,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// A row that is not what this program writes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row of job {job}: {column} {wrong}")]
pub struct RowError {
    /// The row's number.
    pub job: i64,
    /// Where.
    pub column: &'static str,
    /// What is wrong.
    pub wrong: String,
}

/// A row of the table of jobs, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRow {
    /// The job's number.
    pub id: i64,
    /// Whose it is.
    pub uid: i64,
    /// JSON of [`JobRecord`].
    pub record: String,
    /// How often a lane has started it.
    pub attempts: i64,
    /// Retries after it ran out of memory, as far as they were announced by a back-off.
    pub retries: i64,
    /// When it is tried again at the latest.
    pub retry_at_unix_ms: Option<i64>,
    /// JSON of [`Outcome`]; `None` while it has not ended.
    pub outcome: Option<String>,
    /// How long it waited.
    pub wait_us: Option<i64>,
    /// How long lanes held it.
    pub run_us: Option<i64>,
    /// JSON of [`Usage`]; `None` in rows of old.
    pub usage: Option<String>,
    /// How long it backed off.
    pub backoff_us: i64,
    /// The job whose stage it is.
    pub parent: Option<i64>,
    /// Which stage.
    pub part: Option<String>,
    /// JSON of [`Reflection`]; `None` while it has not ended, and if it does not reflect.
    pub reflection: Option<String>,
}

/// The record of a job, with what other columns say of it.
///
/// # Errors
/// [`RowError`] for the first thing wrong.
pub fn record(row: &JobRow) -> Result<JobRecord, RowError> {
    let record: JobRecord = json(row.id, "record", &row.record)?;
    let wrong = |wrong: String| RowError { job: row.id, column: "record", wrong };
    if i64::try_from(record.id.0) != Ok(row.id) {
        return Err(wrong(format!("is of job {}", record.id)));
    }
    if i64::from(record.uid) != row.uid {
        return Err(wrong(format!("is of uid {}, the row of {}", record.uid, row.uid)));
    }
    if (record.part.map(|part| key(part.of)), record.part.map(part_name)) != (row.parent, row.part.clone()) {
        return Err(wrong("is of another stage than the row".to_owned()));
    }
    let attempts = number(row.id, "attempts", row.attempts)?;
    let retries = record.retries.max(number(row.id, "retries", row.retries)?);
    Ok(JobRecord { attempts, retries, ..record })
}

/// When a job that backs off is tried again at the latest.
///
/// # Errors
/// [`RowError`].
pub fn retry_at(row: &JobRow) -> Result<Option<u64>, RowError> {
    row.retry_at_unix_ms.map(|at| number(row.id, "retry_at_unix_ms", at)).transpose()
}

/// How a job ended; `None` while it has not.
///
/// # Errors
/// [`RowError`].
pub fn outcome(row: &JobRow) -> Result<Option<Outcome>, RowError> {
    row.outcome.as_deref().map(|text| json(row.id, "outcome", text)).transpose()
}

/// What the rounds of a job that has ended came to, if it reflects.
///
/// # Errors
/// [`RowError`].
pub fn reflection(row: &JobRow) -> Result<Option<Reflection>, RowError> {
    row.reflection.as_deref().map(|text| json(row.id, "reflection", text)).transpose()
}

/// What its owner may see of a job that has ended.
///
/// # Errors
/// [`RowError`] for the first thing wrong.
pub fn view(row: &JobRow) -> Result<JobView, RowError> {
    let record = record(row)?;
    let outcome = there(row, "outcome", outcome(row)?)?;
    Ok(JobView {
        id: record.id,
        uid: record.uid,
        class: record.class,
        spec: record.spec,
        attached: record.attached,
        state: JobState::Done(outcome),
        attempts: record.attempts,
        submitted_unix_ms: record.submitted_unix_ms,
        wait_us: number(row.id, "wait_us", there(row, "wait_us", row.wait_us)?)?,
        run_us: run_us(row)?,
        usage: usage(row)?,
        retries: record.retries,
        backoff_us: number(row.id, "backoff_us", row.backoff_us)?,
        reflection: reflection(row)?,
    })
}

/// What its owner may see of a stage, whether or not it has ended.
///
/// # Errors
/// [`RowError`] for the first thing wrong.
pub fn stage(row: &JobRow) -> Result<StageView, RowError> {
    let record = record(row)?;
    let part = there(row, "part", record.part)?;
    let outcome = outcome(row)?;
    let ended = outcome.is_some();
    Ok(StageView {
        id: record.id,
        role: part.role.told(),
        round: part.round,
        class: record.class,
        spec: record.spec,
        wait_us: row.wait_us.map_or(Ok(0), |us| number(row.id, "wait_us", us))?,
        run_us: row.run_us.map_or(Ok(0), |us| number(row.id, "run_us", us))?,
        usage: if ended { usage(row)? } else { Usage::default() },
        outcome,
    })
}

/// What the program of the job whose stage a job is is told of it, once it has ended.
///
/// # Errors
/// [`RowError`] for the first thing wrong.
pub fn ended_part(row: &JobRow) -> Result<EndedPart, RowError> {
    let record = record(row)?;
    let part = there(row, "part", record.part)?;
    let outcome = there(row, "outcome", outcome(row)?)?;
    let wait_us = number(row.id, "wait_us", there(row, "wait_us", row.wait_us)?)?;
    let backoff_us = number(row.id, "backoff_us", row.backoff_us)?;
    let (run_us, usage) = (run_us(row)?, usage(row)?);
    Ok(EndedPart { part, spec: record.spec, outcome, wait_us, backoff_us, run_us, usage })
}

/// How an attempt at a job ended.
///
/// # Errors
/// [`RowError`].
pub fn attempt_end(job: i64, text: &str) -> Result<AttemptEnd, RowError> {
    json(job, "end", text)
}

/// When an attempt at a job was parked.
///
/// # Errors
/// [`RowError`].
pub fn parked(job: i64, text: &str) -> Result<Vec<Parked>, RowError> {
    json(job, "parked", text)
}

/// What a job is about: a part of its record.
#[derive(Debug, Deserialize)]
pub(super) struct Brief {
    /// What to do.
    pub(super) spec: JobSpec,
    /// Which stage of which job it is.
    #[serde(default)]
    pub(super) part: Option<Part>,
}

/// A part of a job's record.
pub(super) fn brief(job: i64, record: &str) -> Result<Brief, RowError> {
    json(job, "record", record)
}

/// The name of a file that a job refers to.
///
/// # Errors
/// [`RowError`].
pub fn hash(job: i64, text: &str) -> Result<BlobHash, RowError> {
    text.parse().map_err(|_| RowError { job, column: "hash", wrong: format!("{text:?} is no hash") })
}

/// Which stage of its job a job is, in a word of its own within that job.
pub(super) fn part_name(part: Part) -> String {
    match part.role {
        Role::Image => format!("{}/image", part.round),
        Role::Check(index) => format!("{}/check/{index}", part.round),
        Role::Glance(index) => format!("{}/glance/{index}", part.round),
        Role::Detect => format!("{}/detect", part.round),
        Role::Segment => format!("{}/segment", part.round),
        Role::Inpaint => format!("{}/inpaint", part.round),
    }
}

/// The files that a job refers to.
pub fn blobs(record: &JobRecord, outcome: Option<&Outcome>) -> Vec<BlobRef> {
    record.pictures.iter().map(|picture| picture.blob).chain(outcome.and_then(Outcome::blob)).collect()
}

/// Text as it is stored.
pub(super) fn text<T: Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// SQLite's integers are signed; ours stay far below the sign bit.
pub(super) fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// The number of a job as it is stored.
pub(super) fn key(job: JobId) -> i64 {
    integer(job.0)
}

fn json<T: DeserializeOwned>(job: i64, column: &'static str, text: &str) -> Result<T, RowError> {
    serde_json::from_str(text).map_err(|e| RowError { job, column, wrong: format!("cannot be read: {e}") })
}

fn run_us(row: &JobRow) -> Result<u64, RowError> {
    number(row.id, "run_us", there(row, "run_us", row.run_us)?)
}

fn usage(row: &JobRow) -> Result<Usage, RowError> {
    Ok(row.usage.as_deref().map(|text| json(row.id, "usage", text)).transpose()?.unwrap_or_default())
}

fn there<T>(row: &JobRow, column: &'static str, value: Option<T>) -> Result<T, RowError> {
    value.ok_or_else(|| RowError { job: row.id, column, wrong: "is missing".to_owned() })
}

fn number<T: TryFrom<i64>>(job: i64, column: &'static str, value: i64) -> Result<T, RowError> {
    T::try_from(value).map_err(|_| RowError { job, column, wrong: format!("is {value}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> JobRow {
        JobRow {
            id: 3,
            uid: 7,
            record:
                r#"{"id":3,"uid":7,"class":"light","spec":{"task":{"vqa":{"question":"what?","top":1}},"model":null},
                "pictures":[],"attached":false,"submitted_unix_ms":9,"attempts":0,"retries":1}"#
                    .to_owned(),
            attempts: 4,
            retries: 2,
            retry_at_unix_ms: None,
            outcome: Some(r#""cancelled""#.to_owned()),
            wait_us: Some(1),
            run_us: Some(2),
            usage: None,
            backoff_us: 5,
            parent: None,
            part: None,
            reflection: None,
        }
    }

    #[test]
    fn columns_complete_the_record() {
        let view = view(&row()).expect("a view");
        assert_eq!((view.attempts, view.retries, view.backoff_us), (4, 2, 5));
        assert_eq!((view.state, view.usage), (JobState::Done(Outcome::Cancelled), Usage::default()));
    }

    #[test]
    fn what_is_wrong_is_said_with_the_job() {
        let wrong = |change: fn(&mut JobRow)| {
            let mut row = row();
            change(&mut row);
            view(&row).expect_err("wrong").to_string()
        };
        assert_eq!(wrong(|row| row.id = 4), "row of job 4: record is of job 3");
        assert_eq!(wrong(|row| row.uid = 8), "row of job 3: record is of uid 7, the row of 8");
        assert_eq!(wrong(|row| row.attempts = -1), "row of job 3: attempts is -1");
        assert_eq!(wrong(|row| row.outcome = None), "row of job 3: outcome is missing");
        assert_eq!(wrong(|row| row.run_us = None), "row of job 3: run_us is missing");
        assert!(wrong(|row| row.record.truncate(40)).starts_with("row of job 3: record cannot be read"));
        assert!(wrong(|row| row.outcome = Some("{}".to_owned())).starts_with("row of job 3: outcome cannot be read"));
        assert!(wrong(|row| row.usage = Some("[1]".to_owned())).starts_with("row of job 3: usage cannot be read"));
        assert!(wrong(|row| row.reflection = Some("{}".to_owned())).starts_with("row of job 3: reflection cannot be"));
        assert_eq!(wrong(|row| row.parent = Some(2)), "row of job 3: record is of another stage than the row");
    }
}
