//! The commands `simulate` and `plan`: their arguments, and functions that return what they print.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::{Args, ValueEnum};
use gpusched_core::Policy;

use crate::plan::plan;
use crate::report::{Report, comparison};
use crate::scenario::{Scenario, ScenarioError, load};
use crate::{simulate, simulate_recorded};

/// Arguments of `simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// A TOML file, or one of the shipped scenarios: published, burst, hour-70, hour-90, hour-110, faults,
    /// reflecting
    #[arg(value_name = "SCENARIO", default_value = "published")]
    scenario: PathBuf,
    /// How waiting jobs are started
    #[arg(long, value_enum, default_value_t = Policies::Both)]
    policy: Policies,
    /// Where random numbers come from, instead of the scenario's seed
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Print the reports as JSON
    #[arg(long)]
    json: bool,
    /// Write what happened when to a file, as JSON: a list with an entry for each policy
    #[arg(long, value_name = "FILE")]
    timeline: Option<PathBuf>,
}

/// Arguments of `plan`.
#[derive(Debug, Clone, Args)]
pub struct PlanArgs {
    /// A TOML file or a shipped scenario, whose classes and models are planned with
    #[arg(value_name = "SCENARIO", default_value = "published")]
    scenario: PathBuf,
    /// Another device's memory, for instance 80GB
    #[arg(long, value_name = "SIZE")]
    device: Option<ByteSize>,
    /// Print the answers as JSON
    #[arg(long)]
    json: bool,
}

/// Which policies to simulate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Policies {
    /// One queue, one job at a time
    Fifo,
    /// A queue and lanes for each class
    MultiQueue,
    /// One after the other, and compared
    Both,
}

/// Why a command did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// There is no scenario.
    #[error(transparent)]
    Scenario(#[from] ScenarioError),
    /// The timeline cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What there is to print cannot be brought into JSON.
    #[error("cannot make JSON of it: {0}")]
    Json(#[from] serde_json::Error),
    /// The scheduler did something that it must not do.
    #[error("the scheduler broke its rules, which is a bug; seed {seed} does it again: {violations:?}")]
    Violations {
        /// What it did.
        violations: Vec<String>,
        /// The scenario's seed.
        seed: u64,
    },
}

impl SimulateArgs {
    /// Simulates and returns what to print.
    ///
    /// # Errors
    /// [`CommandError`]: no such scenario, a timeline that cannot be written, or a bug in the scheduler.
    pub fn run(&self) -> Result<String, CommandError> {
        let mut scenario = load(&self.scenario)?;
        scenario.seed = self.seed.unwrap_or(scenario.seed);
        let policies: &[Policy] = match self.policy {
            Policies::Fifo => &[Policy::Fifo],
            Policies::MultiQueue => &[Policy::MultiQueue],
            Policies::Both => &[Policy::Fifo, Policy::MultiQueue],
        };
        let reports = self.reports(&scenario, policies)?;
        if let Some(report) = reports.iter().find(|report| !report.violations.is_empty()) {
            return Err(CommandError::Violations { violations: report.violations.clone(), seed: report.seed });
        }
        if self.json {
            return Ok(serde_json::to_string_pretty(&reports)?);
        }
        let mut text: Vec<String> = reports.iter().map(Report::to_string).collect();
        if let [one, other] = reports.as_slice() {
            text.push(comparison(one, other));
        }
        Ok(text.join("\n"))
    }

    fn reports(&self, scenario: &Scenario, policies: &[Policy]) -> Result<Vec<Report>, CommandError> {
        let Some(path) = &self.timeline else {
            return Ok(policies.iter().map(|policy| simulate(scenario, *policy)).collect::<Result<_, _>>()?);
        };
        let runs: Result<Vec<_>, _> = policies.iter().map(|policy| simulate_recorded(scenario, *policy)).collect();
        let (reports, timelines): (Vec<_>, Vec<_>) = runs?.into_iter().unzip();
        let write = |source| CommandError::Write { path: path.clone(), source };
        std::fs::write(path, serde_json::to_vec(&timelines)?).map_err(write)?;
        Ok(reports)
    }
}

impl PlanArgs {
    /// Plans and returns what to print.
    ///
    /// # Errors
    /// [`CommandError`]: no such scenario, or a device that is smaller than its partitions.
    pub fn run(&self) -> Result<String, CommandError> {
        let mut scenario = load(&self.scenario)?;
        scenario.device = self.device.unwrap_or(scenario.device);
        let fits = plan(&scenario)?;
        if self.json {
            return Ok(serde_json::to_string_pretty(&fits)?);
        }
        let shared =
            "Lanes of a class share the weights of its models; what a job needs beside them, each lane has for itself.";
        let lines = fits.iter().map(ToString::to_string).chain([shared.to_owned()]);
        Ok(lines.map(|line| line + "\n").collect())
    }
}
