//! What a simulation comes to, for programs (JSON) and for people (a table).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use bytesize::ByteSize;
use gpusched_core::Policy;
use gpusched_shared::Success;
use serde::Serialize;

use crate::preemption::PreemptionReport;
use crate::samples::Summary;

/// What a scenario came to under one policy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// The scenario.
    pub title: String,
    /// How waiting jobs were started: `fifo` or `multi-queue`.
    pub policy: String,
    /// The scenario's seed.
    pub seed: u64,
    /// By class, in the scenario's order.
    pub classes: Vec<ClassReport>,
    /// Jobs that were done.
    pub done: u64,
    /// From the beginning until the last job was done, in microseconds.
    pub makespan_us: u64,
    /// Jobs that were done, divided by the makespan.
    pub jobs_per_second: f64,
    /// What jobs that reflect came to, if some came to a verdict.
    pub reflection: Option<ReflectionReport>,
    /// How often the engine died.
    pub engine_losses: u32,
    /// What must not happen and did: of the first few, what and when. Nothing, if the scheduler is right.
    pub violations: Vec<String>,
}

/// What became of the jobs of one class. Times are of those that were done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassReport {
    /// Its name.
    pub name: String,
    /// Jobs handed in. Stages of jobs that reflect are no jobs here; they are counted in `launched`, `flushes` and
    /// `out_of_memory` only.
    pub submitted: u64,
    /// How often a lane took one.
    pub launched: u64,
    /// How often memory was flushed before that.
    pub flushes: u64,
    /// Jobs that ended with a result.
    pub done: u64,
    /// How often one ran out of memory, to be tried again or to fail.
    pub out_of_memory: u64,
    /// Jobs that failed.
    pub failed: u64,
    /// Jobs that were cancelled, or whose clients went away.
    pub cancelled: u64,
    /// Jobs that ran out of time.
    pub expired: u64,
    /// Jobs that were not accepted, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Until a lane took them, time between two attempts included.
    pub wait: Summary,
    /// On lanes, parked time included.
    pub run: Summary,
    /// From submission until the outcome could be seen.
    pub latency: Summary,
    /// Parked, of those jobs that were.
    pub parked: Summary,
    /// How its jobs made way, if they do.
    pub preemption: Option<PreemptionReport>,
    /// The most of its lanes that were busy at once.
    pub peak_busy_lanes: u32,
    /// The most bytes in its partition at once.
    pub peak_bytes: u64,
    /// The most that there may be.
    pub cap_bytes: u64,
}

/// What the jobs that had their pictures checked came to, of those that came to a verdict.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ReflectionReport {
    /// By their judge, with what their stages took.
    pub success: Success,
    /// Jobs whose first picture truly showed what was asked for.
    pub first_right: u64,
    /// Jobs whose picture, the best of all rounds, truly does.
    pub right: u64,
    /// Jobs whose picture passed and does not.
    pub wrongly_passed: u64,
    /// The most pictures of one job.
    pub most_rounds: u64,
}

/// A policy's name in files and on command lines.
pub fn policy_name(policy: Policy) -> &'static str {
    match policy {
        Policy::MultiQueue => "multi-queue",
        Policy::Fifo => "fifo",
    }
}

impl Report {
    /// What became of one class.
    pub fn class(&self, name: &str) -> Option<&ClassReport> {
        self.classes.iter().find(|class| class.name == name)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} [{}, seed {}]", self.title, self.policy, self.seed)?;
        writeln!(
            f,
            "{:<8} {:>8} {:>11} {:>11} {:>12} {:>11} {:>11} {:>11}",
            "class", "done", "wait mean", "run mean", "latency mean", "p50", "p99", "max"
        )?;
        for class in &self.classes {
            let ClassReport { name, done, wait, run, latency, .. } = class;
            writeln!(
                f,
                "{name:<8} {done:>8} {:>11} {:>11} {:>12} {:>11} {:>11} {:>11}",
                time(wait.mean_us),
                time(run.mean_us),
                time(latency.mean_us),
                time(latency.p50_us as f64),
                time(latency.p99_us as f64),
                time(latency.max_us as f64)
            )?;
        }
        writeln!(
            f,
            "makespan {}, {} jobs done, {:.4} jobs/s",
            time(self.makespan_us as f64),
            self.done,
            self.jobs_per_second
        )?;
        self.classes.iter().try_for_each(|class| class.write_details(f))?;
        if let Some(reflection) = &self.reflection {
            write!(f, "{reflection}")?;
        }
        if self.engine_losses > 0 {
            writeln!(f, "the engine died {} times", self.engine_losses)?;
        }
        self.violations.iter().try_for_each(|violation| writeln!(f, "VIOLATION: {violation}"))
    }
}

impl fmt::Display for ReflectionReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { success, first_right, right, wrongly_passed, most_rounds } = self;
        let Success { jobs, first_passed, passed, rounds, checks, image_us, check_us } = success;
        let mean = *rounds as f64 / (*jobs).max(1) as f64;
        writeln!(
            f,
            "reflection: {jobs} jobs, {rounds} pictures ({mean:.2} each, at most {most_rounds}), {checks} checks; \
             lanes worked {} on pictures, {} on checks",
            time(*image_us as f64),
            time(*check_us as f64)
        )?;
        writeln!(
            f,
            "reflection: passed at first {first_passed}, in the end {passed} ({wrongly_passed} wrongly); \
             truly right at first {first_right}, in the end {right}"
        )
    }
}

impl ClassReport {
    fn write_details(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: u64| ByteSize(bytes).display().si();
        write!(f, "{}: at most {} lanes", self.name, self.peak_busy_lanes)?;
        write!(f, " and {} of {} at once", size(self.peak_bytes), size(self.cap_bytes))?;
        for (what, count) in [
            ("flushes", self.flushes),
            ("times out of memory", self.out_of_memory),
            ("failed", self.failed),
            ("cancelled", self.cancelled),
            ("expired", self.expired),
        ] {
            if count > 0 {
                write!(f, ", {count} {what}")?;
            }
        }
        for (reason, count) in &self.refused {
            write!(f, ", {count} refused ({reason})")?;
        }
        writeln!(f)?;
        let Some(preemption) = &self.preemption else { return Ok(()) };
        if self.parked.count > 0 {
            let Summary { count, mean_us, max_us, .. } = self.parked;
            let (mean, max) = (time(mean_us), time(max_us as f64));
            writeln!(f, "{}: {count} jobs were parked, for {mean} on average and {max} at most", self.name)?;
        }
        if preemption.parked + preemption.missed + preemption.refused == 0 {
            return Ok(());
        }
        let PreemptionReport { parked, p50_us, p99_us, max_us, longest_gap_us, missed, refused } = preemption;
        let ms = |us: &u64| *us as f64 / 1000.0;
        writeln!(
            f,
            "{}: made way {parked} times within p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms; longest gap between yield points \
             {:.1} ms; {missed} times the lighter work was faster, {refused} times the minimum share was due",
            self.name,
            ms(p50_us),
            ms(p99_us),
            ms(max_us),
            ms(longest_gap_us)
        )
    }
}

/// Two reports of one scenario, in numbers: how many times as much `one` is as `other`.
pub fn comparison(one: &Report, other: &Report) -> String {
    let mut text = format!(
        "{:<8} {:>12} {:>12} {:>12}   ({} / {})\n",
        "class", "wait mean", "latency mean", "latency p99", one.policy, other.policy
    );
    for (a, b) in one.classes.iter().zip(&other.classes) {
        // A String takes everything.
        let _ = writeln!(
            text,
            "{:<8} {:>12} {:>12} {:>12}",
            a.name,
            ratio(a.wait.mean_us, b.wait.mean_us),
            ratio(a.latency.mean_us, b.latency.mean_us),
            ratio(a.latency.p99_us as f64, b.latency.p99_us as f64)
        );
    }
    let makespan = ratio(one.makespan_us as f64, other.makespan_us as f64);
    let throughput = ratio(one.jobs_per_second, other.jobs_per_second);
    let _ = writeln!(text, "makespan {makespan}, jobs per second {throughput}");
    text
}

fn ratio(a: f64, b: f64) -> String {
    if b > 0.0 { format!("{:.2} x", a / b) } else { "-".to_owned() }
}

/// A time in milliseconds below a second, and in seconds from there on.
fn time(us: f64) -> String {
    if us < 999_950.0 { format!("{:.1} ms", us / 1e3) } else { format!("{:.3} s", us / 1e6) }
}
