//! How a thread gives up what it has no need of, for itself and the threads and processes that it starts afterwards.
//! Threads that are there already keep what they may.
//!
//! What engine and front may each do is said where they are: in [`confine`](mod@crate::confine) and by whoever enters a
//! [`Sandbox`]. None of it keeps a process from what it has open already.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus,
    Scope, path_beneath_rules,
};
use nix::libc;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::set_no_new_privs;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};

/// Entries of a directory, at each depth, of which symbolic links are followed; what others lead to is not to be had.
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

/// System calls that neither has a use for.
const REFUSED: &[libc::c_long] = &[
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
    libc::SYS_kexec_file_load,
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

/// Those for sockets; what comes as a descriptor, and what is sent over it, takes none of them.
const SOCKETS: &[libc::c_long] = &[
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_accept,
    libc::SYS_accept4,
];

/// What may be done below a path, or to the file there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum May {
    /// Read.
    Read,
    /// Read, write, make, rename and remove files; make directories.
    Keep,
    /// Make a socket, and remove files in its way.
    Listen,
    /// Use the devices there: read, write, and tell their drivers what to do.
    Drive,
}

/// Whom it may have to do with, beside those at the other ends of the descriptors that it has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Others {
    /// Nobody: no sockets, no signals to other processes.
    None,
    /// Processes of this machine: Unix sockets, and signals.
    Local,
}

/// What may be done once it has been [entered](Self::enter). Everybody may also read what any process reads of the system;
/// nobody may run programs, open devices or the network, look into other processes, mount, load modules, or take on another
/// user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// Paths, which must be there, and what may be done with each.
    pub files: Vec<(PathBuf, May)>,
    /// Whom it may have to do with.
    pub others: Others,
}

/// Sees to it that the process can gain no privileges any more, for the calling thread and those that it starts, and sets
/// limits for all of it.
///
/// # Errors
/// What the system said.
pub fn limit(limits: &[(Resource, u64)]) -> io::Result<()> {
    set_no_new_privs(true)?;
    for (resource, most) in limits {
        // Not above what it has: that would take a privilege.
        let most = getrlimit(*resource).maximum.map_or(*most, |hard| hard.min(*most));
        setrlimit(*resource, Rlimit { current: Some(most), maximum: Some(most) })?;
    }
    Ok(())
}

impl Sandbox {
    /// Drops everything else, for the calling thread and those that it starts. Returns what the kernel could not enforce,
    /// for a person; whoever is in it is as good without, only less safe.
    #[must_use]
    pub fn enter(&self) -> Vec<String> {
        let mut missing = Vec::new();
        match self.restrict_files() {
            Ok(RulesetStatus::FullyEnforced) => {}
            Ok(RulesetStatus::PartiallyEnforced) => {
                missing.push("this kernel's Landlock knows only a part of it".to_owned());
            }
            Ok(RulesetStatus::NotEnforced) => {
                missing.push("this kernel has no Landlock: it may open any file".to_owned());
            }
            Err(e) => missing.push(format!("Landlock: {e}: it may open any file")),
        }
        if let Err(e) = self.refuse_calls() {
            missing.push(format!("seccomp: {e}: it may make any system call"));
        }
        missing
    }

    fn restrict_files(&self) -> Result<RulesetStatus, landlock::RulesetError> {
        // What is asked for; an older kernel does what it knows of it.
        let abi = ABI::V6;
        let mut handled =
            Ruleset::default().handle_access(AccessFs::from_all(abi))?.handle_access(AccessNet::from_all(abi))?;
        match self.others {
            Others::None => handled = handled.scope(Scope::from_all(abi))?,
            Others::Local => {}
        }
        let mut created = handled.create()?.add_rules(path_beneath_rules(SYSTEM, May::Read.rights()))?;
        for (path, may) in &self.files {
            created = created.add_rules(path_beneath_rules([path], may.rights()))?;
        }
        Ok(created.restrict_self()?.ruleset)
    }

    fn refuse_calls(&self) -> Result<(), seccompiler::Error> {
        // Refused whatever the arguments are.
        let mut rules: BTreeMap<i64, Vec<SeccompRule>> = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
        match self.others {
            Others::None => rules.extend(SOCKETS.iter().map(|call| (*call, Vec::new()))),
            Others::Local => {
                let unix = u64::from(libc::AF_UNIX.unsigned_abs());
                let other = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, unix)?;
                let other = vec![SeccompRule::new(vec![other])?];
                rules.extend([(libc::SYS_socket, other.clone()), (libc::SYS_socketpair, other)]);
            }
        }
        // The errno's number is small and positive.
        let refuse = SeccompAction::Errno(libc::EPERM.unsigned_abs());
        let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, std::env::consts::ARCH.try_into()?)?;
        apply_filter(&BpfProgram::try_from(filter)?)
    }
}

impl May {
    fn rights(self) -> BitFlags<AccessFs> {
        match self {
            // Not executing: that libraries are mapped is not meant by it.
            Self::Read => AccessFs::ReadFile | AccessFs::ReadDir,
            Self::Keep => {
                Self::Read.rights()
                    | AccessFs::WriteFile
                    | AccessFs::Truncate
                    | AccessFs::MakeReg
                    | AccessFs::MakeDir
                    | AccessFs::RemoveFile
                    // From one directory to another.
                    | AccessFs::Refer
            }
            Self::Listen => AccessFs::MakeSock | AccessFs::RemoveFile,
            Self::Drive => Self::Read.rights() | AccessFs::WriteFile | AccessFs::IoctlDev,
        }
    }
}

/// A directory, and where the symbolic links in it lead, down to a depth: what is allowed below a path is not allowed for what a
/// link there leads to.
pub fn reachable(directory: &Path, depth: usize) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut level = found.clone();
    for _ in 0..depth {
        let entries = level.iter().filter_map(|path| std::fs::read_dir(path).ok()).flatten().flatten();
        let entries: Vec<_> = entries.map(|entry| entry.path()).take(MAX_ENTRIES).collect();
        let links = entries.iter().filter(|entry| entry.is_symlink());
        found.extend(links.filter_map(|link| link.canonicalize().ok()));
        level = entries;
    }
    found
}
