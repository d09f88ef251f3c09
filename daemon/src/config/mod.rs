//! The configuration file. Every key has a default, unknown keys are refused, and `gpuschedd --check-config` says what is
//! wrong before a restart does.

mod class;
mod cuda;
mod device_memory;
mod engine;
mod faults;
mod metrics;
mod reload;
mod retry;
mod storage;

pub use class::{ClassConfig, Durability, Flush, Gate, PartitionSize, RouteConfig};
pub use cuda::{BackendChoice, CudaConfig, ENGINE_CUDA};
pub use engine::EngineConfig;
pub use faults::FaultsConfig;
pub use metrics::MetricsConfig;
pub use reload::{Reload, reload};
pub use retry::RetryConfig;
pub use storage::{NotASize, RetentionConfig, Size, StorageConfig};

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gpusched_core::{Plan, PlanError, Quotas};
use gpusched_engine::{GateKind, LaneSpec, PartitionSpec};
use gpusched_shared::{Bytes, SYSTEM_SOCKET, TaskKind};
use serde::{Deserialize, Serialize};

/// Where the system's daemon looks for its configuration.
pub const SYSTEM_CONFIG: &str = "/etc/gpusched/gpusched.toml";

/// Where packages have the models that come with the daemon. Of two of one name the operator's counts.
const SHIPPED_MODELS: &str = "/usr/share/gpusched/models";

/// The whole file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where clients connect.
    pub socket: PathBuf,
    /// Journal, blobs and lock; one daemon at a time.
    pub state_dir: PathBuf,
    /// Directories whose subdirectories are models in the Hugging Face layout.
    pub models: Vec<PathBuf>,
    /// Seconds that running jobs get to finish when the daemon is told to stop.
    pub stop_timeout_s: u64,
    /// Seconds that attached jobs of an earlier run wait for their client before they are cancelled.
    pub reattach_grace_s: u64,
    /// How waiting jobs are started: `multi-queue` or `fifo`.
    pub policy: Policy,
    /// Bounds on clients.
    pub limits: Limits,
    /// How jobs that ran out of memory are tried again.
    pub retry: RetryConfig,
    /// The engine's process and how it is watched.
    pub engine: EngineConfig,
    /// Where metrics can be read.
    pub metrics: MetricsConfig,
    /// What is to go wrong on purpose; refused unless `--allow-faults` is given.
    #[serde(skip_serializing_if = "is_default")]
    pub faults: FaultsConfig,
    /// What the daemon takes of the disk.
    pub storage: StorageConfig,
    /// When jobs that have ended are forgotten.
    pub retention: RetentionConfig,
    /// What partitions are shares of, in bytes, once it is known what the engine computes on; before, the CPU's memory.
    #[serde(skip)]
    pub device_bytes: Option<u64>,
    /// Service classes.
    #[serde(rename = "class")]
    pub classes: Vec<ClassConfig>,
    /// Routing rules; the first that matches wins.
    #[serde(rename = "route")]
    pub routes: Vec<RouteConfig>,
}

/// Bounds on clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Connections in all.
    pub connections: u32,
    /// Connections of one uid.
    pub connections_per_uid: u32,
    /// Requests open on one connection.
    pub open_requests: u32,
    /// Seconds a new connection gets to say Hello.
    pub handshake_timeout_s: u64,
    /// Seconds that a frame a client has begun gets to be complete.
    pub frame_timeout_s: u64,
    /// Seconds a client gets to take an answer; who does not read is cut off.
    pub write_timeout_s: u64,
    /// Seconds a client's picture file gets to be read.
    pub picture_timeout_s: u64,
    /// Picture files read at once.
    pub picture_readers: u32,
    /// Jobs of one uid that wait; 0 is no limit. More are refused.
    pub queued_per_uid: u32,
    /// Jobs of one uid that run; 0 is no limit. More wait.
    pub running_per_uid: u32,
    /// Jobs of one connection that have not ended; 0 is no limit. More are refused.
    pub jobs_per_connection: u32,
}

/// How waiting jobs are started. See [`gpusched_core::Policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Policy {
    /// Each class by itself; light work overtakes heavy work.
    #[default]
    MultiQueue,
    /// One queue for everything, one job at a time.
    Fifo,
}

impl Default for Config {
    fn default() -> Self {
        let heavy = ClassConfig {
            threads: 0,
            nice: 10,
            flush: Flush::BeforeEach,
            gate: Gate::Block,
            ..ClassConfig::new("heavy", PartitionSize::Percent(60))
        };
        let light = ClassConfig {
            lanes: 4,
            durability: Durability::Process,
            priority: 10,
            ..ClassConfig::new("light", PartitionSize::Percent(20))
        };
        Self {
            socket: SYSTEM_SOCKET.into(),
            state_dir: "/var/lib/gpusched".into(),
            models: vec!["/var/lib/gpusched/models".into(), SHIPPED_MODELS.into()],
            stop_timeout_s: 30,
            reattach_grace_s: 30,
            policy: Policy::default(),
            limits: Limits::default(),
            retry: RetryConfig::default(),
            engine: EngineConfig::default(),
            metrics: MetricsConfig::default(),
            faults: FaultsConfig::default(),
            storage: StorageConfig::default(),
            retention: RetentionConfig::default(),
            device_bytes: None,
            classes: vec![heavy, light],
            routes: vec![
                RouteConfig::of_task(TaskKind::Txt2Img, "heavy"),
                RouteConfig::of_task(TaskKind::Img2Img, "heavy"),
                RouteConfig::of_task(TaskKind::Inpaint, "heavy"),
                RouteConfig::of_task(TaskKind::Edit, "heavy"),
                RouteConfig::of_task(TaskKind::Vqa, "light"),
                RouteConfig::of_task(TaskKind::Detect, "light"),
                RouteConfig::of_task(TaskKind::Segment, "light"),
                RouteConfig::of_task(TaskKind::Analyze, "light"),
                RouteConfig::of_task(TaskKind::Score, "light"),
            ],
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_per_uid: 64,
            open_requests: 64,
            handshake_timeout_s: 5,
            frame_timeout_s: 10,
            write_timeout_s: 30,
            picture_timeout_s: 10,
            picture_readers: 4,
            queued_per_uid: 1000,
            running_per_uid: 0,
            jobs_per_connection: 1000,
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {}: {source}; name another with --config", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is not TOML of this shape.
    #[error("{}: {source}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// Where and why.
        source: Box<toml::de::Error>,
    },
    /// Classes and routes do not fit together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The partitions are larger than the device.
    #[error("the partitions of all classes add up to {}, the device has {}; make some smaller", Bytes(*.sum), Bytes(*.device))]
    Partitions {
        /// Bytes of all partitions.
        sum: u64,
        /// Bytes of the device.
        device: u64,
    },
    /// The engine cannot do what is asked for.
    #[error(
        "class {0:?}: gate = \"kernel\" needs an engine for CUDA, which there is not; use \"block\" or \"off\", or see to \
         engine.backend"
    )]
    KernelGate(String),
    /// Faults must be asked for twice.
    #[error("[faults] makes jobs fail on purpose, for tests; start gpuschedd with --allow-faults, or take it out")]
    Faults,
    /// A number makes no sense.
    #[error("{key} must be {range}")]
    Range {
        /// The key.
        key: &'static str,
        /// What it may be.
        range: &'static str,
    },
}

impl Config {
    /// The defaults for someone's own daemon: everything below their own directories.
    pub fn of_user() -> Self {
        let below = |variable: &str, otherwise: &str| {
            let home = || PathBuf::from(std::env::var_os("HOME").unwrap_or_else(|| "/".into())).join(otherwise);
            std::env::var_os(variable).map_or_else(home, PathBuf::from).join("gpusched")
        };
        Self {
            // As clients look for it.
            socket: std::env::var_os("XDG_RUNTIME_DIR")
                .map_or_else(|| SYSTEM_SOCKET.into(), |run| Path::new(&run).join("gpusched/gpusched.sock")),
            state_dir: below("XDG_STATE_HOME", ".local/state"),
            models: vec![below("XDG_DATA_HOME", ".local/share").join("models"), SHIPPED_MODELS.into()],
            ..Self::default()
        }
    }

    /// Reads and checks a file.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing wrong.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
        let parsed = toml::from_str::<Self>(&text);
        let config = parsed.map_err(|source| ConfigError::Parse { path: path.into(), source: Box::new(source) })?;
        config.check()?;
        Ok(config)
    }

    /// Checks what the types cannot.
    ///
    /// # Errors
    /// [`ConfigError`] for the first thing wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.plan()?;
        let cpu = self.is_for_cpu();
        if let Some(class) = self.classes.iter().find(|class| cpu && class.gate == Gate::Kernel) {
            return Err(ConfigError::KernelGate(class.name.clone()));
        }
        let lanes: u64 = self.classes.iter().map(|class| u64::from(class.lanes)).sum();
        let named = |class: &ClassConfig| {
            (1..=64).contains(&class.name.len()) && class.name.bytes().all(|b| b.is_ascii_graphic())
        };
        let ranges = [
            (self.classes.iter().all(named), "[[class]] name", "1 to 64 printable ASCII characters without spaces"),
            (self.stop_timeout_s <= 86_400, "stop_timeout_s", "at most 86400"),
            (self.reattach_grace_s <= 86_400, "reattach_grace_s", "at most 86400"),
            (lanes <= 256, "the sum of all [[class]] lanes", "at most 256"),
            (self.classes.iter().all(|c| c.threads <= 1024), "[[class]] threads", "at most 1024"),
            (self.classes.iter().all(|c| (1..=100_000).contains(&c.queue)), "[[class]] queue", "1 to 100000"),
            (self.classes.iter().all(|c| c.nice <= 19), "[[class]] nice", "0 to 19"),
            (self.classes.iter().all(|c| c.min_share_percent <= 100), "[[class]] min_share_percent", "0 to 100"),
            (
                self.classes.iter().all(|c| (1..=3600).contains(&c.min_share_window_s)),
                "[[class]] min_share_window_s",
                "1 to 3600",
            ),
            ((1..=65_536).contains(&self.limits.connections), "limits.connections", "1 to 65536"),
            (self.limits.connections_per_uid >= 1, "limits.connections_per_uid", "at least 1"),
            ((1..=4096).contains(&self.limits.open_requests), "limits.open_requests", "1 to 4096"),
            (self.limits.handshake_timeout_s >= 1, "limits.handshake_timeout_s", "at least 1"),
            ((1..=3600).contains(&self.limits.frame_timeout_s), "limits.frame_timeout_s", "1 to 3600"),
            ((1..=3600).contains(&self.limits.write_timeout_s), "limits.write_timeout_s", "1 to 3600"),
            (self.limits.picture_timeout_s >= 1, "limits.picture_timeout_s", "at least 1"),
            ((1..=64).contains(&self.limits.picture_readers), "limits.picture_readers", "1 to 64"),
            (self.storage.low_water.0 >= 1 << 20, "storage.low_water", "at least 1MiB"),
        ];
        let window_s = self.classes.iter().map(|class| class.min_share_window_s).max().unwrap_or(0);
        let ranges = ranges.into_iter().chain(self.retry.ranges()).chain(self.engine.ranges(window_s));
        let ranges = ranges.chain(self.engine.cuda.ranges());
        let mut ranges = ranges.chain(self.faults.ranges(self.engine.in_process));
        if let Some((_, key, range)) = ranges.find(|(ok, ..)| !ok) {
            return Err(ConfigError::Range { key, range });
        }
        if self.device_bytes.is_none() && !cpu {
            // How much a GPU has is not known before it is asked.
            return Ok(());
        }
        let device = self.memory_bytes();
        let sizes = self.classes.iter().map(|class| class.partition.bytes(device));
        let sum = sizes.fold(0_u64, u64::saturating_add);
        if sum > device { Err(ConfigError::Partitions { sum, device }) } else { Ok(()) }
    }

    /// The socket on which metrics can be read, if there is to be one.
    pub fn metrics_socket(&self) -> Option<PathBuf> {
        self.metrics.socket(&self.socket)
    }

    /// What the scheduler works by.
    ///
    /// # Errors
    /// If classes and routes do not fit together.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let device_bytes = self.memory_bytes();
        let classes = self.classes.iter().map(|class| class.class(device_bytes));
        let mut plan = Plan::new(classes.collect(), self.routes.iter().map(RouteConfig::route).collect())?;
        let Limits { queued_per_uid, running_per_uid, jobs_per_connection, .. } = self.limits;
        plan.policy = match self.policy {
            Policy::MultiQueue => gpusched_core::Policy::MultiQueue,
            Policy::Fifo => gpusched_core::Policy::Fifo,
        };
        plan.quotas = Quotas { queued_per_uid, running_per_uid, jobs_per_connection };
        plan.retry = self.retry.rule(0);
        plan.reattach_grace_ms = self.reattach_grace_s * 1000;
        Ok(plan)
    }

    /// The lanes to start, in the order the scheduler numbers them.
    pub fn lanes(&self) -> Vec<LaneSpec> {
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let lanes = self.classes.iter().enumerate().flat_map(|(class_index, class)| {
            let threads = if class.threads == 0 { cores() } else { class.threads as usize };
            (0..class.lanes).map(move |index| LaneSpec {
                class: class.name.clone(),
                class_index,
                index,
                threads,
                nice: i32::try_from(class.nice).unwrap_or(0),
            })
        });
        lanes.collect()
    }

    /// The partitions to keep, in the order of the classes.
    pub fn partitions(&self) -> Vec<PartitionSpec> {
        let device_bytes = self.memory_bytes();
        let partitions = self.classes.iter().map(|class| PartitionSpec {
            name: class.name.clone(),
            cap_bytes: class.partition.bytes(device_bytes),
            gate: match class.gate {
                Gate::Off => GateKind::None,
                Gate::Block => GateKind::Block,
                Gate::Kernel => GateKind::Kernel,
            },
        });
        partitions.collect()
    }

    /// The classes whose acknowledgements must survive loss of power.
    pub fn power_durable(&self) -> BTreeSet<String> {
        let power = self.classes.iter().filter(|class| class.durability == Durability::Power);
        power.map(|class| class.name.clone()).collect()
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        let config: Config = toml::from_str(text).map_err(|e| e.to_string())?;
        config.check().map_err(|e| e.to_string())?;
        Ok(config)
    }

    #[test]
    fn the_default_is_valid_and_survives_being_written_down() {
        let config = Config::default();
        config.check().expect("valid");
        assert_eq!(parse(&toml::to_string(&config).expect("it is plain data")), Ok(config));
        assert_eq!(parse(""), Ok(Config::default()));
    }

    #[test]
    fn mistakes_are_named() {
        let wrong = |text: &str| parse(text).expect_err("wrong");
        assert!(wrong("sokcet = '/x'").contains("unknown field `sokcet`"));
        assert!(wrong("[limits]\nconnections = 0").contains("limits.connections must be 1 to 65536"));
        assert!(wrong("route = [{class = 'gone'}]").contains("\"gone\", which is not defined"));
        assert!(wrong("class = [{name = 'a', lanes = 0, partition = '1%'}]\nroute = []").contains("no lanes"));
        assert!(wrong("class = []").contains("no [[class]]"));
        assert!(wrong("class = [{name = 'a', partition = 'much'}]").contains("a partition is a size"));
        let class = |text: &str| format!("route = []\nclass = [{{name = 'a', {text}}}]");
        assert!(wrong(&class("partition = '900TB'")).contains("add up to 819 TiB, the device has"));
        assert!(wrong(&class("partition = '1%', gate = 'kernel'")).contains("needs an engine for CUDA"));
        assert!(wrong(&class("partition = '1%', nice = 20")).contains("nice must be 0 to 19"));
    }
}
