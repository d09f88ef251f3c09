//! Programs: jobs that take several stages. A program is pure. It is told which of its stages have ended and how, and says
//! which it wants next, or how the job ends; the scheduler makes each stage a job of its own, with a [`Part`] in its record.
//!
//! What a program knows it knows from stages whose outcomes are on record, so a daemon that is started again tells it the
//! same and it goes on where it was.

pub mod adjust;
pub mod checks;
pub mod edit;
pub mod instruction;
pub mod prompt;
pub mod reflect;
mod round;

use gpusched_shared::{EditStep, JobId, JobSpec, Outcome, Phase, ReflectEnd, Reflection, RoundImage, StageRole, Usage};
use serde::{Deserialize, Serialize};

use crate::effect::Picture;
use edit::Editing;
use reflect::Reflecting;

/// Which stage of which job a job is. No two jobs on record are the same part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The job that a client asked for.
    pub of: JobId,
    /// Its round, from 1.
    pub round: u8,
    /// What the stage does in the round.
    pub role: Role,
}

/// What a stage does in its round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Makes the picture.
    Image,
    /// Asks the question with this number, from 0, about it.
    Check(u8),
    /// Asks that question about what the picture is about to become, while it is made.
    Glance(u8),
    /// Looks for what is to be changed.
    Detect,
    /// Tells its pixels from the rest.
    Segment,
    /// Makes them anew.
    Inpaint,
}

impl Role {
    /// As clients are told.
    pub fn told(self) -> StageRole {
        match self {
            Self::Image => StageRole::Image,
            Self::Check(_) => StageRole::Check,
            Self::Glance(_) => StageRole::Glance,
            Self::Detect => StageRole::Detect,
            Self::Segment => StageRole::Segment,
            Self::Inpaint => StageRole::Inpaint,
        }
    }

    /// Whether it is what its job waits for, so that its waiting and its progress are the job's; others run beside such a one, or
    /// beside each other.
    pub fn leads(self) -> bool {
        match self {
            Self::Image | Self::Detect | Self::Segment | Self::Inpaint => true,
            Self::Check(_) | Self::Glance(_) => false,
        }
    }
}

/// A stage that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedPart {
    /// Which one.
    pub part: Part,
    /// What it was asked to do.
    pub spec: JobSpec,
    /// How it ended.
    pub outcome: Outcome,
    /// How long it waited for a lane, in microseconds.
    pub wait_us: u64,
    /// Of that, how long it backed off.
    pub backoff_us: u64,
    /// How long lanes held it, in microseconds.
    pub run_us: u64,
    /// What they measured.
    pub usage: Usage,
}

impl EndedPart {
    /// How long lanes worked on it, in microseconds; time parked does not count.
    pub fn lane_us(&self) -> u64 {
        self.run_us.saturating_sub(self.usage.parked_us)
    }
}

/// What a program wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// These stages, but for those that are under way.
    Stages(Vec<Stage>),
    /// To end.
    Conclude(Outcome, Option<Reflection>),
}

/// A stage that a program wants.
#[derive(Debug, Clone, PartialEq)]
pub struct Stage {
    /// Its round, from 1.
    pub round: u8,
    /// What it does in it.
    pub role: Role,
    /// What it is asked to do.
    pub spec: JobSpec,
    /// What it looks at.
    pub sees: Sees,
}

/// The pictures that a stage looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sees {
    /// Those that came with the job.
    Given,
    /// This one.
    Only(RoundImage),
    /// Those that came with the job, and this one.
    Also(RoundImage),
}

/// The program of a job that takes several stages.
#[derive(Debug, Clone)]
pub enum Program {
    /// Pictures are made and checked.
    Reflecting(Reflecting),
    /// A picture is edited.
    Editing(Editing),
}

/// How far a program is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// In this round, from 1, of so many.
    Round(u8, u8),
    /// At this step.
    Step(EditStep),
}

impl Program {
    /// The program of a job with nothing left open, if it takes several stages.
    pub fn of(spec: &JobSpec) -> Option<Self> {
        Reflecting::of(spec).map(Self::Reflecting).or_else(|| Editing::of(spec).map(Self::Editing))
    }

    /// What it will ask for beside what its job's own model does at first, as far as that is known before any stage has been made:
    /// the stage, and the pictures that it will look at, those of the job being `given`.
    pub fn foreseen(&self, given: &[Picture]) -> Vec<(JobSpec, Vec<Picture>)> {
        match self {
            Self::Reflecting(program) => program.foreseen().into_iter().collect(),
            Self::Editing(program) => program.foreseen(given),
        }
    }

    /// Takes in that a stage is under way, or was when the daemon died.
    pub fn begin(&mut self, part: Part, spec: &JobSpec) {
        match self {
            Self::Reflecting(program) => program.begin(part, spec),
            Self::Editing(_) => {}
        }
    }

    /// Takes in how a stage has ended.
    pub fn end(&mut self, ended: &EndedPart) {
        match self {
            Self::Reflecting(program) => program.end(ended),
            Self::Editing(program) => program.end(ended),
        }
    }

    /// What it wants now.
    pub fn next(&self) -> Next {
        match self {
            Self::Reflecting(program) => program.next(),
            Self::Editing(program) => program.next(),
        }
    }

    /// Whether a stage that is under way can still tell something.
    pub fn needs(&self, round: u8, role: Role) -> bool {
        match self {
            Self::Reflecting(program) => program.needs(round, role),
            Self::Editing(_) => true,
        }
    }

    /// How it ends if its time is over now, which ends it with `outcome` unless there is something better.
    pub fn give_up(&self, outcome: &Outcome, end: ReflectEnd) -> Next {
        match self {
            Self::Reflecting(program) => program.give_up(outcome, end),
            Self::Editing(program) => program.give_up(outcome),
        }
    }

    /// What has become of its rounds so far, if it reflects.
    pub fn reflection(&self) -> Option<Reflection> {
        match self {
            Self::Reflecting(program) => Some(program.view()),
            Self::Editing(_) => None,
        }
    }

    /// The same, if it does.
    pub fn reflecting(&self) -> Option<&Reflecting> {
        match self {
            Self::Reflecting(program) => Some(program),
            Self::Editing(_) => None,
        }
    }

    /// Takes in what the picture of a round is about to become.
    pub fn preview(&mut self, round: u8, image: RoundImage) {
        match self {
            Self::Reflecting(program) => program.preview(round, image),
            Self::Editing(_) => {}
        }
    }

    /// How far it is.
    pub fn at(&self) -> At {
        match self {
            Self::Reflecting(program) => {
                let (round, of) = program.round();
                At::Round(round, of)
            }
            Self::Editing(program) => At::Step(program.step()),
        }
    }

    /// How far that is, where it is not one stage that is waited for.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            Self::Reflecting(program) => program.checking(),
            Self::Editing(_) => None,
        }
    }
}
