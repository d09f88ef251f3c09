//! How a job is written on the command line: to submit it, or only to ask where it would go.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use gpusched_client::shared::spec::PRIORITY;
use gpusched_client::shared::{
    AnalyzeSpec, Area, DetectSpec, EditSpec, ImageSpec, InpaintSpec, JobSpec, ScoreSpec, SegmentSpec, Size, Task,
    VqaSpec,
};

use super::reflect::ReflectOptions;
use super::region::{Detect, Edit, Inpaint, Score, Segment};
use super::text::Analyze;
use super::{Absence, Target};

/// What a job says where only its options matter. It does not matter to where a job goes, but no job says nothing.
const ANY_TEXT: &str = "any text";
const ANY_AREA: Area = Area { left: 0.0, top: 0.0, right: 1.0, bottom: 1.0 };

/// A job to hand in.
#[derive(Debug, Subcommand)]
pub(crate) enum Submit {
    /// Make a picture from a prompt.
    Txt2img {
        /// What it shall show.
        prompt: String,
        #[command(flatten)]
        image: ImageOptions,
        #[command(flatten)]
        job: JobOptions,
        #[command(flatten)]
        reflect: ReflectOptions,
        #[command(flatten)]
        picture: PictureOptions,
        #[command(flatten)]
        submission: SubmissionOptions,
    },
    /// Make a picture from pictures and a prompt.
    Img2img {
        /// The (first) picture: a PNG, JPEG or WebP file; `-` is standard input.
        source: PathBuf,
        /// What the new one shall show.
        prompt: String,
        /// A further picture; may be given up to three times.
        #[arg(short = 'i', long = "image", value_name = "IMAGE")]
        more: Vec<PathBuf>,
        #[command(flatten)]
        image: ImageOptions,
        #[command(flatten)]
        job: JobOptions,
        #[command(flatten)]
        reflect: ReflectOptions,
        #[command(flatten)]
        picture: PictureOptions,
        #[command(flatten)]
        submission: SubmissionOptions,
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
        job: JobOptions,
        #[command(flatten)]
        submission: SubmissionOptions,
    },
    /// Change a picture as an instruction says.
    Edit(Edit),
    /// Find in a picture what a text names; prints where it is.
    Detect(Detect),
    /// Tell the pixels of a thing in a picture from the rest; writes them as a mask.
    Segment(Segment),
    /// Make a region of a picture anew.
    Inpaint(Inpaint),
    /// Say how well a picture fits a text; prints the cosine, -1 to 1.
    Score(Score),
    /// Answer a question in words; prints the text as it comes.
    Analyze(Analyze),
}

/// A job to ask about.
#[derive(Debug, Subcommand)]
pub(crate) enum Question {
    /// A picture from a prompt.
    Txt2img {
        #[command(flatten)]
        ignored: Ignored,
        #[command(flatten)]
        image: ImageOptions,
        #[command(flatten)]
        job: JobOptions,
    },
    /// A picture from pictures and a prompt.
    Img2img {
        #[command(flatten)]
        ignored: Ignored,
        #[command(flatten)]
        image: ImageOptions,
        #[command(flatten)]
        job: JobOptions,
    },
    /// An answer to a question about a picture.
    Vqa(Plain),
    /// An edit of a picture.
    Edit(Plain),
    /// Where in a picture something is.
    Detect(Plain),
    /// The pixels of a thing in a picture.
    Segment(Plain),
    /// A region of a picture made anew.
    Inpaint(Plain),
    /// How well a picture fits a text.
    Score(Plain),
    /// A text that answers a question.
    Analyze(Plain),
}

/// A job of which nothing but what every job takes matters to where it goes.
#[derive(Debug, Args)]
pub(crate) struct Plain {
    #[command(flatten)]
    ignored: Ignored,
    #[command(flatten)]
    job: JobOptions,
}

/// What `submit` wants beside options, so that one line serves both.
#[derive(Debug, Args)]
pub(crate) struct Ignored {
    /// Picture and text as for `submit`: may be left out, and do not matter.
    #[arg(value_name = "TEXT", num_args = 0..=3)]
    _text: Vec<OsString>,
}

/// How to make a picture; the daemon chooses what is left out.
#[derive(Debug, Args)]
pub(crate) struct ImageOptions {
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
}

/// What every job takes.
#[derive(Debug, Args)]
pub(crate) struct JobOptions {
    /// Which model does it [default: the daemon's first that can]
    #[arg(long, value_name = "NAME")]
    model: Option<String>,
    /// Which of your jobs go first, -100 to 100; higher is earlier.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true, value_parser = priority(), allow_negative_numbers = true)]
    priority: i8,
    /// After how long the result is worth nothing, for example 500ms, 30s, 5m, 2h; with --reflect the best picture by then counts.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    deadline: Option<Duration>,
    /// How long it may wait for a lane; with --reflect, for its first picture.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    queue_timeout: Option<Duration>,
    /// How long a lane may work on it; time parked does not count. With --reflect, on each picture.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    run_timeout: Option<Duration>,
}

/// What becomes of the picture.
#[derive(Debug, Args)]
pub(crate) struct PictureOptions {
    #[command(flatten)]
    pub(crate) target: Target,
    /// Show the picture in the terminal, too.
    #[cfg(feature = "preview")]
    #[arg(long)]
    pub(crate) preview: bool,
}

/// How to hand it in.
#[derive(Debug, Args)]
pub(crate) struct SubmissionOptions {
    /// Print the job's id and do not wait; the job outlives this command.
    #[arg(long)]
    pub(crate) detach: bool,
    /// While the queue is full, wait and try again, for so long [without TIME: 10m]
    #[arg(long, value_name = "TIME", value_parser = duration, num_args = 0..=1, require_equals = true,
          default_missing_value = "10m")]
    pub(crate) retry: Option<Duration>,
    /// What tells this job from others of yours: with the same key, the same job is handed in only once [default: random]
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    #[command(flatten)]
    pub(crate) absence: Absence,
}

impl Submit {
    /// The job to ask for.
    pub(crate) fn spec(&self) -> JobSpec {
        match self {
            Self::Txt2img { prompt, image, job, reflect, .. } => {
                JobSpec { reflect: reflect.reflect().map(Box::new), ..job.spec(Task::Txt2Img(image.spec(prompt))) }
            }
            Self::Img2img { prompt, image, job, reflect, .. } => {
                JobSpec { reflect: reflect.reflect().map(Box::new), ..job.spec(Task::Img2Img(image.spec(prompt))) }
            }
            Self::Vqa { question, top, job, .. } => {
                job.spec(Task::Vqa(VqaSpec { question: question.clone(), top: top.unwrap_or(1) }))
            }
            Self::Edit(edit) => edit.spec(),
            Self::Detect(detect) => detect.spec(),
            Self::Segment(segment) => segment.spec(),
            Self::Inpaint(inpaint) => inpaint.spec(),
            Self::Score(score) => score.spec(),
            Self::Analyze(analyze) => analyze.spec(),
        }
    }

    /// What does not go together, for a person.
    pub(crate) fn check(&self) -> Result<(), String> {
        if let Self::Edit(edit) = self { edit.check() } else { Ok(()) }
    }

    /// The pictures to hand in with it.
    pub(crate) fn images(&self) -> Vec<&PathBuf> {
        match self {
            Self::Txt2img { .. } | Self::Analyze(_) => Vec::new(),
            Self::Img2img { source, more, .. } => std::iter::once(source).chain(more).collect(),
            Self::Vqa { image, .. } => vec![image],
            Self::Edit(edit) => vec![&edit.image],
            Self::Detect(detect) => vec![&detect.image],
            Self::Segment(segment) => vec![&segment.image],
            Self::Inpaint(inpaint) => vec![&inpaint.image, &inpaint.mask],
            Self::Score(score) => vec![&score.image],
        }
    }

    /// How to hand it in.
    pub(crate) fn submission(&self) -> &SubmissionOptions {
        match self {
            Self::Txt2img { submission, .. }
            | Self::Img2img { submission, .. }
            | Self::Vqa { submission, .. }
            | Self::Edit(Edit { submission, .. })
            | Self::Detect(Detect { submission, .. })
            | Self::Segment(Segment { submission, .. })
            | Self::Inpaint(Inpaint { submission, .. })
            | Self::Score(Score { submission, .. })
            | Self::Analyze(Analyze { submission, .. }) => submission,
        }
    }

    /// What to do with the picture it makes, if it makes one.
    pub(crate) fn picture(&self) -> Option<&PictureOptions> {
        match self {
            Self::Txt2img { picture, .. }
            | Self::Img2img { picture, .. }
            | Self::Edit(Edit { picture, .. })
            | Self::Segment(Segment { picture, .. })
            | Self::Inpaint(Inpaint { picture, .. }) => Some(picture),
            Self::Vqa { .. } | Self::Detect(_) | Self::Score(_) | Self::Analyze(_) => None,
        }
    }
}

impl Question {
    /// The job that is asked about.
    pub(crate) fn spec(&self) -> JobSpec {
        match self {
            Self::Txt2img { image, job, .. } => job.spec(Task::Txt2Img(image.spec(ANY_TEXT))),
            Self::Img2img { image, job, .. } => job.spec(Task::Img2Img(image.spec(ANY_TEXT))),
            Self::Vqa(Plain { job, .. }) => job.spec(Task::Vqa(VqaSpec { question: ANY_TEXT.to_owned(), top: 1 })),
            Self::Edit(Plain { job, .. }) => job.spec(Task::Edit(Box::new(any_edit()))),
            Self::Detect(Plain { job, .. }) => {
                job.spec(Task::Detect(DetectSpec { query: ANY_TEXT.to_owned(), threshold: None }))
            }
            Self::Segment(Plain { job, .. }) => job.spec(Task::Segment(SegmentSpec::of(ANY_AREA))),
            Self::Inpaint(Plain { job, .. }) => {
                job.spec(Task::Inpaint(InpaintSpec { image: ImageSpec::new(ANY_TEXT), grow: None }))
            }
            Self::Score(Plain { job, .. }) => job.spec(Task::Score(ScoreSpec { text: ANY_TEXT.to_owned() })),
            Self::Analyze(Plain { job, .. }) => {
                job.spec(Task::Analyze(AnalyzeSpec { prompt: ANY_TEXT.to_owned(), max_tokens: None }))
            }
        }
    }
}

fn any_edit() -> EditSpec {
    let text = || Some(ANY_TEXT.to_owned());
    EditSpec { target: text(), prompt: text(), ..EditSpec::new(ANY_TEXT) }
}

impl ImageOptions {
    pub(super) fn spec(&self, prompt: &str) -> ImageSpec {
        let &Self { seed, steps, size, guidance } = self;
        ImageSpec { prompt: prompt.to_owned(), seed, steps, size, guidance }
    }
}

impl JobOptions {
    pub(super) fn spec(&self, task: Task) -> JobSpec {
        JobSpec {
            model: self.model.clone(),
            priority: self.priority,
            deadline_ms: self.deadline.map(milliseconds),
            queue_timeout_ms: self.queue_timeout.map(milliseconds),
            run_timeout_ms: self.run_timeout.map(milliseconds),
            ..JobSpec::new(task)
        }
    }
}

/// Reads a priority.
pub(super) fn priority() -> impl clap::builder::TypedValueParser<Value = i8> {
    clap::value_parser!(i8).range(i64::from(*PRIORITY.start())..=i64::from(*PRIORITY.end()))
}

pub(super) fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a time span.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
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
    use clap::Parser;

    use super::super::{Cli, Command};
    use super::*;

    fn submit(args: &[&str]) -> Result<Box<Submit>, clap::Error> {
        let cli = Cli::try_parse_from(["gpuctl", "submit"].iter().chain(args))?;
        let Command::Submit(submit) = cli.command else { panic!("not submit") };
        Ok(submit)
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
        let submit = submit(&["img2img", "a.png", "make it blue", "-i", "b.png", "--size", "64x32", "--json"]);
        let submit = submit.expect("a command line");
        assert_eq!(submit.images(), [&PathBuf::from("a.png"), &PathBuf::from("b.png")]);
        let spec = submit.spec();
        assert_eq!(spec.task.text(), "make it blue");
        let Task::Img2Img(image) = spec.task else { panic!("not img2img") };
        assert_eq!(image.size, Some(Size { width: 64, height: 32 }));
    }

    #[test]
    fn limits_and_priority_reach_the_job() {
        let args = ["--priority", "-5", "--deadline", "30s", "--queue-timeout", "20s", "--run-timeout", "10s"];
        let spec = submit(&[&["txt2img", "x"][..], &args].concat()).expect("a command line").spec();
        let times = [spec.deadline_ms, spec.queue_timeout_ms, spec.run_timeout_ms];
        assert_eq!((spec.priority, times), (-5, [Some(30_000), Some(20_000), Some(10_000)]));
        for bad in ["101", "-101", "x"] {
            assert!(submit(&["txt2img", "x", "--priority", bad]).is_err(), "{bad}");
        }
    }

    #[test]
    fn retrying_has_a_time_of_its_own() {
        let retry = |args: &[&str]| submit(args).expect("a command line").submission().retry;
        assert_eq!(retry(&["txt2img", "x"]), None);
        // Without `=` what follows is not its value.
        assert_eq!(retry(&["txt2img", "--retry", "x"]), Some(Duration::from_secs(600)));
        assert_eq!(retry(&["txt2img", "x", "--retry=30s"]), Some(Duration::from_secs(30)));
    }

    #[test]
    fn the_daemon_is_waited_for_unless_told_otherwise() {
        let submission = |args: &[&str]| submit(args).expect("a command line").submission().absence.reconnect().within;
        assert_eq!(submission(&["txt2img", "x"]), Duration::from_secs(60));
        assert_eq!(submission(&["txt2img", "x", "--reconnect", "0"]), Duration::ZERO);
        assert!(submit(&["txt2img", "x", "--reconnect", "86401"]).is_err());
    }

    #[test]
    fn a_line_for_submit_serves_route() {
        for rest in [&["a.png", "make it blue"][..], &["make it blue"], &[]] {
            let args = [&["gpuctl", "route", "--explain", "img2img"][..], rest, &["--steps", "50"]].concat();
            let cli = Cli::try_parse_from(args).expect("a command line");
            let Command::Route { explain: true, job } = cli.command else { panic!("not route --explain") };
            let Task::Img2Img(image) = job.spec().task else { panic!("not img2img") };
            assert_eq!(image.steps, Some(50));
        }
        let after = Cli::try_parse_from(["gpuctl", "route", "vqa", "--explain"]).expect("a command line");
        assert!(matches!(after.command, Command::Route { explain: true, .. }));
    }
}
