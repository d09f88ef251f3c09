//! A journal and a blob store whose changes are on a tape, and someone who uses them as the daemon does.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpusched_core::{JobRecord, Key, Part, Picture};
use gpusched_daemon::blobs::{Blobs, StoreError};
use gpusched_daemon::clock::Clock;
use gpusched_daemon::config::{RetentionConfig, Size as Bytes, StorageConfig};
use gpusched_daemon::disk::{Disk, Witness};
use gpusched_daemon::journal::{Entry, Journal, Query, Recovered, Reply, Settings};
use gpusched_shared::{BlobHash, BlobRef, JobId, JobView, Outcome, Rejection, Size, Usage};
use tokio::sync::{mpsc, oneshot};

use crate::tape::{Promise, Tape};
use crate::vfs;

/// Longer than anything takes; only a bug waits for its end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why it does not go on: what the journal, the blob store or the opening of them said.
#[derive(Debug)]
pub(crate) struct Stopped(pub(crate) String);

#[derive(Debug)]
pub(crate) struct Station {
    pub(crate) journal: Journal,
    pub(crate) blobs: Arc<Blobs>,
    pub(crate) recovered: Recovered,
    replies: mpsc::Receiver<Reply>,
    tape: Option<Arc<Tape>>,
}

pub(crate) fn storage(low_water: u64, reserve: u64) -> StorageConfig {
    StorageConfig { low_water: Bytes(low_water), reserve: Bytes(reserve), blobs: Bytes(1 << 30) }
}

impl Station {
    pub(crate) fn open(
        root: &Path,
        tape: Option<&Arc<Tape>>,
        storage: &StorageConfig,
        max_jobs: u64,
    ) -> Result<Self, Stopped> {
        let witness = tape.map(|tape| Arc::clone(tape) as Arc<dyn Witness>);
        let disk = Disk::open(root, storage, witness).map_err(|e| Stopped(e.to_string()))?;
        let blobs = Arc::new(Blobs::open(Arc::new(disk)).map_err(|e| Stopped(e.to_string()))?);
        let settings = Settings {
            power_durable: BTreeSet::from(["heavy".to_owned()]),
            retention: RetentionConfig { max_jobs, ..RetentionConfig::default() },
            // What has just ended is spared, so whoever wants something forgotten lives an hour later.
            clock: Clock::new(if max_jobs > 0 { 3_600_000 } else { 0 }),
            vfs: tape.map(vfs::register),
            ..Settings::default()
        };
        let (sender, replies) = mpsc::channel(256);
        let opened = Journal::open(&settings, Arc::clone(&blobs), sender);
        let (journal, recovered) = opened.map_err(|e| Stopped(e.to_string()))?;
        Ok(Self { journal, blobs, recovered, replies, tape: tape.cloned() })
    }

    /// The next reply to an entry.
    pub(crate) fn reply(&mut self) -> Result<Reply, Stopped> {
        let until = Instant::now() + PATIENCE;
        loop {
            match self.replies.try_recv() {
                Ok(Reply::Storage(_)) => {}
                Ok(Reply::Poisoned(why)) => return Err(Stopped(why)),
                Ok(reply) => return Ok(reply),
                Err(mpsc::error::TryRecvError::Empty) => {
                    assert!(Instant::now() < until, "no reply");
                    std::thread::sleep(Duration::from_micros(100));
                }
                Err(mpsc::error::TryRecvError::Disconnected) => return Err(Stopped("no more replies".to_owned())),
            }
        }
    }

    /// Submits a job with a picture or without; says whether it was accepted.
    pub(crate) fn submit(
        &mut self,
        id: u64,
        class: &str,
        picture: Option<&[u8]>,
    ) -> Result<Result<(), Rejection>, Stopped> {
        let stored = match picture.map(|bytes| self.blobs.put_input(bytes)).transpose() {
            Ok(stored) => stored,
            Err(StoreError::Full { free_bytes, low_water_bytes }) => {
                return Ok(Err(Rejection::DiskFull { free_bytes, low_water_bytes }));
            }
            Err(e) => return Err(Stopped(e.to_string())),
        };
        let recorded = self.record(record(id, class, stored.iter().map(|(blob, _)| *blob)))?;
        if recorded.is_ok() {
            self.promise(Promise::Accepted { job: JobId(id), power: class == "heavy" });
        }
        Ok(recorded)
    }

    /// Submits a job that reflects; there is room.
    pub(crate) fn submit_reflecting(&mut self, id: u64, class: &str) -> Result<(), Stopped> {
        let mut record = record(id, class, std::iter::empty());
        record.spec.reflect = Some(Box::default());
        self.record(record)?.expect("there is room");
        self.promise(Promise::Accepted { job: JobId(id), power: class == "heavy" });
        Ok(())
    }

    /// Begins a stage of a job, about a stored picture or none.
    pub(crate) fn begin(&mut self, id: u64, part: Part, picture: Option<BlobRef>) -> Result<(), Stopped> {
        let record = JobRecord { part: Some(part), key: None, ..record(id, "heavy", picture.into_iter()) };
        self.record(record)?.expect("a stage is not refused");
        Ok(())
    }

    fn record(&mut self, record: JobRecord) -> Result<Result<(), Rejection>, Stopped> {
        let id = record.id;
        self.journal.write(Entry::Submission(Arc::new(record)));
        let reply = self.reply()?;
        if let Reply::RecordFailed(_, rejection) = reply {
            return Ok(Err(rejection));
        }
        assert_eq!(reply, Reply::Recorded(id));
        Ok(Ok(()))
    }

    /// Ends a job with a picture or without.
    pub(crate) fn end(&mut self, id: u64, picture: Option<&[u8]>) -> Result<(), Stopped> {
        let outcome = self.conclude(id, picture)?;
        self.promise(Promise::Ended(JobId(id), outcome));
        Ok(())
    }

    /// Ends a stage of a job with a picture, which is returned, or without.
    pub(crate) fn end_stage(
        &mut self,
        id: u64,
        part: Part,
        picture: Option<&[u8]>,
    ) -> Result<Option<BlobRef>, Stopped> {
        let outcome = self.conclude(id, picture)?;
        let blob = outcome.blob();
        self.promise(Promise::StageEnded(part, outcome));
        Ok(blob)
    }

    fn conclude(&mut self, id: u64, picture: Option<&[u8]>) -> Result<Outcome, Stopped> {
        let stored = picture.map(|bytes| self.blobs.put_result(bytes)).transpose();
        let stored = stored.map_err(|e| Stopped(e.to_string()))?;
        let outcome = stored.as_ref().map_or(Outcome::Cancelled, |(blob, _)| image(*blob));
        let (job, usage) = (JobId(id), Usage::default());
        self.journal.write(Entry::Outcome {
            job,
            outcome: outcome.clone(),
            wait_us: 1,
            run_us: 2,
            backoff_us: 0,
            usage,
            reflection: None,
            unix_ms: Clock::default().unix_ms(),
        });
        assert_eq!(self.reply()?, Reply::Concluded(job));
        Ok(outcome)
    }

    pub(crate) fn promise(&self, promise: Promise) {
        if let Some(tape) = &self.tape {
            tape.promise(promise);
        }
    }

    /// All jobs that have ended.
    pub(crate) fn ended(&self) -> Result<Vec<JobView>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.journal.ask(Query::List { uid: None, before: None, limit: 1000, reply });
        answer.blocking_recv().map_err(|e| Stopped(e.to_string()))
    }
}

pub(crate) fn record(id: u64, class: &str, pictures: impl Iterator<Item = BlobRef>) -> JobRecord {
    let spec = r#"{"task":{"vqa":{"question":"what color is the shape?","top":1}},"model":null}"#;
    JobRecord {
        id: JobId(id),
        uid: 7,
        class: class.to_owned(),
        spec: serde_json::from_str(spec).expect("a spec"),
        pictures: pictures.map(|blob| Picture { blob, pixels: 4 }).collect(),
        attached: false,
        submitted_unix_ms: Clock::default().unix_ms(),
        submitted_boot: None,
        attempts: 0,
        key: Some(Key { name: format!("key-{id}"), fingerprint: BlobHash::of(&id.to_le_bytes()) }),
        retries: 0,
        suspect: false,
        deaths: 0,
        part: None,
    }
}

fn image(blob: BlobRef) -> Outcome {
    Outcome::Image { blob, size: Size { width: 16, height: 16 }, truncated_tokens: 0 }
}

/// A directory in memory, where there is one: thousands are made.
pub(crate) fn directory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let made = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    made.expect("a directory")
}
