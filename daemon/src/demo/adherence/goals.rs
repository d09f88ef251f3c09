//! What was to be reached.

use serde::Serialize;

use super::figures::{Figures, repaired};
use super::prompts::Subject;
use super::trial::Trial;

/// The budget that the goals are about.
const ROUNDS: u8 = 4;

/// A bar, and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Goal {
    pub(super) what: String,
    pub(super) at_least: f64,
    /// `None` if there was nothing to measure it on.
    pub(super) measured: Option<f64>,
    /// `None` likewise.
    pub(super) met: Option<bool>,
}

impl Goal {
    fn new(what: String, at_least: f64, measured: Option<f64>) -> Self {
        Self { what, at_least, measured, met: measured.map(|measured| measured >= at_least) }
    }
}

/// The goals of the kinds of prompts that were asked for, with as many rounds as there were.
pub(super) fn goals(figures: &[Figures], trials: &[Trial], rounds: u8) -> Vec<Goal> {
    let each = |bar: fn(Subject) -> f64, what: String, measured: fn(&Figures) -> Option<f64>| {
        let goal = move |of: &Figures| Goal::new(format!("{}, {what}", of.subject), bar(of.subject), measured(of));
        figures.iter().map(goal).collect::<Vec<_>>()
    };
    let mut goals = each(first_bar, "one round".to_owned(), |of| of.with(1)?.all.share);
    if rounds >= ROUNDS {
        goals.extend(each(last_bar, format!("{ROUNDS} rounds, by the ceiling"), |of| of.with(ROUNDS)?.of_ceiling));
        let repaired = repaired(trials, ROUNDS).share;
        goals.push(Goal::new(format!("failures of the first round repaired, {ROUNDS} rounds"), 2.0 / 3.0, repaired));
    }
    goals
}

fn first_bar(subject: Subject) -> f64 {
    match subject {
        Subject::Single => 0.95,
        Subject::Pair => 0.75,
    }
}

fn last_bar(subject: Subject) -> f64 {
    match subject {
        Subject::Single => 0.97,
        Subject::Pair => 0.90,
    }
}

#[cfg(test)]
mod tests {
    use super::super::trial::made_up::{judged, trial};
    use super::*;

    fn met(trials: &[Trial], rounds: u8) -> Vec<Option<bool>> {
        let figures = [Figures::of(Subject::Single, trials, rounds)];
        goals(&figures, trials, rounds).into_iter().map(|goal| goal.met).collect()
    }

    #[test]
    fn goals_are_met_missed_or_nothing_to_say_about() {
        let good = || trial(false, vec![judged(1, true, 0.9, Some(true))]);
        let repaired = || trial(false, vec![judged(1, false, 0.1, Some(false)), judged(2, true, 0.9, Some(true))]);
        assert_eq!(met(&[good()], 4), [Some(true), Some(true), None]);
        assert_eq!(met(&[good(), repaired()], 4), [Some(false), Some(true), Some(true)]);
        assert_eq!(met(&[good(), repaired()], 2), [Some(false)], "the others are about four rounds");
        assert_eq!(met(&[], 4), [None, None, None]);
    }
}
