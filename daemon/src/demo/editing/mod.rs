//! `gpuschedd experiment edit`: the same edits by stages (detection, segmentation, inpainting) and by FLUX.2 alone, one after the
//! other in private daemons, each picture judged by its pixels; then by stages again in a partition that cannot hold all models,
//! and both ways once more with questions beside them.

mod beside;
mod edits;
mod figures;
mod page;
mod report;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use gpusched_client::Client;

use super::private_daemon::PrivateDaemon;
use super::{Stop, make_out, models};
use crate::config::{Config, PartitionSize, Policy, RouteConfig};
use edits::Edit;
use figures::{Figures, Swap};
use report::Report;
use trial::{Trial, Way};

/// Edits that are made in the small partition, and beside questions.
const FEW: usize = 10;

/// Experiments.
#[derive(Debug, Subcommand)]
pub enum Experiment {
    /// Edit pictures by stages and by FLUX.2 alone, and compare latency, CLIP score, memory and number of parts.
    Edit(Options),
}

/// Options of the editing experiment.
#[derive(Debug, Args)]
pub struct Options {
    /// How many edits; there are 100
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=100))]
    edits: u32,
    /// Diffusion steps of each picture [default: the models' own]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    steps: Option<u32>,
    /// Directory of models [default: the weights that come with the source]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Where results go; must not exist yet [default: the first free of gpusched-edits, gpusched-edits-2, …]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs an experiment.
///
/// # Errors
/// When a daemon does not start, or refuses a job. A goal that is missed is reported, and no error.
pub fn run(experiment: &Experiment) -> anyhow::Result<()> {
    let Experiment::Edit(options) = experiment;
    let models = models(options.models.as_deref())?;
    let out = make_out(options.out.as_deref(), "gpusched-edits")?;
    let edits: Vec<Edit> = edits::load()?.into_iter().take(options.edits as usize).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut stop = Stop::new()?;
        let setting = Setting { models: &models, out: &out, steps: options.steps, edits: &edits };
        let report = tokio::select! {
            report = setting.measure() => report?,
            () = stop.asked() => bail!("interrupted"),
        };
        report::save(&report, &out)?;
        if options.json {
            println!("{}", serde_json::to_string_pretty(&report.summary)?);
        } else {
            print!("{}", report.summary.text());
        }
        anyhow::Ok(())
    })?;
    eprintln!("\nresults.json, pictures and the daemons' logs are in {}", out.display());
    eprintln!("open {} in a browser to see the edits", out.join(page::FILE).display());
    Ok(())
}

struct Setting<'a> {
    models: &'a Path,
    out: &'a Path,
    steps: Option<u32>,
    edits: &'a [Edit],
}

impl Setting<'_> {
    async fn measure(&self) -> anyhow::Result<Report> {
        let (pipeline, of_pipeline) = self.way(Way::Pipeline).await?;
        let (flux2, of_flux2) = self.way(Way::Flux2).await?;
        let swap = self.swap(&of_pipeline).await?;
        Report::of(self.models, self.edits, [(of_pipeline, pipeline), (of_flux2, flux2)], swap)
    }

    /// All edits one way, and a few of them beside questions, in a daemon of their own.
    async fn way(&self, way: Way) -> anyhow::Result<(Vec<Trial>, Figures)> {
        let daemon = self.daemon(way.word(), |_| {}).await?;
        let done = async {
            let client = Client::connect(daemon.socket()).await?;
            let mut trials = trial::all(&client, way, self.edits, self.steps).await?;
            let status = client.status().await?;
            trial::score(&client, &mut trials).await?;
            let beside = beside::measure(&client, way, &self.edits[..FEW.min(self.edits.len())], self.steps).await?;
            anyhow::Ok((Figures::of(way, &trials, &status, beside), trials))
        };
        let done = done.await;
        let stopped = daemon.stop().await;
        let (figures, trials) = done?;
        stopped.map(|()| (trials, figures))
    }

    /// A few edits by stages in a single partition that holds the largest of their models and what it takes to run, and no other model
    /// beside it.
    async fn swap(&self, resident: &Figures) -> anyhow::Result<Swap> {
        let cap_bytes = figures::largest_stage_bytes(self.models)?;
        let few = &self.edits[..FEW.min(self.edits.len())];
        let daemon = self.daemon("swap", |config| one_partition(config, cap_bytes)).await?;
        let done = async {
            let client = Client::connect(daemon.socket()).await?;
            let trials = trial::all(&client, Way::Pipeline, few, self.steps).await?;
            let status = client.status().await?;
            Swap::of(&client, cap_bytes, &trials, &status, resident).await
        };
        let done = done.await;
        let stopped = daemon.stop().await;
        done.and_then(|swap| stopped.map(|()| swap))
    }

    async fn daemon(&self, name: &str, change: impl FnOnce(&mut Config)) -> anyhow::Result<PrivateDaemon> {
        let log = self.out.join(format!("daemon-{name}.log"));
        let change = |config: &mut Config| {
            config.models = vec![self.models.into()];
            change(config);
        };
        PrivateDaemon::start_with(change, &log).await
    }
}

/// Everything goes to one class with one lane and so many bytes.
fn one_partition(config: &mut Config, cap_bytes: u64) {
    config.policy = Policy::MultiQueue;
    config.classes.truncate(1);
    for class in &mut config.classes {
        class.partition = PartitionSize::Bytes(cap_bytes);
    }
    let only = config.classes.first().map(|class| class.name.clone()).unwrap_or_default();
    config.routes = vec![RouteConfig::of_anything(only)];
}
