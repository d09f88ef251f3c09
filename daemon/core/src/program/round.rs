//! A round of a reflecting job: its picture, its checks, and what follows from them.

use gpusched_shared::{Check, Checked, ImageSpec, Outcome, Round, RoundImage, Verdict};

/// A glance at which another answer is the most likely one, and the expected one less likely than this, tells that the
/// picture is hopeless. A judge is less sure of what is still noisy, so it is far less than a check needs to pass.
const HOPELESS: f32 = 0.1;

/// A round as far as it is.
#[derive(Debug, Clone)]
pub(super) struct State {
    pub(super) spec: ImageSpec,
    pub(super) image: Option<Result<RoundImage, Outcome>>,
    pub(super) checks: Vec<Option<Checked>>,
    /// What the picture is about to become, once that is known.
    pub(super) preview: Option<RoundImage>,
    /// The checks of the preview.
    pub(super) glances: Vec<Option<Checked>>,
    /// How a question about it ended that says how the job does: it was told to end, or its engine died of it.
    pub(super) over: Option<Outcome>,
    pub(super) image_us: u64,
    pub(super) check_us: u64,
}

impl State {
    /// One of which nothing is known but what its picture is made from.
    pub(super) fn new(spec: ImageSpec, checks: usize) -> Self {
        let (checks, glances) = (vec![None; checks], vec![None; checks]);
        Self { spec, image: None, checks, preview: None, glances, over: None, image_us: 0, check_us: 0 }
    }

    /// Whether a glance has told that nothing can come of its picture.
    pub(super) fn is_hopeless(&self) -> bool {
        self.glances.iter().flatten().any(is_hopeless)
    }

    /// Whether its picture was not made to its end for that.
    pub(super) fn is_rejected(&self) -> bool {
        self.image == Some(Err(Outcome::Cancelled)) && self.is_hopeless()
    }

    /// What was answered about its picture, or, if it was rejected early, about what that was about to become.
    fn answered(&self) -> impl Iterator<Item = &Checked> {
        let rejected = self.is_rejected();
        let made = if rejected { &self.glances } else { &self.checks };
        // Glances that were ended with their picture say nothing.
        made.iter().flatten().filter(move |made| !rejected || made.answer.is_some())
    }

    pub(super) fn verdict(&self) -> Option<Verdict> {
        if self.is_rejected() {
            return Some(Verdict::Fail);
        }
        let passed = self.checks.iter().map(|check| check.as_ref().map(|check| check.passed));
        let passed: Option<Vec<bool>> = passed.collect();
        let made = matches!(self.image, Some(Ok(_)));
        passed.filter(|_| made).map(|passed| if passed.iter().all(|p| *p) { Verdict::Pass } else { Verdict::Fail })
    }

    /// The geometric mean of the confidences of the checks that were made; 0 if none was.
    pub(super) fn score(&self) -> f32 {
        let made: Vec<f32> = self.answered().map(|check| check.confidence.max(1e-6)).collect();
        if made.is_empty() { 0.0 } else { (made.iter().map(|c| c.ln()).sum::<f32>() / made.len() as f32).exp() }
    }

    pub(super) fn view(&self, number: u8) -> Round {
        Round {
            number,
            prompt: self.spec.prompt.clone(),
            seed: self.spec.seed.unwrap_or(0),
            steps: self.spec.steps.unwrap_or(0),
            guidance: self.spec.guidance,
            image: self.image.as_ref().and_then(|image| image.as_ref().ok()).copied(),
            checks: self.answered().cloned().collect(),
            verdict: self.verdict(),
            score: self.score(),
            image_us: self.image_us,
            check_us: self.check_us,
            rejected_early: self.is_rejected(),
        }
    }
}

/// Whether a glance tells that a picture cannot come to pass.
pub(super) fn is_hopeless(glance: &Checked) -> bool {
    let another = glance.answer.as_ref().is_some_and(|answer| !is_same(answer, &glance.expected));
    another && glance.confidence < HOPELESS
}

fn is_same(answer: &str, expected: &str) -> bool {
    answer.trim().eq_ignore_ascii_case(expected.trim())
}

/// What an answer says of a check.
pub(super) fn judge(check: &Check, outcome: &Outcome, confidence: f32) -> Checked {
    let answers = if let Outcome::Answers(answers) = outcome { answers.as_slice() } else { &[] };
    let is_expected = |label: &str| is_same(label, &check.answer);
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
