//! What a client asks for.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};
use crate::edit::{AnalyzeSpec, DetectSpec, EditSpec, InpaintSpec, ScoreSpec, SegmentSpec};
use crate::reflect::Reflect;
use crate::rejection::Rejection;

/// Longest prompt or question, in bytes.
pub const MAX_TEXT_BYTES: usize = 8 * 1024;
/// Longest model name, in bytes.
pub const MAX_NAME_BYTES: usize = 128;
/// Longest idempotency key, in bytes.
pub const MAX_KEY_BYTES: usize = 64;
/// Pixels along one side of a picture to make.
pub const SIDE: RangeInclusive<u32> = 16..=4096;
/// Diffusion steps.
pub const STEPS: RangeInclusive<u32> = 1..=500;
/// Classifier-free guidance.
pub const GUIDANCE: RangeInclusive<f32> = 0.0..=50.0;
/// Priority among the jobs of one uid; higher goes first.
pub const PRIORITY: RangeInclusive<i8> = -100..=100;
/// Answers to return, best first.
pub const TOP: RangeInclusive<u8> = 1..=100;
/// Reference pictures of one image job.
pub const MAX_REFERENCES: usize = 4;
/// Longest picture file a client may hand over, in bytes.
pub const MAX_IMAGE_BYTES: u64 = 64 * 1024 * 1024;
/// Largest picture a client may hand over, in pixels.
pub const MAX_IMAGE_PIXELS: u64 = 16 * 1024 * 1024;

/// One job. What is `None` the daemon fills in when it accepts the job; the view of the job shows what it chose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct JobSpec {
    /// What to do.
    pub task: Task,
    /// Which model does it; default: the first in the catalog that can.
    pub model: Option<String>,
    /// Which of its owner's jobs go first, within [`PRIORITY`]; others' jobs are not affected.
    #[serde(default)]
    pub priority: i8,
    /// Milliseconds from acceptance after which the job is worth nothing: it ends as expired, wherever it is. One that reflects
    /// ends with its best picture, if it has one.
    pub deadline_ms: Option<u64>,
    /// The longest it may wait for a lane, in milliseconds; of one that reflects, for its first picture.
    #[serde(default)]
    pub queue_timeout_ms: Option<u64>,
    /// The longest a lane may work on it, in milliseconds; time parked does not count. Of one that reflects, on each picture.
    #[serde(default)]
    pub run_timeout_ms: Option<u64>,
    /// Whether what it makes is checked and made again; for pictures only.
    #[serde(default)]
    pub reflect: Option<Box<Reflect>>,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A picture from a prompt.
    Txt2Img(ImageSpec),
    /// A picture from a prompt and one to [`MAX_REFERENCES`] reference pictures.
    Img2Img(ImageSpec),
    /// An answer to a question about one picture.
    Vqa(VqaSpec),
    /// Where in a picture is what a text names. Since version 5, as all that follow.
    Detect(DetectSpec),
    /// The pixels of the thing that an area or points are about.
    Segment(SegmentSpec),
    /// A picture of which a region, told by a mask, is made anew.
    Inpaint(InpaintSpec),
    /// A picture changed as an instruction says, by the three before one after the other.
    Edit(Box<EditSpec>),
    /// A text from a text.
    Analyze(AnalyzeSpec),
    /// How well a picture fits a text.
    Score(ScoreSpec),
}

/// A picture to make.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct ImageSpec {
    /// What it shall show.
    pub prompt: String,
    /// Seed of the noise; same seed, same picture.
    pub seed: Option<u64>,
    /// Diffusion steps, within [`STEPS`].
    pub steps: Option<u32>,
    /// Width and height; a multiple of what the model's VAE needs.
    pub size: Option<Size>,
    /// Classifier-free guidance, within [`GUIDANCE`]; 1 and below turn it off.
    pub guidance: Option<f32>,
}

impl ImageSpec {
    /// A picture of `prompt`, everything else left to the daemon.
    pub fn new(prompt: impl Into<String>) -> Self {
        Self { prompt: prompt.into(), seed: None, steps: None, size: None, guidance: None }
    }

    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        if let Some(steps) = self.steps {
            within("steps", steps, STEPS)?;
        }
        if let Some(guidance) = self.guidance {
            within("guidance", guidance, GUIDANCE)?;
        }
        if let Some(size) = self.size {
            within("width", size.width, SIDE)?;
            within("height", size.height, SIDE)?;
        }
        Ok(())
    }
}

/// A question about a picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct VqaSpec {
    /// The question.
    pub question: String,
    /// How many answers to return, best first, within [`TOP`].
    pub top: u8,
}

/// Pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Size {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
}

/// [`Task`] without its details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "lowercase")]
pub enum TaskKind {
    /// [`Task::Txt2Img`]
    Txt2Img,
    /// [`Task::Img2Img`]
    Img2Img,
    /// [`Task::Vqa`]
    Vqa,
    /// [`Task::Detect`]
    Detect,
    /// [`Task::Segment`]
    Segment,
    /// [`Task::Inpaint`]
    Inpaint,
    /// [`Task::Edit`]
    Edit,
    /// [`Task::Analyze`]
    Analyze,
    /// [`Task::Score`]
    Score,
}

impl TaskKind {
    /// All of them, in the order of the tags.
    pub const ALL: [Self; 9] = [
        Self::Txt2Img,
        Self::Img2Img,
        Self::Vqa,
        Self::Detect,
        Self::Segment,
        Self::Inpaint,
        Self::Edit,
        Self::Analyze,
        Self::Score,
    ];

    /// The version of the protocol that it came with.
    pub fn since(self) -> u16 {
        match self {
            Self::Txt2Img | Self::Img2Img | Self::Vqa => 3,
            Self::Detect | Self::Segment | Self::Inpaint | Self::Edit | Self::Analyze | Self::Score => 5,
        }
    }
}

impl Task {
    /// Which task it is.
    pub fn kind(&self) -> TaskKind {
        match self {
            Self::Txt2Img(_) => TaskKind::Txt2Img,
            Self::Img2Img(_) => TaskKind::Img2Img,
            Self::Vqa(_) => TaskKind::Vqa,
            Self::Detect(_) => TaskKind::Detect,
            Self::Segment(_) => TaskKind::Segment,
            Self::Inpaint(_) => TaskKind::Inpaint,
            Self::Edit(_) => TaskKind::Edit,
            Self::Analyze(_) => TaskKind::Analyze,
            Self::Score(_) => TaskKind::Score,
        }
    }

    /// What it says in words: the prompt, the question, the instruction; nothing where a region is segmented.
    pub fn text(&self) -> &str {
        match self {
            Self::Txt2Img(image) | Self::Img2Img(image) | Self::Inpaint(InpaintSpec { image, .. }) => &image.prompt,
            Self::Vqa(vqa) => &vqa.question,
            Self::Detect(detect) => &detect.query,
            Self::Segment(_) => "",
            Self::Edit(edit) => &edit.instruction,
            Self::Analyze(analyze) => &analyze.prompt,
            Self::Score(score) => &score.text,
        }
    }

    /// How it makes a picture by diffusion, if it does so itself.
    pub fn image(&self) -> Option<&ImageSpec> {
        match self {
            Self::Txt2Img(image) | Self::Img2Img(image) | Self::Inpaint(InpaintSpec { image, .. }) => Some(image),
            Self::Vqa(_) | Self::Detect(_) | Self::Segment(_) | Self::Edit(_) | Self::Analyze(_) | Self::Score(_) => {
                None
            }
        }
    }

    /// The same, to be filled in.
    pub fn image_mut(&mut self) -> Option<&mut ImageSpec> {
        match self {
            Self::Txt2Img(image) | Self::Img2Img(image) | Self::Inpaint(InpaintSpec { image, .. }) => Some(image),
            Self::Vqa(_) | Self::Detect(_) | Self::Segment(_) | Self::Edit(_) | Self::Analyze(_) | Self::Score(_) => {
                None
            }
        }
    }

    /// How large the picture is to be, if it makes one and that is said.
    pub fn size(&self) -> Option<Size> {
        self.image().and_then(|image| image.size)
    }

    /// How many pictures must come with it.
    pub fn pictures(&self) -> RangeInclusive<usize> {
        match self {
            Self::Txt2Img(_) | Self::Analyze(_) => 0..=0,
            Self::Img2Img(_) => 1..=MAX_REFERENCES,
            Self::Vqa(_) | Self::Detect(_) | Self::Segment(_) | Self::Edit(_) | Self::Score(_) => 1..=1,
            Self::Inpaint(_) => 2..=2,
        }
    }
}

impl fmt::Display for TaskKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Txt2Img => "txt2img",
            Self::Img2Img => "img2img",
            Self::Vqa => "vqa",
            Self::Detect => "detect",
            Self::Segment => "segment",
            Self::Inpaint => "inpaint",
            Self::Edit => "edit",
            Self::Analyze => "analyze",
            Self::Score => "score",
        })
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

/// Text that is not a size.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a size is WIDTHxHEIGHT or one number for a square, for example 1024x768; got {0:?}")]
pub struct NotASize(String);

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(s: &str) -> Result<Self, NotASize> {
        let (width, height) = s.split_once(['x', 'X']).unwrap_or((s, s));
        match (width.parse(), height.parse()) {
            (Ok(width), Ok(height)) => Ok(Self { width, height }),
            (Err(_), _) | (_, Err(_)) => Err(NotASize(s.to_owned())),
        }
    }
}

impl JobSpec {
    /// A job of priority 0 without time limits, on whichever model can do it.
    pub fn new(task: Task) -> Self {
        Self {
            task,
            model: None,
            priority: 0,
            deadline_ms: None,
            queue_timeout_ms: None,
            run_timeout_ms: None,
            reflect: None,
        }
    }

    /// Checks everything that can be checked without knowing the models. Clients may call it before they connect; the
    /// daemon always does.
    ///
    /// # Errors
    /// The first thing wrong, as the daemon would say it.
    pub fn validate(&self, pictures: usize) -> Result<(), Rejection> {
        let text = self.task.text();
        if text.trim().is_empty() && self.task.kind() != TaskKind::Segment {
            return Err(Rejection::EmptyText { task: self.task.kind().to_string() });
        }
        if text.len() > MAX_TEXT_BYTES {
            return Err(Rejection::TextTooLong { bytes: text.len() as u64, limit: MAX_TEXT_BYTES as u64 });
        }
        if text.contains('\0') {
            return Err(bad("text", "contains a NUL character".to_owned()));
        }
        let wanted = self.task.pictures();
        if !wanted.contains(&pictures) {
            return Err(Rejection::WrongImageCount {
                task: self.task.kind().to_string(),
                least: *wanted.start() as u8,
                most: *wanted.end() as u8,
                got: u8::try_from(pictures).unwrap_or(u8::MAX),
            });
        }
        if self.model.as_ref().is_some_and(|name| name.len() > MAX_NAME_BYTES) {
            return Err(bad("model", format!("longer than {MAX_NAME_BYTES} bytes")));
        }
        let limits = [
            ("deadline", self.deadline_ms),
            ("queue timeout", self.queue_timeout_ms),
            ("run timeout", self.run_timeout_ms),
        ];
        if let Some((field, _)) = limits.into_iter().find(|(_, ms)| *ms == Some(0)) {
            return Err(bad(field, "must be after now".to_owned()));
        }
        within("priority", self.priority, PRIORITY)?;
        match &self.task {
            Task::Txt2Img(image) | Task::Img2Img(image) => image.validate()?,
            Task::Vqa(vqa) => within("top", vqa.top, TOP)?,
            Task::Detect(detect) => detect.validate()?,
            Task::Segment(segment) => segment.validate()?,
            Task::Inpaint(inpaint) => inpaint.validate()?,
            Task::Edit(edit) => edit.validate()?,
            Task::Analyze(analyze) => analyze.validate()?,
            Task::Score(_) => {}
        }
        match &self.reflect {
            Some(reflect) if matches!(self.task, Task::Txt2Img(_) | Task::Img2Img(_)) => reflect.validate(),
            Some(_) => Err(bad("reflect", "only pictures of a prompt can be checked and made again".to_owned())),
            None => Ok(()),
        }
    }
}

/// Checks an idempotency key.
///
/// # Errors
/// [`Rejection::BadSpec`] if it is empty, too long, or not printable ASCII.
pub fn check_key(key: &str) -> Result<(), Rejection> {
    if (1..=MAX_KEY_BYTES).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(bad("key", format!("must be 1 to {MAX_KEY_BYTES} printable ASCII characters without spaces")))
    }
}

/// Checks a number against its range.
///
/// # Errors
/// [`Rejection::BadSpec`] naming `field`.
pub fn within<T: PartialOrd + fmt::Display>(field: &str, value: T, range: RangeInclusive<T>) -> Result<(), Rejection> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(bad(field, format!("{value} is not within {} to {}", range.start(), range.end())))
    }
}

pub(crate) fn bad(field: &str, reason: String) -> Rejection {
    Rejection::BadSpec { field: field.to_owned(), reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn txt2img(prompt: &str) -> JobSpec {
        JobSpec::new(Task::Txt2Img(ImageSpec::new(prompt)))
    }

    #[test]
    fn text_must_be_there_and_fit() {
        assert_eq!(txt2img("a red circle").validate(0), Ok(()));
        assert!(matches!(txt2img(" \n").validate(0), Err(Rejection::EmptyText { .. })));
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        assert!(matches!(txt2img(&long).validate(0), Err(Rejection::TextTooLong { bytes: 8193, limit: 8192 })));
    }

    #[test]
    fn pictures_are_counted() {
        assert!(matches!(txt2img("x").validate(1), Err(Rejection::WrongImageCount { most: 0, got: 1, .. })));
    }

    #[test]
    fn numbers_stay_in_range_and_nan_is_none() {
        for (steps, guidance, ok) in [(1, 0.0, true), (0, 1.0, false), (501, 1.0, false), (4, f32::NAN, false)] {
            let mut spec = txt2img("x");
            let Task::Txt2Img(image) = &mut spec.task else { unreachable!() };
            (image.steps, image.guidance) = (Some(steps), Some(guidance));
            assert_eq!(spec.validate(0).is_ok(), ok, "{steps} {guidance}");
        }
    }

    #[test]
    fn only_pictures_are_checked() {
        let question = Task::Vqa(VqaSpec { question: "is it red?".to_owned(), top: 1 });
        let spec = JobSpec { reflect: Some(Box::default()), ..JobSpec::new(question) };
        assert!(matches!(spec.validate(1), Err(Rejection::BadSpec { field, .. }) if field == "reflect"));
    }

    #[test]
    fn tasks_have_one_name_everywhere() {
        for kind in TaskKind::ALL {
            let name = kind.to_string();
            let read = TaskKind::deserialize(serde::de::value::StrDeserializer::<serde::de::value::Error>::new(&name));
            assert_eq!(read, Ok(kind));
        }
    }

    #[test]
    fn sizes_are_written_both_ways() {
        assert_eq!("64x32".parse(), Ok(Size { width: 64, height: 32 }));
        assert_eq!("64".parse(), Ok(Size { width: 64, height: 64 }));
        assert!("64x".parse::<Size>().is_err());
    }
}
