//! How well the daemon's pictures show what was asked for, over its reflecting jobs.

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};

/// The most points of a trend.
pub const MAX_POINTS: u32 = 200;

/// What the daemon's reflecting jobs came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct QualityView {
    /// All that are on record in the time asked for.
    pub overall: Success,
    /// The last `window` of them.
    pub recent: Success,
    /// How many `recent` covers at most.
    pub window: u32,
    /// Of each model that makes pictures.
    pub models: Vec<ModelSuccess>,
    /// All of them in the order in which they ended, in groups of as many jobs each.
    pub trend: Vec<TrendPoint>,
}

/// What a number of reflecting jobs came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
pub struct Success {
    /// Jobs that came to a verdict.
    pub jobs: u64,
    /// Of these: those whose first picture passed.
    pub first_passed: u64,
    /// Of these: those that ended with a picture that passed.
    pub passed: u64,
    /// Pictures made in all.
    pub rounds: u64,
    /// Checks made in all.
    pub checks: u64,
    /// How long lanes worked on pictures, in microseconds.
    pub image_us: u64,
    /// How long lanes worked on checks, in microseconds.
    pub check_us: u64,
}

/// [`Success`] of one model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ModelSuccess {
    /// Its name.
    pub model: String,
    /// What its jobs came to.
    pub success: Success,
}

/// [`Success`] of jobs that ended one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct TrendPoint {
    /// When the last of them ended, in milliseconds since the Unix epoch.
    pub until_unix_ms: u64,
    /// What they came to.
    pub success: Success,
}

impl Success {
    /// Adds what other jobs came to.
    pub fn add(&mut self, other: &Self) {
        self.jobs += other.jobs;
        self.first_passed += other.first_passed;
        self.passed += other.passed;
        self.rounds += other.rounds;
        self.checks += other.checks;
        self.image_us += other.image_us;
        self.check_us += other.check_us;
    }

    /// The share of jobs whose first picture passed, by their judge; `None` if there were none.
    pub fn first_rate(&self) -> Option<f64> {
        share(self.first_passed, self.jobs)
    }

    /// The share of jobs that ended with a picture that passed, by their judge; `None` if there were none.
    pub fn rate(&self) -> Option<f64> {
        share(self.passed, self.jobs)
    }
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_of_jobs_and_none_of_none() {
        let one = Success { jobs: 4, first_passed: 1, passed: 3, rounds: 7, checks: 21, image_us: 10, check_us: 2 };
        assert_eq!((one.first_rate(), one.rate()), (Some(0.25), Some(0.75)));
        assert_eq!((Success::default().first_rate(), Success::default().rate()), (None, None));
    }

    #[test]
    fn adding_adds_everything() {
        let one = Success { jobs: 1, first_passed: 2, passed: 3, rounds: 4, checks: 5, image_us: 6, check_us: 7 };
        let mut sum = one;
        sum.add(&one);
        let twice = Success { jobs: 2, first_passed: 4, passed: 6, rounds: 8, checks: 10, image_us: 12, check_us: 14 };
        assert_eq!(sum, twice);
    }
}
