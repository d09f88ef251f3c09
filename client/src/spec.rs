//! Short ways to write a [`JobSpec`]; what is left out the daemon chooses.
//!
//! ```
//! use std::time::Duration;
//! use gpusched_client::{JobSpec, txt2img, vqa};
//!
//! let picture: JobSpec = txt2img("a red circle").steps(20).seed(1).size(256, 256).into();
//! let question: JobSpec = vqa("what colour is it?").top(3).deadline(Duration::from_secs(30)).into();
//! ```

use std::time::Duration;

use gpusched_shared::{ImageSpec, JobSpec, Size, Task, VqaSpec};

/// A picture from a prompt.
pub fn txt2img(prompt: impl Into<String>) -> ImageJob {
    ImageJob::new(prompt.into(), Task::Txt2Img)
}

/// A picture from a prompt and the pictures handed in with it.
pub fn img2img(prompt: impl Into<String>) -> ImageJob {
    ImageJob::new(prompt.into(), Task::Img2Img)
}

/// The best answer to a question about the picture handed in with it.
pub fn vqa(question: impl Into<String>) -> VqaJob {
    VqaJob { spec: VqaSpec { question: question.into(), top: 1 }, model: None, deadline: None }
}

/// An image job in the making.
#[derive(Debug, Clone)]
#[must_use = "submit it"]
pub struct ImageJob {
    spec: ImageSpec,
    task: fn(ImageSpec) -> Task,
    model: Option<String>,
    deadline: Option<Duration>,
}

impl ImageJob {
    fn new(prompt: String, task: fn(ImageSpec) -> Task) -> Self {
        let spec = ImageSpec { prompt, seed: None, steps: None, size: None, guidance: None };
        Self { spec, task, model: None, deadline: None }
    }

    /// Seed of the noise; same seed, same picture.
    pub fn seed(mut self, seed: u64) -> Self {
        self.spec.seed = Some(seed);
        self
    }

    /// Diffusion steps.
    pub fn steps(mut self, steps: u32) -> Self {
        self.spec.steps = Some(steps);
        self
    }

    /// Pixels across and down.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.spec.size = Some(Size { width, height });
        self
    }

    /// Classifier-free guidance; 1 and below turn it off.
    pub fn guidance(mut self, guidance: f32) -> Self {
        self.spec.guidance = Some(guidance);
        self
    }

    /// Which model does it.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// How long after acceptance the picture is worth nothing. Counted in whole milliseconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl From<ImageJob> for JobSpec {
    fn from(job: ImageJob) -> Self {
        Self { task: (job.task)(job.spec), model: job.model, deadline_ms: job.deadline.map(milliseconds) }
    }
}

/// A VQA job in the making.
#[derive(Debug, Clone)]
#[must_use = "submit it"]
pub struct VqaJob {
    spec: VqaSpec,
    model: Option<String>,
    deadline: Option<Duration>,
}

impl VqaJob {
    /// How many answers to return, best first.
    pub fn top(mut self, top: u8) -> Self {
        self.spec.top = top;
        self
    }

    /// Which model does it.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// How long after acceptance the answer is worth nothing. Counted in whole milliseconds.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

impl From<VqaJob> for JobSpec {
    fn from(job: VqaJob) -> Self {
        Self { task: Task::Vqa(job.spec), model: job.model, deadline_ms: job.deadline.map(milliseconds) }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
