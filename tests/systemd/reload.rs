//! SIGHUP: the configuration is read anew, what is safe is taken, and the rest is named.

use gpusched_client::shared::Rejection;
use gpusched_client::{Error, JobState};
use nix::sys::signal::Signal;

use crate::daemon::{Home, Running, long};
use crate::listener::{Manager, Message};

/// Has the configuration read, and returns what is said when that is done.
fn reload(daemon: &Running, manager: &Manager) -> Message {
    daemon.signal(Signal::SIGHUP);
    let begins = manager.until_said("RELOADING=1");
    let at: u64 = begins.value("MONOTONIC_USEC").expect("in the same message").parse().expect("a number");
    assert!(at > 0);
    manager.until_said("READY=1")
}

#[test]
fn what_is_safe_is_taken_while_jobs_run() {
    let home = Home::new("stop_timeout_s = 100", "");
    let manager = Manager::listen(home.file("notify"));
    let daemon = Running::start(&home, home.gpuschedd().env("NOTIFY_SOCKET", manager.path()));
    manager.until_said("READY=1");
    let client = home.client();
    let [runs, waits] = [0; 2].map(|_| client.submit(long(), Vec::new(), false).expect("accepted"));

    home.configure(
        "stop_timeout_s = 0\n[limits]\nqueued_per_uid = 1\nconnections_per_uid = 2",
        "lanes = 3\naging_s = 1",
    );
    reload(&daemon, &manager);
    daemon.until_logged(
        "applied: class.heavy.aging_s, limits.connections_per_uid, limits.queued_per_uid, stop_timeout_s",
    );
    daemon.until_logged("applied only when the daemon is started again: class.heavy.lanes");
    match client.submit(long(), Vec::new(), false) {
        Err(Error::Rejected(Rejection::QuotaExceeded { limit: 1, .. })) => {}
        other => panic!("{other:?}"),
    }
    let _second = home.client();
    let third = gpusched_client::blocking::Client::connect(home.socket());
    assert!(matches!(third, Err(Error::Rejected(Rejection::TooManyConnections { limit: 2 }))), "{third:?}");
    for job in [runs, waits] {
        assert!(!matches!(client.show(job).expect("shown").state, JobState::Done(_)), "it goes on");
    }

    // Nonsense changes nothing, and is there to be read.
    home.configure("stop_timeout_s = 77\nnonsense = 1", "");
    let told = reload(&daemon, &manager);
    let status = told.value("STATUS").expect("a status");
    assert!(status.contains("the configuration was not taken: ") && status.contains("nonsense"), "{status}");
    daemon.until_logged("cannot be used, so the daemon goes on as before");

    // As it was, and nothing is left of the complaint.
    home.configure("stop_timeout_s = 0\n[limits]\nqueued_per_uid = 1\nconnections_per_uid = 2", "aging_s = 1");
    let told = reload(&daemon, &manager);
    assert!(!told.value("STATUS").expect("a status").contains("not taken"), "{told:?}");
    daemon.until_logged("nothing to apply");

    // It was started with 100 s for running jobs to finish.
    daemon.signal(Signal::SIGTERM);
    daemon.until_logged("stopping: running jobs have 0 s to finish");
    assert!(daemon.ended().success());
}

#[test]
fn by_hand_it_is_done_without_a_manager() {
    let home = Home::new("", "");
    let daemon = Running::start(&home, home.gpuschedd().env_remove("NOTIFY_SOCKET"));
    daemon.until_logged("listening on");
    home.configure("[retry]\nbudget = 3", "");
    daemon.signal(Signal::SIGHUP);
    daemon.until_logged("applied: retry.budget");
    // The file is read by a thread of its own: the rest of the daemon may not open it.
    home.client().status().expect("it is well");
}
