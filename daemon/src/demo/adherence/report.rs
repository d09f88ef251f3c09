//! What the experiment says, and what it leaves behind.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Context as _;
use gpusched_shared::QualityView;
use serde::Serialize;
use serde_json::json;

use super::super::table::machine;
use super::figures::{Figures, JudgeError};
use super::goals::{Goal, goals};
use super::trial::Trial;

/// Everything that is printed.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: String,
    /// The most rounds that a job had.
    rounds: u8,
    /// Diffusion steps of each picture.
    steps: Option<u32>,
    figures: Vec<Figures>,
    /// The judge's errors over all kinds of prompts.
    judge: JudgeError,
    goals: Vec<Goal>,
    /// Rounds that were begun, and those of them that were rejected early.
    begun: u64,
    rejected_early: u64,
    /// Jobs that did not end with a picture.
    without_picture: u64,
    /// Jobs for which the daemon chose another picture than the one that this report counts.
    chosen_otherwise: u64,
    /// What the daemon says of the same jobs, by its judge.
    quality: QualityView,
}

impl Report {
    /// Of a run of up to `rounds` rounds a job.
    pub(super) fn of(trials: &[Trial], rounds: u8, quality: QualityView) -> Self {
        let mut subjects: Vec<_> = trials.iter().map(|trial| trial.subject).collect();
        subjects.sort_unstable();
        subjects.dedup();
        let figures: Vec<_> = subjects.into_iter().map(|subject| Figures::of(subject, trials, rounds)).collect();
        let count = |which: fn(&Trial, u8) -> bool| trials.iter().filter(|trial| which(trial, rounds)).count() as u64;
        Self {
            machine: machine(),
            rounds,
            steps: trials.iter().flat_map(|trial| &trial.rounds).map(|judged| judged.round.steps).next(),
            judge: JudgeError::of(trials),
            goals: goals(&figures, trials, rounds),
            figures,
            begun: trials.iter().map(|trial| trial.rounds.len() as u64).sum(),
            rejected_early: {
                let rounds = trials.iter().flat_map(|trial| &trial.rounds);
                rounds.filter(|judged| judged.round.rejected_early).count() as u64
            },
            without_picture: count(|trial, _| trial.best.is_none()),
            chosen_otherwise: count(|trial, rounds| {
                trial.best.is_some() && trial.best != trial.pick(rounds).map(|judged| judged.round.number)
            }),
            quality,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // A String takes everything.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, f: &mut String) -> std::fmt::Result {
        let steps = self.steps.map_or_else(String::new, |steps| format!(", {steps} steps a picture"));
        writeln!(f, "{}; up to {} rounds a job{steps}", self.machine, self.rounds)?;
        writeln!(f, "judged by the pixel checker, which the daemon does not know; in brackets 95 % intervals\n")?;
        self.figures.iter().try_for_each(|figures| write_figures(f, figures))?;
        writeln!(f, "the model that judges, against the checker, over all pictures")?;
        let mut line = |what: &str, share: String| writeln!(f, "{what:<56} {share}");
        line("pictures that are wrong, but pass", self.judge.false_pass.to_string())?;
        line("pictures that are right, but fail", self.judge.false_fail.to_string())?;
        line("pictures that pass, but are wrong", self.judge.wrong_of_passed.to_string())?;
        line("pictures that fail, but are right", self.judge.right_of_failed.to_string())?;
        writeln!(f)?;
        self.goals.iter().try_for_each(|goal| write_goal(f, goal))?;
        if self.rejected_early > 0 {
            let (rejected, begun) = (self.rejected_early, self.begun);
            writeln!(
                f,
                "\n{rejected} of {begun} rounds were rejected early; figures of fewer than {} rounds are too low",
                self.rounds
            )?;
        }
        if self.without_picture > 0 {
            writeln!(f, "\n{} jobs ended without a picture, and count as not showing it", self.without_picture)?;
        }
        if self.chosen_otherwise > 0 {
            let count = self.chosen_otherwise;
            writeln!(f, "\nof {count} jobs the daemon gave another picture than the one that is counted here")?;
        }
        Ok(())
    }
}

fn write_figures(f: &mut String, figures: &Figures) -> std::fmt::Result {
    writeln!(
        f,
        "{}: {} prompts, of which {} combine what training never combined; the checker on drawn pictures: {}",
        figures.subject, figures.prompts, figures.held_out, figures.ceiling
    )?;
    let percent = |share: Option<f64>| share.map_or_else(|| "-".to_owned(), |share| format!("{:.1} %", 100.0 * share));
    writeln!(f, "rounds  {:<29} {:<29} {:<29} {:>10}", "show what was asked for", "seen", "held out", "of ceiling")?;
    for budget in &figures.budgets {
        writeln!(
            f,
            "{:>6}  {:<29} {:<29} {:<29} {:>10}",
            budget.rounds,
            budget.all,
            budget.seen,
            budget.held_out,
            percent(budget.of_ceiling)
        )?;
    }
    writeln!(
        f,
        "rounds  {:<29} {:<29} {:>8} {:>11} {:>8} {:>11}",
        "first failed, repaired", "first right, spoiled", "pictures", "image time", "to one", "check time"
    )?;
    for budget in &figures.budgets {
        writeln!(
            f,
            "{:>6}  {:<29} {:<29} {:>8.2} {:>8.1} ms {:>6.2} x {:>8.1} ms",
            budget.rounds,
            budget.repaired,
            budget.spoiled,
            budget.pictures,
            budget.image_ms,
            budget.image_to_one_round,
            budget.check_ms
        )?;
    }
    let judge = &figures.judge;
    writeln!(f, "judge: of wrong pictures {} pass; of right ones {} fail\n", judge.false_pass, judge.false_fail)
}

fn write_goal(f: &mut String, goal: &Goal) -> std::fmt::Result {
    let Goal { what, at_least, measured, met } = goal;
    let measured = measured.map_or_else(|| "-".to_owned(), |measured| format!("{:.1} %", 100.0 * measured));
    let word = match met {
        Some(true) => "met",
        Some(false) => "MISSED",
        None => "nothing to measure",
    };
    writeln!(f, "{what:<56} {measured:>8}  goal >= {:.1} %: {word}", 100.0 * at_least)
}

/// Writes `results.json`, which has the report and every job, and `trend.csv`.
pub(super) fn save(report: &Report, trials: &[Trial], out: &Path) -> anyhow::Result<()> {
    let budgets = || report.figures.first().into_iter().flat_map(|figures| &figures.budgets);
    let job = |trial: &Trial| {
        let last = |rounds: u8| {
            let number = trial.pick(rounds).map(|judged| judged.round.number);
            json!({ "budget": rounds, "round": number, "shown": trial.is_shown(rounds) })
        };
        let finals: Vec<_> = budgets().map(|budget| last(budget.rounds)).collect();
        json!({ "trial": trial, "final": finals })
    };
    let document = json!({ "report": report, "jobs": trials.iter().map(job).collect::<Vec<_>>() });
    std::fs::write(out.join("results.json"), serde_json::to_vec_pretty(&document)?)
        .context("cannot write results.json")?;
    std::fs::write(out.join("trend.csv"), trend(&report.quality)).context("cannot write trend.csv")
}

/// How the daemon's own rates went, a line for each group of jobs that ended one after the other.
fn trend(quality: &QualityView) -> String {
    let mut text = "until_unix_ms,jobs,first_pass_rate,self_success_rate,pictures,checks\n".to_owned();
    for point in &quality.trend {
        let of = &point.success;
        let rate = |rate: Option<f64>| rate.map_or_else(String::new, |rate| format!("{rate:.4}"));
        let (first, last) = (rate(of.first_rate()), rate(of.rate()));
        // A String takes everything.
        let _ = writeln!(text, "{},{},{first},{last},{},{}", point.until_unix_ms, of.jobs, of.rounds, of.checks);
    }
    text
}

#[cfg(test)]
mod tests {
    use gpusched_shared::{Success, TrendPoint};

    use super::super::trial::made_up::{judged, trial};
    use super::*;

    fn quality() -> QualityView {
        let success = Success { jobs: 4, first_passed: 2, passed: 3, rounds: 7, checks: 9, image_us: 0, check_us: 0 };
        let trend = vec![
            TrendPoint { until_unix_ms: 5, success },
            TrendPoint { until_unix_ms: 9, success: Success::default() },
        ];
        QualityView { overall: success, recent: success, window: 50, models: Vec::new(), trend }
    }

    #[test]
    fn a_trend_has_a_line_for_each_point() {
        let lines = "until_unix_ms,jobs,first_pass_rate,self_success_rate,pictures,checks\n\
            5,4,0.5000,0.7500,7,9\n9,0,,,0,0\n";
        assert_eq!(trend(&quality()), lines);
    }

    #[test]
    fn a_report_says_what_was_reached_and_what_was_not() {
        let trials = [
            trial(false, vec![judged(1, true, 0.9, Some(true))]),
            trial(true, vec![judged(1, false, 0.2, Some(false)), judged(2, true, 0.9, Some(true))]),
        ];
        let text = Report::of(&trials, 4, quality()).text();
        for said in [
            "single: 2 prompts, of which 1 combine what training never combined",
            "single, one round                                          50.0 %  goal >= 95.0 %: MISSED",
            "single, 4 rounds, by the ceiling                          100.0 %  goal >= 97.0 %: met",
            "     2  100.0 % [20.7, 100.0] of 1    0.0 % [0.0, 79.3] of 1            1.50   1500.0 ms   1.50 x     15.0 ms",
        ] {
            assert!(text.contains(said), "{said}\n{text}");
        }
        assert!(!text.contains("another picture") && !text.contains("without a picture"), "{text}");
    }

    #[test]
    fn a_report_owns_up_to_what_it_does_not_count_as_the_daemon_does() {
        let mut otherwise = trial(false, vec![judged(1, true, 0.9, Some(true)), judged(2, false, 0.1, Some(true))]);
        let mut none = trial(false, vec![judged(1, false, 0.0, None)]);
        (otherwise.best, none.best) = (Some(2), None);
        let report = Report::of(&[otherwise, none], 4, quality());
        assert_eq!((report.chosen_otherwise, report.without_picture), (1, 1));
        assert!(!report.text().contains("rejected early"));
        let mut rejected = judged(1, false, 0.0, None);
        rejected.round.rejected_early = true;
        let report = Report::of(&[trial(false, vec![rejected, judged(2, true, 0.9, Some(true))])], 2, quality());
        assert!(report.text().contains("1 of 2 rounds were rejected early"), "{}", report.text());
    }

    #[test]
    fn everything_is_left_behind() {
        let out = tempfile::tempdir().expect("a directory");
        let trials = [trial(false, vec![judged(1, true, 0.9, Some(true))])];
        save(&Report::of(&trials, 4, quality()), &trials, out.path()).expect("saved");
        let results = std::fs::read(out.path().join("results.json")).expect("results");
        let results: serde_json::Value = serde_json::from_slice(&results).expect("JSON");
        let job = &results["jobs"][0];
        assert_eq!((&job["trial"]["rounds"][0]["shown"], &job["final"][2]["budget"]), (&json!(true), &json!(4)));
        assert!(out.path().join("trend.csv").exists());
    }
}
