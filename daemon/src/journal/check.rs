//! Looks whether a journal and its stored files are whole. Only reads, so it may run beside a daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use gpusched_shared::{BlobHash, Outcome};
use rusqlite::{Connection, OpenFlags};
use serde::Serialize;

use super::read::{COLUMNS, job_row};
use super::row::{self, JobRow, RowError};
use super::{FILE, schema};
use crate::blobs;

/// Problems that are listed; the rest is counted.
const LISTED: usize = 100;

/// Why a journal could not be looked at.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// There is none.
    #[error("no journal in {}; name the daemon's state directory with --state-dir", .0.display())]
    None(PathBuf),
    /// It cannot be read.
    #[error("journal {}: {source}; if it is no database any more, bring back a backup", path.display())]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// It is of another version.
    #[error("the journal has schema version {found}, this gpuschedd knows {known}; {remedy}")]
    Version {
        /// Its version.
        found: i64,
        /// The version known here.
        known: i64,
        /// What to do.
        remedy: &'static str,
    },
    /// The stored files cannot be read.
    #[error("stored files in {}: {source}", path.display())]
    Blobs {
        /// Their directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// What there is, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Jobs on record that clients asked for.
    pub jobs: u64,
    /// Of them, those that have not ended.
    pub unfinished: u64,
    /// Stages of theirs that are jobs of their own.
    pub stages: u64,
    /// Stored files that jobs refer to.
    pub blobs: u64,
    /// What they take.
    pub blob_bytes: u64,
    /// Stored files that no job refers to. They are no damage: the daemon removes them when it starts, and some are of jobs
    /// that are being submitted.
    pub orphans: u64,
    /// What is wrong, and what to do; of many, the first.
    pub problems: Vec<String>,
    /// Problems that are not listed.
    pub more_problems: u64,
}

impl Report {
    /// Whether nothing is wrong.
    pub fn is_sound(&self) -> bool {
        self.problems.is_empty()
    }

    fn problem(&mut self, what: impl Into<String>) {
        if self.problems.len() < LISTED {
            self.problems.push(what.into());
        } else {
            self.more_problems += 1;
        }
    }
}

/// Opens a state directory's journal for reading.
pub(super) fn open(state_dir: &Path) -> Result<Connection, CheckError> {
    let path = state_dir.join(FILE);
    if !path.exists() {
        return Err(CheckError::None(state_dir.into()));
    }
    let named = |source| CheckError::Database { path: path.clone(), source };
    let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(named)?;
    let (found, known) = (schema::version(&connection).map_err(named)?, schema::newest());
    match found.cmp(&known) {
        std::cmp::Ordering::Equal => Ok(connection),
        std::cmp::Ordering::Less => Err(CheckError::Version {
            found,
            known,
            remedy: "start the daemon, which brings it up to date, and ask again",
        }),
        std::cmp::Ordering::Greater => {
            Err(CheckError::Version { found, known, remedy: "use the newer gpuschedd that made it" })
        }
    }
}

/// Looks at everything. `progress` is told how many of how many bytes of stored files have been read.
///
/// # Errors
/// [`CheckError`] if it cannot be looked at; what is wrong otherwise is in the report.
pub fn check(state_dir: &Path, mut progress: impl FnMut(u64, u64)) -> Result<Report, CheckError> {
    let connection = open(state_dir)?;
    let named = |source| CheckError::Database { path: state_dir.join(FILE), source };
    let mut report = Report::default();
    let wanted = tables(&connection, &mut report).map_err(named)?;
    report.blobs = wanted.len() as u64;

    let directory = blobs::directory(state_dir);
    let there = blobs::list(&directory).map_err(|source| CheckError::Blobs { path: directory.clone(), source })?;
    report.orphans = there.iter().filter(|blob| !wanted.contains_key(&blob.hash)).count() as u64;
    let of = there.iter().filter(|blob| wanted.contains_key(&blob.hash)).map(|blob| blob.bytes).sum();
    for (hash, job) in wanted {
        if let Err(damage) = blobs::verify(&directory, hash) {
            // What a running daemon has forgotten in the meantime is not missed.
            let sql = "SELECT 1 FROM blob_refs WHERE hash = ?1";
            if connection.prepare_cached(sql).and_then(|mut sql| sql.exists([hash.to_string()])).map_err(named)? {
                report.problem(format!(
                    "file {hash} of job {job} {damage}: submit the job again, or bring the file back from a backup"
                ));
            }
            continue;
        }
        report.blob_bytes += std::fs::metadata(blobs::below(&directory, hash)).map_or(0, |meta| meta.len());
        progress(report.blob_bytes, of);
    }
    Ok(report)
}

/// Looks at the tables, in one state of theirs; returns the files that jobs refer to, each with one of those jobs.
fn tables(connection: &Connection, report: &mut Report) -> rusqlite::Result<BTreeMap<BlobHash, i64>> {
    let state = connection.unchecked_transaction()?;
    let backup = "bring back a backup of the state directory";
    let mut statement = state.prepare(&format!("PRAGMA integrity_check({LISTED})"))?;
    for said in statement.query_map([], |row| row.get::<_, String>(0))? {
        match said?.as_str() {
            "ok" => {}
            wrong => report.problem(format!("the database is damaged ({wrong}): {backup}")),
        }
    }
    let mut statement = state.prepare("PRAGMA foreign_key_check")?;
    for table in statement.query_map([], |row| row.get::<_, String>(0))? {
        let table = table?;
        // Of stages more is said below.
        if table != "jobs" {
            report.problem(format!("a row of table {table} belongs to no job: {backup}"));
        }
    }
    stages(&state, report)?;

    let mut wanted = BTreeMap::new();
    let mut named = BTreeSet::new();
    let mut statement = state.prepare("SELECT hash, job FROM blob_refs")?;
    for reference in statement.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))? {
        let (name, job) = reference?;
        match row::hash(job, &name) {
            Ok(hash) => {
                wanted.entry(hash).or_insert(job);
                named.insert((job, hash));
            }
            Err(e) => report.problem(format!("{e}: {backup}")),
        }
    }
    let mut statement = state.prepare(&format!("SELECT {COLUMNS} FROM jobs"))?;
    for row in statement.query_map([], job_row)? {
        let row = row?;
        match row.parent {
            Some(_) => report.stages += 1,
            None => {
                report.jobs += 1;
                report.unfinished += u64::from(row.outcome.is_none());
            }
        }
        let owner = row.parent.unwrap_or(row.id);
        match files(&row) {
            Ok(files) => {
                for hash in files.into_iter().filter(|hash| !named.contains(&(owner, *hash))) {
                    report.problem(format!("job {} has file {hash}, which is not on record as its: {backup}", row.id));
                }
            }
            Err(e) => report.problem(format!(
                "{e}: if it has not ended, it ends as failed when the daemon starts, and can be submitted again"
            )),
        }
    }
    let mut statement = state.prepare(r#"SELECT job, "end", parked FROM attempts WHERE "end" IS NOT NULL"#)?;
    let attempts = statement
        .query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get::<_, Option<String>>(2)?)))?;
    for attempt in attempts {
        let (job, end, parked) = attempt?;
        let parked = parked.map_or(Ok(Vec::new()), |parked| row::parked(job, &parked));
        if let Err(e) = row::attempt_end(job, &end).map(drop).and(parked.map(drop)) {
            report.problem(format!("attempt of {e}: {backup}"));
        }
    }
    Ok(wanted)
}

/// Looks whether stages have the jobs that they are of.
fn stages(state: &Connection, report: &mut Report) -> rusqlite::Result<()> {
    let sql = "SELECT stage.id, stage.parent, job.id IS NULL FROM jobs AS stage LEFT JOIN jobs AS job \
               ON job.id = stage.parent AND job.parent IS NULL WHERE stage.parent IS NOT NULL \
               AND (job.id IS NULL OR (stage.outcome IS NULL AND job.outcome IS NOT NULL))";
    let mut statement = state.prepare(sql)?;
    let rows = statement.query_map([], |row| Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?, row.get(2)?)))?;
    for row in rows {
        let (stage, job, is_missing) = row?;
        report.problem(if is_missing {
            format!(
                "job {stage} is a stage of job {job}, which is not there: bring back a backup of the state directory"
            )
        } else {
            format!("job {stage} has not ended, but job {job} has, whose stage it is: it ends when the daemon starts")
        });
    }
    Ok(())
}

/// The files that a job refers to, if its row can be read.
fn files(row: &JobRow) -> Result<Vec<BlobHash>, RowError> {
    let record = row::record(row)?;
    let outcome: Option<Outcome> = row::outcome(row)?;
    if outcome.is_some() {
        row::view(row)?;
    } else {
        row::retry_at(row)?;
    }
    let made =
        row::reflection(row)?.into_iter().flat_map(|reflection| reflection.rounds).filter_map(|round| round.image);
    let blobs = row::blobs(&record, outcome.as_ref()).into_iter().chain(made.map(|image| image.blob));
    Ok(blobs.map(|blob| blob.hash).collect())
}
