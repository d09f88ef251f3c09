//! The units, as systemd itself reads them.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::programs::program;
use crate::{have, source, succeed};

/// The units in a directory of their own, with a program that is there; CUDA's drop-in beside them.
fn units() -> TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let program = program("gpuschedd").display().to_string();
    for name in ["gpusched.service", "gpusched.socket", "gpusched-metrics.socket"] {
        let text = fs::read_to_string(source().join("systemd").join(name)).expect("it is there");
        fs::write(directory.path().join(name), text.replace("/usr/bin/gpuschedd", &program)).expect("written");
    }
    directory
}

/// What is wrong with a unit. `verify` complains of other units of the machine, too.
fn complaints(directory: &Path, unit: &str) -> Vec<String> {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no", "--recursive-errors=no"]).arg(directory.join(unit));
    let output = command.env("SYSTEMD_UNIT_PATH", format!("{}:", directory.display())).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success() || !said.is_empty(), "{}", output.status);
    said.lines().filter(|line| line.contains("gpusched") || line.contains("cuda.conf")).map(str::to_owned).collect()
}

#[test]
fn they_are_well_formed() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let units = units();
    for unit in ["gpusched.service", "gpusched.socket", "gpusched-metrics.socket"] {
        assert_eq!(complaints(units.path(), unit), [""; 0], "{unit}");
    }
    let drop_ins = units.path().join("gpusched.service.d");
    fs::create_dir(&drop_ins).expect("made");
    let cuda = drop_ins.join("cuda.conf");
    fs::copy(source().join("systemd/cuda.conf"), &cuda).expect("copied");
    assert_eq!(complaints(units.path(), "gpusched.service"), [""; 0], "with cuda.conf");
    // That mistakes would be seen, in the unit and in the drop-in.
    let text = fs::read_to_string(&cuda).expect("read") + "\nNoSuchKey=yes\n";
    fs::write(&cuda, text).expect("written");
    let wrong = complaints(units.path(), "gpusched.service");
    assert!(wrong.iter().any(|line| line.contains("NoSuchKey")), "{wrong:?}");
}

#[test]
fn the_service_is_exposed_by_a_twentieth_at_most() {
    if !have(&["systemd-analyze"]) {
        return;
    }
    let units = units();
    let security = |threshold: u32| {
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--no-pager", &format!("--threshold={threshold}")]);
        command.arg(units.path().join("gpusched.service"));
        command
    };
    // The threshold is ten times the score, which is of ten.
    succeed(&mut security(5));
    assert!(!security(1).status().expect("it runs").success(), "it would be seen if it were more");
}

#[test]
fn its_user_can_be_made() {
    if !have(&["systemd-sysusers"]) {
        return;
    }
    let root = tempfile::tempdir().expect("a directory");
    let place = root.path().join("usr/lib/sysusers.d");
    fs::create_dir_all(&place).expect("made");
    fs::create_dir(root.path().join("etc")).expect("made");
    fs::copy(source().join("systemd/gpusched.sysusers"), place.join("gpusched.conf")).expect("copied");
    let mut command = Command::new("systemd-sysusers");
    let output = command.args(["--dry-run", "--root"]).arg(root.path()).output().expect("it runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("Would create user gpusched") || said.contains("Creating user 'gpusched'"), "{said}");
}
