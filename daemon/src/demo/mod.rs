//! `gpuschedd demo`: the main job from end to end. A private daemon in a temporary directory, ten image jobs and five
//! question jobs submitted together, every result checked, a table and the pictures left behind.

pub mod checker;
mod jobs;
mod private_daemon;
mod progress;
mod report;

use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context as _, bail};
use clap::Args;
use gpusched_client::{Client, JobView};
use gpusched_shared::{JobId, TaskKind, Update};

use jobs::Job;
use private_daemon::PrivateDaemon;
use progress::{Line, Progress};
use report::Finished;
use tokio::signal::unix::{Signal, SignalKind, signal};

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
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=500))]
    heavy: u32,
    /// Question jobs
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=500))]
    light: u32,
    /// Diffusion steps of each image
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=500))]
    steps: u32,
}

/// Runs the demo.
///
/// # Errors
/// When the daemon does not start, a job does not succeed, or a result is not what it must be.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let models = match &options.models {
        Some(models) => models.clone(),
        None => shipped_weights()?,
    };
    let out = make_out(options.out.as_deref())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Taken over before there is anything to clean up.
        let mut stop = Stop::new()?;
        let log = out.join("daemon.log");
        let daemon = tokio::select! {
            daemon = PrivateDaemon::start(&models, &log) => daemon?,
            () = stop.asked() => bail!("interrupted"),
        };
        let done = tokio::select! {
            done = jobs_through(&daemon, options, &out) => done,
            () = stop.asked() => Err(anyhow::anyhow!("interrupted")),
        };
        let stopped = daemon.stop().await;
        done.and(stopped)
    })?;
    println!("\npictures, timings.json and daemon.log are in {}", out.display());
    Ok(())
}

async fn jobs_through(daemon: &PrivateDaemon, options: &Options, out: &Path) -> anyhow::Result<()> {
    let client = Client::connect(daemon.socket()).await?;
    let jobs: Vec<Job> = jobs::images(options.heavy, options.steps).chain(jobs::questions(options.light)).collect();
    let progress = Progress::new(jobs.len());
    let began = Instant::now();
    let mut running = Vec::new();
    // In this order, images first: in a single queue every question would wait for all of them.
    for job in jobs {
        let id = client.submit(job.spec(), job.pictures()?, true).await?;
        let (client, line) = (client.clone(), progress.line(id, &job));
        running.push(tokio::spawn(async move { finish(&client, id, job, &line).await }));
    }
    let mut finished = Vec::new();
    for job in running {
        finished.push(job.await.context("a task of the demo failed")??);
    }
    let makespan = began.elapsed();
    progress.clear();
    for done in &finished {
        done.save(out)?;
    }
    report::sheet(&finished, out)?;
    report::timings(&finished, makespan, out)?;
    print!("{}", report::table(&finished, makespan));
    let wrong: Vec<String> = finished.iter().filter_map(Finished::problem).collect();
    if !wrong.is_empty() {
        bail!("{} of {} results are not what they must be:\n{}", wrong.len(), finished.len(), wrong.join("\n"));
    }
    Ok(())
}

/// Follows a job to its end.
async fn finish(client: &Client, id: JobId, job: Job, line: &Line) -> anyhow::Result<Finished> {
    let mut watch = client.watch(id).await?;
    let mut last: Option<JobView> = None;
    while let Some(update) = watch.next().await? {
        line.show(&update);
        if let Update::Done(view) = update {
            last = Some(view);
        }
    }
    let view = last.with_context(|| format!("job {id} ended without an outcome"))?;
    let png = if view.spec.task.kind() == TaskKind::Vqa { None } else { client.fetch_bytes(id).await.ok() };
    Ok(Finished { job, view, png })
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

fn shipped_weights() -> anyhow::Result<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights");
    path.canonicalize().with_context(|| {
        format!("the shipped weights are not at {}; name a directory of models with --models", path.display())
    })
}

fn make_out(wanted: Option<&Path>) -> anyhow::Result<PathBuf> {
    if let Some(path) = wanted {
        std::fs::create_dir(path).with_context(|| format!("cannot make {}; choose another --out", path.display()))?;
        return Ok(path.canonicalize()?);
    }
    for number in 1..1000 {
        let name = if number == 1 { "gpusched-demo".to_owned() } else { format!("gpusched-demo-{number}") };
        match std::fs::create_dir(&name) {
            Ok(()) => return Ok(Path::new(&name).canonicalize()?),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("cannot make {name} here; choose a place with --out")),
        }
    }
    bail!("gpusched-demo to gpusched-demo-999 exist; remove some or choose another --out")
}
