//! What is simulated: a device, classes, models, the jobs that arrive and what goes wrong. Read from a TOML file.
//!
//! Sizes of memory are text such as `"34GB"` or `"512MiB"`, times are seconds, and classes and routes have the keys that
//! they have in the daemon's configuration.

mod arrival;
mod check;
mod reflect;
mod seconds;
mod setup;
mod shipped;

use std::path::PathBuf;

use bytesize::ByteSize;
use gpusched_core::PlanError;
use gpusched_shared::{TaskKind, Uid};
use serde::Deserialize;

pub use arrival::{ArrivalSpec, When};
pub use check::{CLASSES, JOBS, LANES};
pub use reflect::ReflectSpec;
pub use seconds::{NotATime, Seconds};
pub use shipped::{SHIPPED, load};

/// A scenario.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// What it shows, in a line.
    pub title: String,
    /// Where all random numbers come from.
    #[serde(default)]
    pub seed: u64,
    /// The device's memory.
    pub device: ByteSize,
    /// In which order jobs arrive that arrive at the same time.
    #[serde(default)]
    pub order: Order,
    /// How long the journal takes for an entry: evenly distributed between these.
    #[serde(default)]
    pub journal_s: (Seconds, Seconds),
    /// What one client may have at most.
    #[serde(default)]
    pub quotas: QuotaSpec,
    /// How jobs that ran out of memory are tried again.
    #[serde(default)]
    pub retry: RetrySpec,
    /// The service classes.
    #[serde(rename = "class")]
    pub classes: Vec<ClassSpec>,
    /// Which jobs go to which class; the first that matches takes a job.
    #[serde(rename = "route")]
    pub routes: Vec<RouteSpec>,
    /// The models.
    #[serde(rename = "model")]
    pub models: Vec<ModelSpec>,
    /// The kinds of jobs.
    #[serde(rename = "kind")]
    pub kinds: Vec<KindSpec>,
    /// Who hands in what and when.
    #[serde(rename = "arrival")]
    pub arrivals: Vec<ArrivalSpec>,
    /// How work of different classes that computes at the same time slows each other down.
    #[serde(default, rename = "contention")]
    pub contentions: Vec<ContentionSpec>,
    /// What goes wrong.
    #[serde(default)]
    pub faults: FaultSpec,
}

/// How jobs that ran out of memory are tried again: after an exponential backoff at latest, with jitter drawn by the seed.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetrySpec {
    /// How often.
    pub budget: u32,
    /// The bound of the first wait.
    pub base_s: Seconds,
    /// What each bound is of the one before, from 1 to 100.
    pub factor: f64,
    /// The bound of all of them.
    pub ceiling_s: Seconds,
}

impl Default for RetrySpec {
    fn default() -> Self {
        let gpusched_core::Retry { base_ms, factor_milli, ceiling_ms, budget, seed: _ } = Default::default();
        let seconds = |ms: u64| Seconds::from_us(ms * 1000);
        Self { budget, base_s: seconds(base_ms), factor: factor_milli as f64 / 1000.0, ceiling_s: seconds(ceiling_ms) }
    }
}

/// In which order jobs arrive that arrive at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// Shuffled by the scenario's seed.
    #[default]
    Seeded,
    /// In the order of the `[[arrival]]` sections.
    AsGiven,
}

/// What one client may have at most; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct QuotaSpec {
    /// Waiting jobs of one uid; more are refused.
    pub queued_per_uid: u32,
    /// Jobs on lanes of one uid; more wait.
    pub running_per_uid: u32,
}

/// A service class.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassSpec {
    /// Its name.
    pub name: String,
    /// How many of its jobs run at once.
    #[serde(default = "one")]
    pub lanes: u32,
    /// How many jobs may wait.
    #[serde(default = "default_queue")]
    pub queue: u32,
    /// Classes with a gate make way for those of higher priority.
    #[serde(default)]
    pub priority: i32,
    /// Its share of the device's memory; what the others leave, if it is not given, which it may be for one class.
    #[serde(default)]
    pub partition: Option<ByteSize>,
    /// When its memory is flushed. It costs no time here.
    #[serde(default)]
    pub flush: Flush,
    /// Whether its jobs make way.
    #[serde(default)]
    pub gate: Gate,
    /// Percent of the time that its jobs run however much other work there is.
    #[serde(default = "default_min_share")]
    pub min_share_percent: u32,
    /// The longest they are parked in one go.
    #[serde(default = "default_window")]
    pub min_share_window_s: Seconds,
    /// Lane time of later jobs that a waiting one lets past before it goes next.
    #[serde(default = "default_aging")]
    pub aging_s: Seconds,
    /// How long jobs of models in memory may go before one whose model must be swapped in.
    #[serde(default = "default_batch_wait")]
    pub batch_wait_s: Seconds,
    /// After how long a model that no job uses leaves memory; without it a model stays until the room is needed.
    #[serde(default)]
    pub keep_alive_s: Option<Seconds>,
    /// Models that never leave memory once they are loaded.
    #[serde(default)]
    pub pin: Vec<String>,
}

/// When a class's memory is flushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
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

/// Whether a class's jobs make way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// They do not.
    #[default]
    Off,
    /// They park at yield points.
    Block,
}

/// A routing rule. What is left out matches everything.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteSpec {
    /// Only this task.
    #[serde(default)]
    pub task: Option<TaskKind>,
    /// Only this model.
    #[serde(default)]
    pub model: Option<String>,
    /// Only jobs of this uid.
    #[serde(default)]
    pub uid: Option<Uid>,
    /// Only jobs of at least so many diffusion steps.
    #[serde(default)]
    pub min_steps: Option<u32>,
    /// Only jobs of at most so many diffusion steps.
    #[serde(default)]
    pub max_steps: Option<u32>,
    /// The class it goes to.
    pub class: String,
}

/// A model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Its name.
    pub name: String,
    /// Its weights in memory. The jobs of a class share them.
    pub weights: ByteSize,
    /// What each job is promised beside the weights.
    pub memory: ByteSize,
    /// What a job uses of that at its peak. The scheduler measures this and from then on promises jobs a tenth more than it;
    /// default: so much that this is what is promised anyway.
    #[serde(default)]
    pub peak: Option<ByteSize>,
    /// How long it takes to load.
    #[serde(default)]
    pub load_s: Seconds,
    /// Its weight files, after each of which loading can be stopped.
    #[serde(default = "one")]
    pub files: u32,
}

/// A kind of job.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KindSpec {
    /// Its name.
    pub name: String,
    /// What it does.
    pub task: TaskKind,
    /// Which model does it.
    pub model: String,
    /// How long it computes when nothing slows it down: evenly distributed between these.
    pub run_s: (Seconds, Seconds),
    /// Diffusion steps; 1 for a task without.
    #[serde(default = "one")]
    pub steps: u32,
    /// Points in each step, its end included, at which a job can stop.
    #[serde(default = "one")]
    pub yields_per_step: u32,
    /// How long its result takes to be stored.
    #[serde(default)]
    pub store_s: Seconds,
}

/// Jobs of a class compute slower while jobs of another do, too. Parked and loading ones do not count.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContentionSpec {
    /// Whose jobs are slower.
    pub class: String,
    /// Beside whose.
    pub beside: String,
    /// How many times as long they take, from 1 to 1000.
    pub factor: f64,
}

/// What goes wrong. Without it, nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct FaultSpec {
    /// The probability that an attempt runs out of memory, at one of its yield points.
    pub oom: f64,
    /// The probability that a job stands still after one of its yield points.
    pub stall: f64,
    /// For how long: evenly distributed between these.
    pub stall_s: (Seconds, Seconds),
    /// The probability that a job is cancelled.
    pub cancel: f64,
    /// The probability that a job's client goes away.
    pub vanish: f64,
    /// Within which time after its submission either happens.
    pub within_s: Seconds,
    /// The probability that the journal fails to take a submission.
    pub journal: f64,
    /// How often the engine dies.
    pub engine_losses: u32,
    /// The mean time between two of its deaths, which come independently of each other.
    pub engine_loss_every_s: Seconds,
    /// How long it then takes for there to be another.
    pub engine_restart_s: Seconds,
}

/// Why there is no scenario.
#[derive(Debug, thiserror::Error)]
pub enum ScenarioError {
    /// The file cannot be read, and no shipped scenario has that name.
    #[error("cannot read scenario {}: {source}; shipped are {}", path.display(), shipped::names())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It is no scenario.
    #[error("{origin}: {message}")]
    Parse {
        /// Where it comes from.
        origin: String,
        /// What is wrong, and where.
        message: String,
    },
    /// A number is out of bounds, or a name is defined nowhere or twice.
    #[error("{0}")]
    Invalid(String),
    /// Its classes and routes do not fit together.
    #[error(transparent)]
    Plan(#[from] PlanError),
}

impl Scenario {
    /// Reads a scenario from the text of a TOML file; `origin` says where it comes from in errors.
    ///
    /// # Errors
    /// [`ScenarioError::Parse`] if it is no scenario, or what [`check`](Self::check) says.
    pub fn parse(text: &str, origin: &str) -> Result<Self, ScenarioError> {
        let parse = |message: String| ScenarioError::Parse { origin: origin.to_owned(), message };
        let scenario: Self = toml::from_str(text).map_err(|error| parse(error.to_string()))?;
        scenario.check().map_err(|error| parse(error.to_string()))?;
        Ok(scenario)
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

fn default_window() -> Seconds {
    Seconds::from_us(10_000_000)
}

fn default_aging() -> Seconds {
    Seconds::from_us(600_000_000)
}

fn default_batch_wait() -> Seconds {
    Seconds::from_us(10_000_000)
}
