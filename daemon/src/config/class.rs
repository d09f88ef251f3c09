//! Service classes and routing rules, as the file has them.

use std::fmt;
use std::str::FromStr;

use bytesize::ByteSize;
use gpusched_core::{Class, FlushRule, GateRule, Route};
use gpusched_shared::{TaskKind, Uid};
use serde::{Deserialize, Serialize};

/// A service class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassConfig {
    /// Its name.
    pub name: String,
    /// How many of its jobs run at once.
    #[serde(default = "one")]
    pub lanes: u32,
    /// Threads of each lane's compute pool; 0 for as many as there are cores.
    #[serde(default = "one")]
    pub threads: u32,
    /// Niceness of those threads, 0 to 19; higher gives way to lower.
    #[serde(default)]
    pub nice: u32,
    /// How many jobs may wait.
    #[serde(default = "default_queue")]
    pub queue: u32,
    /// What survives what: `power` or `process`.
    #[serde(default)]
    pub durability: Durability,
    /// Classes with a gate make way for those of higher priority.
    #[serde(default)]
    pub priority: i32,
    /// Its share of the device's memory: `"34GiB"`, or `"60%"` of what there is.
    pub partition: PartitionSize,
    /// When its memory is flushed: `before_each`, `on_pressure` or `never`.
    #[serde(default)]
    pub flush: Flush,
    /// Where its jobs make way: `off`, `block` (between blocks of the model) or `kernel` (between kernels, CUDA only).
    #[serde(default)]
    pub gate: Gate,
    /// Percent of the time that its jobs run however much other work there is.
    #[serde(default = "default_min_share")]
    pub min_share_percent: u32,
    /// The longest they are parked in one go, in seconds.
    #[serde(default = "default_window")]
    pub min_share_window_s: u32,
    /// Seconds of lane time of later jobs that a waiting one lets past before it goes next.
    #[serde(default = "default_aging")]
    pub aging_s: u32,
    /// Seconds that jobs of models in memory may go before one whose model must be swapped in.
    #[serde(default = "default_batch_wait")]
    pub batch_wait_s: u32,
    /// Seconds after which a model that no job uses leaves memory; without it a model stays until the room is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep_alive_s: Option<u32>,
    /// Models that never leave memory once they are loaded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pin: Vec<String>,
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

/// When a class's memory is flushed. See [`FlushRule`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Flush {
    /// Before each job.
    BeforeEach,
    /// When little is free.
    OnPressure,
    /// Never.
    #[default]
    Never,
}

/// Where a class's jobs make way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Nowhere.
    #[default]
    Off,
    /// Between blocks of the model.
    Block,
    /// Between kernels, which only an engine for CUDA can do.
    Kernel,
}

/// Bytes, or a share of the device's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum PartitionSize {
    /// So many bytes.
    Bytes(u64),
    /// So many percent of what there is.
    Percent(u32),
}

/// Text that is not a size of memory.
#[derive(Debug, thiserror::Error)]
#[error("a partition is a size such as \"34GiB\", or a share such as \"60%\" (1% to 100%); got {0:?}")]
pub struct NotAPartition(String);

impl PartitionSize {
    /// In bytes, on a device with so many.
    pub fn bytes(self, device_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => (u128::from(device_bytes) * u128::from(percent) / 100) as u64,
        }
    }
}

impl FromStr for PartitionSize {
    type Err = NotAPartition;

    fn from_str(text: &str) -> Result<Self, NotAPartition> {
        let wrong = || NotAPartition(text.to_owned());
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = percent.trim().parse().ok().filter(|percent| (1..=100).contains(percent));
                percent.map(Self::Percent).ok_or_else(wrong)
            }
            None => {
                let bytes = text.parse::<ByteSize>().map_err(|_| wrong())?;
                Some(bytes.as_u64()).filter(|bytes| *bytes > 0).map(Self::Bytes).ok_or_else(wrong)
            }
        }
    }
}

impl TryFrom<String> for PartitionSize {
    type Error = NotAPartition;

    fn try_from(text: String) -> Result<Self, NotAPartition> {
        text.parse()
    }
}

impl fmt::Display for PartitionSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Exact, where a unit would round.
            Self::Bytes(bytes) => write!(f, "{bytes}B"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl From<PartitionSize> for String {
    fn from(size: PartitionSize) -> Self {
        size.to_string()
    }
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
    /// Only jobs of this uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// Only pictures of at least so many pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_pixels: Option<u64>,
    /// Only pictures of at most so many pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_pixels: Option<u64>,
    /// Only jobs of at least so many diffusion steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_steps: Option<u32>,
    /// Only jobs of at most so many diffusion steps.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_steps: Option<u32>,
    /// The class it goes to.
    pub class: String,
}

impl ClassConfig {
    /// A class of one lane that never makes way, with everything else as in a file that leaves it out.
    pub fn new(name: impl Into<String>, partition: PartitionSize) -> Self {
        Self {
            name: name.into(),
            lanes: one(),
            threads: one(),
            nice: 0,
            queue: default_queue(),
            durability: Durability::default(),
            priority: 0,
            partition,
            flush: Flush::default(),
            gate: Gate::default(),
            min_share_percent: default_min_share(),
            min_share_window_s: default_window(),
            aging_s: default_aging(),
            batch_wait_s: default_batch_wait(),
            keep_alive_s: None,
            pin: Vec::new(),
        }
    }

    /// What the scheduler knows of it.
    pub fn class(&self, device_bytes: u64) -> Class {
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        let gate = match self.gate {
            Gate::Off => None,
            Gate::Block | Gate::Kernel => {
                Some(GateRule { min_share_milli: self.min_share_percent * 10, window_ms: ms(self.min_share_window_s) })
            }
        };
        Class {
            name: self.name.clone(),
            lanes: self.lanes,
            queue_limit: self.queue,
            priority: self.priority,
            cap_bytes: self.partition.bytes(device_bytes),
            flush: match self.flush {
                Flush::BeforeEach => FlushRule::BeforeEach,
                Flush::OnPressure => FlushRule::OnPressure,
                Flush::Never => FlushRule::Never,
            },
            gate,
            aging_ms: ms(self.aging_s),
            batch_wait_ms: ms(self.batch_wait_s),
            keep_alive_ms: self.keep_alive_s.map(ms),
            pinned: self.pin.clone(),
        }
    }
}

impl RouteConfig {
    /// A rule for a task.
    pub fn of_task(task: TaskKind, class: impl Into<String>) -> Self {
        Self { task: Some(task), ..Self::of_anything(class) }
    }

    /// A rule for everything.
    pub fn of_anything(class: impl Into<String>) -> Self {
        Self {
            task: None,
            model: None,
            uid: None,
            min_pixels: None,
            max_pixels: None,
            min_steps: None,
            max_steps: None,
            class: class.into(),
        }
    }

    /// What the scheduler knows of it.
    pub fn route(&self) -> Route {
        let Self { task, model, uid, min_pixels, max_pixels, min_steps, max_steps, class } = self.clone();
        Route { task, model, uid, min_pixels, max_pixels, min_steps, max_steps, class }
    }
}

fn one() -> u32 {
    1
}

fn default_queue() -> u32 {
    1000
}

fn default_min_share() -> u32 {
    10
}

fn default_window() -> u32 {
    10
}

fn default_aging() -> u32 {
    600
}

fn default_batch_wait() -> u32 {
    10
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_sizes_or_shares() {
        let bytes = |text: &str| text.parse::<PartitionSize>().map(|size| size.bytes(1000)).ok();
        assert_eq!(bytes("34GiB"), Some(34 << 30));
        assert_eq!(bytes("14 GB"), Some(14_000_000_000));
        assert_eq!(bytes("12345B"), Some(12345));
        assert_eq!(bytes("60%"), Some(600));
        for wrong in ["0%", "101%", "-1%", "", "lots", "0", "12 parsecs"] {
            assert_eq!(bytes(wrong), None, "{wrong}");
        }
        for size in [PartitionSize::Bytes(12_345_678_901), PartitionSize::Percent(7)] {
            assert_eq!(size.to_string().parse::<PartitionSize>().ok(), Some(size));
        }
        assert_eq!(PartitionSize::Percent(100).bytes(u64::MAX), u64::MAX);
    }
}
