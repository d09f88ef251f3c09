//! `gpuctl doctor` where all is well, where there is no daemon, and where the caller may not reach it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::unistd::geteuid;
use serde_json::Value;

use crate::harness::daemon::{Daemon, Ended, Home, Setup};
use crate::harness::programs::program;

/// The finding of a check.
fn finding<'a>(document: &'a Value, check: &str) -> &'a Value {
    let checks = document["checks"].as_array().expect("checks");
    checks.iter().find(|finding| finding["check"] == check).unwrap_or_else(|| panic!("no {check} in {document}"))
}

fn document(ended: Ended) -> Value {
    let [document] = ended.documents().try_into().expect("one document");
    document
}

#[test]
fn a_daemon_that_works_passes() {
    let daemon = Daemon::start();
    let said = document(daemon.gpuctl(&["doctor", "--json"]).expect(0));
    assert_eq!(said["healthy"], true, "{said}");
    for check in ["versions", "config", "socket", "access", "daemon", "engine", "models", "disk", "clock"] {
        assert_eq!(finding(&said, check)["level"], "ok", "{said}");
    }
    let seen = finding(&said, "models")["seen"].as_str().expect("text").to_owned();
    assert!(seen.contains("flux2-klein-tiny (flux2-klein)") && seen.contains("vilt-tiny (vilt-vqa)"), "{seen}");
    let ended = daemon.gpuctl(&["doctor"]).expect(0);
    assert!(ended.text().contains("ok       socket"), "{}", ended.text());
    daemon.gpuctl(&["drain"]).expect(0);
    let draining = document(daemon.gpuctl(&["doctor", "--json"]).expect(0));
    assert_eq!(finding(&draining, "daemon")["level"], "warning");
    assert_eq!(finding(&draining, "daemon")["remedy"], "`gpuctl drain --off`");
}

#[test]
fn without_a_daemon_it_says_how_to_get_one() {
    let home = Home::new(&Setup::default());
    let ended = home.gpuctl(&["doctor"]).expect(6);
    assert!(ended.text().contains("FAILURE  socket"), "{}", ended.text());
    assert!(ended.text().contains("or correct $GPUSCHED_SOCKET"), "{}", ended.text());
    assert!(ended.stderr.contains(" failures, "), "{}", ended.stderr);
    // A socket that a daemon left behind, as after a power cut.
    drop(std::os::unix::net::UnixListener::bind(home.socket()).expect("a socket"));
    let said = document(home.gpuctl(&["doctor", "--json"]).expect(6));
    assert_eq!((&said["healthy"], &finding(&said, "socket")["level"]), (&false.into(), &"ok".into()), "{said}");
    let daemon = finding(&said, "daemon");
    assert!(daemon["seen"].as_str().is_some_and(|seen| seen.contains("nobody listens")), "{said}");
    assert!(daemon["remedy"].as_str().is_some_and(|remedy| remedy.contains("start the daemon")), "{said}");
    fs::remove_file(home.socket()).expect("removed");
    fs::write(home.socket(), "").expect("written");
    let said = document(home.gpuctl(&["doctor", "--json"]).expect(6));
    assert!(finding(&said, "socket")["seen"].as_str().is_some_and(|seen| seen.ends_with("is not a socket")), "{said}");
}

#[test]
fn who_may_not_connect_is_told_what_to_join() {
    if !geteuid().is_root() {
        println!("skipped: only root can run gpuctl as somebody else");
        return;
    }
    let daemon = Daemon::start();
    let home = daemon.home();
    fs::set_permissions(home.file(""), fs::Permissions::from_mode(0o755)).expect("permitted");
    // Somebody else may have no way to where it was built.
    fs::copy(program("gpuctl"), home.file("gpuctl")).expect("copied");
    let mut command = Command::new(home.file("gpuctl"));
    command.args(["doctor", "--json"]).env("GPUSCHED_SOCKET", home.socket());
    command.current_dir("/tmp").uid(65_533).gid(65_533);
    let said = document(Ended::of(command).expect(6));
    let access = finding(&said, "access");
    assert_eq!(access["level"], "failure", "{said}");
    assert!(access["remedy"].as_str().is_some_and(|remedy| remedy.contains("`sudo chgrp gpusched ")), "{said}");
    assert_eq!(finding(&said, "daemon")["seen"], "the system does not let you connect", "{said}");
    assert_eq!(finding(&said, "engine")["level"], "skipped", "{said}");
}
