//! `kill -9` of the daemon and of its engine at random moments, under load: whatever was acknowledged ends once, with the
//! result that it has on a quiet day.
//!
//! A short form runs with all tests. The long one, of 200 rounds, with another seed each time it is given one:
//! `GPUSCHED_ROUNDS=200 GPUSCHED_SEED=1 cargo test -p gpusched-tests --test e2e crash -- --nocapture`

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpusched_client::blocking::{Client, Session};
use gpusched_client::{JobId, JobView, Outcome, Picture, Reconnect, Submission, txt2img, vqa};
use nix::sys::signal::{Signal, kill};

use crate::harness::daemon::{Daemon, Ended, Home, Setup, gpuschedd_command};
use crate::harness::{number, outcome, picture};

/// Programs that hand in one job after the other and wait for each.
const CLIENTS: u64 = 4;
/// Different jobs.
const KINDS: usize = 10;

/// A job, and always the same one for the same kind.
fn submission(kind: usize) -> Submission {
    match kind {
        0..6 => Submission::new(txt2img("a red circle").seed(kind as u64).steps(2 + kind as u32).size(64, 64)),
        _ => {
            let question = ["what color is the shape?", "what shape is this?", "is there a circle?", "is it blue?"];
            let circle = Picture::from_bytes(&picture::red_circle()).expect("a memory file");
            Submission::new(vqa(question[kind - 6])).pictures(vec![circle])
        }
    }
    .detached()
}

/// What a job made, in a form that can be compared.
fn result(view: &JobView) -> String {
    match outcome(view) {
        Outcome::Image { blob, .. } => blob.hash.to_string(),
        Outcome::Answers(answers) => format!("{:?}", answers.iter().map(|answer| &answer.label).collect::<Vec<_>>()),
        other @ (Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Expired { .. }) => {
            panic!("job {} ended with {other:?}", view.id)
        }
    }
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

#[test]
fn crash() {
    let (rounds, seed) = (number("GPUSCHED_ROUNDS", 15), number("GPUSCHED_SEED", 1));
    println!("GPUSCHED_ROUNDS={rounds} GPUSCHED_SEED={seed}");
    let expected = Arc::new(undisturbed());
    let more = "[engine]\nrestart_base_ms = 10\nrestart_ceiling_s = 1\n";
    let mut daemon = Some(Daemon::start_with(&Setup { more, ..Setup::default() }));
    let home = || daemon.as_ref().expect("it runs").home();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged: Arc<Mutex<BTreeMap<JobId, usize>>> = Arc::default();
    let clients = (0..CLIENTS).map(|client| {
        let (stop, acknowledged, expected) = (Arc::clone(&stop), Arc::clone(&acknowledged), Arc::clone(&expected));
        let session = session(home());
        let mut rng = fastrand::Rng::with_seed(seed ^ (client << 32));
        std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                let kind = rng.usize(0..KINDS);
                let mut job = session.submit(submission(kind)).expect("accepted");
                let before = acknowledged.lock().expect("sound").insert(job.id(), kind);
                assert_eq!(before, None, "each submission is a job of its own");
                assert_eq!(result(&job.wait().expect("waited for")), expected[kind], "job {} of kind {kind}", job.id());
            }
        })
    });
    let clients: Vec<_> = clients.collect();

    let mut rng = fastrand::Rng::with_seed(seed);
    let mut kills = [0, 0];
    for _ in 0..rounds {
        let running = daemon.take().expect("it runs");
        // A number of things happen, and then a moment passes.
        running.until_more_lines(rng.usize(1..30), Duration::from_secs(5));
        running.until_more_lines(usize::MAX / 2, Duration::from_micros(rng.u64(0..20_000)));
        let of_the_front = rng.bool();
        kills[usize::from(of_the_front)] += 1;
        daemon = Some(if of_the_front {
            running.kill().start()
        } else {
            // It may have gone this very moment.
            let _ = kill(running.engine(), Signal::SIGKILL);
            running
        });
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("its jobs ended as they should");
    }

    let daemon = daemon.expect("it runs");
    let jobs = record(&daemon.client());
    let acknowledged = acknowledged.lock().expect("sound");
    let ids: Vec<JobId> = jobs.iter().rev().map(|job| job.id).collect();
    assert_eq!(ids, acknowledged.keys().copied().collect::<Vec<_>>(), "each acknowledged job once, and no other");
    for job in &jobs {
        assert_eq!(result(job), expected[acknowledged[&job.id]], "job {}", job.id);
    }
    let attempts: u64 = jobs.iter().map(|job| u64::from(job.attempts)).sum();
    println!(
        "{rounds} rounds ({} deaths of the daemon, {} of the engine): {} jobs acknowledged, {attempts} attempts; 0 lost, 0 \
         duplicated, all results as undisturbed",
        kills[1],
        kills[0],
        jobs.len()
    );
    let home = daemon.stop();
    let state = home.file("state");
    let checked = Ended::of(gpuschedd_command(&["journal", "check", "--state-dir", &state.to_string_lossy()]));
    checked.expect(0);
}
