//! The end of the daemon, of its engine and of its clients at random moments, under load: `kill -9`, and SIGTERM for the daemon.
//! Whatever was acknowledged ends once, with the result that it has on a quiet day.
//!
//! There is always a queue: each client leaves detached jobs waiting while it waits for one that is attached to it. And one
//! program after the other is killed as it hands in a job, and started again with the same key.
//!
//! A short form runs with all tests. The long one, of 200 rounds, with another seed each time it is given one:
//! `GPUSCHED_ROUNDS=200 GPUSCHED_SEED=1 cargo test -p gpusched-tests --test e2e crash -- --nocapture`

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use gpusched_client::blocking::{Client, Job, Session};
use gpusched_client::spec::ImageJob;
use gpusched_client::{Error, JobId, JobView, Outcome, Picture, Reconnect, Rejection, Submission, txt2img, vqa};
use nix::sys::signal::{Signal, kill};

use crate::harness::daemon::{Daemon, Ended, Home, PATIENCE, Setup, gpuschedd_command};
use crate::harness::programs::program;
use crate::harness::{number, outcome, picture};

/// Programs that hand in some jobs and wait for them, again and again.
const CLIENTS: u64 = 4;
/// Detached jobs that each of them has beside the attached one, at most.
const BESIDE: usize = 4;
/// Different jobs.
const KINDS: usize = 10;
/// The first of them that are pictures; the others are questions.
const PICTURES: usize = 6;
const QUESTIONS: [&str; KINDS - PICTURES] =
    ["what color is the shape?", "what shape is this?", "is there a circle?", "is it blue?"];

fn steps(kind: usize) -> u32 {
    2 + kind as u32
}

fn image(kind: usize) -> ImageJob {
    txt2img("a red circle").seed(kind as u64).steps(steps(kind)).size(64, 64)
}

/// A job, and always the same one for the same kind.
fn submission(kind: usize) -> Submission {
    if kind < PICTURES {
        return Submission::new(image(kind));
    }
    let circle = Picture::from_bytes(&picture::red_circle()).expect("a memory file");
    Submission::new(vqa(QUESTIONS[kind - PICTURES])).pictures(vec![circle])
}

/// The same for gpuctl.
fn arguments(kind: usize, circle: &Path) -> Vec<String> {
    let words = if kind < PICTURES {
        format!("txt2img|a red circle|--seed|{kind}|--steps|{}|--size|64x64", steps(kind))
    } else {
        format!("vqa|{}|{}", circle.display(), QUESTIONS[kind - PICTURES])
    };
    words.split('|').map(str::to_owned).collect()
}

/// What a job made, in a form that can be compared.
fn result(view: &JobView) -> String {
    let outcome = outcome(view);
    if let Outcome::Answers(answers) = outcome {
        return format!("{:?}", answers.iter().map(|answer| &answer.label).collect::<Vec<_>>());
    }
    let blob = outcome.blob().unwrap_or_else(|| panic!("job {} ended with {outcome:?}", view.id));
    blob.hash.to_string()
}

/// Each kind's result when nothing goes wrong.
fn undisturbed() -> Vec<String> {
    let daemon = Daemon::start();
    let session = session(daemon.home());
    let results = (0..KINDS).map(|kind| {
        let mut job = session.submit(submission(kind)).expect("accepted");
        result(&job.wait().expect("waited for"))
    });
    results.collect()
}

fn session(home: &Home) -> Session {
    let patient = Reconnect { within: Duration::from_secs(100) };
    Session::connect(home.socket(), patient, |_| {}).expect("connected")
}

/// All jobs on record.
fn record(client: &Client) -> Vec<JobView> {
    let mut jobs: Vec<JobView> = Vec::new();
    loop {
        let page = client.list(true, jobs.last().map(|job| job.id), 100).expect("listed");
        if page.is_empty() {
            return jobs;
        }
        jobs.extend(page);
    }
}

/// What all clients know.
struct World {
    socket: PathBuf,
    /// A picture file.
    circle: PathBuf,
    /// Each kind's result.
    expected: Vec<String>,
    stop: AtomicBool,
    acknowledged: Mutex<BTreeMap<JobId, usize>>,
    /// Programs that were killed.
    killed: AtomicUsize,
}

impl World {
    fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    fn acknowledge(&self, job: JobId, kind: usize) {
        let before = self.acknowledged.lock().expect("sound").insert(job, kind);
        assert_eq!(before, None, "each submission is a job of its own");
    }

    fn finish(&self, mut job: Job, kind: usize) {
        let view = job.wait().expect("waited for");
        assert_eq!(result(&view), self.expected[kind], "job {} of kind {kind}", view.id);
    }

    /// Hands in some jobs and waits for them, again and again.
    fn work(&self, session: &Session, mut rng: fastrand::Rng) {
        let hand_in = |kind, attached| loop {
            let submission = submission(kind);
            match session.submit(if attached { submission } else { submission.detached() }) {
                Ok(job) => {
                    self.acknowledge(job.id(), kind);
                    return (job, kind);
                }
                // It stops, and will be back.
                Err(Error::Rejected(Rejection::Draining)) => {}
                Err(e) => panic!("{e}"),
            }
        };
        while self.goes_on() {
            let mut jobs: Vec<_> = (0..rng.usize(0..=BESIDE)).map(|_| hand_in(rng.usize(0..KINDS), false)).collect();
            jobs.push(hand_in(rng.usize(0..KINDS), true));
            // The attached one first, which ends if nobody asks for it.
            jobs.into_iter().rev().for_each(|(job, kind)| self.finish(job, kind));
        }
    }

    /// Starts programs that hand in a job with a key, kills them, and starts them again with the same key.
    fn die(&self, session: &Session, mut rng: fastrand::Rng) {
        for number in 0.. {
            if !self.goes_on() {
                return;
            }
            let kind = rng.usize(0..KINDS);
            let command = || {
                let mut command = Command::new(program("gpuctl"));
                command.arg("submit").args(arguments(kind, &self.circle));
                command.args(["--detach", "--key", &format!("mortal-{number}")]);
                command.env("GPUSCHED_SOCKET", &self.socket).stdin(Stdio::null());
                command
            };
            let mut first = command().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
            std::thread::sleep(Duration::from_micros(rng.u64(0..20_000)));
            // Or it has ended by itself, and was told.
            let _ = first.kill();
            let first = Ended::from(first.wait_with_output().expect("a status"));
            self.killed.fetch_add(usize::from(first.code.is_none()), Ordering::Relaxed);

            let told = |ended: &Ended| ended.text().trim().parse().ok().map(JobId);
            let job = told_at_last(command, told);
            if let Some(before) = told(&first) {
                assert_eq!(before, job, "one key, one job");
            }
            self.acknowledge(job, kind);
            self.finish(session.attend(job), kind);
        }
    }
}

/// Runs gpuctl until there is a daemon that takes the job.
fn told_at_last(command: impl Fn() -> Command, told: impl Fn(&Ended) -> Option<JobId>) -> JobId {
    let began = Instant::now();
    loop {
        let ended = Ended::of(command());
        if let Some(job) = told(&ended) {
            return job;
        }
        let passes = ended.code == Some(3) || ended.stderr.contains("draining or stopping");
        assert!(passes && began.elapsed() < PATIENCE, "{:?}: {}", ended.code, ended.stderr);
    }
}

#[test]
fn crash() {
    let (rounds, seed) = (number("GPUSCHED_ROUNDS", 15), number("GPUSCHED_SEED", 1));
    println!("GPUSCHED_ROUNDS={rounds} GPUSCHED_SEED={seed}");
    let expected = undisturbed();
    let more = "[engine]\nrestart_base_ms = 10\nrestart_ceiling_s = 1\n";
    let mut daemon = Daemon::start_with(&Setup { more, stop_timeout_s: 0, ..Setup::default() });
    let circle = daemon.home().file("circle.png");
    fs::write(&circle, picture::red_circle()).expect("written");
    let world = Arc::new(World {
        socket: daemon.home().socket(),
        circle,
        expected,
        stop: AtomicBool::new(false),
        acknowledged: Mutex::default(),
        killed: AtomicUsize::new(0),
    });
    let clients = (0..=CLIENTS).map(|client| {
        let (world, session) = (Arc::clone(&world), session(daemon.home()));
        let rng = fastrand::Rng::with_seed(seed ^ (client << 32));
        std::thread::spawn(move || if client < CLIENTS { world.work(&session, rng) } else { world.die(&session, rng) })
    });
    let clients: Vec<_> = clients.collect();

    let mut rng = fastrand::Rng::with_seed(seed);
    let (mut engines, mut daemons, mut stops, mut restored) = (0, 0, 0, 0);
    // What is to be seen depends on how fast the machine is: more rounds, if it has not been seen by then.
    for round in 0..8 * rounds {
        if round >= rounds && restored > 0 && world.killed.load(Ordering::Relaxed) > 0 {
            break;
        }
        // A number of things happen, and then a moment passes.
        daemon.until_more_lines(rng.usize(1..30), Duration::from_secs(5));
        daemon.until_more_lines(usize::MAX / 2, Duration::from_micros(rng.u64(0..20_000)));
        let fate = rng.usize(0..3);
        if fate == 0 {
            engines += 1;
            // It may have gone this very moment.
            let _ = kill(daemon.engine(), Signal::SIGKILL);
            continue;
        }
        let home = if fate == 1 {
            daemons += 1;
            daemon.kill()
        } else {
            stops += 1;
            daemon.stop()
        };
        daemon = home.start();
        restored = restored.max(daemon.log().matches(" restored ").count());
    }
    world.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("its jobs ended as they should");
    }

    let jobs = record(&daemon.client());
    let acknowledged = world.acknowledged.lock().expect("sound");
    let ids: Vec<JobId> = jobs.iter().rev().map(|job| job.id).collect();
    assert_eq!(ids, acknowledged.keys().copied().collect::<Vec<_>>(), "each acknowledged job once, and no other");
    for job in &jobs {
        assert_eq!(result(job), world.expected[acknowledged[&job.id]], "job {}", job.id);
    }
    let killed = world.killed.load(Ordering::Relaxed);
    assert!(killed > 0 && restored > 0, "clients were killed, and queues outlived the daemon");
    let attempts: u64 = jobs.iter().map(|job| u64::from(job.attempts)).sum();
    let attached = jobs.iter().filter(|job| job.attached).count();
    println!(
        "{} rounds ({daemons} deaths of the daemon, {stops} times it was told to stop, {engines} deaths of the engine), \
         {killed} deaths of clients, up to {restored} jobs unfinished at a restart: {} jobs acknowledged, {attached} of them \
         attached, {attempts} attempts; 0 lost, 0 duplicated, all results as undisturbed",
        daemons + stops + engines,
        jobs.len()
    );
    let home = daemon.stop();
    let state = home.file("state");
    let checked = Ended::of(gpuschedd_command(&["journal", "check", "--state-dir", &state.to_string_lossy()]));
    checked.expect(0);
}
