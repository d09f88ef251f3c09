//! SIGTERM while something is under way: whoever waits is told nothing that is not so, and finds it again after the next
//! start.

use std::process::Stdio;

use gpusched_client::blocking::Session;
use gpusched_client::{JobState, Outcome, Reconnect, Submission};

use crate::harness::daemon::{Daemon, Ended, Setup};
use crate::harness::{outcome, picture, quick, until_working};

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
