//! What an engine in a process of its own may do, and how everything else is dropped. It runs the code that decodes
//! strangers' pictures, so it has nothing that such code could want.
//!
//! | may | by |
//! | --- | --- |
//! | read model directories, and what any process reads of the system | Landlock |
//! | read and write the descriptors it is given, make memfds up to a size, map memory, start threads, set their niceness | |
//!
//! | may not | by |
//! | --- | --- |
//! | write, make, remove or run any file; read any other | Landlock |
//! | open, connect or accept sockets, also by way of io_uring | seccomp |
//! | signal other processes | Landlock |
//! | run programs, look into other processes, mount, load modules, take on another user, gain privileges | seccomp, no new privileges |
//! | leave core files, have more descriptors than it needs | resource limits |
//!
//! Both filters hold for threads started after them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
    path_beneath_rules,
};
use nix::libc;
use rustix::process::{Resource, Rlimit, setrlimit};
use rustix::thread::set_no_new_privs;
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};

use crate::sealed::MAX_SEALED_BYTES;

/// Descriptors it may have: pictures of stages, weights being loaded, and a few of its own.
const MAX_DESCRIPTORS: u64 = 4096;

/// Entries of a models directory, at each depth, of which symbolic links are followed; what others lead to cannot be read.
const MAX_ENTRIES: usize = 4096;

/// What every process reads: libraries, what the kernel says of machine and process.
const SYSTEM: [&str; 10] = [
    "/proc",
    "/sys",
    "/usr",
    "/lib",
    "/lib64",
    "/etc/ld.so.cache",
    "/etc/ld.so.conf",
    "/etc/ld.so.conf.d",
    "/dev/null",
    "/dev/urandom",
];

/// System calls that are refused with `EPERM`.
const REFUSED: &[libc::c_long] = &[
    // The network, and other processes' sockets. The link is there already.
    libc::SYS_socket,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
    // Does what it is asked to behind this filter's back.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Programs.
    libc::SYS_execve,
    libc::SYS_execveat,
    // Other processes.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_perf_event_open,
    // Namespaces and file systems.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_fsconfig,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // The kernel.
    libc::SYS_bpf,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    libc::SYS_kexec_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_acct,
    // Users.
    libc::SYS_setuid,
    libc::SYS_setgid,
    libc::SYS_setreuid,
    libc::SYS_setregid,
    libc::SYS_setresuid,
    libc::SYS_setresgid,
    libc::SYS_setfsuid,
    libc::SYS_setfsgid,
    libc::SYS_setgroups,
    libc::SYS_capset,
];

/// Why it may still do what it should not.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// A limit could not be set.
    #[error("cannot limit what the engine may do: {0}")]
    Limits(io::Error),
}

/// Drops what the calling process has no need of, for the calling thread and those that it starts. Returns what the kernel
/// could not enforce, for a person; the engine is as good without, only less safe.
///
/// # Errors
/// [`ConfineError`] where what any Linux can do fails.
pub fn confine(models: &[PathBuf]) -> Result<Vec<String>, ConfineError> {
    let limits = |e: rustix::io::Errno| ConfineError::Limits(e.into());
    set_no_new_privs(true).map_err(limits)?;
    for (resource, most) in
        [(Resource::Core, 0), (Resource::Nofile, MAX_DESCRIPTORS), (Resource::Fsize, MAX_SEALED_BYTES)]
    {
        // Not above what it has: that would take a privilege.
        let most = rustix::process::getrlimit(resource).maximum.map_or(most, |hard| hard.min(most));
        setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) }).map_err(limits)?;
    }
    let mut missing = Vec::new();
    match restrict_files(models) {
        Ok(RulesetStatus::FullyEnforced) => {}
        Ok(RulesetStatus::PartiallyEnforced) => {
            missing.push("this kernel's Landlock knows only a part of it".to_owned());
        }
        Ok(RulesetStatus::NotEnforced) => missing.push("this kernel has no Landlock: it may read files".to_owned()),
        Err(e) => missing.push(format!("Landlock: {e}: it may read files")),
    }
    if let Err(e) = refuse_calls() {
        missing.push(format!("seccomp: {e}: it may make any system call"));
    }
    Ok(missing)
}

fn restrict_files(models: &[PathBuf]) -> Result<RulesetStatus, landlock::RulesetError> {
    // What is asked for; an older kernel does what it knows of it.
    let abi = ABI::V6;
    let readable = SYSTEM.iter().map(PathBuf::from).chain(models.iter().flat_map(|directory| reachable(directory)));
    let restricted = Ruleset::default()
        .handle_access(AccessFs::from_all(abi))?
        .handle_access(AccessNet::from_all(abi))?
        .scope(Scope::from_all(abi))?
        .create()?
        // Not executing: that it maps libraries is not meant by it.
        .add_rules(path_beneath_rules(readable, AccessFs::ReadFile | AccessFs::ReadDir))?
        .restrict_self()?;
    Ok(restricted.ruleset)
}

/// A models directory, and where the links in it lead: models are often kept elsewhere, and their files yet elsewhere.
fn reachable(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut level = found.clone();
    // Models, their components, their files.
    for _ in 0..3 {
        let entries = level.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten();
        let entries: Vec<_> = entries.map(|entry| entry.path()).take(MAX_ENTRIES).collect();
        let links = entries.iter().filter(|entry| entry.is_symlink());
        found.extend(links.filter_map(|link| link.canonicalize().ok()));
        level = entries;
    }
    found
}

fn refuse_calls() -> Result<(), seccompiler::Error> {
    let rules: BTreeMap<i64, _> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    // The errno's number is small and positive.
    let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
    apply_filter(&BpfProgram::try_from(filter)?)
}
