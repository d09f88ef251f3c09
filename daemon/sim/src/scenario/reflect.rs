//! How an arrival's pictures are checked.

use gpusched_shared::{Check, Reflect};
use serde::Deserialize;

use super::Seconds;

/// Pictures that are checked and made again, and how often they and their judge are wrong. A picture that is wrong is so in
/// one of the points that it is asked about, which is drawn.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ReflectSpec {
    /// The most pictures of a job, from 1 to 8.
    pub rounds: u8,
    /// Questions about each picture, from 1 to 16.
    pub checks: u8,
    /// The kind of job that a question is; default: the first that answers questions.
    pub judge: Option<String>,
    /// Once lanes have worked for so long on a job, no further picture of it is begun.
    pub lane_s: Option<Seconds>,
    /// Whether a job of which no picture passed fails, instead of giving the best.
    pub strict: bool,
    /// The probability that a picture is right.
    pub right: f64,
    /// The probability that a question about what is wrong is answered as if it were right.
    pub false_pass: f64,
    /// The probability that a question about what is right is answered as if it were wrong.
    pub false_fail: f64,
}

impl Default for ReflectSpec {
    fn default() -> Self {
        Self {
            rounds: 4,
            checks: 3,
            judge: None,
            lane_s: None,
            strict: false,
            right: 0.5,
            false_pass: 0.05,
            false_fail: 0.02,
        }
    }
}

impl ReflectSpec {
    /// The same as a client asks for it, with the judge's model.
    pub(super) fn reflect(&self, judge: Option<String>) -> Reflect {
        Reflect {
            rounds: Some(self.rounds),
            checks: vec![Check::new("q", "yes"); usize::from(self.checks)],
            judge,
            confidence: Some(0.5),
            lane_ms: self.lane_s.map(|time| time.ms().max(1)),
            strict: self.strict,
            early: None,
        }
    }
}
