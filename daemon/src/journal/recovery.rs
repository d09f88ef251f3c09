//! What the journal holds when it is opened, and putting the blob store in order by it.

use std::collections::{BTreeMap, BTreeSet};

use gpusched_core::program::Program;
use gpusched_core::{EndedPart, Measurement};
use gpusched_shared::{BlobHash, FailureKind, JobId, Outcome};
use rusqlite::params;

use super::read::{COLUMNS, job_row};
use super::row::{self, JobRow, RowError, key, text};
use super::store::{Fault, Store};
use super::{Recovered, Recovering};

/// Log lines about each kind of thing that is wrong; the rest is counted.
const LINES: usize = 10;

impl Store {
    /// Reads what the last run of the daemon left, and puts the blob store in order.
    pub(super) fn recover(&mut self) -> Result<Recovered, Fault> {
        let last: Option<i64> = self.connection.query_row("SELECT max(id) FROM jobs", [], |row| row.get(0))?;
        let mut unfinished = Vec::new();
        let mut damages = BTreeMap::new();
        for row in self.unfinished_rows()? {
            match row::record(&row).and_then(|record| Ok((record, row::retry_at(&row)?))) {
                Ok((record, retry_at_unix_ms)) => {
                    unfinished.push(Recovering { record, retry_at_unix_ms, ended: Vec::new(), damage: None });
                }
                Err(e) => {
                    self.give_up(&row, &e)?;
                    damages.extend(row.parent.map(|parent| (JobId(parent.unsigned_abs()), e)));
                }
            }
        }
        self.end_forsaken(&mut unfinished)?;
        self.sweep()?;
        self.look_at_pictures(&mut unfinished);
        self.look_at_stages(&mut unfinished, damages)?;
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
        self.end(row.id, &Outcome::Failed { kind: FailureKind::Storage, message: error.to_string() })
    }

    /// Stages of jobs that have ended, or just did because their rows cannot be read, are of no use.
    fn end_forsaken(&mut self, unfinished: &mut Vec<Recovering>) -> Result<(), Fault> {
        let live: BTreeSet<JobId> = unfinished.iter().map(|job| job.record.id).collect();
        let is_forsaken = |job: &mut Recovering| job.record.part.is_some_and(|part| !live.contains(&part.of));
        for Recovering { record, .. } in unfinished.extract_if(.., is_forsaken) {
            tracing::warn!(JOB_ID = record.id.0, "journal: the job whose stage it is has ended, and so does it");
            self.end(key(record.id), &Outcome::Cancelled)?;
        }
        Ok(())
    }

    fn end(&mut self, job: i64, outcome: &Outcome) -> Result<(), Fault> {
        let now = row::integer(self.clock.unix_ms());
        self.transact(true, |transaction| {
            transaction.execute(
                "UPDATE jobs SET outcome = ?2, wait_us = 0, run_us = 0, ended_unix_ms = ?3, retry_at_unix_ms = NULL \
                 WHERE id = ?1",
                params![job, text(outcome)?, now],
            )?;
            Ok(())
        })
    }

    /// Finds the stages that have ended. `damages` has what is wrong with stages that had not, by the jobs they are of. A job
    /// with a stage that cannot be read does not know what it has done, and ends; so do its other stages.
    fn look_at_stages(
        &self,
        unfinished: &mut [Recovering],
        mut damages: BTreeMap<JobId, RowError>,
    ) -> Result<(), Fault> {
        let has_stages = |job: &&mut Recovering| job.record.part.is_none() && Program::of(&job.record.spec).is_some();
        for job in unfinished.iter_mut().filter(has_stages) {
            match self.ended_parts(job.record.id)? {
                Ok(ended) => job.ended = ended,
                Err(e) => drop(damages.insert(job.record.id, e)),
            }
        }
        for job in unfinished {
            let of = job.record.part.map_or(job.record.id, |part| part.of);
            if let Some(e) = damages.get(&of) {
                job.damage = Some(format!("a stage of job {of} is damaged: {e}"));
            }
        }
        Ok(())
    }

    fn ended_parts(&self, job: JobId) -> Result<Result<Vec<EndedPart>, RowError>, Fault> {
        let sql = format!("SELECT {COLUMNS} FROM jobs WHERE parent = ?1 AND outcome IS NOT NULL");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let rows = statement.query_map([key(job)], job_row)?.collect::<Result<Vec<_>, _>>()?;
        let parts = rows.iter().map(row::ended_part).collect::<Result<Vec<_>, _>>();
        Ok(parts.map(|mut parts| {
            parts.sort_by_key(|ended| ended.part);
            parts
        }))
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
    fn look_at_pictures(&self, unfinished: &mut [Recovering]) {
        let pictures = unfinished.iter().flat_map(|job| &job.record.pictures);
        let hashes: BTreeSet<_> = pictures.map(|picture| picture.blob.hash).collect();
        let damages: BTreeMap<_, _> = hashes
            .into_iter()
            .filter_map(|hash| Some((hash, format!("picture {hash} {}", self.blobs.verify(hash).err()?))))
            .collect();
        for job in unfinished {
            job.damage = job.record.pictures.iter().find_map(|picture| damages.get(&picture.blob.hash).cloned());
        }
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
