//! What is known of this machine before anything is judged: plain data, so that every judgement can be tested.

use std::path::PathBuf;

use gpusched_client::StatusView;

/// All of it.
#[derive(Debug, Clone)]
pub(super) struct Facts {
    pub(super) caller: Caller,
    pub(super) socket: Socket,
    pub(super) daemon: Daemon,
    /// What systemd says; `None` where it does not run.
    pub(super) systemd: Option<Systemd>,
    /// gpuschedd as installed; `None` if there is none.
    pub(super) program: Option<Program>,
    pub(super) config: ConfigFile,
    /// The file system of the state directory, as far as it can be seen from here.
    pub(super) disk: Option<Disk>,
    /// Directories of models that are known of: the configuration's, then those that are shipped.
    pub(super) models: Vec<ModelDirectory>,
    /// Device nodes of NVIDIA GPUs.
    pub(super) gpus: Vec<PathBuf>,
    /// Whether an engine for them is installed where gpuschedd looks for it.
    pub(super) has_cuda_engine: bool,
    /// The wall clock, in seconds since the Unix epoch.
    pub(super) unix_s: u64,
}

/// Who asks.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) uid: u32,
    /// The user's name, or its number where it has none.
    pub(super) name: String,
    /// Groups of this process.
    pub(super) gids: Vec<u32>,
    /// True if the user database has the user in the socket's group, whether or not this process is.
    pub(super) listed_in_group: bool,
}

/// The socket that gpuctl uses.
#[derive(Debug, Clone)]
pub(super) struct Socket {
    pub(super) path: PathBuf,
    pub(super) named_by: NamedBy,
    pub(super) file: SocketFile,
}

/// Why it is that socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NamedBy {
    Option,
    Variable,
    Default,
}

/// What lies there.
#[derive(Debug, Clone)]
pub(super) enum SocketFile {
    Missing,
    /// The caller may not look into its directory.
    Hidden,
    /// Something else than a socket.
    Other,
    There {
        /// Permission bits.
        mode: u32,
        owner: Named,
        group: Named,
    },
}

/// A user or a group.
#[derive(Debug, Clone)]
pub(super) struct Named {
    pub(super) id: u32,
    /// Its number where it has no name.
    pub(super) name: String,
}

/// What came of asking the daemon.
#[derive(Debug, Clone)]
pub(super) enum Daemon {
    Up {
        /// Its name and version.
        server: String,
        status: Box<StatusView>,
    },
    /// Nobody listens.
    Absent,
    /// The system does not let the caller connect.
    Denied,
    /// Somebody listens, but said nothing in this many seconds.
    Silent { after_s: u64 },
    /// It speaks other versions of the protocol.
    Incompatible { least: u16, most: u16 },
    /// Anything else, in words.
    Failed(String),
}

/// The units.
#[derive(Debug, Clone)]
pub(super) struct Systemd {
    pub(super) service: Unit,
    pub(super) socket: Unit,
}

/// A unit, in systemd's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Unit {
    /// `loaded`, `not-found`, `bad-setting`…; empty if systemd did not answer.
    pub(super) load: String,
    /// `active`, `inactive`, `failed`…
    pub(super) active: String,
    /// `running`, `listening`, `dead`…
    pub(super) sub: String,
    /// `enabled`, `disabled`, `static`…
    pub(super) file: String,
    /// Why it failed: `exit-code`, `watchdog`…
    pub(super) result: String,
    /// How often systemd started it again by itself.
    pub(super) restarts: u64,
}

/// A program.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) path: PathBuf,
    /// As it says itself; empty if it does not run.
    pub(super) version: String,
}

/// What gpuschedd says of its configuration.
#[derive(Debug, Clone)]
pub(super) enum ConfigFile {
    /// There is no gpuschedd to ask.
    Unasked,
    /// The caller may not read it.
    Unreadable(PathBuf),
    Valid {
        /// The file; `None` for the defaults.
        path: Option<PathBuf>,
        /// Where a daemon with this configuration listens.
        socket: PathBuf,
        state_dir: PathBuf,
        /// No jobs are taken while less than this is free, if it says so in a way that is understood.
        low_water_bytes: Option<u64>,
    },
    Invalid {
        path: Option<PathBuf>,
        why: String,
    },
}

/// A file system.
#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) path: PathBuf,
    pub(super) free_bytes: u64,
}

/// A directory of models.
#[derive(Debug, Clone)]
pub(super) struct ModelDirectory {
    pub(super) path: PathBuf,
    /// Names of the subdirectories that look like models; `None` if it cannot be read.
    pub(super) models: Option<Vec<String>>,
}
