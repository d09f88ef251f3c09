//! What is forgotten, and what is not.

use std::sync::atomic::{AtomicBool, Ordering};

use nix::errno::Errno;

use super::*;
use crate::disk::{Change, Witness};

const HOUR_MS: u64 = 3_600_000;

fn long_ago() -> u64 {
    now_ms() - HOUR_MS
}

impl Opened {
    fn wait_until_gone(&self, job: u64) {
        let until = Instant::now() + Duration::from_secs(30);
        while self.show(job).is_some() {
            assert!(Instant::now() < until, "job {job} is not forgotten");
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Takes a job and ends it, with a result of so many bytes if not none.
    fn submit_and_end(&mut self, id: u64, bytes: usize, unix_ms: u64) {
        self.submit(record(id));
        let result: Vec<u8> = id.to_le_bytes().into_iter().cycle().take(bytes).collect();
        let stored = (bytes > 0).then(|| self.blobs.put_result(&result).expect("stored"));
        let outcome = stored.as_ref().map_or(Outcome::Cancelled, |(blob, _)| image(*blob));
        self.journal.write(ended(id, outcome, unix_ms));
        assert_eq!(self.reply(), Reply::Concluded(JobId(id)));
    }
}

#[test]
fn ended_jobs_beyond_the_limit_are_forgotten_with_their_files() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    // Job 1 has not ended and shares its picture with job 2; job 3 shares its result with job 4.
    let (shared, _hold) = opened.blobs.put_input(b"shared").expect("stored");
    let pictures = vec![Picture { blob: shared, pixels: 4 }];
    let (own, _hold) = opened.blobs.put_result(b"own").expect("stored");
    let (both, _hold) = opened.blobs.put_result(b"both").expect("stored");
    for id in 1..=4 {
        opened.submit(JobRecord { pictures: if id < 3 { pictures.clone() } else { Vec::new() }, ..record(id) });
    }
    for (id, blob) in [(2, own), (3, both), (4, both)] {
        opened.journal.write(ended(id, image(blob), long_ago() + id));
        assert_eq!(opened.reply(), Reply::Concluded(JobId(id)));
    }
    drop((opened, _hold));
    let retention = RetentionConfig { max_jobs: 1, ..RetentionConfig::default() };
    let settings = Settings { retention, ..Settings::default() };
    let opened = open_with(root.path(), &settings, &config()).expect("opened");
    opened.wait_until_gone(3);
    assert_eq!([2, 3, 4].map(|id| opened.show(id).is_some()), [false, false, true]);
    let left: BTreeSet<_> = opened.blobs.list().expect("read").iter().map(|blob| blob.hash).collect();
    assert_eq!(left, BTreeSet::from([shared.hash, both.hash]), "what a live job or another one names stays");
    drop(opened);
    assert!(check(root.path(), |_, _| {}).expect("looked at").is_sound());
}

#[test]
fn a_number_is_never_given_again() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    for id in 1..=3 {
        opened.submit(record(id));
        opened.journal.write(ended(id, Outcome::Cancelled, 1));
        assert_eq!(opened.reply(), Reply::Concluded(JobId(id)));
    }
    drop(opened);
    let retention = RetentionConfig { max_bytes: Bytes(1), ..RetentionConfig::default() };
    let settings = Settings { retention, ..Settings::default() };
    let opened = open_with(root.path(), &settings, &config()).expect("opened");
    opened.wait_until_gone(2);
    assert_eq!([1, 2, 3].map(|id| opened.show(id).is_some()), [false, false, true]);
    drop(opened);
    assert_eq!(open(root.path()).recovered.next_id, JobId(4));
}

#[test]
fn for_room_only_jobs_go_that_have_files_and_no_more_than_must() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    // The even ones have no file; together 20 files of 1000 bytes, and a live job's picture.
    for id in 1..=40 {
        opened.submit_and_end(id, if id % 2 == 1 { 1000 } else { 0 }, long_ago() + id);
    }
    let (picture, hold) = opened.blobs.put_input(&[7; 10_000]).expect("stored");
    opened.submit(JobRecord { pictures: vec![Picture { blob: picture, pixels: 4 }], ..record(41) });
    drop((opened, hold));

    // Ended jobs keep half of the quota.
    let crowded = StorageConfig { blobs: Bytes(24_000), ..config() };
    let opened = open_with(root.path(), &Settings::default(), &crowded).expect("opened");
    // The first eight with files, which is enough. The last to go takes the others' answers with it.
    opened.wait_until_gone(15);
    let there = |id| opened.show(id).is_some();
    assert!((1..=15).step_by(2).all(|id| !there(id)), "the first with files");
    assert!((2..=40).step_by(2).all(there), "forgetting those without frees nothing");
    assert!((17..=40).step_by(2).all(there), "and no more than must");
    assert_eq!(opened.blobs.bytes(), 22_000);
}

#[test]
fn neither_live_jobs_nor_uploads_have_ended_ones_forgotten() {
    let root = tempfile::tempdir().expect("a directory");
    let crowded = StorageConfig { blobs: Bytes(20_000), ..config() };
    let mut opened = open_with(root.path(), &Settings::default(), &crowded).expect("opened");
    for id in 1..=4 {
        opened.submit_and_end(id, 1000, long_ago() + id);
    }
    let (picture, _hold) = opened.blobs.put_input(&[7; 8000]).expect("stored");
    opened.submit(JobRecord { pictures: vec![Picture { blob: picture, pixels: 4 }], ..record(5) });
    drop(opened);

    let blobs = store(root.path(), &crowded);
    let _upload = blobs.put_input(&[8; 8000]).expect("stored");
    assert_eq!(blobs.bytes(), 20_000, "it is full");
    let mut opened = open_on(blobs, &Settings::default()).expect("opened");
    // It looks before it answers anything.
    assert!(matches!(opened.replies.blocking_recv(), Some(Reply::Storage(_))));
    assert!((1..=4).all(|id| opened.show(id).is_some()));
}

/// A disk that removes no stored file while it is full, as some file systems do not.
#[derive(Debug, Default)]
struct Stuck(AtomicBool);

impl Witness for Stuck {
    fn before(&self, change: Change<'_>) -> io::Result<()> {
        let stuck = self.0.load(Ordering::Relaxed) && matches!(change, Change::Remove(_));
        if stuck { Err(Errno::ENOSPC.into()) } else { Ok(()) }
    }

    fn free_bytes(&self, measured: u64) -> u64 {
        measured
    }
}

#[test]
fn what_cannot_be_removed_on_a_full_disk_is_removed_later() {
    let root = tempfile::tempdir().expect("a directory");
    let stuck = Arc::new(Stuck::default());
    let disk = Disk::open(root.path(), &config(), Some(Arc::clone(&stuck) as Arc<dyn Witness>)).expect("a disk");
    let blobs = Arc::new(Blobs::open(Arc::new(disk)).expect("a store"));
    let mut opened = open_on(blobs, &Settings::default()).expect("opened");
    stuck.0.store(true, Ordering::Relaxed);
    let (blob, hold) = opened.blobs.put_input(b"of a job that is refused").expect("stored");
    drop(hold);
    for id in [1, 2] {
        assert_eq!(opened.submit(record(id)), Reply::Recorded(JobId(id)), "it goes on");
    }
    assert!(opened.blobs.get(blob.hash).is_ok());
    stuck.0.store(false, Ordering::Relaxed);
    for id in [3, 4] {
        assert_eq!(opened.submit(record(id)), Reply::Recorded(JobId(id)));
    }
    assert!(opened.blobs.get(blob.hash).is_err());
}

#[test]
fn what_has_just_ended_is_spared() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    for (id, ended_ms) in [(1, long_ago()), (2, now_ms()), (3, now_ms())] {
        opened.submit_and_end(id, 1000, ended_ms);
    }
    drop(opened);
    let retention = RetentionConfig { max_bytes: Bytes(1), max_jobs: 1, ..RetentionConfig::default() };
    let opened = open_with(root.path(), &Settings { retention, ..Settings::default() }, &config()).expect("opened");
    opened.wait_until_gone(1);
    assert!(opened.show(2).is_some());
}

#[test]
fn ages_are_measured_by_the_clock_that_is_given() {
    let root = tempfile::tempdir().expect("a directory");
    let mut opened = open(root.path());
    let nearly_a_day = now_ms() - 23 * HOUR_MS;
    opened.submit_and_end(1, 0, nearly_a_day);
    opened.submit_and_end(2, 0, nearly_a_day + 90 * 60_000);
    opened.submit(record(3));
    drop(opened);
    let retention = RetentionConfig { max_age_days: 1, ..RetentionConfig::default() };
    let clock = Clock::new(2 * 3_600_000);
    let settings = Settings { retention, clock, ..Settings::default() };
    let opened = open_with(root.path(), &settings, &config()).expect("opened");
    opened.wait_until_gone(1);
    assert!(opened.show(2).is_some());
}
