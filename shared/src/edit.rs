//! Tasks that look at a region of a picture, change it, or speak: what each is asked for, and what it says.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};
use crate::id::JobId;
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::spec::{ImageSpec, JobSpec, MAX_NAME_BYTES, MAX_TEXT_BYTES, bad, within};
use crate::timeline::StageRole;
use crate::view::Usage;

/// The version of the protocol that `Stages` came with.
pub const STAGES_SINCE: u16 = 5;
/// How sure a detector must be, 0 to 1.
pub const THRESHOLD: RangeInclusive<f32> = 0.0..=1.0;
/// Points that a region may be told by.
pub const MAX_POINTS: usize = 16;
/// Pixels by which a mask may grow.
pub const GROW: RangeInclusive<u32> = 0..=256;
/// The most tokens of a text to make.
pub const TOKENS: RangeInclusive<u32> = 1..=4096;
/// The longest text that is made, in bytes; it ends there.
pub const MAX_MADE_BYTES: usize = 64 * 1024;

/// Where in a picture is what a text names.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct DetectSpec {
    /// What to look for, for example "a red circle".
    pub query: String,
    /// How sure the detector must be, within [`THRESHOLD`].
    pub threshold: Option<f32>,
}

/// A rectangle, in pixels of the picture from its top left corner.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Area {
    /// Its left side.
    pub left: f32,
    /// Its upper side.
    pub top: f32,
    /// Its right side.
    pub right: f32,
    /// Its lower side.
    pub bottom: f32,
}

/// A place that is, or is not, part of a region.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Point {
    /// Pixels from the left.
    pub x: f32,
    /// Pixels from the top.
    pub y: f32,
    /// Whether it is part of it.
    pub inside: bool,
}

/// Something that was found.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Found {
    /// Where; it may reach beyond the picture.
    pub area: Area,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
}

/// The pixels of the thing that an area or points are about.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct SegmentSpec {
    /// An area around it.
    pub area: Option<Area>,
    /// Points in it and beside it, at most [`MAX_POINTS`].
    pub points: Vec<Point>,
}

/// A region of a picture made anew. The first picture that comes with it is the picture, the second the mask: white is what is made
/// anew, and what is black stays as it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct InpaintSpec {
    /// What the region shall show, and how to make it. The size is that of the picture.
    pub image: ImageSpec,
    /// By how many pixels the mask is grown first, within [`GROW`].
    pub grow: Option<u32>,
}

/// A picture changed as an instruction says: what it names is found, its pixels are told from the rest, and they are made anew.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct EditSpec {
    /// For example "make the circle blue".
    pub instruction: String,
    /// What is looked for; default: what the instruction names.
    pub target: Option<String>,
    /// What is to be there instead; default: what the instruction says.
    pub prompt: Option<String>,
    /// Seed of the noise.
    pub seed: Option<u64>,
    /// Diffusion steps.
    pub steps: Option<u32>,
    /// Classifier-free guidance.
    pub guidance: Option<f32>,
    /// How sure the detector must be, within [`THRESHOLD`].
    pub threshold: Option<f32>,
    /// By how many pixels the mask is grown, within [`GROW`].
    pub grow: Option<u32>,
    /// The model that finds; default: the first in the catalog that can.
    pub detector: Option<String>,
    /// The model that segments; default: the first in the catalog that can.
    pub segmenter: Option<String>,
}

/// A text to make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct AnalyzeSpec {
    /// What is asked.
    pub prompt: String,
    /// The most tokens of the answer, within [`TOKENS`].
    pub max_tokens: Option<u32>,
}

/// How well a picture fits a text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ScoreSpec {
    /// What the picture may show.
    pub text: String,
}

/// What an edit is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum EditStep {
    /// It looks for what is to be changed.
    Detect,
    /// It tells its pixels from the rest.
    Segment,
    /// It makes them anew.
    Inpaint,
}

/// A stage of a job that takes several, as it is on record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct StageView {
    /// Its number among the jobs.
    pub id: JobId,
    /// What it does for its job.
    pub role: StageRole,
    /// In which round, from 1.
    pub round: u8,
    /// The class whose lanes it runs on.
    pub class: String,
    /// What it was asked to do.
    pub spec: JobSpec,
    /// How it ended; `None` while it has not.
    pub outcome: Option<Outcome>,
    /// How long it waited for a lane, in microseconds.
    pub wait_us: u64,
    /// How long a lane held it, in microseconds.
    pub run_us: u64,
    /// What the lane measured.
    pub usage: Usage,
}

impl EditStep {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Detect, Self::Segment, Self::Inpaint];

    /// Which one, from 1: also the number by which what it made is fetched.
    pub fn number(self) -> u8 {
        match self {
            Self::Detect => 1,
            Self::Segment => 2,
            Self::Inpaint => 3,
        }
    }

    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Detect => "detect",
            Self::Segment => "segment",
            Self::Inpaint => "inpaint",
        }
    }
}

impl EditSpec {
    /// What an instruction says, everything else left to the daemon.
    pub fn new(instruction: impl Into<String>) -> Self {
        Self {
            instruction: instruction.into(),
            target: None,
            prompt: None,
            seed: None,
            steps: None,
            guidance: None,
            threshold: None,
            grow: None,
            detector: None,
            segmenter: None,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        optional_text("target", self.target.as_deref(), MAX_TEXT_BYTES)?;
        optional_text("prompt", self.prompt.as_deref(), MAX_TEXT_BYTES)?;
        optional_text("detector", self.detector.as_deref(), MAX_NAME_BYTES)?;
        optional_text("segmenter", self.segmenter.as_deref(), MAX_NAME_BYTES)?;
        threshold(self.threshold)?;
        self.inpaint("").validate()
    }

    /// The last stage, with `prompt`.
    pub fn inpaint(&self, prompt: impl Into<String>) -> InpaintSpec {
        let Self { seed, steps, guidance, grow, .. } = *self;
        InpaintSpec { image: ImageSpec { prompt: prompt.into(), seed, steps, size: None, guidance }, grow }
    }
}

impl DetectSpec {
    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        threshold(self.threshold)
    }
}

impl SegmentSpec {
    /// Of the thing in an area.
    pub fn of(area: Area) -> Self {
        Self { area: Some(area), points: Vec::new() }
    }

    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        if self.area.is_none() && self.points.is_empty() {
            return Err(bad("region", "is told by an area, by points, or by both".to_owned()));
        }
        if self.points.len() > MAX_POINTS {
            return Err(bad("points", format!("{} of them, the most is {MAX_POINTS}", self.points.len())));
        }
        let area = self.area.iter().flat_map(|area| [area.left, area.top, area.right, area.bottom]);
        let numbers = area.chain(self.points.iter().flat_map(|point| [point.x, point.y]));
        if numbers.into_iter().any(|number| !number.is_finite()) {
            return Err(bad("region", "has a number that is none".to_owned()));
        }
        match self.area {
            Some(area) if !area.has_inside() => Err(bad("area", format!("{area} has no inside"))),
            Some(_) | None => Ok(()),
        }
    }
}

impl InpaintSpec {
    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        if self.image.size.is_some() {
            return Err(bad("size", "a region is made anew in the size of its picture".to_owned()));
        }
        self.grow.map_or(Ok(()), |grow| within("grow", grow, GROW))?;
        self.image.validate()
    }
}

impl AnalyzeSpec {
    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        self.max_tokens.map_or(Ok(()), |tokens| within("tokens", tokens, TOKENS))
    }
}

impl Area {
    /// Whether it is right of its left side and below its upper one.
    pub fn has_inside(&self) -> bool {
        self.right > self.left && self.bottom > self.top
    }
}

fn threshold(asked: Option<f32>) -> Result<(), Rejection> {
    asked.map_or(Ok(()), |asked| within("threshold", asked, THRESHOLD))
}

fn optional_text(field: &str, text: Option<&str>, limit: usize) -> Result<(), Rejection> {
    match text {
        Some(text) if text.trim().is_empty() || text.len() > limit || text.contains('\0') => {
            Err(bad(field, format!("must have 1 to {limit} bytes, not all blank, and no NUL character")))
        }
        Some(_) | None => Ok(()),
    }
}

impl fmt::Display for Area {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { left, top, right, bottom } = self;
        write!(f, "{left:.0},{top:.0} to {right:.0},{bottom:.0}")
    }
}

impl fmt::Display for EditStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::Task;

    fn refused(task: Task, pictures: usize) -> Option<String> {
        match JobSpec::new(task).validate(pictures) {
            Err(Rejection::BadSpec { field, .. }) => Some(field),
            other => {
                assert_eq!(other, Ok(()));
                None
            }
        }
    }

    #[test]
    fn edits_stay_within_their_bounds() {
        let open = || EditSpec::new("make it blue");
        assert_eq!(refused(Task::Edit(Box::new(open())), 1), None);
        for (edit, field) in [
            (EditSpec { target: Some(" ".to_owned()), ..open() }, "target"),
            (EditSpec { prompt: Some("a\0".to_owned()), ..open() }, "prompt"),
            (EditSpec { detector: Some("x".repeat(MAX_NAME_BYTES + 1)), ..open() }, "detector"),
            (EditSpec { segmenter: Some(String::new()), ..open() }, "segmenter"),
            (EditSpec { threshold: Some(f32::NAN), ..open() }, "threshold"),
            (EditSpec { grow: Some(257), ..open() }, "grow"),
            (EditSpec { steps: Some(0), ..open() }, "steps"),
            (EditSpec { guidance: Some(-1.0), ..open() }, "guidance"),
        ] {
            assert_eq!(refused(Task::Edit(Box::new(edit.clone())), 1).as_deref(), Some(field), "{edit:?}");
        }
    }

    #[test]
    fn regions_have_an_inside_and_no_nonsense() {
        let area = Area { left: 1.0, top: 2.0, right: 5.0, bottom: 6.0 };
        let point = Point { x: 1.0, y: 2.0, inside: true };
        assert_eq!(refused(Task::Segment(SegmentSpec::of(area)), 1), None);
        for (area, points, field) in [
            (None, vec![], "region"),
            (None, vec![point; MAX_POINTS + 1], "points"),
            (None, vec![Point { x: f32::INFINITY, ..point }], "region"),
            (Some(Area { right: 1.0, ..area }), vec![], "area"),
        ] {
            assert_eq!(refused(Task::Segment(SegmentSpec { area, points }), 1).as_deref(), Some(field));
        }
    }

    #[test]
    fn a_region_has_the_size_of_its_picture() {
        let size = Some(crate::spec::Size { width: 64, height: 64 });
        let spec = InpaintSpec { image: ImageSpec { size, ..ImageSpec::new("a blue circle") }, grow: None };
        assert_eq!(refused(Task::Inpaint(spec), 2).as_deref(), Some("size"));
    }
}
