//! Adds up what happens, in memory that does not grow with the number of jobs.

use std::collections::BTreeMap;

use gpusched_core::{Policy, Time};
use gpusched_shared::{Outcome, Reflection, Rejection, Success, Verdict};

use crate::partition::Partition;
use crate::report::{ClassReport, ReflectionReport, Report, policy_name};
use crate::samples::Samples;
use crate::scenario::Scenario;

/// The most violations that are kept; after the first few there is nothing new in them.
const VIOLATIONS: usize = 20;

/// What is known of a job that has ended, in microseconds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ended {
    pub(crate) wait_us: u64,
    pub(crate) run_us: u64,
    pub(crate) latency_us: u64,
    pub(crate) parked_us: u64,
}

#[derive(Debug)]
pub(crate) struct Tally {
    title: String,
    policy: Policy,
    seed: u64,
    classes: Vec<Counts>,
    /// `None` before the first job that came to a verdict.
    reflection: Option<ReflectionReport>,
    /// When the last job ended that was done.
    done_at: Time,
    engine_losses: u32,
    violations: Vec<String>,
}

#[derive(Debug, Default)]
struct Counts {
    submitted: u64,
    launched: u64,
    flushes: u64,
    failed: u64,
    cancelled: u64,
    expired: u64,
    refused: BTreeMap<String, u64>,
    /// The following of jobs that were done.
    wait: Samples,
    run: Samples,
    latency: Samples,
    parked: Samples,
}

impl Tally {
    pub(crate) fn of(scenario: &Scenario, policy: Policy) -> Self {
        Self {
            title: scenario.title.clone(),
            policy,
            seed: scenario.seed,
            classes: scenario.classes.iter().map(|_| Counts::default()).collect(),
            reflection: None,
            done_at: Time(0),
            engine_losses: 0,
            violations: Vec::new(),
        }
    }

    pub(crate) fn submitted(&mut self, class: usize) {
        self.classes[class].submitted += 1;
    }

    pub(crate) fn refused(&mut self, class: usize, rejection: &Rejection) {
        // Its code on the wire is the name that people know.
        let code = serde_json::to_value(rejection).ok().and_then(|value| Some(value.get("code")?.as_str()?.to_owned()));
        *self.classes[class].refused.entry(code.unwrap_or_default()).or_default() += 1;
    }

    pub(crate) fn launched(&mut self, class: usize, flush: bool) {
        self.classes[class].launched += 1;
        self.classes[class].flushes += u64::from(flush);
    }

    pub(crate) fn ended(&mut self, class: usize, outcome: &Outcome, ended: Ended, now: Time) {
        let counts = &mut self.classes[class];
        match outcome {
            Outcome::Image { .. }
            | Outcome::Answers(_)
            | Outcome::Found(_)
            | Outcome::Mask { .. }
            | Outcome::Text { .. }
            | Outcome::Score(_) => {
                counts.wait.add(ended.wait_us);
                counts.run.add(ended.run_us);
                counts.latency.add(ended.latency_us);
                if ended.parked_us > 0 {
                    counts.parked.add(ended.parked_us);
                }
                self.done_at = now;
            }
            Outcome::Failed { .. } => counts.failed += 1,
            Outcome::Cancelled => counts.cancelled += 1,
            Outcome::Expired { .. } => counts.expired += 1,
        }
    }

    /// A job that reflects has ended. `is_right` says whether the picture of a round truly shows what was asked for.
    pub(crate) fn reflected(&mut self, reflection: &Reflection, is_right: impl Fn(u8) -> bool) {
        let Some(verdict) = reflection.verdict else { return };
        // A strict job that failed gave none.
        let gave_right = reflection.best.is_some_and(&is_right);
        let rounds = reflection.rounds.as_slice();
        let sum = self.reflection.get_or_insert_default();
        let passed = verdict == Verdict::Pass;
        sum.success.add(&Success {
            jobs: 1,
            first_passed: u64::from(reflection.first_verdict() == Some(Verdict::Pass)),
            passed: u64::from(passed),
            rounds: rounds.len() as u64,
            checks: rounds.iter().map(|round| round.checks.len() as u64).sum(),
            image_us: rounds.iter().map(|round| round.image_us).sum(),
            check_us: rounds.iter().map(|round| round.check_us).sum(),
        });
        sum.first_right += u64::from(is_right(1));
        sum.right += u64::from(gave_right);
        sum.wrongly_passed += u64::from(passed && !gave_right);
        sum.most_rounds = sum.most_rounds.max(rounds.len() as u64);
    }

    pub(crate) fn engine_lost(&mut self) {
        self.engine_losses += 1;
    }

    pub(crate) fn violation(&mut self, what: String) {
        if self.violations.len() < VIOLATIONS {
            self.violations.push(what);
        }
    }

    /// `refusals` says how often gates stayed open because a minimum share was due, `ooms` how often memory ran out, by
    /// class.
    pub(crate) fn report(self, partitions: &[Partition], refusals: &[(usize, u64)], ooms: &[u64]) -> Report {
        let done: u64 = self.classes.iter().map(|counts| counts.latency.summary().count).sum();
        let makespan_us = self.done_at.0;
        let per_second = if makespan_us == 0 { 0.0 } else { done as f64 / (makespan_us as f64 / 1e6) };
        let class = |(index, (counts, partition)): (usize, (&Counts, &Partition))| {
            let refused = refusals.iter().find(|(class, _)| *class == index);
            ClassReport {
                name: partition.name.clone(),
                submitted: counts.submitted,
                launched: counts.launched,
                flushes: counts.flushes,
                done: counts.latency.summary().count,
                out_of_memory: ooms.get(index).copied().unwrap_or(0),
                failed: counts.failed,
                cancelled: counts.cancelled,
                expired: counts.expired,
                refused: counts.refused.clone(),
                wait: counts.wait.summary(),
                run: counts.run.summary(),
                latency: counts.latency.summary(),
                parked: counts.parked.summary(),
                preemption: refused.map(|(_, refused)| partition.preemption.report(*refused)),
                peak_busy_lanes: partition.peak_busy(),
                peak_bytes: partition.peak_bytes(),
                cap_bytes: partition.cap_bytes,
            }
        };
        Report {
            title: self.title,
            policy: policy_name(self.policy).to_owned(),
            seed: self.seed,
            classes: self.classes.iter().zip(partitions).enumerate().map(class).collect(),
            done,
            makespan_us,
            jobs_per_second: per_second,
            reflection: self.reflection,
            engine_losses: self.engine_losses,
            violations: self.violations,
        }
    }
}
