//! The command line.

mod job;
mod record;
mod reflect;
mod region;
mod text;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use gpusched_client::shared::manual::Generate;
use gpusched_client::shared::quality::MAX_POINTS;
use gpusched_client::{JobId, Reconnect};

pub(crate) use job::{Question, SubmissionOptions, Submit};
pub(crate) use record::{Export, Format, Report, Stretch};

const AFTER_HELP: &str = "\
Exit codes:
    0  done; with --reflect also if no picture passed its checks, which is said on standard error
    1  the job failed; with --strict also because no picture passed its checks
    2  the command line is wrong, or a file it names cannot be read or written
    3  no daemon, or the connection to it was lost (submit and watch: and it was not back in time,
     see --reconnect); no gpuschedd to hand over to
    4  the daemon refused; nothing has changed (route: no rule takes the job)
    5  the job was cancelled, or ran out of time
    6  doctor: something does not work
  130  interrupted; an attached job is cancelled
models, plan, simulate, experiment, demo and journal are gpuschedd's: they exit as it does.

Without --socket the daemon is sought at $GPUSCHED_SOCKET, else at /run/gpusched/gpusched.sock,
else at $XDG_RUNTIME_DIR/gpusched/gpusched.sock.

JSON (--json), one document a line:
  status               the daemon; also pause, resume and drain
  show, set-priority   the job; show of an edit with its \"stages\"
  jobs                 an array of jobs
  jobs --history       an array of {\"job\": JOB, \"attempts\": [{\"attempt\", \"lane\", \"started_unix_ms\",
                       \"ended_unix_ms\", \"end\"}]}
  cancel               one job for each id
  explain              {\"job\", \"reasons\": [{\"reason\", ...}], \"starts_in_ms\", \"ends_in_ms\"}
  queue                an array of {\"class\", \"job\", \"lane\", \"priority\", \"model\", \"waited_ms\",
                       \"starts_in_ms\", \"ends_in_ms\"}; \"job\" is 0 where it is someone else's
  route                {\"class\", \"rules\": [{\"rule\", \"fails\"}], \"run_bytes\", \"weights_bytes\",
                       \"run_ms\"}, with and without --explain; \"fails\" is null in the rule that
                       takes the job
  doctor               {\"healthy\", \"checks\": [{\"check\", \"level\", \"seen\", \"remedy\"}]}; level is ok,
                       skipped, warning or failure
  top                  {\"now_unix_ms\", \"status\", \"waiting\", \"waiting_count\", \"jobs\", \"ended\"}, once:
                       what one frame shows
  quality              {\"overall\", \"recent\", \"window\", \"models\", \"trend\"}
  report, export       {\"file\": PATH} when it is written
  models               an array of {\"model\", \"directory\" or \"published\"}
  models --plan        {\"model\", \"width\", \"height\", \"dtype\", \"parts\": [{\"part\", \"weights_bytes\",
                       \"run_bytes\", ...}], \"weights_bytes\", \"run_bytes\", \"peak_bytes\",
                       \"partitions\": [{\"class\", \"cap_bytes\", \"fits\"}], \"remedies\", ...}
  fetch                {\"blob\": {\"hash\", \"bytes\"}, \"file\": PATH}
  submit --detach      {\"job\": ID}
  submit --retry       {\"retry\": {\"wait_ms\", \"because\": {\"code\", ...}}} before each wait
  submit               {\"job\": ID}, then {\"update\": ...} for all news but the last,
                       then {\"result\": JOB, \"file\": PATH} (no file but for pictures and masks);
                       of an edit with \"stages\": [{\"role\", \"spec\", \"outcome\", \"run_us\", ...}]
  watch                {\"update\": ...} and {\"result\": JOB}, as above
  submit, watch        {\"daemon\": \"lost\", \"within_ms\": N} when it goes away meanwhile, and
                       {\"daemon\": \"back\"}
  errors               {\"error\": {\"code\", \"message\", ...}}, also on standard output";

/// Image and VQA jobs for the GPU of this machine.
#[derive(Debug, Parser)]
#[command(name = "gpuctl", version, after_help = AFTER_HELP, max_term_width = 100)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Args)]
pub(crate) struct Global {
    /// Socket of the daemon.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
    /// Print JSON, one document a line (see `gpuctl --help`).
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Print results and errors only.
    #[arg(short, long, global = true)]
    pub(crate) quiet: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Hand in a job and wait for its result; Ctrl-C cancels it.
    #[command(subcommand)]
    Submit(Box<Submit>),
    /// Show the daemon: its classes, lanes and models.
    Status,
    /// List your jobs, newest first.
    Jobs {
        /// Those that have ended, too.
        #[arg(long)]
        all: bool,
        /// How many at most.
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
        limit: u32,
        /// What became of each attempt at those that have ended, or at the jobs named.
        #[arg(long)]
        history: bool,
        #[arg(value_name = "ID", requires = "history", conflicts_with = "all")]
        jobs: Vec<JobId>,
    },
    /// Show one job.
    Show {
        #[arg(value_name = "ID")]
        job: JobId,
    },
    /// Follow a job until it ends; Ctrl-C leaves it alone.
    Watch {
        #[arg(value_name = "ID")]
        job: JobId,
        #[command(flatten)]
        absence: Absence,
    },
    /// Write the picture of a finished job to a file.
    Fetch {
        #[arg(value_name = "ID")]
        job: JobId,
        /// The picture of this round, of a job that reflects; by default written to gpusched-ID-round-N.png [default: the
        /// one it ended with]
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        round: Option<u8>,
        #[command(flatten)]
        target: Target,
    },
    /// End jobs.
    Cancel {
        #[arg(value_name = "ID", required = true)]
        jobs: Vec<JobId>,
    },
    /// Say why a job waits, and when it is likely to start and to end.
    Explain {
        #[arg(value_name = "ID")]
        job: JobId,
    },
    /// List what runs and what waits, class by class, in the order in which it is likely to start.
    Queue,
    /// Say which class a job would go to.
    Route {
        /// Show every rule, and why it does or does not take the job.
        #[arg(long, global = true)]
        explain: bool,
        #[command(subcommand)]
        job: Question,
    },
    /// Show how often pictures pass their checks, at once and in the end, over everyone's jobs that reflect.
    Quality(Quality),
    /// Make a page of what happened: lanes, latencies, memory, pictures.
    Report(Report),
    /// Write what happened for other programs, for instance https://ui.perfetto.dev.
    Export(Export),
    /// Change which of your jobs go first.
    SetPriority {
        #[arg(value_name = "ID")]
        job: JobId,
        /// -100 to 100; higher is earlier.
        #[arg(value_name = "N", value_parser = job::priority(), allow_negative_numbers = true)]
        priority: i8,
    },
    /// Start no more jobs of a class; those that run go on (admins).
    Pause { class: String },
    /// Start jobs of a paused class again (admins).
    Resume { class: String },
    /// Take no new jobs; those accepted run (admins).
    Drain {
        /// Take new jobs again.
        #[arg(long)]
        off: bool,
    },
    /// List the models, or say what one takes of memory and whether it fits: --plan NAME (gpuschedd models).
    #[command(disable_help_flag = true)]
    Models(Arguments),
    /// Work out how many lanes fit into memory (gpuschedd plan).
    #[command(disable_help_flag = true)]
    Plan(Arguments),
    /// Run a scenario without a device, on a virtual clock (gpuschedd simulate).
    #[command(disable_help_flag = true)]
    Simulate(Arguments),
    /// Compare ways to edit pictures: experiment edit (gpuschedd experiment).
    #[command(disable_help_flag = true)]
    Experiment(Arguments),
    /// Show in a minute or so what all this is for (gpuschedd demo).
    #[command(disable_help_flag = true)]
    Demo(Arguments),
    /// Check or back up the journal and the stored files (gpuschedd journal).
    #[command(disable_help_flag = true)]
    Journal(Arguments),
    /// Show the daemon and its jobs live, and cancel or reorder them by key.
    Top(Top),
    /// Find out what keeps you from the daemon, or the daemon from its work, and what to do about it.
    Doctor,
    /// Print a completion script for a shell.
    Completions { shell: Shell },
    /// Write man pages and shell completions, for packages.
    #[command(hide = true)]
    Generate(Generate),
}

/// Which jobs to count, and how to show them.
#[derive(Debug, Args)]
pub(crate) struct Quality {
    /// Only jobs that ended so long ago or less, for example 30m, 24h.
    #[arg(long, value_name = "TIME", value_parser = job::duration)]
    pub(crate) since: Option<Duration>,
    /// How many of the last jobs to count by themselves.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) window: u32,
    /// Into how many groups of jobs, at most, to divide the trend.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = points())]
    pub(crate) points: u32,
    /// Print the trend as comma-separated values.
    #[arg(long, conflicts_with = "json")]
    pub(crate) csv: bool,
}

fn points() -> impl clap::builder::TypedValueParser<Value = u32> {
    clap::value_parser!(u32).range(1..=i64::from(MAX_POINTS))
}

/// How to look at the daemon.
#[derive(Debug, Args)]
pub(crate) struct Top {
    /// How often to look, from 250ms to 60s.
    #[arg(long, value_name = "TIME", default_value = "500ms", value_parser = interval)]
    pub(crate) interval: Duration,
    /// Print one frame as text, and end; this is what happens, too, where standard output is not a terminal.
    #[arg(long)]
    pub(crate) once: bool,
}

/// Looking costs the daemon a little, so there is a bound to how often.
fn interval(text: &str) -> Result<Duration, String> {
    let interval = job::duration(text)?;
    if (Duration::from_millis(250)..=Duration::from_secs(60)).contains(&interval) {
        Ok(interval)
    } else {
        Err("from 250ms to 60s".to_owned())
    }
}

/// What gpuschedd is to make of it, as it stands.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// See the command's own --help.
    #[arg(value_name = "ARGUMENTS", trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<OsString>,
}

/// What to do when the daemon goes away while a job is waited for.
#[derive(Debug, Args)]
pub(crate) struct Absence {
    /// When the daemon goes away, wait so many seconds for it, and go on; 0: do not.
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = clap::value_parser!(u64).range(..=86_400))]
    reconnect: u64,
}

impl Absence {
    /// For how long to wait.
    pub(crate) fn reconnect(&self) -> Reconnect {
        Reconnect { within: Duration::from_secs(self.reconnect) }
    }
}

/// Where a picture goes.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// File to write the picture to, which is overwritten; `-` is standard output [default: gpusched-ID.png here, never
    /// overwritten]
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn priorities_may_be_negative() {
        let cli = Cli::try_parse_from(["gpuctl", "set-priority", "7", "-3"]).expect("a command line");
        assert!(matches!(cli.command, Command::SetPriority { job: JobId(7), priority: -3 }));
    }

    #[test]
    fn looking_has_a_bound() {
        let top = |interval| Cli::try_parse_from(["gpuctl", "top", "--interval", interval]);
        let cli = top("2s").expect("a command line");
        assert!(matches!(cli.command, Command::Top(Top { interval, once: false }) if interval.as_secs() == 2));
        assert!(top("100ms").is_err() && top("2m").is_err());
    }

    #[test]
    fn quality_is_printed_one_way() {
        let quality = |args: &[&str]| Cli::try_parse_from(["gpuctl", "quality"].iter().chain(args));
        let cli = quality(&["--since", "1h", "--window", "10", "--csv"]).expect("a command line");
        let Command::Quality(Quality { since, window: 10, points: 20, csv: true }) = cli.command else {
            panic!("not that quality")
        };
        assert_eq!(since, Some(Duration::from_secs(3600)));
        assert!(quality(&["--csv", "--json"]).is_err());
        assert!(quality(&["--points", "201"]).is_err());
    }

    #[test]
    fn histories_may_be_of_some_jobs() {
        let jobs = |args: &[&str]| Cli::try_parse_from(["gpuctl", "jobs"].iter().chain(args));
        let cli = jobs(&["--history", "7", "9"]).expect("a command line");
        assert!(matches!(cli.command, Command::Jobs { history: true, jobs, .. } if jobs == [JobId(7), JobId(9)]));
        assert!(jobs(&["7"]).is_err(), "a list is of all");
    }

    #[test]
    fn what_is_handed_over_is_left_alone() {
        let given = ["--help", "x.toml", "--seed", "-1", "--", "--json"];
        let cli = Cli::try_parse_from(["gpuctl", "simulate"].iter().chain(&given)).expect("a command line");
        let Command::Simulate(Arguments { arguments }) = cli.command else { panic!("not simulate") };
        assert_eq!(arguments, given);
        assert!(!cli.global.json);
    }
}
