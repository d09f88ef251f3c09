//! What trials come to. From one run with the largest budget the outcome with every smaller one is known.

use gpusched_shared::Verdict;
use serde::Serialize;

use super::interval::Share;
use super::prompts::Subject;
use super::trial::{Judged, Trial};

/// The budgets that are reported, as far as the run had as many rounds.
const BUDGETS: [u8; 3] = [1, 2, 4];

/// What the trials of one kind of prompt come to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Figures {
    pub(super) subject: Subject,
    /// Prompts, and of these: with combinations that training never showed.
    pub(super) prompts: u64,
    pub(super) held_out: u64,
    /// What the checker makes of drawn pictures of the same scenes.
    pub(super) ceiling: Share,
    /// With one round and with more.
    pub(super) budgets: Vec<Budget>,
    /// How often the judge is wrong.
    pub(super) judge: JudgeError,
}

/// With at most so many rounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Budget {
    pub(super) rounds: u8,
    /// Jobs whose picture shows what was asked for.
    pub(super) all: Share,
    pub(super) seen: Share,
    pub(super) held_out: Share,
    /// `all` by what the checker makes of drawn pictures.
    pub(super) of_ceiling: Option<f64>,
    /// Of those whose first picture does not show it: those whose last choice does.
    pub(super) repaired: Share,
    /// Of those whose first picture shows it: those whose last choice does not.
    pub(super) spoiled: Share,
    /// Means over jobs: pictures made, and how long lanes worked on pictures and on checks.
    pub(super) pictures: f64,
    pub(super) image_ms: f64,
    pub(super) check_ms: f64,
    /// The time on pictures, by that with one round.
    pub(super) image_to_one_round: f64,
}

/// How often the judge says something else than the checker, over all pictures of which both said something.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct JudgeError {
    /// Of pictures that do not show what was asked for: those that passed.
    pub(super) false_pass: Share,
    /// Of pictures that show it: those that failed.
    pub(super) false_fail: Share,
    /// Of pictures that passed: those that do not show it.
    pub(super) wrong_of_passed: Share,
    /// Of pictures that failed: those that show it.
    pub(super) right_of_failed: Share,
}

impl Figures {
    /// Of the trials of `subject` in a run of up to `rounds` rounds.
    pub(super) fn of(subject: Subject, trials: &[Trial], rounds: u8) -> Self {
        let trials: Vec<&Trial> = trials.iter().filter(|trial| trial.subject == subject).collect();
        let ceiling = Share::of(trials.iter().map(|trial| trial.drawn_shown));
        let budgets = budgets(rounds).into_iter().map(|budget| Budget::of(budget, &trials, ceiling));
        Self {
            subject,
            prompts: trials.len() as u64,
            held_out: trials.iter().filter(|trial| trial.held_out).count() as u64,
            ceiling,
            budgets: budgets.collect(),
            judge: JudgeError::of(trials.iter().copied()),
        }
    }

    /// With a budget, if the run tells.
    pub(super) fn with(&self, rounds: u8) -> Option<&Budget> {
        self.budgets.iter().find(|budget| budget.rounds == rounds)
    }
}

/// Of the trials whose first picture does not show what was asked for: those whose last choice with a budget does.
pub(super) fn repaired<'a>(trials: impl IntoIterator<Item = &'a Trial>, rounds: u8) -> Share {
    let failed = trials.into_iter().filter(|trial| !trial.is_shown(1));
    Share::of(failed.map(|trial| trial.is_shown(rounds)))
}

/// What is reported of a run of up to `rounds` rounds.
fn budgets(rounds: u8) -> Vec<u8> {
    let smaller = BUDGETS.into_iter().filter(|budget| *budget < rounds);
    smaller.chain([rounds]).collect()
}

impl Budget {
    fn of(rounds: u8, trials: &[&Trial], ceiling: Share) -> Self {
        let shown = |which: fn(&Trial) -> bool| {
            Share::of(trials.iter().filter(|trial| which(trial)).map(|trial| trial.is_shown(rounds)))
        };
        let mean = |of: fn(&Trial, u8) -> u64, rounds: u8| {
            trials.iter().map(|trial| of(trial, rounds) as f64).sum::<f64>() / trials.len().max(1) as f64
        };
        let image_us = |trial: &Trial, rounds: u8| trial.lane_us(rounds).0;
        let all = shown(|_| true);
        let right_at_first = trials.iter().filter(|trial| trial.is_shown(1));
        Self {
            rounds,
            all,
            seen: shown(|trial| !trial.held_out),
            held_out: shown(|trial| trial.held_out),
            of_ceiling: all.share.zip(ceiling.share.filter(|ceiling| *ceiling > 0.0)).map(|(all, top)| all / top),
            repaired: repaired(trials.iter().copied(), rounds),
            spoiled: Share::of(right_at_first.map(|trial| !trial.is_shown(rounds))),
            pictures: mean(|trial, rounds| trial.within(rounds).count() as u64, rounds),
            image_ms: mean(image_us, rounds) / 1e3,
            check_ms: mean(|trial, rounds| trial.lane_us(rounds).1, rounds) / 1e3,
            image_to_one_round: mean(image_us, rounds) / mean(image_us, 1).max(1.0),
        }
    }
}

impl JudgeError {
    pub(super) fn of<'a>(trials: impl IntoIterator<Item = &'a Trial>) -> Self {
        let both = |judged: &'a Judged| Some((judged.round.verdict? == Verdict::Pass, judged.shown?));
        let said: Vec<(bool, bool)> = trials.into_iter().flat_map(|trial| &trial.rounds).filter_map(both).collect();
        let share = |of: fn((bool, bool)) -> bool, hit: fn((bool, bool)) -> bool| {
            Share::of(said.iter().copied().filter(|said| of(*said)).map(hit))
        };
        Self {
            false_pass: share(|(_, shown)| !shown, |(passed, _)| passed),
            false_fail: share(|(_, shown)| shown, |(passed, _)| !passed),
            wrong_of_passed: share(|(passed, _)| passed, |(_, shown)| !shown),
            right_of_failed: share(|(passed, _)| !passed, |(_, shown)| shown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::made_up::{judged, trial};
    use super::*;

    /// One that is right at once; one that is repaired by the second round; one by the third, held out; one that a false
    /// alarm spoils; and one that ends with a wrong picture that passes, held out, too.
    fn trials() -> Vec<Trial> {
        let wrong = |number| judged(number, false, 0.1, Some(false));
        vec![
            trial(false, vec![judged(1, true, 0.9, Some(true))]),
            trial(false, vec![wrong(1), judged(2, true, 0.9, Some(true))]),
            trial(true, vec![wrong(1), wrong(2), judged(3, true, 0.9, Some(true))]),
            trial(false, vec![judged(1, false, 0.3, Some(true)), judged(2, true, 0.9, Some(false))]),
            trial(true, vec![wrong(1), judged(2, true, 0.9, Some(false))]),
        ]
    }

    fn counts(share: Share) -> (u64, u64) {
        (share.hits, share.of)
    }

    #[test]
    fn every_budget_is_read_off_one_run() {
        let figures = Figures::of(Subject::Single, &trials(), 4);
        assert_eq!((figures.prompts, figures.held_out, counts(figures.ceiling)), (5, 2, (5, 5)));
        let of = |share: fn(&Budget) -> Share| {
            figures.budgets.iter().map(|budget| counts(share(budget))).collect::<Vec<_>>()
        };
        assert_eq!(figures.budgets.iter().map(|budget| budget.rounds).collect::<Vec<_>>(), [1, 2, 4]);
        assert_eq!(of(|budget| budget.all), [(2, 5), (2, 5), (3, 5)]);
        assert_eq!(of(|budget| budget.seen), [(2, 3), (2, 3), (2, 3)]);
        assert_eq!(of(|budget| budget.held_out), [(0, 2), (0, 2), (1, 2)]);
        assert_eq!(of(|budget| budget.repaired), [(0, 3), (1, 3), (2, 3)]);
        assert_eq!(of(|budget| budget.spoiled), [(0, 2), (1, 2), (1, 2)]);
    }

    #[test]
    fn what_a_budget_costs_is_what_its_rounds_took() {
        let figures = Figures::of(Subject::Single, &trials(), 4);
        let cost = |rounds: u8| {
            let budget = figures.with(rounds).expect("reported");
            (budget.pictures, budget.image_ms, budget.image_to_one_round, budget.check_ms)
        };
        assert_eq!(cost(1), (1.0, 1000.0, 1.0, 10.0));
        assert_eq!(cost(2), (1.8, 1800.0, 1.8, 18.0));
        assert_eq!(cost(4), (2.0, 2000.0, 2.0, 20.0));
    }

    #[test]
    fn a_worse_checker_lowers_the_ceiling() {
        let mut trials = trials();
        trials[0].drawn_shown = false;
        let figures = Figures::of(Subject::Single, &trials, 4);
        assert_eq!(counts(figures.ceiling), (4, 5));
        let of_ceiling = figures.with(4).and_then(|budget| budget.of_ceiling).expect("a share");
        assert!((of_ceiling - 0.75).abs() < 1e-12);
    }

    #[test]
    fn the_judge_is_measured_on_every_picture_that_both_saw() {
        let mut trials = trials();
        let mut unjudged = judged(4, true, 0.9, Some(true));
        unjudged.round.verdict = None;
        trials[0].rounds.push(unjudged);
        trials[0].rounds.push(judged(5, false, 0.0, None));
        let judge = JudgeError::of(&trials);
        assert_eq!(counts(judge.false_pass), (2, 6));
        assert_eq!(counts(judge.false_fail), (1, 4));
        assert_eq!(counts(judge.wrong_of_passed), (2, 5));
        assert_eq!(counts(judge.right_of_failed), (1, 5));
    }

    #[test]
    fn a_run_of_more_or_fewer_rounds_reports_its_own_budget() {
        assert_eq!([1, 2, 3, 4, 8].map(budgets), [vec![1], vec![1, 2], vec![1, 2, 3], vec![1, 2, 4], vec![1, 2, 4, 8]]);
    }
}
