//! The program of a reflecting job.
//!
//! ```text
//! round: image ─▶ checks, all at once ─▶ verdict ─▶ pass, or nothing left to spend: the best picture so far
//!          ▲                                └────▶ fail: adjust, next round
//!          └─────────────────────────────────────────────┘
//! ```

use gpusched_shared::{
    Check, Checked, FailureKind, ImageSpec, JobSpec, Outcome, Phase, ReflectEnd, Reflection, Round, RoundImage, Task,
    Verdict, VqaSpec,
};

use super::adjust::adjust;
use super::{EndedPart, Part, Role};

/// Rounds of a job that does not say how many.
pub const DEFAULT_ROUNDS: u8 = 4;
/// The confidence that a check needs where the job does not say it.
pub const DEFAULT_CONFIDENCE: f32 = 0.5;
/// Answers that a judge is asked for; an expected answer that is not among them has no confidence.
const TOP_ANSWERS: u8 = 10;

/// A reflecting job's program: what it was asked for, and what became of its stages so far.
#[derive(Debug, Clone)]
pub struct Reflecting {
    /// With nothing left open.
    spec: JobSpec,
    rounds: Vec<State>,
}

/// A round as far as it is.
#[derive(Debug, Clone)]
struct State {
    spec: ImageSpec,
    image: Option<Result<RoundImage, Outcome>>,
    checks: Vec<Option<Checked>>,
    image_us: u64,
    check_us: u64,
}

/// What a program wants.
#[derive(Debug, Clone, PartialEq)]
pub enum Next {
    /// These stages, but for those that are under way.
    Stages(Vec<Stage>),
    /// To end.
    Conclude(Outcome, Reflection),
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
    /// The picture that it looks at; `None`: those that came with the job.
    pub image: Option<RoundImage>,
}

impl Reflecting {
    /// The program of a job with nothing left open; `None` if it does not reflect.
    pub fn of(spec: &JobSpec) -> Option<Self> {
        spec.reflect.as_ref().map(|_| Self { spec: spec.clone(), rounds: Vec::new() })
    }

    /// Takes in that a stage is under way, or was when the daemon died; after that its round counts as begun.
    pub fn begin(&mut self, part: Part, spec: &JobSpec) {
        if let (Role::Image, Task::Txt2Img(image) | Task::Img2Img(image)) = (part.role, &spec.task)
            && usize::from(part.round) == self.rounds.len() + 1
        {
            let checks = vec![None; self.checks().len()];
            self.rounds.push(State { spec: image.clone(), image: None, checks, image_us: 0, check_us: 0 });
        }
    }

    /// Takes in how a stage has ended.
    pub fn end(&mut self, ended: &EndedPart) {
        self.begin(ended.part, &ended.spec);
        let confidence = self.spec.reflect.as_ref().and_then(|reflect| reflect.confidence);
        let check = match ended.part.role {
            Role::Image => None,
            Role::Check(index) => {
                self.checks().get(usize::from(index)).cloned().map(|check| (usize::from(index), check))
            }
        };
        let index = usize::from(ended.part.round).wrapping_sub(1);
        let Some(round) = self.rounds.get_mut(index) else { return };
        match check {
            Some((index, check)) => {
                round.check_us += ended.lane_us;
                round.checks[index] = Some(judge(&check, &ended.outcome, confidence.unwrap_or(DEFAULT_CONFIDENCE)));
            }
            None if ended.part.role == Role::Image => {
                round.image_us += ended.lane_us;
                round.image = Some(match &ended.outcome {
                    Outcome::Image { blob, size, truncated_tokens } => {
                        Ok(RoundImage { blob: *blob, size: *size, truncated_tokens: *truncated_tokens })
                    }
                    Outcome::Answers(_) | Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Expired { .. } => {
                        Err(ended.outcome.clone())
                    }
                });
            }
            None => {}
        }
    }

    /// What it wants now.
    pub fn next(&self) -> Next {
        let Some(round) = self.rounds.last() else { return self.image_stage(1) };
        let image = match &round.image {
            None => return self.image_stage(self.number()),
            Some(Err(why)) => return self.give_up(why, ReflectEnd::Failed),
            Some(Ok(image)) => *image,
        };
        let asked = round.checks.iter().zip(self.checks()).enumerate();
        let missing = asked.filter(|(_, (made, _))| made.is_none());
        let missing: Vec<Stage> = missing.map(|(index, (_, check))| self.check_stage(index, check, image)).collect();
        if !missing.is_empty() {
            return Next::Stages(missing);
        }
        let reflect = self.spec.reflect.as_ref();
        let most = reflect.and_then(|reflect| reflect.rounds).unwrap_or(DEFAULT_ROUNDS);
        let lane_ms = reflect.and_then(|reflect| reflect.lane_ms);
        let worked_us: u64 = self.rounds.iter().map(|round| round.image_us + round.check_us).sum();
        let end = if round.verdict() == Some(Verdict::Pass) {
            ReflectEnd::Passed
        } else if round.checks.iter().flatten().all(|check| check.answer.is_none()) {
            // Another picture would not be looked at either.
            ReflectEnd::Unchecked
        } else if self.number() >= most {
            ReflectEnd::Rounds
        } else if lane_ms.is_some_and(|ms| worked_us >= ms.saturating_mul(1000)) {
            ReflectEnd::LaneTime
        } else {
            return self.image_stage(self.number() + 1);
        };
        self.conclude(end)
    }

    /// How it ends if its time is over now: with its best picture, if there is one, else with `outcome`.
    pub fn give_up(&self, outcome: &Outcome, end: ReflectEnd) -> Next {
        let cancelled = *outcome == Outcome::Cancelled;
        let strict = self.spec.reflect.as_ref().is_some_and(|reflect| reflect.strict);
        match self.best().filter(|(_, round)| !cancelled && (!strict || round.verdict() == Some(Verdict::Pass))) {
            Some(_) => self.conclude(end),
            None => Next::Conclude(outcome.clone(), Reflection { end: Some(end), ..self.view() }),
        }
    }

    /// What has become of it so far.
    pub fn view(&self) -> Reflection {
        let rounds = (1u8..).zip(&self.rounds).map(|(number, round)| round.view(number)).collect();
        Reflection { rounds, best: None, verdict: None, end: None }
    }

    /// The round it is in, from 1, and the most there will be.
    pub fn round(&self) -> (u8, u8) {
        let most = self.spec.reflect.as_ref().and_then(|reflect| reflect.rounds).unwrap_or(DEFAULT_ROUNDS);
        (self.number().max(1), most)
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

    fn image_stage(&self, number: u8) -> Next {
        let (Task::Txt2Img(asked) | Task::Img2Img(asked)) = &self.spec.task else {
            // A question does not reflect; `validate` refuses it.
            return Next::Stages(Vec::new());
        };
        let begun = self.rounds.get(usize::from(number) - 1).map(|round| round.spec.clone());
        let image = begun.unwrap_or_else(|| match number {
            1 => asked.clone(),
            _ => adjust(asked, number, &self.failed()),
        });
        let task = match self.spec.task {
            Task::Img2Img(_) => Task::Img2Img(image),
            Task::Txt2Img(_) | Task::Vqa(_) => Task::Txt2Img(image),
        };
        let spec = JobSpec { task, deadline_ms: None, queue_timeout_ms: None, reflect: None, ..self.spec.clone() };
        Next::Stages(vec![Stage { round: number, role: Role::Image, spec, image: None }])
    }

    fn check_stage(&self, index: usize, check: &Check, image: RoundImage) -> Stage {
        let task = Task::Vqa(VqaSpec { question: check.question.clone(), top: TOP_ANSWERS });
        let model = self.spec.reflect.as_ref().and_then(|reflect| reflect.judge.clone());
        let spec = JobSpec { model, priority: self.spec.priority, ..JobSpec::new(task) };
        let role = Role::Check(u8::try_from(index).unwrap_or(u8::MAX));
        Stage { round: self.number(), role, spec, image: Some(image) }
    }

    /// The checks that each round failed.
    fn failed(&self) -> Vec<Vec<&Check>> {
        let of = |round: &State| {
            let checks = round.checks.clone().into_iter().zip(self.checks());
            let failed = checks.filter(|(made, _)| made.as_ref().is_some_and(|made| !made.passed));
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
            return Next::Conclude(Outcome::Failed { kind: FailureKind::Engine, message }, self.view());
        };
        let reflection = Reflection { best: Some(number), verdict: round.verdict(), end: Some(end), ..self.view() };
        let strict = self.spec.reflect.as_ref().is_some_and(|reflect| reflect.strict);
        let outcome = match &round.image {
            Some(Ok(image)) if !strict || round.verdict() == Some(Verdict::Pass) => {
                Outcome::Image { blob: image.blob, size: image.size, truncated_tokens: image.truncated_tokens }
            }
            _ => Outcome::Failed { kind: FailureKind::ChecksFailed, message: failed_message(&reflection) },
        };
        Next::Conclude(outcome, reflection)
    }
}

impl State {
    fn verdict(&self) -> Option<Verdict> {
        let passed = self.checks.iter().map(|check| check.as_ref().map(|check| check.passed));
        let passed: Option<Vec<bool>> = passed.collect();
        let made = matches!(self.image, Some(Ok(_)));
        passed.filter(|_| made).map(|passed| if passed.iter().all(|p| *p) { Verdict::Pass } else { Verdict::Fail })
    }

    /// The geometric mean of the confidences of the checks that were made; 0 if none was.
    fn score(&self) -> f32 {
        let made: Vec<f32> = self.checks.iter().flatten().map(|check| check.confidence.max(1e-6)).collect();
        if made.is_empty() { 0.0 } else { (made.iter().map(|c| c.ln()).sum::<f32>() / made.len() as f32).exp() }
    }

    fn view(&self, number: u8) -> Round {
        Round {
            number,
            prompt: self.spec.prompt.clone(),
            seed: self.spec.seed.unwrap_or(0),
            steps: self.spec.steps.unwrap_or(0),
            guidance: self.spec.guidance,
            image: self.image.as_ref().and_then(|image| image.as_ref().ok()).copied(),
            checks: self.checks.iter().flatten().cloned().collect(),
            verdict: self.verdict(),
            score: self.score(),
            image_us: self.image_us,
            check_us: self.check_us,
        }
    }
}

/// What an answer says of a check.
fn judge(check: &Check, outcome: &Outcome, confidence: f32) -> Checked {
    let answers = match outcome {
        Outcome::Answers(answers) => answers.as_slice(),
        Outcome::Image { .. } | Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Expired { .. } => &[],
    };
    let is_expected = |label: &str| label.trim().eq_ignore_ascii_case(check.answer.trim());
    let share = answers.iter().find(|answer| is_expected(&answer.label)).map_or(0.0, |answer| answer.score);
    let best = answers.first().map(|answer| answer.label.clone());
    Checked {
        question: check.question.clone(),
        expected: check.answer.clone(),
        passed: best.as_deref().is_some_and(is_expected) && share >= confidence,
        answer: best,
        confidence: share,
    }
}

/// Why a strict job failed, for a person.
fn failed_message(reflection: &Reflection) -> String {
    let best = reflection.best.and_then(|number| reflection.rounds.iter().find(|round| round.number == number));
    let failed = best.and_then(|round| round.checks.iter().find(|check| !check.passed));
    let why = failed.map_or_else(String::new, |check| {
        let answer = check.answer.as_deref().unwrap_or("nothing");
        format!(" ({:?} was answered {answer:?}, not {:?})", check.question, check.expected)
    });
    let (rounds, best) = (reflection.rounds.len(), best.map_or(0, |round| round.number));
    format!(
        "none of {rounds} pictures passed; the best is that of round {best}{why}; \
         allow more rounds, or reword the prompt"
    )
}
