//! The configuration file. Every key has a default, unknown keys are refused, and `gpuschedd --check-config` says what is
//! wrong before a restart does.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use gpusched_core::{Class, Plan, PlanError, Route};
use gpusched_engine::LaneSpec;
use gpusched_shared::{SYSTEM_SOCKET, TaskKind};
use serde::{Deserialize, Serialize};

/// Where the system's daemon looks for its configuration.
pub const SYSTEM_CONFIG: &str = "/etc/gpusched/gpusched.toml";

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
    /// Bounds on clients.
    pub limits: Limits,
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
    /// Seconds a client's picture file gets to be read.
    pub picture_timeout_s: u64,
    /// Picture files read at once.
    pub picture_readers: u32,
}

/// A service class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassConfig {
    /// Its name.
    pub name: String,
    /// How many of its jobs run at once.
    #[serde(default = "one")]
    pub lanes: u32,
    /// Threads of each lane's compute pool.
    #[serde(default = "one")]
    pub threads: u32,
    /// How many jobs may wait.
    #[serde(default = "default_queue")]
    pub queue: u32,
    /// What survives what: `power` or `process`.
    #[serde(default)]
    pub durability: Durability,
}

/// What an acknowledged job survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Loss of power: the journal is synced before the acknowledgement.
    #[default]
    Power,
    /// Death of the daemon: the journal is written before the acknowledgement and synced soon after.
    Process,
}

/// A routing rule. What is left out matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Only this task: `txt2img`, `img2img` or `vqa`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<TaskKind>,
    /// Only this model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The class it goes to.
    pub class: String,
}

fn one() -> u32 {
    1
}

fn default_queue() -> u32 {
    1000
}

impl Default for Config {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, |n| u32::try_from(n.get()).unwrap_or(1));
        let class = |name: &str, lanes, threads, durability| ClassConfig {
            name: name.to_owned(),
            lanes,
            threads,
            queue: default_queue(),
            durability,
        };
        let route = |task, class: &str| RouteConfig { task: Some(task), model: None, class: class.to_owned() };
        Self {
            socket: SYSTEM_SOCKET.into(),
            state_dir: "/var/lib/gpusched".into(),
            models: vec!["/var/lib/gpusched/models".into()],
            stop_timeout_s: 30,
            limits: Limits::default(),
            classes: vec![class("heavy", 1, cores, Durability::Power), class("light", 4, 1, Durability::Process)],
            routes: vec![
                route(TaskKind::Txt2Img, "heavy"),
                route(TaskKind::Img2Img, "heavy"),
                route(TaskKind::Vqa, "light"),
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
            picture_timeout_s: 10,
            picture_readers: 4,
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
            models: vec![below("XDG_DATA_HOME", ".local/share").join("models")],
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
        let lanes: u64 = self.classes.iter().map(|class| u64::from(class.lanes)).sum();
        let named = |class: &ClassConfig| {
            (1..=64).contains(&class.name.len()) && class.name.bytes().all(|b| b.is_ascii_graphic())
        };
        let ranges = [
            (self.classes.iter().all(named), "[[class]] name", "1 to 64 printable ASCII characters without spaces"),
            (self.stop_timeout_s <= 86_400, "stop_timeout_s", "at most 86400"),
            (lanes <= 256, "the sum of all [[class]] lanes", "at most 256"),
            (self.classes.iter().all(|c| (1..=1024).contains(&c.threads)), "[[class]] threads", "1 to 1024"),
            (self.classes.iter().all(|c| (1..=100_000).contains(&c.queue)), "[[class]] queue", "1 to 100000"),
            ((1..=65_536).contains(&self.limits.connections), "limits.connections", "1 to 65536"),
            (self.limits.connections_per_uid >= 1, "limits.connections_per_uid", "at least 1"),
            ((1..=4096).contains(&self.limits.open_requests), "limits.open_requests", "1 to 4096"),
            (self.limits.handshake_timeout_s >= 1, "limits.handshake_timeout_s", "at least 1"),
            (self.limits.picture_timeout_s >= 1, "limits.picture_timeout_s", "at least 1"),
            ((1..=64).contains(&self.limits.picture_readers), "limits.picture_readers", "1 to 64"),
        ];
        match ranges.into_iter().find(|(ok, ..)| !ok) {
            Some((_, key, range)) => Err(ConfigError::Range { key, range }),
            None => Ok(()),
        }
    }

    /// What the scheduler works by.
    ///
    /// # Errors
    /// If classes and routes do not fit together.
    pub fn plan(&self) -> Result<Plan, PlanError> {
        let class = |c: &ClassConfig| Class { name: c.name.clone(), lanes: c.lanes, queue_limit: c.queue };
        let route = |r: &RouteConfig| Route { task: r.task, model: r.model.clone(), class: r.class.clone() };
        Plan::new(self.classes.iter().map(class).collect(), self.routes.iter().map(route).collect())
    }

    /// The lanes to start, in the order the scheduler numbers them.
    pub fn lanes(&self) -> Vec<LaneSpec> {
        let lanes = self.classes.iter().flat_map(|class| {
            (0..class.lanes).map(|index| LaneSpec { class: class.name.clone(), index, threads: class.threads as usize })
        });
        lanes.collect()
    }

    /// The classes whose acknowledgements must survive loss of power.
    pub fn power_durable(&self) -> BTreeSet<String> {
        let power = self.classes.iter().filter(|class| class.durability == Durability::Power);
        power.map(|class| class.name.clone()).collect()
    }
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
        assert!(wrong("class = [{name = 'a', lanes = 0}]\nroute = []").contains("no lanes"));
        assert!(wrong("class = []").contains("no [[class]]"));
    }
}
