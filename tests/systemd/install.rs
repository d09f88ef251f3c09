//! What is installed runs from where it was put, and goes away again.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::daemon::{Home, Running, quick};
use crate::programs::program;
use crate::{source, succeed};

fn install(action: &str, root: &Path) -> Command {
    let mut command = Command::new(source().join("systemd/install.sh"));
    let programs = program("gpuschedd").parent().expect("it has one").to_owned();
    command.arg(action).env("DESTDIR", root).env("PROGRAMS", programs);
    command.env_remove("PREFIX").env_remove("CUDA_ENGINE").env_remove("ZSH_COMPLETIONS");
    command
}

/// The files below a directory, as paths from there.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    let mut left = vec![root.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(directory).expect("it is there") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.insert(Path::new("/").join(path.strip_prefix(root).expect("below it")));
            }
        }
    }
    found
}

#[test]
fn it_runs_from_where_it_was_put_and_leaves_nothing() {
    let home = Home::new("", "");
    let root = home.file("root");
    fs::create_dir(&root).expect("made");
    succeed(&mut install("install", &root));
    let listed: BTreeSet<_> = succeed(&mut install("list", &root)).lines().map(PathBuf::from).collect();
    assert_eq!(files(&root), listed);
    for wanted in [
        "/usr/bin/gpuschedd",
        "/usr/bin/gpuctl",
        "/usr/lib/systemd/system/gpusched.service",
        "/usr/lib/systemd/system/gpusched.socket",
        "/usr/lib/sysusers.d/gpusched.conf",
        "/etc/gpusched/gpusched.toml",
        "/usr/share/gpusched/models/vilt-tiny/model.safetensors",
    ] {
        let mode =
            fs::metadata(root.join(&wanted[1..])).unwrap_or_else(|e| panic!("{wanted}: {e}")).permissions().mode();
        assert_eq!(mode & 0o777, if wanted.starts_with("/usr/bin/") { 0o755 } else { 0o644 }, "{wanted}");
    }

    // The configuration as it is installed, but for places that are this test's.
    let config = fs::read_to_string(root.join("etc/gpusched/gpusched.toml")).expect("read");
    assert!(config.contains("\"/usr/share/gpusched/models\""));
    let config = config.replace("\"/usr/", &format!("\"{}/usr/", root.display()));
    let config = config.replace("/run/gpusched/gpusched.sock", &home.socket().to_string_lossy());
    let config = config.replace("\"/var/lib/gpusched\"", &format!("{:?}", home.file("state")));
    fs::write(home.file("gpusched.toml"), config).expect("written");
    let mut command = Command::new(root.join("usr/bin/gpuschedd"));
    command.args(["serve", "--config"]).arg(home.file("gpusched.toml")).env_remove("NOTIFY_SOCKET");
    let daemon = Running::start(&home, &mut command);
    daemon.until_logged("listening on");
    let client = home.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    client.wait(job).expect("waited for");
    let mut gpuctl = Command::new(root.join("usr/bin/gpuctl"));
    succeed(gpuctl.arg("status").env("GPUSCHED_SOCKET", home.socket()));
    drop(daemon);

    succeed(&mut install("uninstall", &root));
    assert_eq!(fs::read_dir(&root).expect("it is there").count(), 0, "{:?}", files(&root));
}

#[test]
fn the_engine_for_gpus_is_put_where_the_daemon_looks_for_it() {
    let home = Home::new("", "");
    let root = home.file("root");
    let with = |action: &str| succeed(install(action, &root).env("CUDA_ENGINE", "/bin/true"));
    with("install");
    let engine = root.join("usr/libexec/gpusched/gpusched-engine-cuda");
    assert_eq!(fs::metadata(&engine).expect("it is there").permissions().mode() & 0o777, 0o755);
    assert!(with("list").lines().any(|line| line == "/usr/libexec/gpusched/gpusched-engine-cuda"));
    // Also by who has it no more.
    succeed(&mut install("uninstall", &root));
    assert_eq!(fs::read_dir(&root).expect("it is there").count(), 0, "{:?}", files(&root));
}

#[test]
fn what_an_operator_has_changed_stays() {
    let home = Home::new("", "");
    let root = home.file("root");
    succeed(&mut install("install", &root));
    let config = root.join("etc/gpusched/gpusched.toml");
    fs::write(&config, "stop_timeout_s = 5\n").expect("written");
    let said = succeed(&mut install("install", &root));
    assert!(said.contains("/etc/gpusched/gpusched.toml stays as it is"), "{said}");
    assert!(config.with_extension("toml.new").exists());
    assert_eq!(fs::read_to_string(&config).expect("read"), "stop_timeout_s = 5\n");
    let said = succeed(&mut install("uninstall", &root));
    assert!(said.contains("has been changed, so it stays"), "{said}");
    assert_eq!(files(&root), BTreeSet::from([PathBuf::from("/etc/gpusched/gpusched.toml")]));
}

#[test]
fn another_prefix_is_in_the_unit_and_the_configuration() {
    let home = Home::new("", "");
    let root = home.file("root");
    succeed(install("install", &root).env("PREFIX", "/opt/gpusched"));
    let text = |path: &str| fs::read_to_string(root.join(path)).expect("read");
    let unit = text("opt/gpusched/lib/systemd/system/gpusched.service");
    assert!(unit.contains("ExecStart=/opt/gpusched/bin/gpuschedd serve"), "{unit}");
    assert!(text("etc/gpusched/gpusched.toml").contains("\"/opt/gpusched/share/gpusched/models\""));
    assert!(!root.join("usr").exists());
    let nonsense = install("install", &root).env("PREFIX", "relative").output().expect("it runs");
    assert!(!nonsense.status.success());
}
