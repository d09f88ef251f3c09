//! One prompt that was asked for: its rounds as the daemon has them on record, and what the pixel checker finds in each.

use gpusched_shared::{Round, Verdict};
use serde::Serialize;

use super::prompts::Subject;

/// A picture of a trial, judged twice: by the model that steers, and by the pixel checker that it never hears of.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Judged {
    /// The round, with the judge's verdict.
    #[serde(flatten)]
    pub(super) round: Round,
    /// Whether the checker finds what was asked for; `None` if there is no picture.
    pub(super) shown: Option<bool>,
}

impl Judged {
    fn passed(&self) -> bool {
        self.round.verdict == Some(Verdict::Pass)
    }
}

/// What came of one prompt.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Trial {
    pub(super) subject: Subject,
    pub(super) prompt: String,
    pub(super) held_out: bool,
    /// Whether the checker finds what was asked for in a drawn picture of the scene.
    pub(super) drawn_shown: bool,
    pub(super) job: u64,
    /// How the job ended: `done`, `failed`, `cancelled` or `expired`.
    pub(super) ended: &'static str,
    /// The round whose picture the daemon gave.
    pub(super) best: Option<u8>,
    pub(super) rounds: Vec<Judged>,
}

impl Trial {
    /// The rounds that would have been made with at most `budget` of them. What happens up to a round does not depend on
    /// how many more there may be.
    pub(super) fn within(&self, budget: u8) -> impl DoubleEndedIterator<Item = &Judged> {
        self.rounds.iter().filter(move |judged| judged.round.number <= budget)
    }

    /// The picture that the job would have ended with: the first that passed, or else the one with the highest score, of
    /// equal ones the first.
    pub(super) fn pick(&self, budget: u8) -> Option<&Judged> {
        let made = || self.within(budget).filter(|judged| judged.shown.is_some());
        let best = || made().rev().max_by(|a, b| a.round.score.total_cmp(&b.round.score));
        made().find(|judged| judged.passed()).or_else(best)
    }

    /// Whether that picture shows what was asked for.
    pub(super) fn is_shown(&self, budget: u8) -> bool {
        self.pick(budget).and_then(|judged| judged.shown).unwrap_or(false)
    }

    /// How long lanes would have worked, in microseconds: on pictures and on checks.
    pub(super) fn lane_us(&self, budget: u8) -> (u64, u64) {
        self.within(budget)
            .fold((0, 0), |(image, check), judged| (image + judged.round.image_us, check + judged.round.check_us))
    }
}

#[cfg(test)]
pub(super) mod made_up {
    use super::*;

    /// A round with a verdict, a score, and what the checker says; 1 s of work on the picture and 10 ms on its checks.
    pub(in super::super) fn judged(number: u8, passed: bool, score: f32, shown: Option<bool>) -> Judged {
        let round = Round {
            number,
            prompt: "a red circle".to_owned(),
            seed: u64::from(number),
            steps: 20,
            guidance: None,
            image: None,
            checks: Vec::new(),
            verdict: Some(if passed { Verdict::Pass } else { Verdict::Fail }),
            score,
            image_us: 1_000_000,
            check_us: 10_000,
            rejected_early: false,
        };
        Judged { round, shown }
    }

    pub(in super::super) fn trial(held_out: bool, rounds: Vec<Judged>) -> Trial {
        let best = rounds.last().map(|judged| judged.round.number);
        Trial {
            subject: Subject::Single,
            prompt: "a red circle".to_owned(),
            held_out,
            drawn_shown: true,
            job: 1,
            ended: "done",
            best,
            rounds,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::made_up::{judged, trial};

    #[test]
    fn a_budget_ends_with_the_first_that_passed_or_else_the_best_within_it() {
        let trial = trial(
            false,
            vec![
                judged(1, false, 0.4, Some(false)),
                judged(2, false, 0.2, Some(true)),
                judged(3, false, 0.4, Some(true)),
                judged(4, true, 0.3, Some(true)),
            ],
        );
        let picks: Vec<_> = (0..=5).map(|budget| trial.pick(budget).map(|judged| judged.round.number)).collect();
        assert_eq!(picks, [None, Some(1), Some(1), Some(1), Some(4), Some(4)]);
        assert_eq!([1, 2, 4].map(|budget| trial.is_shown(budget)), [false, false, true]);
        assert_eq!(trial.lane_us(2), (2_000_000, 20_000));
        assert_eq!(trial.lane_us(8), (4_000_000, 40_000));
    }

    #[test]
    fn a_round_without_a_picture_is_never_the_best_but_costs() {
        let with_none = trial(false, vec![judged(1, false, 0.1, Some(true)), judged(2, false, 0.9, None)]);
        assert_eq!(with_none.pick(2).map(|judged| judged.round.number), Some(1));
        assert_eq!(with_none.lane_us(2).0, 2_000_000);
        let nothing = trial(false, Vec::new());
        assert!(nothing.pick(4).is_none() && !nothing.is_shown(4));
    }
}
