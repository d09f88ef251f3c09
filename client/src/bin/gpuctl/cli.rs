//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use gpusched_client::{ImageSpec, JobId, JobSpec, Size, Task, VqaSpec};

const AFTER_HELP: &str = "\
Exit codes:
    0  done
    1  the job failed
    2  the command line is wrong, or a file it names cannot be read or written
    3  no daemon, or the connection to it was lost
    4  the daemon refused; nothing has changed
    5  the job was cancelled, or its deadline passed
  130  interrupted; an attached job is cancelled

Without --socket the daemon is sought at $GPUSCHED_SOCKET, else at /run/gpusched/gpusched.sock,
else at $XDG_RUNTIME_DIR/gpusched/gpusched.sock.

JSON (--json), one document a line:
  status, show         the daemon, the job
  jobs                 an array of jobs
  cancel               one job for each id
  fetch                {\"blob\": {\"hash\", \"bytes\"}, \"file\": PATH}
  submit --detach      {\"job\": ID}
  submit               {\"job\": ID}, then {\"update\": ...} for all news but the last,
                       then {\"result\": JOB, \"file\": PATH} (no file but for pictures)
  watch                {\"update\": ...} and {\"result\": JOB}, as above
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
    Submit(Submit),
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
    },
    /// Write the picture of a finished job to a file.
    Fetch {
        #[arg(value_name = "ID")]
        job: JobId,
        #[command(flatten)]
        target: Target,
    },
    /// End jobs.
    Cancel {
        #[arg(value_name = "ID", required = true)]
        jobs: Vec<JobId>,
    },
    /// Print a completion script for a shell.
    Completions { shell: Shell },
}

/// Where a picture goes.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// File to write the picture to, which is overwritten; `-` is standard output [default: gpusched-ID.png here, never
    /// overwritten]
    #[arg(short, long = "output", value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Submit {
    /// Make a picture from a prompt.
    Txt2img {
        /// What it shall show.
        prompt: String,
        #[command(flatten)]
        picture: PictureArgs,
        #[command(flatten)]
        job: JobArgs,
    },
    /// Make a picture from pictures and a prompt.
    Img2img {
        /// The (first) picture: a PNG, JPEG or WebP file; `-` is standard input.
        image: PathBuf,
        /// What the new one shall show.
        prompt: String,
        /// A further picture; may be given up to three times.
        #[arg(short = 'i', long = "image", value_name = "IMAGE")]
        more: Vec<PathBuf>,
        #[command(flatten)]
        picture: PictureArgs,
        #[command(flatten)]
        job: JobArgs,
    },
    /// Ask a question about a picture; prints the best answer.
    Vqa {
        /// The picture: a PNG, JPEG or WebP file; `-` is standard input.
        image: PathBuf,
        /// The question.
        question: String,
        /// Print a table of so many answers and their shares of probability.
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..))]
        top: Option<u8>,
        #[command(flatten)]
        job: JobArgs,
    },
}

/// How to make a picture; the daemon chooses what is left out.
#[derive(Debug, Args)]
pub(crate) struct PictureArgs {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Seed of the noise; same seed, same picture.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Diffusion steps.
    #[arg(long, value_name = "N")]
    steps: Option<u32>,
    /// Pixels across and down; one number for a square.
    #[arg(long, value_name = "WxH")]
    size: Option<Size>,
    /// Classifier-free guidance; 1 and below turn it off.
    #[arg(long, value_name = "F")]
    guidance: Option<f32>,
    /// Show the picture in the terminal, too.
    #[cfg(feature = "preview")]
    #[arg(long)]
    pub(crate) preview: bool,
}

/// What every job takes.
#[derive(Debug, Args)]
pub(crate) struct JobArgs {
    /// Which model does it [default: the daemon's first that can]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// After how long the result is worth nothing, for example 500ms, 30s, 5m, 2h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Duration>,
    /// Print the job's id and do not wait; the job outlives this command.
    #[arg(long)]
    pub(crate) detach: bool,
}

impl Submit {
    /// The job to ask for.
    pub(crate) fn spec(&self) -> JobSpec {
        let (task, job) = match self {
            Self::Txt2img { prompt, picture, job } => (Task::Txt2Img(picture.spec(prompt)), job),
            Self::Img2img { prompt, picture, job, .. } => (Task::Img2Img(picture.spec(prompt)), job),
            Self::Vqa { question, top, job, .. } => {
                (Task::Vqa(VqaSpec { question: question.clone(), top: top.unwrap_or(1) }), job)
            }
        };
        let deadline_ms = job.deadline.map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
        JobSpec { task, model: job.model.clone(), deadline_ms }
    }

    /// The pictures to hand in with it.
    pub(crate) fn images(&self) -> Vec<&PathBuf> {
        match self {
            Self::Txt2img { .. } => Vec::new(),
            Self::Img2img { image, more, .. } => std::iter::once(image).chain(more).collect(),
            Self::Vqa { image, .. } => vec![image],
        }
    }

    /// True if nobody waits for it.
    pub(crate) fn detach(&self) -> bool {
        match self {
            Self::Txt2img { job, .. } | Self::Img2img { job, .. } | Self::Vqa { job, .. } => job.detach,
        }
    }

    /// What to do with the picture it makes, if it makes one.
    pub(crate) fn picture(&self) -> Option<&PictureArgs> {
        match self {
            Self::Txt2img { picture, .. } | Self::Img2img { picture, .. } => Some(picture),
            Self::Vqa { .. } => None,
        }
    }
}

impl PictureArgs {
    fn spec(&self, prompt: &str) -> ImageSpec {
        ImageSpec {
            prompt: prompt.to_owned(),
            seed: self.seed,
            steps: self.steps,
            size: self.size,
            guidance: self.guidance,
        }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let milliseconds: u64 = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        "h" => 60 * 60 * 1000,
        _ => return Err("a time is a number and its unit: ms, s, m or h".to_owned()),
    };
    let total = number.parse().ok().and_then(|number: u64| number.checked_mul(milliseconds));
    total.map(Duration::from_millis).ok_or_else(|| format!("{text:?} is not a time that can be counted"))
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
    fn times_have_units() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2h"), Ok(Duration::from_secs(7200)));
        for bad in ["30", "s", "-1s", "1.5s", "1 s", "99999999999999999999s", ""] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pictures_and_prompt_are_told_apart() {
        let args = ["gpuctl", "submit", "img2img", "a.png", "make it blue", "-i", "b.png", "--size", "64x32", "--json"];
        let cli = Cli::try_parse_from(args).expect("a command line");
        assert!(cli.global.json);
        let Command::Submit(submit) = cli.command else { panic!("not submit") };
        assert_eq!(submit.images(), [&PathBuf::from("a.png"), &PathBuf::from("b.png")]);
        let spec = submit.spec();
        assert_eq!(spec.task.text(), "make it blue");
        let Task::Img2Img(image) = spec.task else { panic!("not img2img") };
        assert_eq!(image.size, Some(Size { width: 64, height: 32 }));
    }
}
