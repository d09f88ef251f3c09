//! What the daemon says of itself to a service manager, and that it says nothing when its driver hangs.

use std::fs;
use std::time::{Duration, Instant};

use gpusched_client::Error;
use nix::sys::signal::Signal;

use crate::PATIENCE;
use crate::daemon::{Home, Running, long, quick};
use crate::listener::Manager;

/// Within what time the tests' manager wants to hear from the daemon. It kills nobody who is late.
const WATCHDOG: Duration = Duration::from_millis(400);

/// A daemon with a manager that listens to it, up to the first message.
fn managed(home: &Home) -> (Running, Manager) {
    let manager = Manager::listen(home.file("notify"));
    let mut command = home.gpuschedd();
    command.env("NOTIFY_SOCKET", manager.path()).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
    command.env_remove("WATCHDOG_PID");
    (Running::start(home, &mut command), manager)
}

#[test]
fn it_says_that_it_is_ready_how_it_does_and_that_it_stops() {
    let home = Home::new("stop_timeout_s = 0", "");
    let (daemon, manager) = managed(&home);
    let first = manager.next(PATIENCE).expect("a message");
    assert!(first.says("READY=1"), "{first:?}");
    assert_eq!(first.value("STATUS"), Some("0 running, 0 queued, heavy 0 %, light 0 %"));
    // Nothing happens, and still it says that it gets on.
    for _ in 0..3 {
        manager.until_said("WATCHDOG=1");
    }

    let client = home.client();
    let jobs = [0; 3].map(|_| client.submit(long(), Vec::new(), false).expect("accepted"));
    let busy = manager.until_status("of work", |status| status.starts_with("1 running, 2 queued, heavy "));
    assert!(!busy.value("STATUS").expect("one").contains("heavy 0 %"), "{busy:?}");
    manager.until_said("WATCHDOG=1");

    daemon.signal(Signal::SIGTERM);
    manager.until_said("STOPPING=1");
    manager.until_said("EXTEND_TIMEOUT_USEC=30000000");
    let log = daemon.log();
    assert!(daemon.ended().success(), "{log}");
    assert!(!home.socket().exists(), "it made the socket, so it removes it");
    assert!(jobs.iter().all(|job| matches!(client.show(*job), Err(Error::Disconnected))));
}

#[test]
fn its_engine_is_told_nothing_of_the_manager() {
    let home = Home::new("", "");
    let (_daemon, manager) = managed(&home);
    manager.until_said("READY=1");
    let pid = home.client().status().expect("status").engine.pid.expect("it has a process");
    let environment = fs::read(format!("/proc/{pid}/environ")).expect("it lives");
    let names = environment.split(|byte| *byte == 0).filter_map(|entry| entry.split(|byte| *byte == b'=').next());
    let names: Vec<_> = names.map(String::from_utf8_lossy).collect();
    assert!(names.iter().any(|name| name == "PATH"), "{names:?}");
    for told in ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"] {
        assert!(!names.iter().any(|name| name == told), "{told}");
    }
}

/// Waits until nothing is said for many times as long as the daemon ever is silent. What was on its way may still come.
fn until_silent(manager: &Manager) {
    let end = Instant::now() + PATIENCE;
    while let Some(said) = manager.next(10 * WATCHDOG) {
        assert!(Instant::now() < end, "it still says {said:?}");
    }
}

#[test]
fn a_driver_that_hangs_is_silent_whatever_else_the_daemon_does() {
    let home = Home::new("[faults]\ndriver_hangs = true", "");
    let (daemon, manager) = managed(&home);
    manager.until_said("WATCHDOG=1");
    let client = home.client();
    let asks = std::thread::spawn(move || client.submit(quick(), Vec::new(), false));
    daemon.until_logged("the driver hangs");
    until_silent(&manager);
    // Its other threads do well: connections are accepted, and answered as far as it takes no driver.
    home.client();
    drop(daemon);
    assert!(asks.join().expect("no panic").is_err());
}

#[test]
fn a_daemon_that_is_stopped_is_silent_and_then_goes_on() {
    let home = Home::new("", "");
    let (daemon, manager) = managed(&home);
    manager.until_said("WATCHDOG=1");
    daemon.signal(Signal::SIGSTOP);
    until_silent(&manager);
    daemon.signal(Signal::SIGCONT);
    manager.until_said("WATCHDOG=1");
    let client = home.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    client.wait(job).expect("waited for");
}
