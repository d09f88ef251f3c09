//! The program of an edit: a picture changed as an instruction says.
//!
//! ```text
//! detect ─▶ segment ─▶ inpaint ─▶ the picture
//!    └ nothing found  └ nothing inside: it fails, and says what to say otherwise
//! ```
//!
//! Each stage goes to the class that routing gives it; whether all of them fit is asked before any is made. What one hands to the
//! next is on record first (boxes in its outcome, the mask as a file of the store), so nothing is made twice after a restart.

use gpusched_shared::{
    DetectSpec, EditSpec, EditStep, FailureKind, Found, InpaintSpec, JobSpec, Outcome, RoundImage, SegmentSpec, Task,
};

use super::{EndedPart, Next, Role, Sees, Stage};
use crate::effect::Picture;

/// How sure a detector must be where the job does not say it.
pub const DEFAULT_THRESHOLD: f32 = 0.3;
/// By how many pixels a mask grows where the job does not say it: the edge of a thing is not quite its colour.
pub const DEFAULT_GROW: u32 = 1;

/// An edit's program: what it was asked for, and what became of its stages so far.
#[derive(Debug, Clone)]
pub struct Editing {
    /// With nothing left open.
    spec: JobSpec,
    edit: Box<EditSpec>,
    found: Option<Vec<Found>>,
    mask: Option<Mask>,
    /// How the last of its stages ended that ends the job.
    over: Option<Outcome>,
}

#[derive(Debug, Clone, Copy)]
struct Mask {
    image: RoundImage,
    inside: u64,
}

impl Editing {
    /// The program of a job with nothing left open; `None` if it is no edit.
    pub fn of(spec: &JobSpec) -> Option<Self> {
        let Task::Edit(edit) = &spec.task else { return None };
        Some(Self { spec: spec.clone(), edit: edit.clone(), found: None, mask: None, over: None })
    }

    /// Takes in how a stage has ended.
    pub fn end(&mut self, ended: &EndedPart) {
        match (ended.part.role, &ended.outcome) {
            (Role::Detect, Outcome::Found(found)) => self.found = Some(found.clone()),
            (Role::Segment, Outcome::Mask { blob, size, inside, .. }) => {
                let image = RoundImage { blob: *blob, size: *size, truncated_tokens: 0 };
                self.mask = Some(Mask { image, inside: *inside });
            }
            // What it makes is the job's, whatever it is.
            (_, outcome) => self.over = Some(outcome.clone()),
        }
    }

    /// What it wants now.
    pub fn next(&self) -> Next {
        if let Some(outcome) = &self.over {
            return Next::Conclude(outcome.clone(), None);
        }
        let Some(found) = &self.found else { return self.stage(EditStep::Detect, Sees::Given) };
        if found.is_empty() {
            return failed(format!(
                "nothing was found that {:?} names; say otherwise what is to be changed (--target), or ask the detector to be less sure \
                 than {} (--threshold)",
                self.target(),
                self.threshold()
            ));
        }
        match &self.mask {
            None => self.stage(EditStep::Segment, Sees::Given),
            Some(Mask { inside: 0, .. }) => failed(format!(
                "{:?} was found, but no pixel of it could be told from the rest; say otherwise what is to be changed (--target)",
                self.target()
            )),
            Some(Mask { image, .. }) => self.stage(EditStep::Inpaint, Sees::Also(*image)),
        }
    }

    /// How it ends if its time is over now.
    pub fn give_up(&self, outcome: &Outcome) -> Next {
        Next::Conclude(outcome.clone(), None)
    }

    /// What it is at.
    pub fn step(&self) -> EditStep {
        match (&self.found, &self.mask) {
            (None, _) => EditStep::Detect,
            (Some(_), None) => EditStep::Segment,
            (Some(_), Some(_)) => EditStep::Inpaint,
        }
    }

    /// What each of its stages will be asked to do, as far as that is known before any has been made, and the pictures that it will
    /// look at, those of the job being `given`.
    pub fn foreseen(&self, given: &[Picture]) -> Vec<(JobSpec, Vec<Picture>)> {
        let region = SegmentSpec { area: None, points: Vec::new() };
        let foreseen = EditStep::ALL.into_iter().map(|step| {
            let pictures = match step {
                EditStep::Detect | EditStep::Segment => given.to_vec(),
                // A mask has the size of its picture.
                EditStep::Inpaint => [given, given].concat(),
            };
            (self.job(step, region.clone()), pictures)
        });
        foreseen.collect()
    }

    fn stage(&self, step: EditStep, sees: Sees) -> Next {
        let best = self.found.iter().flatten().next();
        let region = SegmentSpec { area: best.map(|found| found.area), points: Vec::new() };
        Next::Stages(vec![Stage { round: 1, role: role(step), spec: self.job(step, region), sees }])
    }

    fn job(&self, step: EditStep, region: SegmentSpec) -> JobSpec {
        let (task, model) = match step {
            EditStep::Detect => {
                let threshold = Some(self.threshold());
                (Task::Detect(DetectSpec { query: self.target(), threshold }), self.edit.detector.clone())
            }
            EditStep::Segment => (Task::Segment(region), self.edit.segmenter.clone()),
            EditStep::Inpaint => (Task::Inpaint(self.inpaint()), self.spec.model.clone()),
        };
        JobSpec { task, model, deadline_ms: None, queue_timeout_ms: None, ..self.spec.clone() }
    }

    fn inpaint(&self) -> InpaintSpec {
        self.edit.inpaint(self.edit.prompt.clone().unwrap_or_default())
    }

    fn target(&self) -> String {
        self.edit.target.clone().unwrap_or_default()
    }

    fn threshold(&self) -> f32 {
        self.edit.threshold.unwrap_or(DEFAULT_THRESHOLD)
    }
}

/// The role of the stage that a step is.
pub fn role(step: EditStep) -> Role {
    match step {
        EditStep::Detect => Role::Detect,
        EditStep::Segment => Role::Segment,
        EditStep::Inpaint => Role::Inpaint,
    }
}

fn failed(message: String) -> Next {
    Next::Conclude(Outcome::Failed { kind: FailureKind::Input, message }, None)
}
