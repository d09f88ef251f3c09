//! `gpuschedd models`: which models there are, and what one would take of memory.
//!
//! `plan` has the numbers, `table` their words. It reads configurations and headers itself and asks no daemon: the front
//! may not open models. gpuctl, which can ask, passes on what the daemon's partitions are.

mod plan;
mod table;

use std::path::PathBuf;
use std::str::FromStr;

use bytesize::ByteSize;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser as _};
use gpusched_engine::survey::{self, Precision, Quant, Source, SurveyError};
use gpusched_shared::{Rejection, Size};
use serde_json::json;

use plan::{Partition, Plan};

/// Arguments of `gpuschedd models`.
#[derive(Debug, Args)]
pub struct ModelsArgs {
    /// What this model would take of memory, part by part, and whether it fits: one that is installed, or a published one
    /// that need not be
    #[arg(long, value_name = "NAME")]
    plan: Option<String>,
    /// Size of the picture, as in 1024 or 1024x768 [default: what the model was made for; of a picture to look at, 512x512]
    #[arg(long, value_name = "SIZE", requires = "plan")]
    size: Option<Size>,
    /// What numbers are computed in [default: f32 for installed models, as the CPU does; bf16 for published ones]
    #[arg(long, value_name = "TYPE", requires = "plan", value_parser = precision())]
    dtype: Option<Precision>,
    /// What the transformer's matrices are quantised to, of a published model [default: nothing]
    #[arg(long, value_name = "TYPE", requires = "plan", value_parser = quant())]
    quant: Option<Quant>,
    /// The partition that it shall fit into, as in 34GB [default: with gpuctl, those of the daemon]
    #[arg(long, value_name = "SIZE", requires = "plan")]
    cap: Option<ByteSize>,
    /// Directory of models, instead of the configuration's; may be given more than once
    #[arg(long, value_name = "DIR")]
    pub models: Vec<PathBuf>,
    /// Configuration file of the daemon
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    // What the daemon's classes have, from gpuctl.
    #[arg(long, value_name = "CLASS=BYTES", hide = true, requires = "plan", conflicts_with = "cap")]
    partition: Vec<OfClass>,
    // What gpuctl hands over with its other options.
    #[arg(long, value_name = "PATH", hide = true)]
    socket: Option<PathBuf>,
    #[arg(long, short, hide = true)]
    quiet: bool,
}

/// Why there is no plan.
#[derive(Debug, thiserror::Error)]
pub enum ModelsError {
    /// No such model, or one that cannot be read.
    #[error(transparent)]
    Survey(#[from] SurveyError),
    /// No such picture.
    #[error(transparent)]
    Size(#[from] Rejection),
    /// What there is to print cannot be brought into JSON.
    #[error("cannot make JSON of it: {0}")]
    Json(#[from] serde_json::Error),
}

/// The partition of a class.
#[derive(Debug, Clone, PartialEq, Eq)]
struct OfClass(Partition);

impl FromStr for OfClass {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (class, bytes) = text.rsplit_once('=').ok_or("CLASS=BYTES is needed")?;
        let cap_bytes = bytes.parse().map_err(|_| "CLASS=BYTES is needed")?;
        Ok(Self(Partition { class: Some(class.to_owned()), cap_bytes }))
    }
}

fn precision() -> impl clap::builder::TypedValueParser<Value = Precision> {
    PossibleValuesParser::new(Precision::ALL.map(Precision::name)).try_map(|name| name.parse::<Precision>())
}

fn quant() -> impl clap::builder::TypedValueParser<Value = Quant> {
    PossibleValuesParser::new(Quant::ALL.map(Quant::name)).try_map(|name| name.parse::<Quant>())
}

impl ModelsArgs {
    /// Looks into `directories` and returns what to print.
    ///
    /// # Errors
    /// [`ModelsError`].
    pub fn run(&self, directories: &[PathBuf]) -> Result<String, ModelsError> {
        match &self.plan {
            Some(name) => self.planned(directories, name),
            None => self.listed(directories),
        }
    }

    fn planned(&self, directories: &[PathBuf], name: &str) -> Result<String, ModelsError> {
        let survey = survey::survey(directories, name, self.dtype, self.quant)?;
        let partitions = match self.cap {
            Some(cap) => vec![Partition { class: None, cap_bytes: cap.as_u64() }],
            None => self.partition.iter().map(|of_class| of_class.0.clone()).collect(),
        };
        let plan = Plan::of(survey, self.size, partitions)?;
        Ok(if self.json { serde_json::to_string(&plan.document())? } else { plan.to_string() })
    }

    fn listed(&self, directories: &[PathBuf]) -> Result<String, ModelsError> {
        let names = survey::names(directories)?;
        if self.json {
            let document = |(name, source): &(String, Source)| match source {
                Source::Files(directory) => json!({ "model": name, "directory": directory.to_string_lossy() }),
                Source::Published(repository) => json!({ "model": name, "published": repository }),
            };
            return Ok(serde_json::to_string(&names.iter().map(document).collect::<Vec<_>>())?);
        }
        let width = names.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        let line = |(name, source): &(String, Source)| match source {
            Source::Files(directory) => format!("{name:width$}  {}", directory.display()),
            Source::Published(repository) => format!("{name:width$}  not here; published as {repository}"),
        };
        Ok(names.iter().map(line).collect::<Vec<_>>().join("\n"))
    }
}
