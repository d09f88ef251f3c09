//! Short ways to write a [`JobSpec`]; what is left out the daemon chooses.
//!
//! ```
//! use std::time::Duration;
//! use gpusched_client::{Check, JobSpec, Reflect, txt2img, vqa};
//!
//! let picture: JobSpec = txt2img("a red circle").steps(20).seed(1).size(256, 256).into();
//! let checks = vec![Check::new("is there a red circle?", "yes"), Check::new("how many shapes are there?", "one")];
//! let checked: JobSpec = txt2img("a red circle").reflect(Reflect { checks, ..Reflect::default() }).into();
//! let question: JobSpec = vqa("what colour is it?").top(3).deadline(Duration::from_secs(30)).into();
//! ```

use std::time::Duration;

use gpusched_shared::{EditSpec, ImageSpec, JobSpec, Reflect, Size, Task, VqaSpec};

/// A picture from a prompt.
pub fn txt2img(prompt: impl Into<String>) -> ImageJob {
    Job::new(Image { spec: ImageSpec::new(prompt), task: Task::Txt2Img })
}

/// A picture from a prompt and the pictures handed in with it.
pub fn img2img(prompt: impl Into<String>) -> ImageJob {
    Job::new(Image { spec: ImageSpec::new(prompt), task: Task::Img2Img })
}

/// The best answer to a question about the picture handed in with it.
pub fn vqa(question: impl Into<String>) -> VqaJob {
    Job::new(Vqa(VqaSpec { question: question.into(), top: 1 }))
}

/// The picture handed in with it, changed as an instruction such as "make the circle blue" says.
///
/// ```
/// use gpusched_client::{JobSpec, edit};
///
/// let edit: JobSpec = edit("make it a blue ball").target("the red circle").prompt("a blue ball").seed(3).into();
/// ```
pub fn edit(instruction: impl Into<String>) -> EditJob {
    Job::new(Edit(Box::new(EditSpec::new(instruction))))
}

/// A job of any task.
pub fn task(task: impl Into<Task>) -> Job<Task> {
    Job::new(task.into())
}

/// An edit in the making.
pub type EditJob = Job<Edit>;

/// An image job in the making.
pub type ImageJob = Job<Image>;

/// A VQA job in the making.
pub type VqaJob = Job<Vqa>;

/// A job in the making. Times are counted in whole milliseconds.
#[derive(Debug, Clone)]
#[must_use = "submit it"]
pub struct Job<T> {
    task: T,
    model: Option<String>,
    priority: i8,
    deadline: Option<Duration>,
    queue_timeout: Option<Duration>,
    run_timeout: Option<Duration>,
    reflect: Option<Box<Reflect>>,
}

/// The task of a job that makes a picture.
#[derive(Debug, Clone)]
pub struct Image {
    spec: ImageSpec,
    task: fn(ImageSpec) -> Task,
}

/// The task of a job that edits a picture.
#[derive(Debug, Clone)]
pub struct Edit(Box<EditSpec>);

/// The task of a job that answers a question.
#[derive(Debug, Clone)]
pub struct Vqa(VqaSpec);

impl<T> Job<T> {
    fn new(task: T) -> Self {
        Self { task, model: None, priority: 0, deadline: None, queue_timeout: None, run_timeout: None, reflect: None }
    }

    /// Which model does it.
    pub fn model(mut self, name: impl Into<String>) -> Self {
        self.model = Some(name.into());
        self
    }

    /// Which of its owner's jobs go first: higher before lower, 0 unless said.
    pub fn priority(mut self, priority: i8) -> Self {
        self.priority = priority;
        self
    }

    /// How long after acceptance the result is worth nothing.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// How long it may wait for a lane.
    pub fn queue_timeout(mut self, timeout: Duration) -> Self {
        self.queue_timeout = Some(timeout);
        self
    }

    /// How long a lane may work on it; time parked does not count.
    pub fn run_timeout(mut self, timeout: Duration) -> Self {
        self.run_timeout = Some(timeout);
        self
    }
}

impl ImageJob {
    /// Seed of the noise; same seed, same picture.
    pub fn seed(mut self, seed: u64) -> Self {
        self.task.spec.seed = Some(seed);
        self
    }

    /// Diffusion steps.
    pub fn steps(mut self, steps: u32) -> Self {
        self.task.spec.steps = Some(steps);
        self
    }

    /// Pixels across and down.
    pub fn size(mut self, width: u32, height: u32) -> Self {
        self.task.spec.size = Some(Size { width, height });
        self
    }

    /// Classifier-free guidance; 1 and below turn it off.
    pub fn guidance(mut self, guidance: f32) -> Self {
        self.task.spec.guidance = Some(guidance);
        self
    }

    /// The daemon has what it made checked, and makes it again where it does not show what was asked for.
    pub fn reflect(mut self, reflect: Reflect) -> Self {
        self.reflect = Some(Box::new(reflect));
        self
    }
}

impl EditJob {
    /// What to look for, if the instruction does not name it.
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.task.0.target = Some(target.into());
        self
    }

    /// What is to be there instead, if the instruction does not say it.
    pub fn prompt(mut self, prompt: impl Into<String>) -> Self {
        self.task.0.prompt = Some(prompt.into());
        self
    }

    /// Seed of the noise; same seed, same picture.
    pub fn seed(mut self, seed: u64) -> Self {
        self.task.0.seed = Some(seed);
        self
    }

    /// Diffusion steps.
    pub fn steps(mut self, steps: u32) -> Self {
        self.task.0.steps = Some(steps);
        self
    }
}

impl VqaJob {
    /// How many answers to return, best first.
    pub fn top(mut self, top: u8) -> Self {
        self.task.0.top = top;
        self
    }
}

impl From<Image> for Task {
    fn from(image: Image) -> Self {
        (image.task)(image.spec)
    }
}

impl From<Edit> for Task {
    fn from(edit: Edit) -> Self {
        Self::Edit(edit.0)
    }
}

impl From<Vqa> for Task {
    fn from(vqa: Vqa) -> Self {
        Self::Vqa(vqa.0)
    }
}

impl<T: Into<Task>> From<Job<T>> for JobSpec {
    fn from(job: Job<T>) -> Self {
        Self {
            task: job.task.into(),
            model: job.model,
            priority: job.priority,
            deadline_ms: job.deadline.map(milliseconds),
            queue_timeout_ms: job.queue_timeout.map(milliseconds),
            run_timeout_ms: job.run_timeout.map(milliseconds),
            reflect: job.reflect,
        }
    }
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
