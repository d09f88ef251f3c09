//! gpuctl hands over to the gpuschedd beside it, else to the one on the PATH, else says what is missing.
#![cfg(feature = "cli")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

/// A program that prints its arguments, one a line, after `name`.
fn install(directory: &Path, name: &str) {
    fs::create_dir_all(directory).expect("a directory");
    let path = directory.join("gpuschedd");
    fs::write(&path, format!("#!/bin/sh\nprintf '%s\\n' {name} \"$@\"\nexit 7\n")).expect("written");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
}

fn run(gpuctl: &Path, search: &Path, args: &[&str]) -> Output {
    Command::new(gpuctl).args(args).env("PATH", search).output().expect("gpuctl runs")
}

#[test]
fn the_neighbour_takes_over_then_the_path() {
    let directory = tempfile::tempdir().expect("a directory");
    // A copy, not a link: the system names a program by the file that it is.
    let gpuctl = directory.path().join("bin/gpuctl");
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(directory.path().join("bin")).expect("a directory");
    fs::copy(env!("CARGO_BIN_EXE_gpuctl"), &gpuctl).expect("copied");

    let missing = run(&gpuctl, &elsewhere, &["plan"]);
    let said = String::from_utf8(missing.stderr).expect("text");
    assert_eq!(missing.status.code(), Some(3), "{said}");
    assert!(said.starts_with("gpuctl: cannot run gpuschedd, which does `gpuctl plan`: No such file"), "{said}");
    assert!(said.contains("install gpuschedd beside gpuctl"), "{said}");

    install(&elsewhere, "path");
    let taken = run(&gpuctl, &elsewhere, &["simulate", "--help", "a b.toml", "--seed", "-1", "--json"]);
    let said = String::from_utf8(taken.stdout).expect("text");
    assert_eq!(
        (taken.status.code(), said.as_str()),
        (Some(7), "path\nsimulate\n--help\na b.toml\n--seed\n-1\n--json\n")
    );

    let taken = run(&gpuctl, &elsewhere, &["journal", "check", "--state-dir", "/x", "--json"]);
    let said = String::from_utf8(taken.stdout).expect("text");
    assert_eq!((taken.status.code(), said.as_str()), (Some(7), "path\njournal\ncheck\n--state-dir\n/x\n--json\n"));

    install(&directory.path().join("bin"), "neighbour");
    let taken = run(&gpuctl, &elsewhere, &["demo", "--json", "--images", "3"]);
    let said = String::from_utf8(taken.stdout).expect("text");
    assert_eq!((taken.status.code(), said.as_str()), (Some(7), "neighbour\ndemo\n--json\n--images\n3\n"));
}
