//! `gpuschedd demo`: the main job from end to end, and the experiment that gpusched exists for. Ten image jobs and five
//! question jobs are submitted together to private daemons in temporary directories, one with several queues and one with
//! a single queue, and by themselves; every result is checked, and a table, a report and the pictures are left behind.

pub mod adherence;
pub mod checker;
pub mod editing;
mod experiment;
mod jobs;
mod memory;
mod page;
mod private_daemon;
mod progress;
mod report;
mod scene;
mod table;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use gpusched_client::Client;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{BackendChoice, EngineConfig, Policy};
use experiment::{Finished, Mix};
use private_daemon::PrivateDaemon;
use table::{Outcome, timelines};

/// Options of the demo.
#[derive(Debug, Args)]
pub struct Options {
    /// Directory of models [default: the weights that come with the source]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Where pictures and timings go; must not exist yet [default: the first free of gpusched-demo, gpusched-demo-2, …]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Image jobs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=200))]
    heavy: u32,
    /// Question jobs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=200))]
    light: u32,
    /// Diffusion steps of each image [default: as many as make it ten times as long as a question]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    steps: Option<u32>,
    /// Run the engine as threads of the daemon instead of a process of its own
    #[arg(long)]
    in_process: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Seed of the order in which the jobs are handed in
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

/// Runs the demo.
///
/// # Errors
/// When the daemon does not start, a job does not succeed, or a result is not what it must be.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let models = models(options.models.as_deref())?;
    let mix = Mix { heavy: options.heavy, light: options.light, steps: options.steps, seed: options.seed };
    // What its memory holds is looked at often, so it is told often.
    let engine = EngineConfig {
        backend: BackendChoice::Cpu,
        in_process: options.in_process,
        heartbeat_ms: 20,
        ..EngineConfig::default()
    };
    let out = make_out(options.out.as_deref(), "gpusched-demo")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Taken over before there is anything to clean up.
        let mut stop = Stop::new()?;
        let (log, fifo_log) = (out.join("daemon.log"), out.join("daemon-fifo.log"));
        let daemons = async {
            tokio::try_join!(
                PrivateDaemon::start(&models, Policy::MultiQueue, engine.clone(), &log),
                PrivateDaemon::start(&models, Policy::Fifo, engine.clone(), &fifo_log)
            )
        };
        let (multi_queue, fifo) = tokio::select! {
            daemons = daemons => daemons?,
            () = stop.asked() => bail!("interrupted"),
        };
        let done = tokio::select! {
            done = both(&multi_queue, &fifo, mix, &out, options.json) => done,
            () = stop.asked() => Err(anyhow::anyhow!("interrupted")),
        };
        let stopped = (multi_queue.stop().await, fifo.stop().await);
        done.and(stopped.0).and(stopped.1)
    })?;
    eprintln!("\npictures, report.json, timings.json, timeline.json and the daemons' logs are in {}", out.display());
    eprintln!("open {} in a browser to see what ran when", out.join(page::FILE).display());
    Ok(())
}

async fn both(
    multi_queue: &PrivateDaemon,
    fifo: &PrivateDaemon,
    mix: Mix,
    out: &Path,
    json: bool,
) -> anyhow::Result<()> {
    let multi_queue = Client::connect(multi_queue.socket()).await?;
    let fifo = Client::connect(fifo.socket()).await?;
    let results = experiment::run(&multi_queue, &fifo, mix).await?;
    if let Some(shown) = results.multi_queue.first() {
        shown.finished.iter().try_for_each(|done| done.save(out))?;
        report::sheet(&shown.finished, out)?;
    }
    report::timings(&results, out)?;
    let outcome = Outcome::of(&results);
    std::fs::write(out.join("report.json"), serde_json::to_vec_pretty(&outcome)?)
        .context("cannot write report.json")?;
    let timelines = serde_json::to_vec(&timelines(&results))?;
    std::fs::write(out.join("timeline.json"), timelines).context("cannot write timeline.json")?;
    page::write(&multi_queue, &fifo, &results, out).await?;
    if json {
        println!("{}", serde_json::to_string_pretty(&outcome)?);
    } else {
        println!("{}", outcome.text());
        println!("{}", report::quality(&results));
    }
    let jobs = || results.runs().flat_map(|run| &run.finished);
    let wrong: Vec<String> = jobs().filter_map(Finished::problem).collect();
    if !wrong.is_empty() {
        bail!("{} of {} results are not what they must be:\n{}", wrong.len(), jobs().count(), wrong.join("\n"));
    }
    Ok(())
}

/// Ctrl-C, a request to end, or a terminal that has been closed.
struct Stop([Signal; 3]);

impl Stop {
    fn new() -> std::io::Result<Self> {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let [int, term, hup] = kinds.map(signal);
        Ok(Self([int?, term?, hup?]))
    }

    async fn asked(&mut self) {
        let [int, term, hup] = &mut self.0;
        tokio::select! {
            _ = int.recv() => {}
            _ = term.recv() => {}
            _ = hup.recv() => {}
        }
    }
}

/// The directory of models that was named, or else the shipped one.
fn models(named: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights");
    path.canonicalize().with_context(|| {
        format!("the shipped weights are not at {}; name a directory of models with --models", path.display())
    })
}

/// Makes the directory that was named, or else the first that is free of `name`, `name`-2, …
fn make_out(wanted: Option<&Path>, name: &str) -> anyhow::Result<PathBuf> {
    if let Some(path) = wanted {
        std::fs::create_dir(path).with_context(|| format!("cannot make {}; choose another --out", path.display()))?;
        return Ok(path.canonicalize()?);
    }
    for number in 1..1000 {
        let free = if number == 1 { name.to_owned() } else { format!("{name}-{number}") };
        match std::fs::create_dir(&free) {
            Ok(()) => return Ok(Path::new(&free).canonicalize()?),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("cannot make {free} here; choose a place with --out")),
        }
    }
    bail!("{name} to {name}-999 exist; remove some or choose another --out")
}
