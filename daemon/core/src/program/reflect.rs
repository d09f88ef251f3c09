//! The program of a reflecting job.
//!
//! ```text
//! round: image ─▶ checks, all at once ─▶ verdict ─▶ pass, or nothing left to spend: the best picture so far
//!        ▲  └─▶ preview ─▶ glances ─▶ hopeless: fail └─▶ fail: adjust, next round
//!        └──────────────────────────────────┴────────────────────────┘
//! ```
//!
//! Whether there are glances is the job's choice. Whatever they say, a picture that is made by then is checked as any other.

use gpusched_shared::{
    Check, Checked, FailureKind, ImageSpec, JobSpec, Outcome, Phase, ReflectEnd, Reflection, Round, RoundImage, Task,
    Verdict, VqaSpec,
};

use super::adjust::adjust;
use super::round::{State, is_hopeless, judge};
use super::{EndedPart, Next, Part, Role, Sees, Stage};
use crate::effect::Picture;

/// Rounds of a job that does not say how many.
pub const DEFAULT_ROUNDS: u8 = 4;
/// The confidence that a check needs where the job does not say it. Of 700 pictures of two shapes by the shipped weights, 77 %
/// of them right, those that passed were right in 92 % at 0.5, in 93 % at 0.8 and in 96 % at 0.9, and of all 74, 59 and 42 % passed.
pub const DEFAULT_CONFIDENCE: f32 = 0.9;
/// Answers that a judge is asked for; an expected answer that is not among them has no confidence.
const TOP_ANSWERS: u8 = 10;

/// A reflecting job's program: what it was asked for, and what became of its stages so far.
#[derive(Debug, Clone)]
pub struct Reflecting {
    /// With nothing left open.
    spec: JobSpec,
    rounds: Vec<State>,
}

impl Reflecting {
    /// The program of a job with nothing left open; `None` if it does not reflect.
    pub fn of(spec: &JobSpec) -> Option<Self> {
        spec.reflect.as_ref().map(|_| Self { spec: spec.clone(), rounds: Vec::new() })
    }

    /// Takes in that a stage is under way, or was when the daemon died; after that its round counts as begun.
    pub fn begin(&mut self, part: Part, spec: &JobSpec) {
        // After a restart a glance may be told of before the image that it belongs to.
        if usize::from(part.round) == self.rounds.len() + 1
            && let Some(spec) = self.image_spec(part.round)
        {
            self.rounds.push(State::new(spec, self.checks().len()));
        }
        if let (Role::Image, Task::Txt2Img(image) | Task::Img2Img(image)) = (part.role, &spec.task)
            && let Some(round) = self.round_mut(part.round)
        {
            round.spec.clone_from(image);
        }
    }

    /// Takes in what the picture of a round is about to become.
    pub fn preview(&mut self, number: u8, image: RoundImage) {
        if let Some(round) = self.round_mut(number) {
            round.preview = Some(image);
        }
    }

    /// After how many of its steps the picture of a round is to be previewed, if there is anything left to ask of it then.
    pub fn preview_after(&self, number: u8) -> Option<u32> {
        let share = self.spec.reflect.as_ref()?.early.filter(|_| self.may_glance(number))?;
        let round = self.rounds.get(usize::from(number).checked_sub(1)?)?;
        let steps = round.spec.steps.filter(|steps| *steps > 1 && round.glances.iter().any(Option::is_none))?;
        Some(((steps as f32 * share).round() as u32).clamp(1, steps - 1))
    }

    /// Takes in how a stage has ended.
    pub fn end(&mut self, ended: &EndedPart) {
        self.begin(ended.part, &ended.spec);
        let confidence = self.spec.reflect.as_ref().and_then(|reflect| reflect.confidence);
        let judged = |index: u8| {
            let check = self.checks().get(usize::from(index))?;
            Some(judge(check, &ended.outcome, confidence.unwrap_or(DEFAULT_CONFIDENCE)))
        };
        let judged = match ended.part.role {
            Role::Check(index) | Role::Glance(index) => judged(index),
            Role::Image | Role::Detect | Role::Segment | Role::Inpaint => None,
        };
        let Some(round) = self.round_mut(ended.part.round) else { return };
        let made = match ended.part.role {
            Role::Image => {
                round.image_us += ended.lane_us();
                round.image = Some(ended.outcome.image().ok_or_else(|| ended.outcome.clone()));
                return;
            }
            Role::Check(index) => round.checks.get_mut(usize::from(index)),
            Role::Glance(index) => round.glances.get_mut(usize::from(index)),
            // It has no such stages.
            Role::Detect | Role::Segment | Role::Inpaint => None,
        };
        let Some(made) = made else { return };
        round.check_us += ended.lane_us();
        let was_ended = matches!(ended.outcome, Outcome::Cancelled | Outcome::Expired { .. });
        if let Outcome::Failed { kind: FailureKind::Quarantined { .. }, .. } = ended.outcome {
            // Another picture would be asked the same.
            round.over = Some(ended.outcome.clone());
        } else if was_ended && matches!(ended.part.role, Role::Check(_)) {
            // Checks are told to end with their job only, glances also when they are of no use any more.
            round.over.get_or_insert_with(|| ended.outcome.clone());
            return;
        }
        *made = judged;
    }

    /// What it wants now.
    pub fn next(&self) -> Next {
        let Some(round) = self.rounds.last() else { return self.image_stage(1) };
        if let Some(why) = &round.over {
            return self.give_up(why, end_by(why));
        }
        match &round.image {
            // It is about to be stopped; what becomes of it decides.
            None if round.is_hopeless() => return Next::Stages(Vec::new()),
            None => {
                let Next::Stages(mut stages) = self.image_stage(self.number()) else { return Next::Stages(Vec::new()) };
                let glances = round.preview.filter(|_| self.may_glance(self.number()));
                let glances = glances.map(|preview| self.questions(&round.glances, Role::Glance, preview));
                stages.extend(glances.into_iter().flatten());
                return Next::Stages(stages);
            }
            Some(Err(_)) if round.is_rejected() => {}
            Some(Err(why)) => return self.give_up(why, end_by(why)),
            Some(Ok(image)) => {
                let missing = self.questions(&round.checks, Role::Check, *image);
                if !missing.is_empty() {
                    return Next::Stages(missing);
                }
            }
        }
        let is_unchecked = round.checks.iter().flatten().all(|check| check.answer.is_none());
        let end = if round.verdict() == Some(Verdict::Pass) {
            ReflectEnd::Passed
        } else if is_unchecked && !round.is_rejected() {
            // Another picture would not be looked at either.
            ReflectEnd::Unchecked
        } else if self.number() >= self.most_rounds() {
            ReflectEnd::Rounds
        } else if self.has_used_its_time(self.number()) && self.best().is_some() {
            ReflectEnd::LaneTime
        } else {
            return self.image_stage(self.number() + 1);
        };
        self.conclude(end)
    }

    /// Whether a stage that is under way can still tell something: the image of a round that is not hopeless, its glances while
    /// there is no image, and all its checks.
    pub fn needs(&self, number: u8, role: Role) -> bool {
        let Some(round) = self.rounds.last().filter(|_| number == self.number()) else { return false };
        match role {
            Role::Image => !round.is_hopeless(),
            Role::Glance(_) => round.image.is_none() && !round.is_hopeless(),
            Role::Check(_) => true,
            Role::Detect | Role::Segment | Role::Inpaint => false,
        }
    }

    /// How it ends if its time is over now: with its best picture, if there is one, else with `outcome`.
    pub fn give_up(&self, outcome: &Outcome, end: ReflectEnd) -> Next {
        let cancelled = *outcome == Outcome::Cancelled;
        let strict = self.spec.reflect.as_ref().is_some_and(|reflect| reflect.strict);
        match self.best().filter(|(_, round)| !cancelled && (!strict || round.verdict() == Some(Verdict::Pass))) {
            Some(_) => self.conclude(end),
            None => Next::Conclude(outcome.clone(), Some(Reflection { end: Some(end), ..self.view() })),
        }
    }

    /// What has become of it so far.
    pub fn view(&self) -> Reflection {
        let rounds = (1u8..).zip(&self.rounds).map(|(number, round)| round.view(number)).collect();
        Reflection { rounds, best: None, verdict: None, end: None }
    }

    /// The round it is in, from 1, and the most there will be.
    pub fn round(&self) -> (u8, u8) {
        (self.number().max(1), self.most_rounds())
    }

    /// How a check of a picture came out, or of what it was about to become; `None` while it has not been made.
    pub fn checked(&self, number: u8, role: Role) -> Option<&Checked> {
        let round = self.rounds.get(usize::from(number).checked_sub(1)?)?;
        match role {
            Role::Image | Role::Detect | Role::Segment | Role::Inpaint => None,
            Role::Check(index) => round.checks.get(usize::from(index))?.as_ref(),
            Role::Glance(index) => round.glances.get(usize::from(index))?.as_ref(),
        }
    }

    /// What followed from a round, and its score; `None` while that is open.
    pub fn verdict(&self, number: u8) -> Option<(Verdict, f32)> {
        let round = self.rounds.get(usize::from(number).checked_sub(1)?)?;
        Some((round.verdict()?, round.score()))
    }

    /// What the judge is asked first, whichever picture it is about, and a picture like it.
    pub fn foreseen(&self) -> Option<(JobSpec, Vec<Picture>)> {
        let picture = self.spec.task.size().map(Picture::to_come);
        self.checks().first().map(|check| (self.question(check), picture.into_iter().collect()))
    }

    /// How far its round is, if its picture is made.
    pub fn checking(&self) -> Option<Phase> {
        let round = self.rounds.last().filter(|round| matches!(round.image, Some(Ok(_))))?;
        let count = |n: usize| u8::try_from(n).unwrap_or(u8::MAX);
        Some(Phase::Checking { done: count(round.checks.iter().flatten().count()), of: count(round.checks.len()) })
    }

    fn number(&self) -> u8 {
        u8::try_from(self.rounds.len()).unwrap_or(u8::MAX)
    }

    fn checks(&self) -> &[Check] {
        self.spec.reflect.as_ref().map_or(&[], |reflect| reflect.checks.as_slice())
    }

    fn most_rounds(&self) -> u8 {
        self.spec.reflect.as_ref().and_then(|reflect| reflect.rounds).unwrap_or(DEFAULT_ROUNDS)
    }

    fn round_mut(&mut self, number: u8) -> Option<&mut State> {
        self.rounds.get_mut(usize::from(number).checked_sub(1)?)
    }

    /// Whether lanes have worked on the first so many rounds for as long as they may on all.
    fn has_used_its_time(&self, rounds: u8) -> bool {
        let lane_ms = self.spec.reflect.as_ref().and_then(|reflect| reflect.lane_ms);
        let rounds = self.rounds.iter().take(usize::from(rounds));
        let worked_us: u64 = rounds.map(|round| round.image_us + round.check_us).sum();
        lane_ms.is_some_and(|ms| worked_us >= ms.saturating_mul(1000))
    }

    /// Whether the picture of a round may be rejected early. The last one may not, or there might be none.
    fn may_glance(&self, number: u8) -> bool {
        number < self.most_rounds() && !self.has_used_its_time(number.saturating_sub(1))
    }

    /// What the picture of a round is made from; `None` for a question, which does not reflect: `validate` refuses it.
    fn image_spec(&self, number: u8) -> Option<ImageSpec> {
        let (Task::Txt2Img(asked) | Task::Img2Img(asked)) = &self.spec.task else { return None };
        let begun = self.rounds.get(usize::from(number).checked_sub(1)?).map(|round| round.spec.clone());
        Some(begun.unwrap_or_else(|| match number {
            1 => asked.clone(),
            _ => adjust(asked, number, &self.failed()),
        }))
    }

    fn image_stage(&self, number: u8) -> Next {
        let Some(image) = self.image_spec(number) else { return Next::Stages(Vec::new()) };
        let has_references = matches!(self.spec.task, Task::Img2Img(_));
        let task = if has_references { Task::Img2Img(image) } else { Task::Txt2Img(image) };
        let spec = JobSpec { task, deadline_ms: None, queue_timeout_ms: None, reflect: None, ..self.spec.clone() };
        Next::Stages(vec![Stage { round: number, role: Role::Image, spec, sees: Sees::Given }])
    }

    /// The stages that ask the questions about a picture which have not been answered.
    fn questions(&self, made: &[Option<Checked>], role: fn(u8) -> Role, image: RoundImage) -> Vec<Stage> {
        let stage = |(index, check): (u8, &Check)| {
            let spec = self.question(check);
            Stage { round: self.number(), role: role(index), spec, sees: Sees::Only(image) }
        };
        let missing = (0u8..).zip(self.checks()).zip(made).filter(|(_, made)| made.is_none());
        missing.map(|(asked, _)| stage(asked)).collect()
    }

    /// What the judge is asked for a check.
    fn question(&self, check: &Check) -> JobSpec {
        let task = Task::Vqa(VqaSpec { question: check.question.clone(), top: TOP_ANSWERS });
        let model = self.spec.reflect.as_ref().and_then(|reflect| reflect.judge.clone());
        JobSpec { model, priority: self.spec.priority, ..JobSpec::new(task) }
    }

    /// The checks that each round failed; of one that was rejected early, those for which it was.
    fn failed(&self) -> Vec<Vec<&Check>> {
        let of = |round: &State| {
            let rejected = round.is_rejected();
            let has_failed = |made: &Checked| if rejected { is_hopeless(made) } else { !made.passed };
            let made = if rejected { &round.glances } else { &round.checks };
            let failed = made.iter().zip(self.checks()).filter(|(made, _)| made.as_ref().is_some_and(has_failed));
            failed.map(|(_, check)| check).collect()
        };
        self.rounds.iter().map(of).collect()
    }

    /// The round with the best picture, and its number: one that passed, else the highest score, else any picture; the
    /// first of equals.
    fn best(&self) -> Option<(u8, &State)> {
        let rank = |round: &State| (round.verdict() == Some(Verdict::Pass), round.verdict().is_some(), round.score());
        let made = (1u8..).zip(&self.rounds).filter(|(_, round)| matches!(round.image, Some(Ok(_))));
        made.reduce(|best, other| if rank(other.1) > rank(best.1) { other } else { best })
    }

    fn conclude(&self, end: ReflectEnd) -> Next {
        let Some((number, round)) = self.best() else {
            let message = "no picture was made".to_owned();
            return Next::Conclude(Outcome::Failed { kind: FailureKind::Engine, message }, Some(self.view()));
        };
        let reflection = Reflection { verdict: round.verdict(), end: Some(end), ..self.view() };
        let strict = self.spec.reflect.as_ref().is_some_and(|reflect| reflect.strict);
        match &round.image {
            Some(Ok(image)) if !strict || round.verdict() == Some(Verdict::Pass) => {
                let RoundImage { blob, size, truncated_tokens } = *image;
                let outcome = Outcome::Image { blob, size, truncated_tokens };
                Next::Conclude(outcome, Some(Reflection { best: Some(number), ..reflection }))
            }
            _ => {
                let message = failed_message(number, &reflection.rounds, end);
                Next::Conclude(Outcome::Failed { kind: FailureKind::ChecksFailed, message }, Some(reflection))
            }
        }
    }
}

/// Why no further round is begun after a stage that ended so.
fn end_by(outcome: &Outcome) -> ReflectEnd {
    if matches!(outcome, Outcome::Cancelled | Outcome::Expired { .. }) { ReflectEnd::Ended } else { ReflectEnd::Failed }
}

/// Why a strict job failed, for a person.
fn failed_message(best: u8, rounds: &[Round], end: ReflectEnd) -> String {
    let round = rounds.iter().find(|round| round.number == best);
    let failed = round.and_then(|round| round.checks.iter().find(|check| !check.passed));
    let why = failed.map_or_else(String::new, |check| {
        let answer = check.answer.as_deref().unwrap_or("nothing");
        format!(" ({:?} was answered {answer:?}, not {:?})", check.question, check.expected)
    });
    let remedy = match end {
        ReflectEnd::Unchecked => "see why the judge gives no answers (`gpuctl status`, the daemon's log)",
        ReflectEnd::Passed | ReflectEnd::Rounds | ReflectEnd::LaneTime | ReflectEnd::Ended | ReflectEnd::Failed => {
            "allow more rounds, or reword the prompt"
        }
    };
    let pictures = rounds.iter().filter(|round| round.image.is_some()).count();
    format!("none of {pictures} pictures passed; the best is that of round {best}{why}; {remedy}")
}
