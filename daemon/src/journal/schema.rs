//! The tables, and how they came to be: one migration for each version of the schema.

use rusqlite::Connection;

/// Migrations in order; the database's `user_version` counts how many it has seen.
const MIGRATIONS: &[&str] = &["
    CREATE TABLE jobs (
        id INTEGER PRIMARY KEY,
        uid INTEGER NOT NULL,
        class TEXT NOT NULL,
        record TEXT NOT NULL,             -- JSON of JobRecord
        submitted_unix_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL DEFAULT 0,
        ended_unix_ms INTEGER,            -- null while it has not ended
        outcome TEXT,                     -- JSON of Outcome
        wait_ms INTEGER,
        run_ms INTEGER
    ) STRICT;
    CREATE INDEX jobs_of_uid ON jobs (uid, id);
    CREATE INDEX unfinished_jobs ON jobs (id) WHERE outcome IS NULL;
    CREATE TABLE attempts (
        job INTEGER NOT NULL REFERENCES jobs (id),
        attempt INTEGER NOT NULL,
        lane TEXT NOT NULL,
        started_unix_ms INTEGER NOT NULL,
        PRIMARY KEY (job, attempt)
    ) STRICT, WITHOUT ROWID;
"];

/// The newest schema version.
pub(super) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// The database's schema version.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Applies what is missing, each migration in a transaction of its own.
pub(super) fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let seen = usize::try_from(version(connection)?).unwrap_or(0);
    for (index, migration) in MIGRATIONS.iter().enumerate().skip(seen) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}
