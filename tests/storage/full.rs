//! A disk that fills up: what was accepted ends, what is new is refused, and when there is room again all goes on.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gpusched_daemon::journal::Entry;
use gpusched_shared::Rejection;

use crate::crash::Promised;
use crate::station::{Station, Stopped, directory, record, storage};
use crate::tape::{Event, Promise, Tape};

const LIMIT: u64 = 10_000;

/// Fills the disk with accepted jobs until one is refused, ends them all, makes room and goes on. Returns how many there
/// were.
fn fill(station: &mut Station, root: &Path, make_room: impl FnOnce()) -> u64 {
    let picture = |id: u64, size: usize| -> Vec<u8> { id.to_le_bytes().into_iter().cycle().take(size).collect() };
    let mut accepted = 0;
    let refused = loop {
        assert!(accepted < LIMIT, "the disk does not fill up");
        let id = accepted + 1;
        match station.submit(id, "light", Some(&picture(id, 1000))).expect("it is full, not broken") {
            Ok(()) => accepted += 1,
            Err(refused) => break refused,
        }
    };
    assert!(matches!(refused, Rejection::DiskFull { .. }), "{refused}");
    for id in 1..=accepted {
        station.end(id, Some(&picture(id << 32, 3000))).expect("what was accepted ends");
    }
    make_room();
    let until = Instant::now() + Duration::from_secs(60);
    while station.submit(accepted + 1, "light", None).expect("not broken").is_err() {
        assert!(Instant::now() < until, "nothing is accepted although there is room");
        std::thread::sleep(Duration::from_millis(10));
    }
    while !root.join("reserve").exists() {
        assert!(Instant::now() < until, "the reserve is not made anew");
        std::thread::sleep(Duration::from_millis(10));
    }
    accepted
}

fn promised(accepted: u64) -> Promised {
    let mut promised = Promised::default();
    for job in (1..=accepted + 1).map(gpusched_shared::JobId) {
        promised.add(&Promise::Accepted { job, power: false });
    }
    promised
}

#[test]
fn a_disk_that_is_full_to_the_last_byte_refuses_and_finishes() {
    for (low_water, is_quota) in [(1, false), (100_000, false), (1, true)] {
        let root = directory();
        let tape = Tape::new(root.path(), None);
        let mut station = Station::open(root.path(), Some(&tape), &storage(low_water, 4 << 20), 0).expect("opened");
        if is_quota {
            tape.set_quota(600_000);
        } else {
            tape.set_room(Some(600_000));
        }
        let accepted = fill(&mut station, root.path(), || tape.set_room(Some(1 << 30)));
        let given_up =
            tape.events().iter().any(|event| matches!(event, Event::Remove(path) if path.ends_with("reserve")));
        println!("low water {low_water}, quota {is_quota}: {accepted} jobs fitted, the reserve was needed: {given_up}");
        assert!(given_up || low_water > 1, "without a low-water mark only the reserve can help");
        drop(station);
        promised(accepted).compare(root.path(), false).expect("all there");
    }
}

#[test]
fn amendments_on_a_full_disk_cost_neither_memory_nor_writes() {
    let root = directory();
    let tape = Tape::new(root.path(), None);
    let mut station = Station::open(root.path(), Some(&tape), &storage(1, 0), 0).expect("opened");
    for id in [1, 2] {
        station.submit(id, "light", None).expect("no fault").expect("room");
    }
    tape.set_room(Some(0));
    let before = tape.changes();
    let amended = |priority| {
        let mut amended = record(1, "light", std::iter::empty());
        amended.spec.priority = priority;
        Entry::Amendment(Arc::new(amended))
    };
    for priority in (0..7).cycle().take(1000) {
        station.journal.write(amended(priority));
        // Each in a turn of its own.
        station.ended().expect("answered");
    }
    station.journal.write(amended(5));
    station.ended().expect("answered");
    let tried = tape.changes() - before;
    println!("{tried} changes were tried for 1001 amendments");
    assert!(tried < 500, "{tried} changes were tried for 1001 amendments");

    tape.set_room(None);
    station.end(2, None).expect("there is room");
    drop(station);
    let station = Station::open(root.path(), None, &storage(1, 0), 0).expect("opened");
    let priorities: Vec<_> = station.recovered.unfinished.iter().map(|job| job.record.spec.priority).collect();
    assert_eq!(priorities, [5], "the last one counts");
}

/// A small file system in memory, for as long as it lives.
struct Mounted(tempfile::TempDir);

impl Mounted {
    fn new(size: &str) -> Option<Self> {
        let place = tempfile::tempdir().expect("a directory");
        let options = format!("size={size},mode=0700");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(place.path()).output();
        match mount {
            Ok(done) if done.status.success() => Some(Self(place)),
            other => {
                eprintln!("SKIPPED: a tmpfs cannot be mounted here: {other:?}");
                None
            }
        }
    }
}

impl Mounted {
    fn make_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()).status().expect("it runs");
        assert!(done.success());
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

#[test]
fn a_real_disk_that_is_full_refuses_and_finishes() {
    let Some(mounted) = Mounted::new("24m") else { return };
    let root = mounted.0.path().join("state");
    let ballast = mounted.0.path().join("ballast");
    let mut station = Station::open(&root, None, &storage(1 << 20, 8 << 20), 0).expect("opened");
    fs::write(&ballast, vec![0; 12 << 20]).expect("there is room");
    let accepted = fill(&mut station, &root, || fs::remove_file(&ballast).expect("removed"));
    println!("{accepted} jobs fitted on the tmpfs");
    drop(station);
    promised(accepted).compare(&root, false).expect("all there");
}

#[test]
fn a_real_disk_without_a_byte_left_finishes_what_was_accepted() {
    let Some(mounted) = Mounted::new("24m") else { return };
    let root = mounted.0.path().join("state");
    let ballast = mounted.0.path().join("ballast");
    let mut station = Station::open(&root, None, &storage(1, 8 << 20), 0).expect("opened");
    for id in 1..=20 {
        station.submit(id, "light", Some(&[u8::try_from(id).expect("small"); 1000])).expect("no fault").expect("room");
    }
    // To the last page: it says itself when there is no more.
    let mut file = fs::File::create(&ballast).expect("made");
    let full = std::io::copy(&mut std::io::repeat(1), &mut file).expect_err("it is finite");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let refused = station.submit(21, "light", Some(&[0; 100_000])).expect("full, not broken").expect_err("no room");
    assert!(matches!(refused, Rejection::DiskFull { .. }), "{refused}");
    for id in 1..=20 {
        station.end(id, Some(&[u8::try_from(id).expect("small"); 50_000])).expect("what was accepted ends");
    }
    assert!(!root.join("reserve").exists(), "it was needed");
    fs::remove_file(&ballast).expect("removed");
    drop(station);
    promised(19).compare(&root, false).expect("all there");
}

#[test]
fn a_read_only_state_directory_is_refused_with_the_reason() {
    let Some(mounted) = Mounted::new("24m") else { return };
    let (used, new) = (mounted.0.path().join("used"), mounted.0.path().join("new"));
    drop(Station::open(&used, None, &storage(1, 4096), 0).expect("opened"));
    mounted.make_read_only();
    for root in [used, new] {
        let Stopped(why) = Station::open(&root, None, &storage(1, 4096), 0).expect_err("nothing can be written");
        assert!(why.contains("Read-only file system"), "{why}");
    }
}
