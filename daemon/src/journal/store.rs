//! The journal's SQL.

use std::collections::BTreeSet;
use std::fs::{OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use gpusched_core::{JobRecord, Measurement};
use gpusched_shared::{JobId, JobState, JobView, Outcome, Rejection, Uid, Usage};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};

use super::{Entry, JournalError, Query, Recovered, Reply, schema};

const COLUMNS: &str = "record, attempts, outcome, wait_us, run_us, usage";

/// Flushes that are kept; older ones are forgotten.
const FLUSHES: i64 = 10_000;

pub(super) struct Store {
    connection: Connection,
    path: String,
    power_durable: BTreeSet<String>,
}

impl Store {
    pub(super) fn open(path: &Path, power_durable: BTreeSet<String>) -> Result<Self, JournalError> {
        let name = path.display().to_string();
        let failed = |source| JournalError::Database { path: name.clone(), source };
        // Prompts are nobody else's business. SQLite gives its other files the mode of this one.
        make_private(path).map_err(JournalError::Open)?;
        let mut connection = Connection::open(path).map_err(failed)?;
        connection.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        connection.pragma_update(None, "foreign_keys", true).map_err(failed)?;
        let (found, known) = (schema::version(&connection).map_err(failed)?, schema::newest());
        if found > known {
            return Err(JournalError::Newer { path: name, found, known });
        }
        schema::migrate(&mut connection).map_err(failed)?;
        Ok(Self { connection, path: name, power_durable })
    }

    pub(super) fn recover(&self) -> Result<Recovered, JournalError> {
        self.unfinished().map_err(|source| JournalError::Database { path: self.path.clone(), source })
    }

    fn unfinished(&self) -> rusqlite::Result<Recovered> {
        let last: Option<i64> = self.connection.query_row("SELECT max(id) FROM jobs", [], |row| row.get(0))?;
        let mut statement =
            self.connection.prepare("SELECT record, attempts FROM jobs WHERE outcome IS NULL ORDER BY id")?;
        let rows = statement.query_map([], |row| {
            let record: JobRecord = json(row, 0)?;
            Ok(JobRecord { attempts: row.get(1)?, ..record })
        })?;
        let unfinished = rows.collect::<Result<_, _>>()?;
        let footprints = self.footprints()?;
        Ok(Recovered { unfinished, footprints, next_id: JobId(last.map_or(1, |last| last.unsigned_abs() + 1)) })
    }

    fn footprints(&self) -> rusqlite::Result<Vec<Measurement>> {
        let columns = "model, width, height, pictures, input_pixels, peak_bytes, step_us, runs";
        let mut statement = self.connection.prepare(&format!("SELECT {columns} FROM footprints"))?;
        let rows = statement.query_map([], |row| {
            let number = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
            Ok(Measurement {
                model: row.get(0)?,
                width: row.get(1)?,
                height: row.get(2)?,
                pictures: row.get(3)?,
                input_pixels: number(4)?,
                peak_bytes: number(5)?,
                step_us: number(6)?,
                runs: number(7)?,
            })
        })?;
        rows.collect()
    }

    /// Writes a group of entries in one transaction and says what became of them.
    pub(super) fn commit(&mut self, entries: Vec<Entry>) -> Vec<Reply> {
        if entries.is_empty() {
            return Vec::new();
        }
        match self.write(&entries) {
            Ok(()) => entries.iter().filter_map(done).collect(),
            Err(error) => {
                tracing::error!(entries = entries.len(), "journal: {error}");
                entries.into_iter().filter_map(|entry| failed(entry, &error.to_string())).collect()
            }
        }
    }

    fn write(&mut self, entries: &[Entry]) -> rusqlite::Result<()> {
        let power = entries.iter().any(|entry| match entry {
            Entry::Submission(record) => self.power_durable.contains(&record.class),
            Entry::Outcome { .. } => true,
            Entry::Amendment(_) | Entry::Attempt { .. } | Entry::Footprint(_) | Entry::Flush { .. } => false,
        });
        // FULL syncs the log at commit; with NORMAL the next commit with FULL, or a checkpoint, does.
        self.connection.pragma_update(None, "synchronous", if power { "FULL" } else { "NORMAL" })?;
        let transaction = self.connection.transaction()?;
        for entry in entries {
            insert(&transaction, entry)?;
        }
        transaction.commit()
    }

    pub(super) fn answer(&self, query: Query) {
        let answered = match query {
            Query::Show(job, reply) => self.show(job).map(|view| drop(reply.send(view))),
            Query::List { uid, before, limit, reply } => {
                self.list(uid, before, limit).map(|views| drop(reply.send(views)))
            }
        };
        if let Err(e) = answered {
            // The asker sees its reply channel close.
            tracing::error!("journal: {e}");
        }
    }

    fn show(&self, job: JobId) -> rusqlite::Result<Option<JobView>> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE id = ?1 AND outcome IS NOT NULL");
        self.connection.query_row(&sql, [integer(job.0)], view).optional()
    }

    fn list(&self, uid: Option<Uid>, before: Option<JobId>, limit: u32) -> rusqlite::Result<Vec<JobView>> {
        // Two statements, because only one that names a uid can use the index of uids.
        let owner = if uid.is_some() { "uid = ?1 AND" } else { "?1 IS NULL AND" };
        let sql = format!(
            "SELECT {COLUMNS} FROM jobs WHERE {owner} outcome IS NOT NULL AND id < ?2 ORDER BY id DESC LIMIT ?3"
        );
        let mut statement = self.connection.prepare_cached(&sql)?;
        let before = before.map_or(i64::MAX, |job| integer(job.0));
        statement.query_map(params![uid, before, limit], view)?.collect()
    }
}

fn make_private(path: &Path) -> io::Result<()> {
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path)?;
    file.set_permissions(Permissions::from_mode(0o600))
}

fn insert(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    match entry {
        Entry::Submission(record) => transaction
            .prepare_cached("INSERT INTO jobs (id, uid, class, record, submitted_unix_ms) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![
                integer(record.id.0),
                record.uid,
                record.class,
                text(&**record)?,
                integer(record.submitted_unix_ms)
            ])?,
        Entry::Amendment(record) => transaction
            .prepare_cached("UPDATE jobs SET record = ?2 WHERE id = ?1")?
            .execute(params![integer(record.id.0), text(&**record)?])?,
        Entry::Attempt { job, attempt, lane, unix_ms } => {
            transaction
                .prepare_cached("UPDATE jobs SET attempts = ?2 WHERE id = ?1")?
                .execute(params![integer(job.0), attempt])?;
            transaction
                .prepare_cached("INSERT INTO attempts (job, attempt, lane, started_unix_ms) VALUES (?1, ?2, ?3, ?4)")?
                .execute(params![integer(job.0), attempt, lane, integer(*unix_ms)])?
        }
        Entry::Outcome { job, outcome, wait_us, run_us, usage, unix_ms } => transaction
            .prepare_cached(
                "UPDATE jobs SET outcome = ?2, wait_us = ?3, run_us = ?4, usage = ?5, ended_unix_ms = ?6 \
                 WHERE id = ?1 AND outcome IS NULL",
            )?
            .execute(params![
                integer(job.0),
                text(outcome)?,
                integer(*wait_us),
                integer(*run_us),
                text(usage)?,
                integer(*unix_ms)
            ])?,
        Entry::Footprint(kept) => transaction
            .prepare_cached("INSERT OR REPLACE INTO footprints VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
            .execute(params![
                kept.model,
                kept.width,
                kept.height,
                kept.pictures,
                integer(kept.input_pixels),
                integer(kept.peak_bytes),
                integer(kept.step_us),
                integer(kept.runs)
            ])?,
        Entry::Flush { class, before, after, unix_ms } => {
            transaction.prepare_cached("INSERT INTO flushes VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?.execute(params![
                integer(*unix_ms),
                class,
                integer(before.live_bytes),
                integer(after.live_bytes),
                integer(before.resident_bytes),
                integer(after.resident_bytes)
            ])?;
            transaction
                .prepare_cached("DELETE FROM flushes WHERE rowid <= ?1")?
                .execute([transaction.last_insert_rowid() - FLUSHES])?
        }
    };
    Ok(())
}

fn done(entry: &Entry) -> Option<Reply> {
    match entry {
        Entry::Submission(record) => Some(Reply::Recorded(record.id)),
        Entry::Amendment(_) | Entry::Attempt { .. } | Entry::Footprint(_) | Entry::Flush { .. } => None,
        Entry::Outcome { job, .. } => Some(Reply::Concluded(*job)),
    }
}

fn failed(entry: Entry, why: &str) -> Option<Reply> {
    match entry {
        Entry::Submission(record) => {
            let rejection = Rejection::Internal { reason: format!("the journal failed: {why}") };
            Some(Reply::RecordFailed(record.id, rejection))
        }
        Entry::Amendment(_) | Entry::Attempt { .. } | Entry::Footprint(_) | Entry::Flush { .. } => None,
        Entry::Outcome { .. } => Some(Reply::Poisoned(why.to_owned())),
    }
}

fn view(row: &Row<'_>) -> rusqlite::Result<JobView> {
    let record: JobRecord = json(row, 0)?;
    let outcome: Outcome = json(row, 2)?;
    let usage: Usage = if row.get_ref(5)? == ValueRef::Null { Usage::default() } else { json(row, 5)? };
    let microseconds = |column| row.get::<_, i64>(column).map(i64::unsigned_abs);
    Ok(JobView {
        id: record.id,
        uid: record.uid,
        class: record.class,
        spec: record.spec,
        attached: record.attached,
        state: JobState::Done(outcome),
        attempts: row.get(1)?,
        submitted_unix_ms: record.submitted_unix_ms,
        wait_us: microseconds(3)?,
        run_us: microseconds(4)?,
        usage,
        retries: record.retries,
        backoff_us: 0,
    })
}

fn json<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    serde_json::from_str(text)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(e)))
}

fn text<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// SQLite's integers are signed; ours stay far below the sign bit.
fn integer(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use gpusched_shared::TimeLimit;

    use super::*;

    /// A journal as version 1 of the schema left it.
    #[test]
    fn an_older_journal_is_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal.sqlite");
        let mut old = Connection::open(&path).expect("opened");
        schema::migrate_to(&mut old, 1).expect("migrated");
        let record = r#"{"id":1,"uid":7,"class":"light","spec":{"task":{"vqa":{"question":"what?","top":1}},"model":null,
            "deadline_ms":5},"pictures":[],"attached":false,"submitted_unix_ms":9,"attempts":0}"#;
        old.execute(
            "INSERT INTO jobs (id, uid, class, record, submitted_unix_ms, outcome, wait_ms, run_ms)
             VALUES (1, 7, 'light', ?1, 9, '\"expired\"', 5, 2)",
            [record],
        )
        .expect("inserted");
        drop(old);

        let store = Store::open(&path, BTreeSet::new()).expect("opened");
        let view = store.show(JobId(1)).expect("asked").expect("there");
        assert_eq!(view.state, JobState::Done(Outcome::Expired { limit: TimeLimit::Deadline }));
        assert_eq!((view.wait_us, view.run_us, view.usage), (5000, 2000, Usage::default()));
        assert_eq!((view.spec.priority, view.spec.deadline_ms, view.spec.run_timeout_ms), (0, Some(5), None));
    }

    #[test]
    fn measurements_are_kept_and_replaced() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("journal.sqlite");
        let mut store = Store::open(&path, BTreeSet::new()).expect("opened");
        let measured = |peak_bytes, runs| Measurement {
            model: "m".to_owned(),
            width: 64,
            height: 32,
            pictures: 1,
            input_pixels: 4096,
            peak_bytes,
            step_us: 7,
            runs,
        };
        store.commit(vec![Entry::Footprint(measured(10, 1))]);
        store.commit(vec![Entry::Footprint(measured(12, 2))]);
        drop(store);
        let store = Store::open(&path, BTreeSet::new()).expect("opened again");
        assert_eq!(store.recover().expect("read").footprints, [measured(12, 2)]);
    }
}
