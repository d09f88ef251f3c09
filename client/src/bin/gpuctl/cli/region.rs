//! How jobs about regions of a picture are written on the command line.

use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum};
use gpusched_client::shared::{
    Area, DetectSpec, EditSpec, ImageSpec, InpaintSpec, JobSpec, Point, ScoreSpec, SegmentSpec, Task,
};

use super::job::{ImageOptions, JobOptions, PictureOptions, SubmissionOptions};

/// `gpuctl submit edit`.
#[derive(Debug, Args)]
pub(crate) struct Edit {
    /// The picture: a PNG, JPEG or WebP file; `-` is standard input.
    pub(crate) image: PathBuf,
    /// What is to be changed and into what, for example "make the circle blue".
    instruction: String,
    /// How: by stages (what is named is found, told from the rest, and made anew), or by FLUX.2 alone, with the picture as reference.
    #[arg(long, value_enum, default_value_t = Via::Pipeline)]
    via: Via,
    /// What to look for, if the instruction does not name it.
    #[arg(long, value_name = "TEXT")]
    target: Option<String>,
    /// What is to be there instead, if the instruction does not say it.
    #[arg(long = "into", value_name = "PROMPT")]
    prompt: Option<String>,
    /// Which model looks for it [default: the daemon's first that can]
    #[arg(long, value_name = "NAME")]
    detector: Option<String>,
    /// Which model tells its pixels from the rest [default: the daemon's first that can]
    #[arg(long, value_name = "NAME")]
    segmenter: Option<String>,
    #[command(flatten)]
    threshold: Threshold,
    #[command(flatten)]
    grow: Grow,
    #[command(flatten)]
    make: ImageOptions,
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    pub(crate) picture: PictureOptions,
    #[command(flatten)]
    pub(crate) submission: SubmissionOptions,
}

/// How a picture is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Via {
    Pipeline,
    Flux2,
}

/// `gpuctl submit detect`.
#[derive(Debug, Args)]
pub(crate) struct Detect {
    /// The picture: a PNG, JPEG or WebP file; `-` is standard input.
    pub(crate) image: PathBuf,
    /// What to look for, for example "a red circle".
    query: String,
    #[command(flatten)]
    threshold: Threshold,
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    pub(crate) submission: SubmissionOptions,
}

/// `gpuctl submit segment`.
#[derive(Debug, Args)]
pub(crate) struct Segment {
    /// The picture: a PNG, JPEG or WebP file; `-` is standard input.
    pub(crate) image: PathBuf,
    /// A rectangle around the thing, in pixels from the top left.
    #[arg(long, value_name = "LEFT,TOP,RIGHT,BOTTOM", allow_hyphen_values = true, required_unless_present_any = ["inside", "outside"])]
    area: Option<Rectangle>,
    /// A point in the thing; may be given again.
    #[arg(long, value_name = "X,Y", allow_hyphen_values = true)]
    inside: Vec<Place>,
    /// A point beside it; may be given again.
    #[arg(long, value_name = "X,Y", allow_hyphen_values = true)]
    outside: Vec<Place>,
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    pub(crate) picture: PictureOptions,
    #[command(flatten)]
    pub(crate) submission: SubmissionOptions,
}

/// `gpuctl submit inpaint`.
#[derive(Debug, Args)]
pub(crate) struct Inpaint {
    /// The picture: a PNG, JPEG or WebP file; `-` is standard input.
    pub(crate) image: PathBuf,
    /// What of it is made anew: a picture of the same size, white there and black elsewhere.
    pub(crate) mask: PathBuf,
    /// What is to be there.
    prompt: String,
    #[command(flatten)]
    grow: Grow,
    #[command(flatten)]
    make: ImageOptions,
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    pub(crate) picture: PictureOptions,
    #[command(flatten)]
    pub(crate) submission: SubmissionOptions,
}

/// `gpuctl submit score`.
#[derive(Debug, Args)]
pub(crate) struct Score {
    /// The picture: a PNG, JPEG or WebP file; `-` is standard input.
    pub(crate) image: PathBuf,
    /// What it may show.
    text: String,
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    pub(crate) submission: SubmissionOptions,
}

#[derive(Debug, Args)]
struct Threshold {
    /// How sure the detector must be, 0 to 1.
    #[arg(long, value_name = "F")]
    threshold: Option<f32>,
}

#[derive(Debug, Args)]
struct Grow {
    /// By how many pixels the mask grows before what is in it is made anew.
    #[arg(long, value_name = "N")]
    grow: Option<u32>,
}

impl Edit {
    /// The job to ask for.
    pub(crate) fn spec(&self) -> JobSpec {
        let image = self.make.spec(&self.instruction);
        let task = match self.via {
            Via::Flux2 => Task::Img2Img(image),
            Via::Pipeline => {
                let ImageSpec { seed, steps, guidance, .. } = image;
                Task::Edit(Box::new(EditSpec {
                    target: self.target.clone(),
                    prompt: self.prompt.clone(),
                    seed,
                    steps,
                    guidance,
                    threshold: self.threshold.threshold,
                    grow: self.grow.grow,
                    detector: self.detector.clone(),
                    segmenter: self.segmenter.clone(),
                    ..EditSpec::new(&self.instruction)
                }))
            }
        };
        self.job.spec(task)
    }

    /// What does not go together, for a person.
    pub(crate) fn check(&self) -> Result<(), String> {
        let of_the_pipeline = [
            ("--target", self.target.is_some()),
            ("--into", self.prompt.is_some()),
            ("--detector", self.detector.is_some()),
            ("--segmenter", self.segmenter.is_some()),
            ("--threshold", self.threshold.threshold.is_some()),
            ("--grow", self.grow.grow.is_some()),
        ];
        match (self.via, of_the_pipeline.iter().find(|(_, given)| *given)) {
            (Via::Flux2, Some((option, _))) => {
                Err(format!("{option} is of the pipeline's stages, and --via flux2 has none; leave one of them out"))
            }
            (Via::Pipeline, _) if self.make.spec("").size.is_some() => {
                Err("an edited picture has the size that it had; leave --size out, or give --via flux2".to_owned())
            }
            (Via::Flux2 | Via::Pipeline, _) => Ok(()),
        }
    }
}

impl Detect {
    pub(crate) fn spec(&self) -> JobSpec {
        self.job.spec(Task::Detect(DetectSpec { query: self.query.clone(), threshold: self.threshold.threshold }))
    }
}

impl Segment {
    pub(crate) fn spec(&self) -> JobSpec {
        let points = |places: &[Place], inside| -> Vec<Point> {
            places.iter().map(|Place([x, y])| Point { x: *x, y: *y, inside }).collect()
        };
        let area = self.area.as_ref().map(|Rectangle([left, top, right, bottom])| Area {
            left: *left,
            top: *top,
            right: *right,
            bottom: *bottom,
        });
        let points = [points(&self.inside, true), points(&self.outside, false)].concat();
        self.job.spec(Task::Segment(SegmentSpec { area, points }))
    }
}

impl Inpaint {
    pub(crate) fn spec(&self) -> JobSpec {
        self.job.spec(Task::Inpaint(InpaintSpec { image: self.make.spec(&self.prompt), grow: self.grow.grow }))
    }
}

impl Score {
    pub(crate) fn spec(&self) -> JobSpec {
        self.job.spec(Task::Score(ScoreSpec { text: self.text.clone() }))
    }
}

/// `LEFT,TOP,RIGHT,BOTTOM`.
#[derive(Debug, Clone, PartialEq)]
struct Rectangle([f32; 4]);

/// `X,Y`.
#[derive(Debug, Clone, PartialEq)]
struct Place([f32; 2]);

impl FromStr for Rectangle {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        numbers(text).map(Self).ok_or_else(|| format!("{text:?} is not four numbers, LEFT,TOP,RIGHT,BOTTOM"))
    }
}

impl FromStr for Place {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        numbers(text).map(Self).ok_or_else(|| format!("{text:?} is not two numbers, X,Y"))
    }
}

fn numbers<const N: usize>(text: &str) -> Option<[f32; N]> {
    let numbers = text.split(',').map(|number| number.trim().parse().ok().filter(|n: &f32| n.is_finite()));
    numbers.collect::<Option<Vec<f32>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::{Cli, Command, Submit};
    use super::*;

    fn submit(args: &[&str]) -> Result<Box<Submit>, clap::Error> {
        let cli = Cli::try_parse_from(["gpuctl", "submit"].iter().chain(args))?;
        let Command::Submit(submit) = cli.command else { panic!("not submit") };
        Ok(submit)
    }

    #[test]
    fn an_edit_goes_by_stages_or_by_flux2() {
        let args = ["edit", "a.png", "make the circle blue", "--seed", "3", "--grow", "2", "--into", "a blue ball"];
        let edit = submit(&args).expect("a command line").spec();
        let Task::Edit(spec) = edit.task else { panic!("not an edit") };
        assert_eq!((spec.seed, spec.grow, spec.prompt.as_deref()), (Some(3), Some(2), Some("a blue ball")));
        let flux = submit(&["edit", "a.png", "make it blue", "--via", "flux2"]).expect("a command line");
        assert!(matches!(flux.spec().task, Task::Img2Img(image) if image.prompt == "make it blue"));
        for (args, said) in [
            (&["--via", "flux2", "--grow", "1"][..], "--grow is of the pipeline's stages"),
            (&["--size", "64"], "has the size that it had"),
        ] {
            let refused = submit(&[&["edit", "a.png", "make it blue"], args].concat()).expect("a command line");
            assert!(refused.check().is_err_and(|why| why.contains(said)), "{args:?}");
        }
    }

    #[test]
    fn regions_are_told_by_numbers() {
        let args = ["segment", "a.png", "--area", "1,2,30,40.5", "--inside", "3,4", "--outside", "-1,0"];
        let Task::Segment(spec) = submit(&args).expect("a command line").spec().task else { panic!("no segment") };
        assert_eq!(spec.area, Some(Area { left: 1.0, top: 2.0, right: 30.0, bottom: 40.5 }));
        assert_eq!(
            spec.points.iter().map(|point| (point.x, point.inside)).collect::<Vec<_>>(),
            [(3.0, true), (-1.0, false)]
        );
        for wrong in [&["--area", "1,2,3"][..], &["--inside", "1"], &["--inside", "1,x"], &[]] {
            assert!(submit(&[&["segment", "a.png"], wrong].concat()).is_err(), "{wrong:?}");
        }
    }
}
