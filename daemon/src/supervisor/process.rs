//! A process of the engine, held by a descriptor, so that no other process is ever taken for it.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::cause::Ended;

/// A child that has not been waited for.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    handle: Handle,
}

/// Holds on to a process, a child or not, that cannot be mistaken for a later one of the same number.
#[derive(Debug)]
pub(super) struct Handle {
    descriptor: OwnedFd,
}

/// What the system says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    /// `R`, `S`, `T` and so on.
    pub(super) state: char,
    /// When it started, in clock ticks since boot. With the number it names a process for good.
    pub(super) started: u64,
}

impl Process {
    /// Starts `program` as an engine with `link` as its standard input.
    pub(super) fn spawn(program: &Path, link: OwnedFd) -> io::Result<Self> {
        let mut command = Command::new(program);
        // In a group of its own, so that Ctrl-C in a terminal is the front's to understand. Nobody but the front talks to
        // systemd.
        command.arg("engine").stdin(Stdio::from(link)).process_group(0).env_remove("NOTIFY_SOCKET");
        if program == Path::new(SELF) {
            command.arg0("gpuschedd");
        }
        let mut child = command.spawn()?;
        match Handle::open(child.id()) {
            Ok(handle) => Ok(Self { child, handle }),
            Err(e) => {
                // It has not been waited for, so the number is still its own.
                let _ = child.kill();
                let _ = child.wait();
                Err(e)
            }
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Waits for its end, which has come or is near, and says how it was.
    pub(super) fn reap(mut self) -> io::Result<Ended> {
        let status = self.child.wait()?;
        Ok(match (status.code(), status.signal()) {
            (Some(code), _) => Ended::Code(code),
            (None, signal) => Ended::Signal(signal.unwrap_or(0)),
        })
    }
}

/// The program that runs, also when another has taken its place on the disk: front and engine are of one version.
pub(super) const SELF: &str = "/proc/self/exe";

impl Handle {
    /// Takes hold of a process.
    pub(super) fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
        Ok(Self { descriptor: pidfd_open(pid, PidfdFlags::empty())? })
    }

    /// Another hold of the same process.
    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self { descriptor: self.descriptor.try_clone()? })
    }

    /// Waits for the process to end, but no longer than `patience`; whether it has.
    pub(super) fn wait(&self, patience: Duration) -> io::Result<bool> {
        let until = Instant::now() + patience;
        loop {
            let left = Timespec::try_from(until.saturating_duration_since(Instant::now())).map_err(io::Error::other)?;
            match poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&left)) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    /// Kills the process, if it is still there.
    pub(super) fn kill(&self) -> io::Result<()> {
        match pidfd_send_signal(&self.descriptor, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => Ok(()),
            Err(e) => Err(e.into()),
        }
    }
}

/// What the system says of the process with this number; `None` if there is none.
pub(super) fn stat(pid: u32) -> Option<Stat> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// The name of a process is in brackets and may itself contain any.
fn parse(line: &str) -> Option<Stat> {
    let mut fields = line.rsplit_once(") ")?.1.split(' ');
    // Fields 3 and 22 of the line.
    Some(Stat { state: fields.next()?.chars().next()?, started: fields.nth(18)?.parse().ok()? })
}

/// How many processes the kernel has killed since boot to free memory.
pub(super) fn killed_for_memory() -> u64 {
    let counters = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    counters.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_named_like_a_stat_line_is_read_as_well() {
        let line = "42 (a) S 1 (b)) T 1 42 42 0 -1 4194560 100 0 0 0 1 2 0 0 20 0 1 0 98765 1000 20 184467\n";
        assert_eq!(parse(line), Some(Stat { state: 'T', started: 98_765 }));
        assert_eq!(parse("42 (a"), None);
    }

    #[test]
    fn this_process_is_one_that_runs_and_others_are_not() {
        let own = stat(std::process::id()).expect("it is there");
        assert!(own.started > 0);
        assert_eq!(stat(u32::MAX), None);
    }

    #[test]
    fn the_end_of_a_process_is_waited_for_and_brought_about() {
        let mut child = Command::new("sleep").arg("1000").spawn().expect("it starts");
        let handle = Handle::open(child.id()).expect("it is there");
        assert!(!handle.wait(Duration::ZERO).expect("it can be waited for"));
        handle.kill().expect("it is ours");
        assert!(handle.wait(Duration::from_secs(60)).expect("it can be waited for"));
        child.wait().expect("it has ended");
        handle.kill().expect("nobody is killed");
    }
}
