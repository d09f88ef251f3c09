//! The journal as its users see it, with real files. What it forgets is in `limits`, what it tells of the past in `timeline`; `stages` and `quality` are about jobs
//! that reflect.

mod limits;
mod quality;
mod stages;
mod timeline;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpusched_core::{JobRecord, Key, Measurement, Picture, Ticket};
use gpusched_shared::{
    AttemptEnd, BlobHash, BlobRef, FailureKind, JobId, JobState, Outcome, Rejection, Size, TimeLimit, Usage,
};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use super::check::check;
use super::*;
use crate::blobs::Blobs;
use crate::config::{Size as Bytes, StorageConfig};
use crate::disk::Disk;

/// A journal in a directory, with what it says.
struct Opened {
    journal: Journal,
    blobs: Arc<Blobs>,
    replies: mpsc::Receiver<Reply>,
    recovered: Recovered,
}

fn config() -> StorageConfig {
    StorageConfig { low_water: Bytes(1), reserve: Bytes(0), ..StorageConfig::default() }
}

fn store(root: &Path, storage: &StorageConfig) -> Arc<Blobs> {
    let disk = Disk::open(root, storage, None).expect("a disk");
    Arc::new(Blobs::open(Arc::new(disk)).expect("a store"))
}

fn open_on(blobs: Arc<Blobs>, settings: &Settings) -> Result<Opened, JournalError> {
    let (sender, replies) = mpsc::channel(64);
    let (journal, recovered) = Journal::open(settings, Arc::clone(&blobs), sender)?;
    Ok(Opened { journal, blobs, replies, recovered })
}

fn open_with(root: &Path, settings: &Settings, storage: &StorageConfig) -> Result<Opened, JournalError> {
    open_on(store(root, storage), settings)
}

fn open(root: &Path) -> Opened {
    open_with(root, &Settings::default(), &config()).expect("opened")
}

impl Opened {
    /// The next reply that is not about storage.
    fn reply(&mut self) -> Reply {
        let until = Instant::now() + Duration::from_secs(30);
        loop {
            match self.replies.try_recv() {
                Ok(Reply::Storage(_)) => {}
                Ok(reply) => return reply,
                Err(mpsc::error::TryRecvError::Empty) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(e) => panic!("no reply: {e}"),
            }
        }
    }

    fn submit(&mut self, record: JobRecord) -> Reply {
        self.journal.write(Entry::Submission(Arc::new(record)));
        self.reply()
    }

    fn end(&mut self, job: u64, outcome: Outcome) -> Reply {
        self.journal.write(ended(job, outcome, now_ms()));
        self.reply()
    }

    fn show(&self, job: u64) -> Option<JobView> {
        let (reply, answer) = oneshot::channel();
        self.journal.ask(Query::Show(JobId(job), reply));
        answer.blocking_recv().expect("answered")
    }

    fn history(&self, job: u64) -> Vec<AttemptView> {
        let (reply, answer) = oneshot::channel();
        self.journal.ask(Query::History(JobId(job), reply));
        answer.blocking_recv().expect("answered")
    }
}

fn now_ms() -> u64 {
    Clock::default().unix_ms()
}

fn record(id: u64) -> JobRecord {
    JobRecord {
        part: None,
        id: JobId(id),
        uid: 7,
        class: "light".to_owned(),
        spec: serde_json::from_str(r#"{"task":{"vqa":{"question":"what?","top":1}},"model":null}"#).expect("a spec"),
        pictures: Vec::new(),
        attached: false,
        submitted_unix_ms: now_ms(),
        submitted_boot: None,
        attempts: 0,
        key: None,
        retries: 0,
        suspect: false,
        deaths: 0,
    }
}

fn ended(job: u64, outcome: Outcome, unix_ms: u64) -> Entry {
    let (job, usage) = (JobId(job), Usage::default());
    Entry::Outcome { job, outcome, wait_us: 10, run_us: 20, backoff_us: 5, usage, reflection: None, unix_ms }
}

fn image(blob: BlobRef) -> Outcome {
    Outcome::Image { blob, size: Size { width: 16, height: 16 }, truncated_tokens: 0 }
}

/// A database as a version of the schema left it.
fn old(root: &Path, version: usize) -> Connection {
    let mut old = Connection::open(root.join(FILE)).expect("opened");
    schema::migrate_to(&mut old, version).expect("migrated");
    old
}

#[test]
fn a_journal_of_version_1_is_read() {
    let root = tempfile::tempdir().expect("a directory");
    let record = r#"{"id":1,"uid":7,"class":"light","spec":{"task":{"vqa":{"question":"what?","top":1}},"model":null,
        "deadline_ms":5},"pictures":[],"attached":false,"submitted_unix_ms":9,"attempts":0}"#;
    old(root.path(), 1)
        .execute(
            "INSERT INTO jobs (id, uid, class, record, submitted_unix_ms, outcome, wait_ms, run_ms)
             VALUES (1, 7, 'light', ?1, 9, '\"expired\"', 5, 2)",
            [record],
        )
        .expect("inserted");

    let view = open(root.path()).show(1).expect("there");
    assert_eq!(view.state, JobState::Done(Outcome::Expired { limit: TimeLimit::Deadline }));
    assert_eq!((view.wait_us, view.run_us, view.usage), (5000, 2000, Usage::default()));
    assert_eq!((view.spec.priority, view.spec.deadline_ms, view.spec.run_timeout_ms), (0, Some(5), None));
}

#[test]
fn the_files_that_jobs_of_version_2_name_are_kept() {
    let root = tempfile::tempdir().expect("a directory");
    // Without a journal, which would remove what it knows nothing of.
    let blobs = store(root.path(), &config());
    let (input, _hold) = blobs.put_input(b"input").expect("stored");
    let (result, _hold) = blobs.put_result(b"result").expect("stored");
    let (_, _hold) = blobs.put_result(b"nobody's").expect("stored");
    let pictures = serde_json::to_string(&[Picture { blob: input, pixels: 4 }]).expect("JSON");
    let record = |id: u64, pictures: &str| {
        format!(
            r#"{{"id":{id},"uid":7,"class":"heavy","spec":{{"task":{{"vqa":{{"question":"what?","top":1}}}},"model":null}},
            "pictures":{pictures},"attached":false,"submitted_unix_ms":9,"attempts":0}}"#
        )
    };
    let database = old(root.path(), 2);
    let insert = "INSERT INTO jobs (id, uid, class, record, submitted_unix_ms, outcome, wait_us, run_us, ended_unix_ms)
                  VALUES (?1, 7, 'heavy', ?2, 9, ?3, 5, 2, 11)";
    database.execute(insert, rusqlite::params![1, record(1, &pictures), None::<String>]).expect("inserted");
    let outcome = serde_json::to_string(&image(result)).expect("JSON");
    database.execute(insert, rusqlite::params![2, record(2, "[]"), outcome]).expect("inserted");
    database.execute(insert, rusqlite::params![3, "no JSON", "neither"]).expect("inserted");
    drop(database);

    let opened = open(root.path());
    let kept: BTreeSet<_> = opened.blobs.list().expect("read").iter().map(|blob| blob.hash).collect();
    assert_eq!(kept, BTreeSet::from([input.hash, result.hash]));
    assert_eq!(opened.recovered.unfinished.len(), 1);
    assert_eq!(opened.recovered.unfinished[0].damage, None);
}

#[test]
fn a_job_s_life_is_on_record() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    let (input, hold) = opened.blobs.put_input(b"input").expect("stored");
    let first = JobRecord { pictures: vec![Picture { blob: input, pixels: 4 }], ..record(1) };
    assert_eq!(opened.submit(first.clone()), Reply::Recorded(JobId(1)));
    drop(hold);
    let (job, lane) = (JobId(1), "light-0".to_owned());
    opened.journal.write(Entry::Attempt { job, attempt: 1, lane: lane.clone(), unix_ms: 100 });
    opened.journal.write(Entry::AttemptEnd {
        job,
        attempt: 1,
        end: AttemptEnd::OutOfMemory,
        stay: Stay::default(),
        unix_ms: 110,
    });
    opened.journal.write(Entry::BackOff { job, retry: 1, retry_at_unix_ms: 5000 });
    drop(opened);

    let mut opened = open(root.path());
    let expected = JobRecord { attempts: 1, retries: 1, ..first };
    let recovering = Recovering { record: expected, retry_at_unix_ms: Some(5000), ended: Vec::new(), damage: None };
    assert_eq!(opened.recovered.unfinished, [recovering]);
    assert_eq!(opened.recovered.next_id, JobId(2));
    opened.journal.write(Entry::Attempt { job, attempt: 2, lane, unix_ms: 200 });
    let (result, hold) = opened.blobs.put_result(b"result").expect("stored");
    assert_eq!(opened.end(1, image(result)), Reply::Concluded(job));
    drop(hold);
    let view = opened.show(1).expect("there");
    assert_eq!(view.state, JobState::Done(image(result)));
    assert_eq!((view.attempts, view.retries, view.backoff_us), (2, 1, 5));
    let ends: Vec<_> = opened.history(1).into_iter().map(|attempt| (attempt.attempt, attempt.end)).collect();
    assert_eq!(ends, [(1, Some(AttemptEnd::OutOfMemory)), (2, None)]);
    drop(opened);
    let report = check(root.path(), |_, _| {}).expect("looked at");
    assert_eq!((report.is_sound(), report.jobs, report.blobs), (true, 1, 2), "{report:?}");
}

#[test]
fn a_launch_ends_the_back_off() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(record(1));
    opened.journal.write(Entry::BackOff { job: JobId(1), retry: 2, retry_at_unix_ms: 5000 });
    opened.journal.write(Entry::Attempt { job: JobId(1), attempt: 1, lane: "light-0".to_owned(), unix_ms: 100 });
    drop(opened);
    let unfinished = open(root.path()).recovered.unfinished;
    assert_eq!((unfinished[0].retry_at_unix_ms, unfinished[0].record.retries), (None, 2));
}

#[test]
fn a_key_is_found_in_order_and_given_once() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    let fingerprint = BlobHash::of(b"request");
    let with_key = |id, uid| {
        let key = Some(Key { name: "k".to_owned(), fingerprint });
        JobRecord { key, uid, ..record(id) }
    };
    let ask = |opened: &mut Opened, uid| {
        opened.journal.ask(Query::KeyOf { ticket: Ticket(4), uid, key: "k".to_owned() });
        opened.reply()
    };
    assert_eq!(ask(&mut opened, 7), Reply::KeyOf { ticket: Ticket(4), found: None });
    assert_eq!(opened.submit(with_key(1, 7)), Reply::Recorded(JobId(1)));
    // In one transaction with others, which do not suffer.
    opened.journal.write(Entry::Submission(Arc::new(record(2))));
    opened.journal.write(Entry::Submission(Arc::new(with_key(3, 7))));
    opened.journal.write(Entry::Submission(Arc::new(with_key(4, 8))));
    assert_eq!(opened.reply(), Reply::Recorded(JobId(2)));
    assert_eq!(opened.reply(), Reply::RecordFailed(JobId(3), Rejection::KeyConflict { job: JobId(1) }));
    assert_eq!(opened.reply(), Reply::Recorded(JobId(4)), "another uid's key is another key");
    opened.end(1, Outcome::Cancelled);
    assert_eq!(ask(&mut opened, 7), Reply::KeyOf { ticket: Ticket(4), found: Some((JobId(1), fingerprint)) });
}

#[test]
fn below_the_low_water_mark_jobs_are_refused_and_end() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    opened.submit(record(1));
    drop(opened);
    let low = StorageConfig { low_water: Bytes(1 << 60), ..config() };
    let mut opened = open_with(root.path(), &Settings::default(), &low).expect("opened");
    let refused = opened.submit(record(2));
    let Reply::RecordFailed(JobId(2), Rejection::DiskFull { low_water_bytes, free_bytes }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(low_water_bytes, 1 << 60);
    assert!(free_bytes > 0);
    assert_eq!(opened.end(1, Outcome::Cancelled), Reply::Concluded(JobId(1)));
}

#[test]
fn what_nobody_needs_is_removed_while_the_daemon_runs() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    let (refused, hold) = opened.blobs.put_input(b"of a job that is refused").expect("stored");
    opened.submit(record(1));
    assert!(opened.blobs.get(refused.hash).is_ok(), "held");
    drop(hold);
    opened.submit(record(2));
    // The turn after that one has been through the upkeep.
    opened.submit(record(3));
    assert!(opened.blobs.get(refused.hash).is_err());
}

#[test]
fn damage_is_found_and_lived_with() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    let (whole, _whole) = opened.blobs.put_input(b"whole").expect("stored");
    let (damaged, _damaged) = opened.blobs.put_input(b"damaged").expect("stored");
    let with = |id, blob| JobRecord { pictures: vec![Picture { blob, pixels: 4 }], ..record(id) };
    for record in [with(1, whole), with(2, damaged), record(3), record(4)] {
        opened.submit(record);
    }
    opened.end(4, Outcome::Cancelled);
    let path = opened.blobs.path(damaged.hash);
    drop(opened);
    fs::write(path, b"rotten!").expect("written");
    let database = Connection::open(root.path().join(FILE)).expect("opened");
    database.execute("UPDATE jobs SET record = '{' WHERE id >= 3", []).expect("damaged");
    drop(database);

    let report = check(root.path(), |_, _| {}).expect("looked at");
    let said = report.problems.join("\n");
    assert_eq!(report.problems.len(), 3, "{said}");
    for part in [&format!("file {} of job 2 is damaged", damaged.hash), "row of job 3", "row of job 4"] {
        assert!(said.contains(part), "{said}");
    }

    let opened = open(root.path());
    let damages: Vec<_> =
        opened.recovered.unfinished.iter().map(|job| (job.record.id.0, job.damage.is_some())).collect();
    assert_eq!(damages, [(1, false), (2, true)], "job 3 has ended");
    let (reply, answer) = oneshot::channel();
    opened.journal.ask(Query::Show(JobId(4), reply));
    assert!(answer.blocking_recv().is_err(), "a row that cannot be read is no answer");
    let (reply, answer) = oneshot::channel();
    opened.journal.ask(Query::List { uid: None, before: None, limit: 10, reply });
    assert_eq!(answer.blocking_recv().expect("answered"), [], "and is left out of lists");
    drop(opened);
    let outcome: String = Connection::open(root.path().join(FILE))
        .and_then(|database| database.query_row("SELECT outcome FROM jobs WHERE id = 3", [], |row| row.get(0)))
        .expect("ended");
    let outcome: Outcome = serde_json::from_str(&outcome).expect("an outcome");
    assert!(matches!(outcome, Outcome::Failed { kind: FailureKind::Storage, .. }));
}

#[test]
fn a_file_that_is_no_database_or_a_newer_one_is_refused() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join(FILE), b"something else altogether").expect("written");
    let refused = |root: &Path| open_with(root, &Settings::default(), &config()).err().expect("refused");
    assert!(refused(root.path()).to_string().contains("file is not a database"));

    let root = tempfile::tempdir().expect("a directory");
    let newer = old(root.path(), 3);
    newer.pragma_update(None, "user_version", 99).expect("set");
    drop(newer);
    assert!(refused(root.path()).to_string().contains("schema version 99"));
    assert!(check(root.path(), |_, _| {}).expect_err("refused").to_string().contains("newer gpuschedd"));
}

#[test]
fn a_backup_of_a_running_journal_is_whole_and_can_be_used() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    let (input, _hold) = opened.blobs.put_input(b"input").expect("stored");
    opened.submit(JobRecord { pictures: vec![Picture { blob: input, pixels: 4 }], ..record(1) });
    opened.submit(record(2));
    opened.end(2, Outcome::Cancelled);

    let to = root.path().join("backup");
    let report = backup::backup(root.path(), &to, |_, _| {}).expect("copied");
    assert_eq!((report.jobs, report.unfinished, report.blobs, report.orphans), (2, 1, 1, 0));
    opened.end(1, Outcome::Cancelled);
    let again = backup::backup(root.path(), &to, |_, _| {}).expect_err("there already");
    assert!(again.to_string().contains("is there already"));
    // What happens to the original does not happen to it.
    fs::write(opened.blobs.path(input.hash), b"rotten").expect("written");
    drop(opened);
    let copy = open(&to);
    assert_eq!(copy.recovered.unfinished.len(), 1, "as it was then");
    assert_eq!(copy.recovered.unfinished[0].damage, None);
    assert!(copy.show(2).is_some());
}

#[test]
fn measurements_are_kept_and_replaced() {
    let root = tempfile::tempdir().expect("a directory");
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
    let opened = open(root.path());
    opened.journal.write(Entry::Footprint(measured(10, 1)));
    opened.journal.write(Entry::Footprint(measured(12, 2)));
    drop(opened);
    assert_eq!(open(root.path()).recovered.footprints, [measured(12, 2)]);
}
