//! What survives the end of the daemon, however it comes, and what keeps two from getting in each other's way.

use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use gpusched_client::shared::Rejection;
use gpusched_client::{Error, JobState, Outcome, TimeLimit};

use crate::harness::daemon::{Daemon, Ended, Home, Setup, gpuschedd, refusal};
use crate::harness::{assert_well, long, made, outcome, quick, until_working};

#[test]
fn told_to_stop_it_finishes_what_runs_and_keeps_what_waits() {
    let daemon = Daemon::start();
    let client = daemon.client();
    // Long enough to find it running, short enough to be waited for.
    let running = client.submit(quick().steps(200), Vec::new(), false).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick(), Vec::new(), false).expect("accepted");
    daemon.terminate();
    daemon.until_logged("stopping: ");
    assert!(client.status().expect("status").draining);
    match client.submit(quick(), Vec::new(), false) {
        Err(Error::Rejected(rejection)) => assert_eq!(rejection, Rejection::Draining),
        other => panic!("{other:?}"),
    }
    assert_eq!(made(&client, running).attempts, 1);
    let home = daemon.ended();
    assert!(!home.socket().exists());

    let daemon = home.start();
    let client = daemon.client();
    assert_eq!(made(&client, waiting).attempts, 1);
    assert!(matches!(outcome(&client.show(running).expect("shown")), Outcome::Image { .. }));
    let next = client.submit(quick(), Vec::new(), false).expect("accepted");
    assert_eq!(next.0, waiting.0 + 1);
}

#[test]
fn jobs_that_take_too_long_to_stop_run_again() {
    for hurry in [false, true] {
        let stop_timeout_s = if hurry { 100 } else { 0 };
        let daemon = Daemon::start_with(&Setup { stop_timeout_s, ..Setup::default() });
        let client = daemon.client();
        let job = client.submit(long(), Vec::new(), false).expect("accepted");
        until_working(&client, job);
        daemon.terminate();
        if hurry {
            daemon.until_logged("stopping: running jobs have 100 s");
            daemon.terminate();
        }
        let daemon = daemon.ended().start();
        let client = daemon.client();
        until_working(&client, job);
        let view = client.cancel(job).expect("cancelled");
        assert_eq!((outcome(&view), view.attempts), (&Outcome::Cancelled, 2));
        assert_well(&daemon);
    }
}

#[test]
fn killed_it_forgets_nothing_it_has_accepted() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let done = client.submit(quick(), Vec::new(), false).expect("accepted");
    let expected = outcome(&made(&client, done)).blob();
    let running = client.submit(quick().steps(150), Vec::new(), false).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick(), Vec::new(), false).expect("accepted");
    let attached = client.submit(quick(), Vec::new(), true).expect("accepted");
    let home = daemon.kill();
    assert!(matches!(client.show(done), Err(Error::Disconnected)));

    let daemon = home.start();
    let client = daemon.client();
    assert_eq!(made(&client, running).attempts, 2);
    let view = made(&client, waiting);
    assert_eq!((view.attempts, outcome(&view).blob()), (1, expected), "the same seed");
    let view = client.wait(attached).expect("waited for");
    assert_eq!((outcome(&view), view.attempts), (&Outcome::Cancelled, 0));
    let next = client.submit(quick(), Vec::new(), false).expect("accepted");
    made(&client, next);
    let jobs = client.list(true, None, 100).expect("listed");
    let ids: Vec<_> = jobs.iter().map(|job| job.id).collect();
    assert_eq!(ids, [next, attached, waiting, running, done], "each of them once, numbers rising");
    assert!(jobs.iter().all(|job| matches!(job.state, JobState::Done(_))));
    let status = client.status().expect("status");
    assert_eq!(status.classes[0].finished, 4, "ended in this run");

    // And once more, with nothing to do.
    let daemon = daemon.kill().start();
    let client = daemon.client();
    assert_eq!(client.list(true, None, 100).expect("listed"), jobs);
    assert_eq!(client.list(false, None, 100).expect("listed"), []);
    let after = client.submit(quick(), Vec::new(), false).expect("accepted");
    assert_eq!(after.0, next.0 + 1);
}

#[test]
fn deadlines_pass_while_there_is_no_daemon() {
    let deadline = Duration::from_millis(1500);
    let daemon = Daemon::start();
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), false).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick().deadline(deadline), Vec::new(), false).expect("accepted");
    let submitted = UNIX_EPOCH + Duration::from_millis(client.show(waiting).expect("shown").submitted_unix_ms);
    let home = daemon.kill();
    // The only thing to wait for here is the clock itself.
    let left = (submitted + deadline).duration_since(SystemTime::now()).unwrap_or_default();
    std::thread::sleep(left);

    let daemon = home.start();
    let client = daemon.client();
    let view = client.wait(waiting).expect("waited for");
    assert_eq!((outcome(&view), view.attempts), (&Outcome::Expired { limit: TimeLimit::Deadline }, 0));
    assert_eq!(view.wait_us / 1000, 0, "it was late when the daemon came back: {view:?}");
    until_working(&client, running);
}

#[test]
fn one_daemon_for_each_state_directory_and_socket() {
    let daemon = Daemon::start();
    let home = daemon.home();
    let setup = Setup::default();
    let same_state = home.configure(&setup, "second.toml", "second.sock", "state");
    let said = refusal(&same_state);
    assert!(said.contains("another gpuschedd uses") && said.contains("--state-dir"), "{said}");
    let same_socket = home.configure(&setup, "third.toml", "gpusched.sock", "state3");
    let said = refusal(&same_socket);
    assert!(said.contains("another daemon listens on") && said.contains("--socket"), "{said}");
    assert_well(&daemon);
}

#[test]
fn a_configuration_can_be_checked_first() {
    let home = Home::new(&Setup::default());
    let file = home.file("gpusched.toml");
    let check = || {
        let mut command = gpuschedd(&file);
        command.arg("--check-config");
        Ended::of(command)
    };
    let printed = check().expect(0);
    assert_eq!(printed.stderr, "");
    assert!(printed.text().contains("stop_timeout_s = 60\n") && printed.text().contains("open_requests = 64\n"));
    assert!(!home.file("state").exists(), "nothing has been started");
    fs::write(&file, printed.stdout).expect("written");
    check().expect(0);

    let wrong = [
        ("stop_timeout = 3", "unknown field `stop_timeout`"),
        ("[limits]\nopen_requests = 0", "limits.open_requests must be 1 to 4096"),
        ("[[class]]\nname = 'a'\npartition = '1%'", "leads to class \"heavy\", which is not defined"),
        ("socket = 3", "expected path string"),
        ("socket", "TOML parse error"),
    ];
    for (text, expected) in wrong {
        fs::write(&file, text).expect("written");
        let ended = check().expect(1);
        assert!(ended.stderr.starts_with("gpuschedd: ") && ended.stderr.contains(expected), "{}", ended.stderr);
    }
    fs::remove_file(&file).expect("removed");
    let ended = check().expect(1);
    assert!(ended.stderr.contains("cannot read") && ended.stderr.contains("--config"), "{}", ended.stderr);
}
