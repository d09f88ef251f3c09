//! What the front may do once it has begun, and how everything else is dropped. It talks with strangers and keeps what they
//! were promised; it has nothing to do with models, devices and programs.
//!
//! | may | by |
//! | --- | --- |
//! | read what any process reads of the system | Landlock |
//! | keep files below the state directory | Landlock |
//! | make and remove the sockets, for clients and for metrics, in their directories | Landlock |
//! | have Unix sockets: clients, the log, the service manager | seccomp |
//! | signal other processes, to end an engine | |
//!
//! | may not | by |
//! | --- | --- |
//! | open any other file, models and devices among them | Landlock |
//! | run programs | seccomp, Landlock |
//! | have other sockets, also by way of io_uring | seccomp |
//! | look into other processes, mount, load modules, take on another user, gain privileges | seccomp, no new privileges |
//! | leave core files: there are prompts in them | resource limits |
//!
//! Files and calls are restricted for each thread and for those that it starts. The threads that keep the engine are
//! started before, because whoever starts an engine cannot be without what it needs: they run programs, and so do not hold
//! to this. Nor do the threads of an engine in this process, which read models. So this keeps mistakes, and files that
//! clients might have it open, from doing harm; it is no wall against code that has taken over the front, which shares its
//! memory with those threads.
//!
//! The thread that reads the configuration anew is not confined either: it opens that one file, and hands over what it says.
//! A socket that systemd has handed over is used as any other descriptor; what the daemon tells systemd goes by a Unix socket.
//!
//! The directory of the socket is known by what it is, not by its name: when somebody deletes it and makes another, the
//! socket is not made anew there, and the daemon must be restarted.

use std::io;
use std::path::Path;

use gpusched_engine::sandbox::{May, Others, Sandbox, limit, reachable};
use rustix::process::Resource;

use crate::config::Config;

/// Of what lies in the state directory, the blobs may be kept elsewhere, with a symbolic link to them.
const LINKED: usize = 1;

/// Drops what no thread of the front needs, those that keep the engine included. Before there are other threads.
///
/// # Errors
/// What the system said.
pub fn limit_all() -> io::Result<()> {
    limit(&[(Resource::Core, 0)])
}

/// Drops the rest, for the calling thread and those that it starts. The state directory and that of the socket must be
/// there. Returns what the kernel could not enforce, for a person.
#[must_use]
pub fn confine(config: &Config) -> Vec<String> {
    let here = Path::new(".");
    let directory =
        |socket: &Path| socket.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(here).to_owned();
    let mut files: Vec<_> = reachable(&config.state_dir, LINKED).into_iter().map(|path| (path, May::Keep)).collect();
    files.push((directory(&config.socket), May::Listen));
    // One that could not be had has no directory either.
    let of_metrics = config.metrics_socket().map(|socket| directory(&socket)).filter(|directory| directory.exists());
    files.extend(of_metrics.map(|directory| (directory, May::Listen)));
    Sandbox { files, others: Others::Local }.enter()
}
