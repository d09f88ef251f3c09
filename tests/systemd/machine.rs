//! A systemd of the test's own, as process 1 of a machine that is this one's files and nothing else of it. See `boot.sh`.
//!
//! For root, with namespaces, overlayfs and a cgroup tree that can be written. It boots in about a second. Everything in it
//! ends with the test, also when that is killed: it is one tree of processes in a pid namespace, whose first one dies with
//! the thread that started it. Each has a cgroup of its own, so several may run at once.

use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::programs::program;
use crate::{have, skip, source, until};

/// Told apart, also from those of other test programs.
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// See the [module's documentation](self).
pub(crate) struct Machine {
    /// What holds the namespaces open.
    outer: Child,
    /// Process 1 of the machine, as this one numbers it.
    init: Pid,
    cgroup: PathBuf,
    directory: TempDir,
}

impl Machine {
    /// Boots one, or says why it cannot be. gpusched is installed in it, and not started; its watchdog is patient.
    pub(crate) fn boot() -> Option<Self> {
        let needed = ["unshare", "nsenter", "setpriv", "systemctl", "systemd-sysusers", "runuser", "useradd", "curl"];
        if !have(&needed) {
            return None;
        }
        if !nix::unistd::geteuid().is_root() {
            skip("a systemd of one's own takes root");
            return None;
        }
        let Some(tree) = cgroups() else {
            skip("there is no cgroup tree of version 2");
            return None;
        };
        let name = format!("gpusched-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let cgroup = tree.join(name);
        if let Err(e) = fs::create_dir(&cgroup) {
            skip(&format!("no cgroup can be made: {e}"));
            return None;
        }
        let programs = program("gpuschedd").parent().expect("it has one").to_owned();
        let directory = tempfile::tempdir().expect("a directory");
        // In the cgroup while the namespace is made, which makes it the machine's root.
        let script = "echo $$ >\"$0/cgroup.procs\" && exec setpriv --pdeathsig KILL \
                      unshare --mount --uts --ipc --net --cgroup --pid --fork --kill-child sh \"$@\"";
        let mut command = Command::new("sh");
        command.args(["-c", script]).arg(&cgroup).arg(source().join("tests/systemd/boot.sh"));
        command.arg(directory.path()).arg(source()).arg(programs).stdin(Stdio::null());
        let log = fs::File::create(directory.path().with_extension("log")).expect("a log");
        command.stdout(log.try_clone().expect("the same")).stderr(log);
        let mut outer = command.spawn().expect("it starts");
        let (pid, mut init) = (outer.id(), None);
        until("the machine begins", || {
            init = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok();
            init = init.take().filter(|children| !children.trim().is_empty());
            init.is_some() || outer.try_wait().expect("it is ours").is_some()
        });
        let init = init.and_then(|children| children.trim().parse().ok()).map(Pid::from_raw);
        let machine = Self { outer, init: init.unwrap_or(Pid::from_raw(0)), cgroup, directory };
        if init.is_none() {
            skip(&format!("it did not boot: {}", machine.log()));
            return None;
        }
        // The machine's root must hold no process of ours, or systemd cannot look into it.
        let _ = fs::write(tree.join("cgroup.procs"), pid.to_string());
        until(&format!("the machine runs: {}", machine.log()), || {
            let state = machine.try_run(&["systemctl", "is-system-running"]);
            assert!(machine.is_there(), "the machine ended: {}", machine.log());
            matches!(String::from_utf8_lossy(&state.stdout).trim(), "running" | "degraded")
        });
        machine.sh("PROGRAMS=/gpusched/programs sh /gpusched/source/systemd/install.sh");
        // For machines that are busy with other things. What the watchdog does is a test of its own.
        machine.drop_in("[Service]\nWatchdogSec=120s\n");
        Some(machine)
    }

    /// Sets a part of the service's unit anew, in the place of what was set before.
    pub(crate) fn drop_in(&self, text: &str) {
        let directory = "/etc/systemd/system/gpusched.service.d";
        self.sh(&format!("mkdir -p {directory}; printf '%s' '{text}' >{directory}/test.conf; systemctl daemon-reload"));
    }

    /// Runs a program in the machine, as root.
    pub(crate) fn try_run(&self, command: &[&str]) -> Output {
        let script = "echo $$ >\"$0/init.scope/cgroup.procs\" || exit 125; exec nsenter \"$@\"";
        let mut entering = Command::new("sh");
        entering.args(["-c", script]).arg(&self.cgroup).arg("-t").arg(self.init.to_string());
        entering.args(["-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--", "env", "-i", "LANG=C.UTF-8"]);
        entering.arg("PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").args(command);
        entering.stdin(Stdio::null()).output().expect("it runs")
    }

    /// What a shell's script wrote; it must succeed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        let Output { status, stdout, stderr } = self.try_run(&["sh", "-euc", script]);
        let [stdout, stderr] = [stdout, stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
        assert!(status.success(), "{script}: {status}\n{stdout}\n{stderr}\n{}", self.journal());
        stdout
    }

    /// Whether a shell's script succeeds.
    pub(crate) fn is_so(&self, script: &str) -> bool {
        self.try_run(&["sh", "-euc", script]).status.success()
    }

    /// Waits until a shell's script succeeds.
    #[track_caller]
    pub(crate) fn until(&self, script: &str) {
        until(&format!("{script}\n{}", self.journal()), || self.is_so(script));
    }

    /// A property of the service.
    pub(crate) fn service(&self, property: &str) -> String {
        self.sh(&format!("systemctl show --value --property={property} gpusched.service")).trim().to_owned()
    }

    /// The lines of its journal that are about the service.
    pub(crate) fn journal(&self) -> String {
        let output = self.try_run(&["journalctl", "--no-pager", "--output=short-monotonic", "-u", "gpusched*"]);
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn is_there(&self) -> bool {
        kill(self.init, None).is_ok()
    }

    /// What the boot script said.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.path().with_extension("log")).unwrap_or_default()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if self.init.as_raw() > 0 {
            // Nothing in it is worth a farewell, and with process 1 the kernel ends all the others.
            let _ = kill(self.init, Signal::SIGKILL);
        }
        let _ = self.outer.wait();
        let _ = fs::remove_file(self.directory.path().with_extension("log"));
        // The last of its processes may still be on its way out.
        until("its cgroups can be removed", || remove_tree(&self.cgroup));
    }
}

/// Where cgroups of version 2 are, alone or beside those of version 1.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let mut fields = mounts.lines().map(|line| line.split(' '));
    fields.find_map(|mut fields| {
        let path = fields.nth(1)?;
        (fields.next()? == "cgroup2").then(|| PathBuf::from(path))
    })
}

/// Removes a cgroup and those below it; whether it is gone.
fn remove_tree(cgroup: &std::path::Path) -> bool {
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    fs::remove_dir(cgroup).is_ok() || !cgroup.exists()
}
