//! What systemd has to do with gpusched: units, sockets that are handed over, what the daemon says of itself, installation,
//! and all of it together in a systemd of the test's own.
//!
//! Where a machine lacks what a test needs, the test says so and is skipped; in CI (`CI` is set) it fails instead, because
//! `.ci/run` installs all of it.

mod activation;
mod booted;
mod daemon;
mod install;
mod listener;
mod machine;
mod notify;
#[path = "../e2e/harness/programs.rs"]
mod programs;
mod reload;
mod units;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// How long anything may take on a machine that is busy with other things. What waits polls, and ends much sooner.
const PATIENCE: Duration = Duration::from_secs(300);

/// The repository.
fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// Says why a test is skipped; in CI it fails.
fn skip(why: &str) {
    assert!(std::env::var_os("CI").is_none(), "in CI this must run, but {why}");
    eprintln!("skipped: {why}");
}

/// Whether these programs are to be had.
fn have(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_there = |name: &&&str| std::env::split_paths(&path).any(|directory| directory.join(name).is_file());
    let missing: Vec<_> = programs.iter().filter(|name| !is_there(name)).collect();
    if !missing.is_empty() {
        skip(&format!("there is no {missing:?} here; apt-get install systemd util-linux passwd curl"));
    }
    missing.is_empty()
}

/// What a command wrote to standard output; it must succeed.
#[track_caller]
fn succeed(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().expect("it runs");
    let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    assert!(status.success(), "{command:?}: {status}\n{stdout}\n{stderr}");
    stdout
}

/// Waits until something is so.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < end, "it did not come about that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
