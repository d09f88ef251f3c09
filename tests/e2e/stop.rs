//! SIGTERM while something is under way: whoever waits is told nothing that is not so, and finds it again after the next
//! start.

use std::fs;
use std::process::Stdio;

use gpusched_client::blocking::Session;
use gpusched_client::{JobState, Outcome, Reconnect, Submission, Update};
use nix::sys::signal::{Signal, kill};

use crate::harness::daemon::{Daemon, Ended, Home, Setup, gpuschedd_command};
use crate::harness::disk::Tmpfs;
use crate::harness::{made, outcome, picture, quick, until_working};

/// It interrupts what runs.
fn hasty() -> Setup {
    Setup { stop_timeout_s: 0, ..Setup::default() }
}

#[test]
fn those_who_wait_wait_on_over_a_restart() {
    let daemon = Daemon::start_with(&hasty());
    let session = Session::connect(daemon.home().socket(), Reconnect::default(), |_| {}).expect("connected");
    let submit = |seed| session.submit(Submission::new(quick().seed(seed).steps(150))).expect("accepted");
    let (mut running, mut waiting) = (submit(1), submit(2));
    let mut command =
        daemon.home().gpuctl_command(&["submit", "txt2img", "a red circle", "--size", "64", "-o", "red.png"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let client = daemon.client();
    until_working(&client, running.id());
    // Its first job, behind both.
    while client.list(false, None, 100).expect("listed").len() < 3 {}
    let waits = std::thread::spawn(move || (running.wait(), running.fetch_bytes()));

    let daemon = daemon.stop().start();
    let (view, png) = waits.join().expect("no panic");
    let view = view.expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Image { .. }), "{:?}", view.state);
    assert_eq!(view.attempts, 2, "it was interrupted, and ran again");
    picture::read(&png.expect("fetched"));
    let view = waiting.wait().expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Image { .. }), "{:?}", view.state);
    let told = Ended::from(child.wait_with_output().expect("it ends")).expect(0);
    assert!(told.stderr.contains("the daemon went away") && told.stderr.contains("is back"), "{}", told.stderr);
    assert!(daemon.home().file("red.png").exists());
    let jobs = daemon.client().list(true, None, 100).expect("listed");
    assert_eq!(jobs.len(), 3, "each of them once");
    assert!(jobs.iter().all(|job| matches!(job.state, JobState::Done(Outcome::Image { .. }))), "{jobs:?}");
}

/// Puts other lines in place of some of the configuration.
fn reconfigure(home: &Home, old: &str, new: &str) {
    let path = home.file("gpusched.toml");
    let text = fs::read_to_string(&path).expect("read");
    assert!(text.contains(old), "{text}");
    fs::write(&path, text.replace(old, new)).expect("written");
}

#[test]
fn a_job_that_backs_off_goes_on_backing_off() {
    let starved = "[retry]\nbase_ms = 80000000\nceiling_ms = 80000000\n\n[faults]\noom_percent = 100\n";
    let daemon = Daemon::start_with(&Setup { more: starved, ..Setup::default() });
    let client = daemon.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    let updates = client.watch(job).expect("watched").map(|update| update.expect("an update"));
    let waits = |update: &Update| matches!(update, Update::BackingOff { retry: 1, .. });
    assert!(updates.into_iter().any(|update| waits(&update)), "it waits to be tried again");
    let JobState::BackingOff { within_ms: before_ms, .. } = client.show(job).expect("shown").state else {
        panic!("{:?}", client.show(job))
    };

    // It need not wait for that, and keeps the schedule.
    let daemon = daemon.stop().start();
    let view = daemon.client().show(job).expect("shown");
    let JobState::BackingOff { retry: 1, within_ms } = view.state else { panic!("{:?}", view.state) };
    assert!(within_ms <= before_ms, "{within_ms} > {before_ms}");
    let home = daemon.stop();
    reconfigure(&home, starved, "[retry]\nbase_ms = 1\nceiling_ms = 1\n");
    let view = made(&home.start().client(), job);
    assert_eq!((view.attempts, view.retries), (2, 1));
}

#[test]
fn a_daemon_without_an_engine_stops() {
    let away = "[engine]\nrestart_base_ms = 60000\nrestart_ceiling_s = 3600\n";
    let daemon = Daemon::start_with(&Setup { more: away, ..Setup::default() });
    let client = daemon.client();
    let job = client.submit(quick().steps(150), Vec::new(), false).expect("accepted");
    until_working(&client, job);
    kill(daemon.engine(), Signal::SIGKILL).expect("it lives");
    daemon.until_logged("another engine is started in 60000 ms");
    let status = client.status().expect("status");
    assert_eq!((status.engine.up, status.engine.pid), (false, None));
    // There is nothing to wait for: what it has waits for an engine, and finds one in the next daemon.
    let daemon = daemon.stop().start();
    assert_eq!(made(&daemon.client(), job).attempts, 2);
}

#[test]
fn a_result_that_finds_no_room_does_not_keep_the_daemon_from_stopping() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(tmpfs) = Tmpfs::mount(directory.path().join("disk"), "size=48m") else { return };
    // No reserve: it would take the result.
    let more = "[storage]\nlow_water = \"8MiB\"\nreserve = \"0B\"\n";
    let daemon = Daemon::start_with(&Setup { more, state: Some(tmpfs.file("state")), ..hasty() });
    let client = daemon.client();
    let job = client.submit(quick().steps(100), Vec::new(), false).expect("accepted");
    until_working(&client, job);
    let ballast = tmpfs.fill();
    daemon.until_logged("cannot store a result yet");
    assert!(!matches!(client.show(job).expect("shown").state, JobState::Done(_)));
    let home = daemon.stop();
    fs::remove_file(ballast).expect("removed");
    let daemon = home.start();
    // What was made is lost, the job is not.
    made(&daemon.client(), job);
    let home = daemon.stop();
    let state = tmpfs.file("state");
    let check = ["journal", "check", "--state-dir", &state.to_string_lossy()];
    Ended::of(gpuschedd_command(&check)).expect(0);
    drop(home);
}
