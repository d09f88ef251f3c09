//! The tables, and how they came to be: one migration for each version of the schema.

use rusqlite::Connection;

/// Migrations in order; the database's `user_version` counts how many it has seen.
const MIGRATIONS: &[&str] = &[
    "
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
",
    "
    ALTER TABLE jobs RENAME COLUMN wait_ms TO wait_us;
    ALTER TABLE jobs RENAME COLUMN run_ms TO run_us;
    UPDATE jobs SET wait_us = wait_us * 1000, run_us = run_us * 1000;
    ALTER TABLE jobs ADD COLUMN usage TEXT;   -- JSON of Usage; null before this version
    UPDATE jobs SET outcome = '{\"expired\":{\"limit\":\"deadline\"}}' WHERE outcome = '\"expired\"';
    CREATE TABLE footprints (
        model TEXT NOT NULL,
        width INTEGER NOT NULL,
        height INTEGER NOT NULL,
        pictures INTEGER NOT NULL,
        input_pixels INTEGER NOT NULL,
        peak_bytes INTEGER NOT NULL,
        step_us INTEGER NOT NULL,
        runs INTEGER NOT NULL,
        PRIMARY KEY (model, width, height, pictures, input_pixels)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE flushes (                    -- memory before and after; live is the partition's, resident the process's
        unix_ms INTEGER NOT NULL,
        class TEXT NOT NULL,
        live_before INTEGER NOT NULL,
        live_after INTEGER NOT NULL,
        resident_before INTEGER NOT NULL,
        resident_after INTEGER NOT NULL
    ) STRICT;
    CREATE INDEX flushes_by_time ON flushes (unix_ms);
",
    r#"
    ALTER TABLE jobs ADD COLUMN key TEXT;                -- the client's name for the submission
    ALTER TABLE jobs ADD COLUMN fingerprint TEXT;        -- what was asked for under it
    ALTER TABLE jobs ADD COLUMN retries INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE jobs ADD COLUMN retry_at_unix_ms INTEGER; -- null unless it backs off
    ALTER TABLE jobs ADD COLUMN backoff_us INTEGER NOT NULL DEFAULT 0;
    CREATE UNIQUE INDEX jobs_by_key ON jobs (uid, key) WHERE key IS NOT NULL;
    CREATE INDEX ended_jobs ON jobs (ended_unix_ms, id) WHERE outcome IS NOT NULL;
    ALTER TABLE attempts ADD COLUMN ended_unix_ms INTEGER;
    ALTER TABLE attempts ADD COLUMN "end" TEXT;          -- JSON of AttemptEnd
    CREATE TABLE blob_refs (                             -- the stored files that jobs refer to
        hash TEXT NOT NULL,
        job INTEGER NOT NULL REFERENCES jobs (id),
        bytes INTEGER NOT NULL,
        PRIMARY KEY (hash, job)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX blob_refs_by_job ON blob_refs (job);
    INSERT OR IGNORE INTO blob_refs
        SELECT value ->> 'hash', jobs.id, value ->> 'bytes'
        FROM jobs, json_each(iif(json_valid(record), record, '{}'), '$.pictures');
    INSERT OR IGNORE INTO blob_refs
        SELECT file ->> 'hash', id, file ->> 'bytes'
        FROM (SELECT id, iif(json_valid(outcome), outcome, '{}') -> '$.image.blob' AS file FROM jobs)
        WHERE file IS NOT NULL;
"#,
    "
    ALTER TABLE jobs ADD COLUMN parent INTEGER REFERENCES jobs (id); -- whose stage it is; null if a client asked for it
    ALTER TABLE jobs ADD COLUMN part TEXT;               -- which stage: 1/image, 1/check/0, 1/glance/0
    ALTER TABLE jobs ADD COLUMN reflection TEXT;         -- JSON of Reflection; null while it has not ended, or does not reflect
    CREATE UNIQUE INDEX jobs_by_part ON jobs (parent, part) WHERE parent IS NOT NULL;
    DROP INDEX jobs_of_uid;
    CREATE INDEX jobs_of_uid ON jobs (uid, id) WHERE parent IS NULL;
    DROP INDEX ended_jobs;
    CREATE INDEX ended_jobs ON jobs (ended_unix_ms, id) WHERE outcome IS NOT NULL AND parent IS NULL;
    CREATE TABLE quality (                               -- what reflecting jobs came to, also those that are forgotten
        id INTEGER PRIMARY KEY,                          -- in the order in which they ended
        job INTEGER NOT NULL,
        ended_unix_ms INTEGER NOT NULL,
        model TEXT NOT NULL,
        judge TEXT NOT NULL,
        first_passed INTEGER NOT NULL,                   -- 1 if its first picture passed
        passed INTEGER NOT NULL,                         -- 1 if it ended with a picture that passed
        rounds INTEGER NOT NULL,
        checks INTEGER NOT NULL,
        image_us INTEGER NOT NULL,
        check_us INTEGER NOT NULL
    ) STRICT;
",
    "
    ALTER TABLE attempts ADD COLUMN parked TEXT;         -- JSON of a list of Parked; null while it has not ended
    ALTER TABLE attempts ADD COLUMN peak_bytes INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX attempts_by_time ON attempts (started_unix_ms, job, attempt);
    CREATE TABLE memory (                                -- what partitions held; of flushes also what the process did
        id INTEGER PRIMARY KEY,
        unix_ms INTEGER NOT NULL,
        class TEXT NOT NULL,
        event TEXT NOT NULL,                             -- a MemoryEvent
        used_bytes INTEGER NOT NULL,
        reserved_bytes INTEGER NOT NULL,
        cap_bytes INTEGER NOT NULL,
        resident_bytes INTEGER NOT NULL
    ) STRICT;
    INSERT INTO memory (unix_ms, class, event, used_bytes, reserved_bytes, cap_bytes, resident_bytes)
        SELECT unix_ms, class, event, used, 0, 0, resident FROM (
            SELECT rowid AS at, 0 AS half, unix_ms, class, 'flushing' AS event, live_before AS used,
                resident_before AS resident FROM flushes
            UNION ALL
            SELECT rowid, 1, unix_ms, class, 'flushed', live_after, resident_after FROM flushes
        ) ORDER BY at, half;
    DROP TABLE flushes;
    CREATE INDEX memory_by_time ON memory (unix_ms, id);
",
];

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
    migrate_to(connection, MIGRATIONS.len())
}

/// Applies what is missing to come to a version.
pub(super) fn migrate_to(connection: &mut Connection, wanted: usize) -> rusqlite::Result<()> {
    let seen = usize::try_from(version(connection)?).unwrap_or(0);
    for (index, migration) in MIGRATIONS.iter().enumerate().take(wanted).skip(seen) {
        let transaction = connection.transaction()?;
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", i64::try_from(index + 1).unwrap_or(i64::MAX))?;
        transaction.commit()?;
    }
    Ok(())
}
