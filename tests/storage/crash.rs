//! A crash at every write and sync of a run.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use gpusched_core::{Measurement, Part, Role};
use gpusched_daemon::journal::check::check;
use gpusched_daemon::journal::{Entry, Stay};
use gpusched_shared::{AttemptEnd, JobId, JobState, Outcome};

use crate::disk::{Disk, Image, Left};
use crate::station::{Station, Stopped, directory, storage};
use crate::tape::{Event, Promise, Tape};

/// Random remains of what was not synced, for each moment.
const SEEDS: u64 = 4;

/// A day in the life of a daemon: jobs of both durabilities come, are tried, back off, end, and are forgotten, over three
/// runs. Two of them reflect: 6 ends and is forgotten with its stages, 12 does not end.
pub(crate) fn day(tape: &Arc<Tape>, root: &Path, wait: bool) -> Result<(), Stopped> {
    let config = storage(1, 4096);
    let mut station = Station::open(root, Some(tape), &config, 0)?;
    let accepted = |result: Result<(), _>| assert!(result.is_ok(), "there is room: {result:?}");
    accepted(station.submit(1, "heavy", Some(&[1; 3000]))?);
    accepted(station.submit(2, "light", None)?);
    accepted(station.submit(3, "light", Some(&[1; 3000]))?);
    accepted(station.submit(4, "light", Some(&[4; 700]))?);
    let job = JobId(2);
    let lane = || "light-0".to_owned();
    station.journal.write(Entry::Attempt { job, attempt: 1, lane: lane(), unix_ms: 5 });
    station.journal.write(Entry::AttemptEnd {
        job,
        attempt: 1,
        end: AttemptEnd::OutOfMemory,
        stay: Stay::default(),
        unix_ms: 6,
    });
    station.journal.write(Entry::BackOff { job, retry: 1, retry_at_unix_ms: 900 });
    if wait {
        wait_for_sync(&station, tape)?;
    }
    station.end(1, Some(&[10; 5000]))?;
    station.end(3, None)?;
    station.journal.write(Entry::Attempt { job, attempt: 2, lane: lane(), unix_ms: 1000 });
    // A picture of a job that is not submitted after all.
    drop(station.blobs.put_input(&[9; 2000]).map_err(|e| Stopped(e.to_string()))?);
    accepted(station.submit(5, "heavy", Some(&[5; 100]))?);
    station.submit_reflecting(6, "light")?;
    let [picture, check] = [Role::Image, Role::Check(0)].map(|role| Part { of: JobId(6), round: 1, role });
    station.begin(7, picture, None)?;
    let made = station.end_stage(7, picture, Some(&[60; 2500]))?;
    station.begin(8, check, made)?;
    station.end_stage(8, check, None)?;
    station.end(6, Some(&[60; 2500]))?;
    station.end(2, Some(&[20; 1500]))?;
    drop(station);

    tape.promise(Promise::MayGo([1, 2, 3, 6].map(JobId).into()));
    let mut station = Station::open(root, Some(tape), &config, 1)?;
    accepted(station.submit(9, "light", Some(&[10; 5000]))?);
    let until = Instant::now() + Duration::from_secs(60);
    while station.ended()?.len() > 1 {
        assert!(Instant::now() < until, "nothing is forgotten");
        std::thread::sleep(Duration::from_millis(1));
    }
    drop(station);

    let mut station = Station::open(root, Some(tape), &config, 0)?;
    station.end(9, Some(&[10; 5000]))?;
    station.end(4, Some(&[4; 700]))?;
    accepted(station.submit(10, "light", None)?);
    accepted(station.submit(11, "heavy", None)?);
    station.submit_reflecting(12, "heavy")?;
    for (id, round) in [(13, 1), (15, 2)] {
        let [picture, check] = [Role::Image, Role::Check(0)].map(|role| Part { of: JobId(12), round, role });
        station.begin(id, picture, None)?;
        let made = station.end_stage(id, picture, Some(&[round; 900]))?;
        station.begin(id + 1, check, made)?;
        if round == 1 {
            station.end_stage(id + 1, check, None)?;
        }
    }
    Ok(())
}

/// What has been accepted without being synced is synced soon, although nothing else happens.
fn wait_for_sync(station: &Station, tape: &Tape) -> Result<(), Stopped> {
    // So that there is something to sync.
    station.journal.write(Entry::Footprint(Measurement {
        model: "m".to_owned(),
        width: 1,
        height: 1,
        pictures: 0,
        input_pixels: 0,
        peak_bytes: 1,
        step_us: 1,
        runs: 1,
    }));
    station.ended()?;
    let is_written = |event: &Event| matches!(event, Event::Write { path, .. } if path.ends_with("journal.sqlite-wal"));
    let is_synced = |event: &Event| matches!(event, Event::Sync(path) if path.ends_with("journal.sqlite-wal"));
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let events = tape.events();
        if events.iter().rposition(is_synced) > events.iter().rposition(is_written) {
            tape.promise(Promise::Synced);
            return Ok(());
        }
        assert!(Instant::now() < until, "the log is not synced");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// What must be true of what a crash leaves.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(crate) struct Promised {
    accepted: BTreeSet<JobId>,
    accepted_for_power: BTreeSet<JobId>,
    may_go: BTreeSet<JobId>,
    ended: BTreeMap<JobId, String>,
    stages: BTreeMap<Part, String>,
}

impl Promised {
    pub(crate) fn add(&mut self, promise: &Promise) {
        match promise {
            Promise::Accepted { job, power } => {
                self.accepted.insert(*job);
                if *power {
                    // One sync is good for all that was written before.
                    self.accepted_for_power = self.accepted.clone();
                }
            }
            Promise::Ended(job, outcome) => {
                self.ended.insert(*job, json(outcome));
                self.accepted_for_power = self.accepted.clone();
            }
            Promise::StageEnded(part, outcome) => {
                self.stages.insert(*part, json(outcome));
                self.accepted_for_power = self.accepted.clone();
            }
            Promise::Synced => self.accepted_for_power = self.accepted.clone(),
            Promise::MayGo(jobs) => self.may_go.extend(jobs),
        }
    }

    /// Opens what a crash left in a directory and compares.
    pub(crate) fn compare(&self, root: &Path, power: bool) -> Result<(), String> {
        let station = Station::open(root, None, &storage(1, 4096), 0).map_err(|Stopped(why)| why)?;
        let mut there = BTreeMap::new();
        for job in &station.recovered.unfinished {
            if let Some(damage) = &job.damage {
                return Err(format!("job {}: {damage}", job.record.id));
            }
            if there.insert(job.record.id, None).is_some() {
                return Err(format!("job {} is there twice", job.record.id));
            }
        }
        self.compare_stages(&station)?;
        for view in station.ended().map_err(|Stopped(why)| why)? {
            let JobState::Done(outcome) = &view.state else { panic!("it has ended") };
            if let Some(blob) = outcome.blob() {
                station.blobs.verify(blob.hash).map_err(|e| format!("result of job {}: {e}", view.id))?;
            }
            if there.insert(view.id, Some(json(outcome))).is_some() {
                return Err(format!("job {} is there twice", view.id));
            }
        }
        for job in if power { &self.accepted_for_power } else { &self.accepted } {
            let kept = there.contains_key(job) || self.may_go.contains(job);
            if !kept || *job >= station.recovered.next_id {
                return Err(format!("job {job} was accepted and is lost"));
            }
        }
        for (job, outcome) in &self.ended {
            match there.get(job) {
                Some(Some(found)) if found == outcome => {}
                None if self.may_go.contains(job) => {}
                found => return Err(format!("job {job} ended with {outcome}; there is {found:?}")),
            }
        }
        drop(station);
        let report = check(root, |_, _| {}).map_err(|e| e.to_string())?;
        if report.is_sound() && report.orphans == 0 { Ok(()) } else { Err(format!("{report:?}")) }
    }

    /// A job that reflects is told of each of its stages once: that it has ended, or by the stage itself, which goes on.
    fn compare_stages(&self, station: &Station) -> Result<(), String> {
        let unfinished = &station.recovered.unfinished;
        let mut told = BTreeMap::new();
        for ended in unfinished.iter().flat_map(|job| &job.ended) {
            if let Some(blob) = ended.outcome.blob() {
                station.blobs.verify(blob.hash).map_err(|e| format!("picture of {:?}: {e}", ended.part))?;
            }
            told.insert(ended.part, json(&ended.outcome));
        }
        for part in unfinished.iter().filter_map(|job| job.record.part) {
            if told.contains_key(&part) || unfinished.iter().all(|job| job.record.id != part.of) {
                return Err(format!("{part:?} is to be done again, or for nobody"));
            }
        }
        for (part, outcome) in &self.stages {
            let is_live = unfinished.iter().any(|job| job.record.id == part.of);
            if is_live && told.get(part) != Some(outcome) {
                return Err(format!("{part:?} ended with {outcome}; there is {:?}", told.get(part)));
            }
        }
        Ok(())
    }
}

fn json(outcome: &Outcome) -> String {
    serde_json::to_string(outcome).expect("JSON")
}

/// What came of crashing at every moment of a run.
#[derive(Debug, Default)]
struct Crashes {
    moments: usize,
    images: usize,
    failures: Vec<String>,
}

/// Crashes at every change on the tape. Stops at the first broken promise if `first` says so.
fn crash_at_each(events: &[Event], first: bool) -> Crashes {
    let (mut disk, mut promised) = (Disk::default(), Promised::default());
    let mut seen = HashSet::new();
    let mut crashes = Crashes::default();
    for (moment, event) in events.iter().enumerate() {
        disk.apply(event);
        if let Event::Promise(promise) = event {
            promised.add(promise);
            continue;
        }
        crashes.moments += 1;
        let mut try_one = |what: String, image: &Image, power: bool| {
            let mut hasher = DefaultHasher::new();
            (image, &promised, power).hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                return;
            }
            crashes.images += 1;
            let place = directory();
            image.write_to(place.path());
            if let Err(wrong) = promised.compare(place.path(), power) {
                crashes.failures.push(format!("after change {moment}, {what}: {wrong}"));
            }
        };
        try_one("process dead".to_owned(), &disk.after_death(), false);
        for (content, names) in
            [(Left::Nothing, Left::Nothing), (Left::Nothing, Left::Everything), (Left::Everything, Left::Nothing)]
        {
            let image = disk.after_power_failure(content, names, &mut Rng::with_seed(0));
            try_one(format!("power gone, {content:?} of content and {names:?} of names left"), &image, true);
        }
        for seed in 0..SEEDS {
            let mut rng = Rng::with_seed(seed << 32 | moment as u64);
            let image = disk.after_power_failure(Left::Some, Left::Some, &mut rng);
            try_one(format!("power gone, seed {seed}"), &image, true);
        }
        if first && !crashes.failures.is_empty() {
            break;
        }
    }
    crashes
}

#[test]
fn nothing_that_was_promised_is_lost_wherever_it_crashes() {
    let root = directory();
    let tape = Tape::new(root.path(), None);
    day(&tape, root.path(), true).expect("nothing fails");
    let events = tape.events();
    let outcomes =
        events.iter().filter(|event| matches!(event, Event::Promise(Promise::Ended(_, Outcome::Image { .. }))));
    assert_eq!(outcomes.count(), 5, "the day has something to lose");
    let Crashes { moments, images, failures } = crash_at_each(&events, false);
    println!("{moments} moments of a crash, {SEEDS} seeds, {images} different remains of the disk");
    assert_eq!(failures, [""; 0], "{} of {images}", failures.len());
}

/// The same run by daemons that leave something out, each of which must be found out; else the test above says nothing.
#[test]
fn a_daemon_that_does_not_sync_is_found_out() {
    let root = directory();
    let tape = Tape::new(root.path(), None);
    day(&tape, root.path(), true).expect("nothing fails");
    let file = |path: &Path| path.to_string_lossy().into_owned();
    type LeftOut<'a> = (&'a str, &'a dyn Fn(&Event) -> bool);
    let left_out: [LeftOut<'_>; 5] = [
        ("the log", &|event| matches!(event, Event::Sync(path) if file(path).ends_with("-wal"))),
        ("the database", &|event| matches!(event, Event::Sync(path) if file(path).ends_with(".sqlite"))),
        ("files", &|event| matches!(event, Event::Sync(path) if path.starts_with("blobs"))),
        (
            "names of files",
            &|event| matches!(event, Event::SyncDirectory(path) if path.parent() == Some(Path::new("blobs"))),
        ),
        ("names of directories", &|event| matches!(event, Event::SyncDirectory(path) if path == Path::new("blobs"))),
    ];
    for (what, is_left_out) in left_out {
        let events: Vec<_> = tape.events().into_iter().filter(|event| !is_left_out(event)).collect();
        let found = crash_at_each(&events, true).failures;
        println!("not syncing {what}: {}", found.first().expect("it is found out"));
    }
}
