//! What the journal holds when it is opened, and putting the blob store in order by it.

use std::collections::{BTreeMap, BTreeSet};

use gpusched_core::{JobRecord, Measurement};
use gpusched_shared::{BlobHash, FailureKind, JobId, Outcome};
use rusqlite::params;

use super::read::{COLUMNS, job_row};
use super::row::{self, JobRow, RowError, text};
use super::store::{Fault, Store};
use super::{Recovered, Recovering};

/// Log lines about each kind of thing that is wrong; the rest is counted.
const LINES: usize = 10;

impl Store {
    /// Reads what the last run of the daemon left, and puts the blob store in order.
    pub(super) fn recover(&mut self) -> Result<Recovered, Fault> {
        let last: Option<i64> = self.connection.query_row("SELECT max(id) FROM jobs", [], |row| row.get(0))?;
        let mut records = Vec::new();
        for row in self.unfinished_rows()? {
            match row::record(&row).and_then(|record| Ok((record, row::retry_at(&row)?))) {
                Ok(unfinished) => records.push(unfinished),
                Err(e) => self.give_up(&row, &e)?,
            }
        }
        self.sweep()?;
        let unfinished = self.look_at_pictures(records);
        Ok(Recovered {
            unfinished,
            footprints: self.footprints()?,
            next_id: JobId(last.map_or(1, |last| last.unsigned_abs() + 1)),
        })
    }

    fn unfinished_rows(&self) -> Result<Vec<JobRow>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE outcome IS NULL ORDER BY id");
        let mut statement = self.connection.prepare(&sql)?;
        let rows = statement.query_map([], job_row)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// A job whose row cannot be read cannot run; but it ends.
    fn give_up(&mut self, row: &JobRow, error: &RowError) -> Result<(), Fault> {
        tracing::error!(JOB_ID = row.id, "journal: {error}; the job ends as failed");
        let outcome = Outcome::Failed { kind: FailureKind::Storage, message: error.to_string() };
        let now = row::integer(self.clock.unix_ms());
        self.transact(true, |transaction| {
            transaction.execute(
                "UPDATE jobs SET outcome = ?2, wait_us = 0, run_us = 0, ended_unix_ms = ?3, retry_at_unix_ms = NULL \
                 WHERE id = ?1",
                params![row.id, text(&outcome)?, now],
            )?;
            Ok(())
        })
    }

    /// Removes the blobs that no row names, and says which of those that are named are gone or cut.
    fn sweep(&mut self) -> Result<(), Fault> {
        let mut there: BTreeMap<BlobHash, u64> =
            self.blobs.list()?.into_iter().map(|blob| (blob.hash, blob.bytes)).collect();
        let mut statement =
            self.connection.prepare("SELECT hash, min(job), min(bytes) FROM blob_refs GROUP BY hash")?;
        let rows = statement.query_map([], |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?, row.get::<_, i64>(2)?.unsigned_abs()))
        })?;
        let mut wrong = 0_usize;
        for row in rows {
            let (name, job, bytes) = row?;
            let problem = match row::hash(job, &name) {
                Ok(hash) => match there.remove(&hash) {
                    Some(found) if found == bytes => continue,
                    Some(found) => format!("has {found} bytes instead of {bytes}"),
                    None => "is gone".to_owned(),
                },
                Err(e) => e.to_string(),
            };
            if wrong < LINES {
                tracing::error!(JOB_ID = job, "blob {name} {problem}");
            }
            wrong += 1;
        }
        if wrong > 0 {
            tracing::error!("{wrong} stored files are damaged or gone; `gpuschedd journal check` lists them");
        }
        if !there.is_empty() {
            tracing::info!("removing {} stored files that no job refers to", there.len());
        }
        for hash in there.into_keys() {
            self.blobs.remove(hash)?;
        }
        Ok(())
    }

    /// Reads the pictures of unfinished jobs, each once, and compares them with their names.
    fn look_at_pictures(&self, records: Vec<(JobRecord, Option<u64>)>) -> Vec<Recovering> {
        let hashes: BTreeSet<_> =
            records.iter().flat_map(|(record, _)| &record.pictures).map(|picture| picture.blob.hash).collect();
        let damages: BTreeMap<_, _> = hashes
            .into_iter()
            .filter_map(|hash| Some((hash, format!("picture {hash} {}", self.blobs.verify(hash).err()?))))
            .collect();
        let recovering = records.into_iter().map(|(record, retry_at_unix_ms)| {
            let damage = record.pictures.iter().find_map(|picture| damages.get(&picture.blob.hash).cloned());
            Recovering { record, retry_at_unix_ms, damage }
        });
        recovering.collect()
    }

    fn footprints(&self) -> Result<Vec<Measurement>, Fault> {
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
        Ok(rows.collect::<Result<_, _>>()?)
    }
}
