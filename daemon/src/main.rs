//! Command line of gpuschedd.

mod manual;

use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Args, CommandFactory as _, Parser, Subcommand};
use gpusched_daemon::config::{Config, ConfigError, SYSTEM_CONFIG};
use gpusched_daemon::journal::cli::JournalArgs;
use gpusched_daemon::models::ModelsArgs;
use gpusched_daemon::systemd::Inherited;
use gpusched_daemon::{demo, serve, telemetry};
use gpusched_shared::SOCKET_ENV;
use gpusched_shared::manual::Generate;
use gpusched_sim::cli::{PlanArgs, SimulateArgs};

/// Counts what each memory partition holds.
#[global_allocator]
static ALLOCATOR: gpusched_engine::Allocator = gpusched_engine::Allocator;

/// How long whoever reads the log may take to take the rest of it when the process ends.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Owns the GPU of this machine and runs image and question jobs of local processes on it.
#[derive(Debug, Parser)]
#[command(name = "gpuschedd", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(flatten)]
    serve: ServeArgs,
    #[command(subcommand)]
    command: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Run the daemon (what happens without a subcommand).
    Serve(ServeArgs),
    /// Run 10 image jobs and 5 question jobs through private daemons with the shipped weights, under several queues and
    /// under one, and show what happens.
    Demo(demo::Options),
    /// Measure how well pictures show what was asked for: without reflection, and with up to so many rounds of it.
    Adherence(demo::adherence::Options),
    /// Run an experiment in private daemons with the shipped weights.
    #[command(subcommand)]
    Experiment(demo::editing::Experiment),
    /// Play a scenario through the scheduler on a virtual clock, under one queue and under several.
    Simulate(SimulateArgs),
    /// Say how many lanes of each class fit into the device's memory together, and why not one more.
    Plan(PlanArgs),
    /// List the models, or say what one takes of memory, part by part, and whether it fits.
    Models(ModelsArgs),
    /// Be the engine of the daemon at the other end of standard input. The daemon runs this; nobody else can.
    #[command(hide = true)]
    Engine,
    /// Look after the journal and the stored files.
    Journal(JournalArgs),
    /// Write man pages and shell completions, for packages.
    #[command(hide = true)]
    Generate(Generate),
}

#[derive(Debug, Clone, Args)]
struct ServeArgs {
    /// Configuration file [default: for root /etc/gpusched/gpusched.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where clients connect
    #[arg(long, value_name = "PATH", env = SOCKET_ENV)]
    socket: Option<PathBuf>,
    /// Journal, blobs and lock
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Directory of models; may be given more than once
    #[arg(long, value_name = "DIR")]
    models: Vec<PathBuf>,
    /// Take section "faults" of the configuration, which make jobs fail on purpose
    #[arg(long)]
    allow_faults: bool,
    /// Say whether the configuration is valid, print it in full, and stop
    #[arg(long)]
    check_config: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.command {
        None => run(cli.serve),
        Some(Action::Serve(args)) => run(args),
        Some(Action::Demo(options)) => demo::run(&options),
        Some(Action::Adherence(options)) => demo::adherence::run(&options),
        Some(Action::Experiment(experiment)) => demo::editing::run(&experiment),
        Some(Action::Simulate(args)) => args.run().map_err(Into::into).and_then(|text| print(&text)),
        Some(Action::Engine) => engine(),
        Some(Action::Plan(args)) => args.run().map_err(Into::into).and_then(|text| print(&text)),
        Some(Action::Journal(args)) => journal(&args),
        Some(Action::Models(args)) => models(&args),
        Some(Action::Generate(what)) => manual::generate(&what, Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("gpuschedd: {}", explain(&e));
            ExitCode::FAILURE
        }
    }
}

/// To standard output, which may have been closed by whoever has read enough.
fn print(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(e.into()),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The error and its causes, but for those that are part of what has been said already.
fn explain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |said, cause| match said.as_str() {
        "" => cause,
        _ if said.contains(&cause) => said,
        _ => format!("{said}: {cause}"),
    })
}

/// Standard input as the link: so it needs no descriptor that something else could have inherited.
fn engine() -> anyhow::Result<()> {
    let log = telemetry::init()?;
    let link = std::io::stdin().as_fd().try_clone_to_owned().context("there is no standard input")?;
    let ended = gpusched_engine::child::run(link, || telemetry::start(&log));
    log.flush(LAST_WORDS);
    Ok(ended?)
}

fn run(args: ServeArgs) -> anyhow::Result<()> {
    // SAFETY: nothing has started a thread yet.
    let inherited = unsafe { Inherited::take() };
    let check = args.check_config;
    let config = configuration(args.clone())?;
    if check {
        print!("{}", toml::to_string(&config).context("cannot write the configuration down")?);
        return Ok(());
    }
    let log = telemetry::init()?;
    let reread = move || configuration(args.clone()).map_err(|e| explain(&e));
    let served = serve::serve(&config, &log, Box::new(reread), inherited);
    log.flush(LAST_WORDS);
    Ok(served?)
}

fn journal(args: &JournalArgs) -> anyhow::Result<()> {
    let (config, state_dir) = (args.config.clone(), args.state_dir.clone());
    let serve =
        ServeArgs { config, state_dir, socket: None, models: Vec::new(), allow_faults: true, check_config: false };
    print(&args.run(&configuration(serve)?.state_dir)?)
}

fn models(args: &ModelsArgs) -> anyhow::Result<()> {
    let (config, models) = (args.config.clone(), args.models.clone());
    let serve = ServeArgs { config, models, socket: None, state_dir: None, allow_faults: true, check_config: false };
    print(&args.run(&configuration(serve)?.models)?)
}

/// The file; without one, for root the system's file or the system's defaults, for anyone else their own directories.
/// Options win.
fn configuration(args: ServeArgs) -> anyhow::Result<Config> {
    let system = PathBuf::from(SYSTEM_CONFIG);
    let mut config = match args.config {
        Some(path) => Config::load(&path)?,
        None if !nix::unistd::geteuid().is_root() => Config::of_user(),
        None if system.exists() => Config::load(&system)?,
        None => Config::default(),
    };
    config.socket = args.socket.unwrap_or(config.socket);
    config.state_dir = args.state_dir.unwrap_or(config.state_dir);
    if !args.models.is_empty() {
        config.models = args.models;
    }
    config.check()?;
    if config.faults.any() && !args.allow_faults {
        return Err(ConfigError::Faults.into());
    }
    Ok(config)
}
