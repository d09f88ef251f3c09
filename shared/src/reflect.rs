//! Reflection: the daemon looks at a picture it made, and tries again where it does not show what was asked for.

use std::fmt;
use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::blob::BlobRef;
use crate::codec::{Decode, Encode};
use crate::outcome::Outcome;
use crate::rejection::Rejection;
use crate::spec::{MAX_NAME_BYTES, Size, bad, within};

/// The most rounds of a reflecting job; one is a check without a second try.
pub const ROUNDS: RangeInclusive<u8> = 1..=8;
/// The most checks of a picture.
pub const MAX_CHECKS: usize = 16;
/// Longest question of a check, in bytes.
pub const MAX_QUESTION_BYTES: usize = 512;
/// Longest expected answer of a check, in bytes.
pub const MAX_ANSWER_BYTES: usize = 64;
/// The share of the probability that the expected answer needs.
pub const CONFIDENCE: RangeInclusive<f32> = 0.0..=1.0;

/// That a picture is to be checked, how, and what may be spent on it. What is left open the daemon fills in.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, Encode, Decode)]
pub struct Reflect {
    /// The most pictures to make, within [`ROUNDS`].
    pub rounds: Option<u8>,
    /// What to ask of each picture, at most [`MAX_CHECKS`]; empty: what the prompt claims.
    pub checks: Vec<Check>,
    /// The model that answers; default: the first in the catalog that can.
    pub judge: Option<String>,
    /// The share of the probability that an expected answer needs, within [`CONFIDENCE`].
    pub confidence: Option<f32>,
    /// Once lanes have worked for so many milliseconds on the job and a picture is made, no further round is begun.
    pub lane_ms: Option<u64>,
    /// If true, a job of which no picture passed fails, instead of giving the best.
    pub strict: bool,
    /// After this share of a picture's steps, between 0 and 1, what it is about to become is looked at, too, which costs
    /// as many checks; one that is hopeless by then is not made to its end. The last picture always is. `None`: no picture
    /// is looked at early.
    #[serde(default)]
    pub early: Option<f32>,
}

/// A question about a picture, with the answer that it should have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Check {
    /// The question.
    pub question: String,
    /// The answer that passes.
    pub answer: String,
    /// What it is about.
    pub claim: Claim,
}

/// What a check is about, which decides what is changed where it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Claim {
    /// Something is there, in its colour and shape.
    Object {
        /// Which of the things that the prompt names, in its order, from 0.
        index: u8,
    },
    /// There are so many things.
    Count,
    /// Two things stand as asked.
    Relation,
    /// The prompt as a whole.
    Whole,
    /// Whatever the client asked.
    Given,
}

/// A check that was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Checked {
    /// The question.
    pub question: String,
    /// The answer that would pass.
    pub expected: String,
    /// The answer that the judge finds most likely; `None` if it could give none.
    pub answer: Option<String>,
    /// The share of the probability that the judge gives to the expected answer, 0 to 1.
    pub confidence: f32,
    /// Whether that was enough, and the expected answer the most likely one.
    pub passed: bool,
}

/// Whether a picture shows what was asked for, as far as its checks tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// All checks passed.
    Pass,
    /// At least one did not.
    Fail,
}

/// One picture of a reflecting job, and what was found out about it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Round {
    /// Which one, from 1.
    pub number: u8,
    /// What it was made from.
    pub prompt: String,
    /// The seed of its noise.
    pub seed: u64,
    /// Its diffusion steps.
    pub steps: u32,
    /// Its guidance; `None` where the model's own is used.
    pub guidance: Option<f32>,
    /// The picture; `None` while it is not made, or could not be.
    pub image: Option<RoundImage>,
    /// Its checks, in order, as far as they have been made; of what it was about to become, if it was rejected early.
    pub checks: Vec<Checked>,
    /// What follows from them; `None` until all have been made.
    pub verdict: Option<Verdict>,
    /// How well it did: the geometric mean of the checks' confidences, 0 to 1.
    pub score: f32,
    /// How long lanes worked on the picture, in microseconds.
    pub image_us: u64,
    /// How long lanes worked on its checks, in microseconds; those of what it was about to become included.
    pub check_us: u64,
    /// Whether it was not made to its end, because it was hopeless before.
    #[serde(default)]
    pub rejected_early: bool,
}

/// The picture of a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct RoundImage {
    /// Its file.
    pub blob: BlobRef,
    /// Its size in pixels.
    pub size: Size,
    /// Prompt tokens beyond the model's limit.
    pub truncated_tokens: u32,
}

/// What became of a reflecting job, so far or in all.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct Reflection {
    /// Its rounds, in order.
    pub rounds: Vec<Round>,
    /// The number of the round whose picture is the job's, once it has ended with one.
    pub best: Option<u8>,
    /// That picture's verdict; if the job was strict and failed, that of the picture that did best.
    pub verdict: Option<Verdict>,
    /// Why no further round was begun, once none is.
    pub end: Option<ReflectEnd>,
}

/// Why a job made no further round.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum ReflectEnd {
    /// A picture passed.
    Passed,
    /// All rounds were used.
    Rounds,
    /// Lanes had worked on it for as long as they may.
    LaneTime,
    /// Its time was over, or it was cancelled.
    Ended,
    /// A picture could not be made.
    Failed,
    /// No check of a picture could be made.
    Unchecked,
}

/// How far a round is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Its picture waits for a lane.
    Waiting,
    /// Its picture is being made.
    Making {
        /// How far it is.
        activity: crate::view::Activity,
        /// True while it is parked at a yield point for lighter work.
        parked: bool,
    },
    /// It is being checked.
    Checking {
        /// Checks made.
        done: u8,
        /// Checks to make.
        of: u8,
    },
}

impl Reflect {
    /// Checks everything that can be checked without knowing the models.
    ///
    /// # Errors
    /// [`Rejection::BadSpec`]: the first thing wrong.
    pub(crate) fn validate(&self) -> Result<(), Rejection> {
        if let Some(rounds) = self.rounds {
            within("rounds", rounds, ROUNDS)?;
        }
        if let Some(confidence) = self.confidence {
            within("confidence", confidence, CONFIDENCE)?;
        }
        if let Some(share) = self.early
            && !(share > 0.0 && share < 1.0)
        {
            return Err(bad("early", format!("{share} is not a share of the steps between 0 and 1")));
        }
        if self.lane_ms == Some(0) {
            return Err(bad("lane time", "must be more than none".to_owned()));
        }
        if self.judge.as_ref().is_some_and(|name| name.len() > MAX_NAME_BYTES) {
            return Err(bad("judge", format!("longer than {MAX_NAME_BYTES} bytes")));
        }
        if self.checks.len() > MAX_CHECKS {
            return Err(bad("checks", format!("{} of them, the most is {MAX_CHECKS}", self.checks.len())));
        }
        self.checks.iter().try_for_each(Check::validate)
    }
}

impl Check {
    /// A question of the client's own.
    pub fn new(question: impl Into<String>, answer: impl Into<String>) -> Self {
        Self { question: question.into(), answer: answer.into(), claim: Claim::Given }
    }

    fn validate(&self) -> Result<(), Rejection> {
        let texts =
            [("check", &self.question, MAX_QUESTION_BYTES), ("expected answer", &self.answer, MAX_ANSWER_BYTES)];
        for (field, text, limit) in texts {
            if text.trim().is_empty() || text.len() > limit || text.contains('\0') {
                return Err(bad(field, format!("must have 1 to {limit} bytes, not all blank, and no NUL character")));
            }
        }
        Ok(())
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pass => "PASS",
            Self::Fail => "FAIL",
        })
    }
}

impl fmt::Display for ReflectEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "a picture passed",
            Self::Rounds => "all rounds were used",
            Self::LaneTime => "its lane time was used",
            Self::Ended => "it was ended before, or its time was over",
            Self::Failed => "a picture could not be made",
            Self::Unchecked => "no check could be made",
        })
    }
}

impl Reflection {
    /// The verdict of the first picture, once there is one.
    pub fn first_verdict(&self) -> Option<Verdict> {
        self.rounds.first().and_then(|round| round.verdict)
    }

    /// Whether something can be learnt from it of how well pictures do. Not of a job that came to no verdict, that was cancelled, or
    /// whose last picture nobody could judge.
    pub fn tells(&self, outcome: &Outcome) -> bool {
        let judged = self.rounds.iter().any(|round| round.verdict.is_some());
        judged && *outcome != Outcome::Cancelled && self.end != Some(ReflectEnd::Unchecked)
    }

    /// The picture of a round, by its number.
    pub fn image(&self, number: u8) -> Option<RoundImage> {
        self.rounds.iter().find(|round| round.number == number).and_then(|round| round.image)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wrong with a job that reflects so.
    fn refused(reflect: Reflect) -> Option<String> {
        match reflect.validate() {
            Err(Rejection::BadSpec { field, .. }) => Some(field),
            other => {
                assert_eq!(other, Ok(()));
                None
            }
        }
    }

    #[test]
    fn reflection_stays_within_its_bounds() {
        let open = Reflect::default;
        let name = "x".repeat(MAX_NAME_BYTES);
        assert_eq!(refused(open()), None);
        let most = Reflect {
            rounds: Some(8),
            checks: vec![Check::new("?".repeat(MAX_QUESTION_BYTES), "a".repeat(MAX_ANSWER_BYTES)); MAX_CHECKS],
            judge: Some(name.clone()),
            confidence: Some(1.0),
            lane_ms: Some(1),
            strict: true,
            early: Some(0.5),
        };
        assert_eq!(refused(most.clone()), None);
        let one_more = [most.checks, vec![Check::new("is it red?", "yes")]].concat();
        for (reflect, field) in [
            (Reflect { rounds: Some(0), ..open() }, "rounds"),
            (Reflect { rounds: Some(9), ..open() }, "rounds"),
            (Reflect { confidence: Some(1.1), ..open() }, "confidence"),
            (Reflect { confidence: Some(f32::NAN), ..open() }, "confidence"),
            (Reflect { lane_ms: Some(0), ..open() }, "lane time"),
            (Reflect { early: Some(0.0), ..open() }, "early"),
            (Reflect { early: Some(1.0), ..open() }, "early"),
            (Reflect { early: Some(f32::NAN), ..open() }, "early"),
            (Reflect { judge: Some(name + "x"), ..open() }, "judge"),
            (Reflect { checks: one_more, ..open() }, "checks"),
        ] {
            assert_eq!(refused(reflect.clone()).as_deref(), Some(field), "{reflect:?}");
        }
    }

    #[test]
    fn checks_have_a_question_and_an_answer() {
        for (question, answer, field) in [
            (" ".to_owned(), "yes".to_owned(), "check"),
            ("?".repeat(MAX_QUESTION_BYTES + 1), "yes".to_owned(), "check"),
            ("is it\0red?".to_owned(), "yes".to_owned(), "check"),
            ("is it red?".to_owned(), String::new(), "expected answer"),
            ("is it red?".to_owned(), "y".repeat(MAX_ANSWER_BYTES + 1), "expected answer"),
        ] {
            let checks = vec![Check::new("is it red?", "yes"), Check::new(question, answer)];
            assert_eq!(refused(Reflect { checks, ..Reflect::default() }).as_deref(), Some(field));
        }
    }
}
