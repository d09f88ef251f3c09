//! `gpuschedd adherence`: how well pictures show what was asked for, without reflection and with a few rounds of it. Fixed
//! prompts go to a private daemon with the largest budget of rounds, and every picture that it made is judged by the pixel
//! checker, which has no part in how the daemon steers. As the rounds up to one do not depend on how many more may follow,
//! one run tells what every smaller budget would have given.

mod ask;
mod figures;
mod goals;
mod interval;
mod prompts;
mod report;
mod trial;

use std::path::{Path, PathBuf};

use anyhow::bail;
use clap::Args;
use gpusched_client::Client;
use gpusched_shared::quality::MAX_POINTS;
use gpusched_shared::reflect::ROUNDS;

use super::private_daemon::PrivateDaemon;
use super::{Stop, make_out, models};
use crate::config::{EngineConfig, Policy};
use ask::Request;
use prompts::Subject;
use report::Report;

/// Jobs that the daemon's recent rate covers.
const RECENT: u32 = 50;
/// Points of the trend.
const POINTS: u32 = 50;
const _: () = assert!(POINTS <= MAX_POINTS);

/// Options of the adherence experiment.
#[derive(Debug, Args)]
pub struct Options {
    /// How many prompts of each kind; there are 500
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=500))]
    jobs: u32,
    /// Only prompts of this kind: one shape, or two in a relation [default: both]
    #[arg(long, value_enum)]
    kind: Option<Subject>,
    /// Diffusion steps of each picture [default: the model's own]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=500))]
    steps: Option<u32>,
    /// The most rounds of a job; what fewer would give is reported, too
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(i64::from(*ROUNDS.start())..=i64::from(*ROUNDS.end())))]
    rounds: u8,
    /// Look at what pictures are about to become after this share of their steps, or after half of them, and reject hopeless
    /// ones; the last of a job never is, so fewer rounds than the most would give more than is reported for them
    #[arg(long, value_name = "SHARE", num_args = 0..=1, default_missing_value = "0.5")]
    early_reject: Option<f32>,
    /// Directory of models [default: the weights that come with the source]
    #[arg(long, value_name = "DIR")]
    models: Option<PathBuf>,
    /// Where results go; must not exist yet [default: the first free of gpusched-adherence, gpusched-adherence-2, …]
    #[arg(short, long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// Runs the experiment.
///
/// # Errors
/// When the daemon does not start, or refuses a job. A goal that is missed is reported, and no error.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let models = models(options.models.as_deref())?;
    let out = make_out(options.out.as_deref(), "gpusched-adherence")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Taken over before there is anything to clean up.
        let mut stop = Stop::new()?;
        let log = out.join("daemon.log");
        let daemon = tokio::select! {
            daemon = PrivateDaemon::start(&models, Policy::MultiQueue, EngineConfig::default(), &log) => daemon?,
            () = stop.asked() => bail!("interrupted"),
        };
        let done = tokio::select! {
            done = measure(&daemon, options, &out) => done,
            () = stop.asked() => Err(anyhow::anyhow!("interrupted")),
        };
        let stopped = daemon.stop().await;
        done.and(stopped)
    })?;
    eprintln!("\nresults.json, trend.csv and the daemon's log are in {}", out.display());
    Ok(())
}

async fn measure(daemon: &PrivateDaemon, options: &Options, out: &Path) -> anyhow::Result<()> {
    let client = Client::connect(daemon.socket()).await?;
    let subjects = options.kind.map_or_else(|| Subject::ALL.to_vec(), |kind| vec![kind]);
    let request = Request { rounds: options.rounds, steps: options.steps, early: options.early_reject };
    let trials = ask::all(&client, &subjects, options.jobs as usize, request).await?;
    let report = Report::of(&trials, options.rounds, client.quality(0, RECENT, POINTS).await?);
    report::save(&report, &trials, out)?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(())
}
