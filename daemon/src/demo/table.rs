//! What the demo measured: tables and timelines as those of simulations, ratios between the runs, and the goals.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use gpusched_shared::{ClassView, PreemptionView, StatusView};
use gpusched_sim::timeline::{AttemptLine, ClassLine, JobLine, Timeline, VERSION};
use gpusched_sim::{ClassReport, Report, Summary};
use serde::Serialize;

use super::experiment::{Finished, REPETITIONS, Results, Run, median};

/// How late a client may hear of something, in microseconds.
const NEWS_US: u64 = 2000;

/// Everything the demo says, also as `report.json`.
#[derive(Debug, Serialize)]
pub(super) struct Outcome {
    machine: String,
    steps: u32,
    one_light_ms: f64,
    one_heavy_ms: f64,
    /// The middle one of each kind of run.
    runs: Vec<Report>,
    ratios: Ratios,
    preemption: Option<PreemptionView>,
    /// The longest time between two yield points of an image in a run beside questions.
    longest_gap_us: u64,
}

/// Medians over the repetitions of ratios between runs that followed each other.
#[derive(Debug, Serialize)]
struct Ratios {
    /// Mean latency of questions, several queues to alone.
    light_to_alone: f64,
    /// Mean latency of questions, one queue to several.
    fifo_to_multi_queue: f64,
    /// Time to the last image, beside questions to images alone and then questions alone.
    heavy_to_work: f64,
    /// Jobs by the time to the last of them, several queues to one.
    jobs_per_second: f64,
    /// Answers by the time to the last of them, several queues to one.
    answers_per_second: f64,
}

impl Outcome {
    pub(super) fn of(results: &Results) -> Self {
        let (multi, fifo) = (&results.multi_queue, &results.fifo);
        let beside = multi.iter().chain([&results.probes]).flat_map(|run| &run.finished);
        let gaps = beside.filter(|done| done.is_image()).map(|done| done.view.usage.longest_gap_us);
        let several = &results.multi_queue_status;
        let report = |title: &str, policy: &str, runs: &[Run], status: &StatusView| {
            report(title, policy, results.seed, middle(runs), status)
        };
        Self {
            machine: machine(),
            steps: results.steps,
            one_light_ms: results.one_light.as_secs_f64() * 1e3,
            one_heavy_ms: results.one_heavy.as_secs_f64() * 1e3,
            runs: vec![
                report("questions alone", "multi-queue", &results.light_alone, several),
                report("images alone", "multi-queue", &results.heavy_alone, several),
                report("both together", "multi-queue", multi, several),
                report("both together", "fifo", fifo, &results.fifo_status),
            ],
            ratios: Ratios {
                light_to_alone: ratio(multi, &results.light_alone, light_latency_us),
                fifo_to_multi_queue: ratio(fifo, multi, light_latency_us),
                heavy_to_work: {
                    let alone = results.heavy_alone.iter().zip(&results.light_alone);
                    let work = alone.map(|(heavy, light)| last_us(heavy, true) + last_us(light, false));
                    median(multi.iter().zip(work).map(|(run, work)| last_us(run, true) / work).collect())
                },
                jobs_per_second: ratio(fifo, multi, |run| last_us(run, true).max(last_us(run, false))),
                answers_per_second: ratio(fifo, multi, |run| last_us(run, false)),
            },
            preemption: several.preemption.first().cloned(),
            longest_gap_us: gaps.max().unwrap_or(0),
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
        writeln!(
            f,
            "{}\n{REPETITIONS} runs of each kind, of which the middle one is shown; ratios are medians\n",
            self.machine
        )?;
        self.runs.iter().try_for_each(|run| writeln!(f, "{run}"))?;
        let r = &self.ratios;
        let mut line = |name: &str, value: f64, goal: &str, met: bool| {
            writeln!(f, "{name:<56} {value:>7.2}  goal {goal}: {}", if met { "met" } else { "MISSED" })
        };
        let sizes = self.one_heavy_ms / self.one_light_ms;
        line("one image / one question, each by itself", sizes, "8 to 12", (8.0..=12.0).contains(&sizes))?;
        line("question latency, several queues / alone", r.light_to_alone, "<= 1.30", r.light_to_alone <= 1.3)?;
        line("question latency, one queue / several", r.fifo_to_multi_queue, ">= 8.50", r.fifo_to_multi_queue >= 8.5)?;
        line("time to last image, both / images, then questions", r.heavy_to_work, "<= 1.10", r.heavy_to_work <= 1.1)?;
        writeln!(f, "{:<56} {:>7.2}", "jobs / time to the last, several queues / one", r.jobs_per_second)?;
        writeln!(f, "{:<56} {:>7.2}", "answers / time to the last, several queues / one", r.answers_per_second)?;
        self.write_preemption(f)
    }

    fn write_preemption(&self, f: &mut String) -> std::fmt::Result {
        let Some(p) = &self.preemption else { return Ok(()) };
        let ms = |us: u64| format!("{:.2} ms", us as f64 / 1e3);
        writeln!(
            f,
            "\nimages made way {} times ({} more: the question was over first; {} refused for the images' minimum share)",
            p.parked, p.missed, p.refused
        )?;
        writeln!(
            f,
            "within p50 {}, p99 {}, max {}; longest gap between yield points {}; one diffusion step {:.2} ms",
            ms(p.p50_us),
            ms(p.p99_us),
            ms(p.max_us),
            ms(self.longest_gap_us),
            self.one_heavy_ms / f64::from(self.steps)
        )?;
        let met = p.p99_us <= 2 * self.longest_gap_us;
        let word = |met: bool| if met { "met" } else { "MISSED" };
        let below = (p.p99_us as f64) < 1e3 * self.one_heavy_ms / f64::from(self.steps);
        writeln!(f, "goal p99 <= 2 x longest gap: {}; below one diffusion step: {}", word(met), word(below))
    }
}

/// What happened when in the middle runs of both kinds of jobs together, as simulations write it.
pub(super) fn timelines(results: &Results) -> Vec<Timeline> {
    let of = |policy: &str, runs: &[Run], status: &StatusView| Timeline {
        version: VERSION,
        title: format!("demo, {} images and {} questions", counts(middle(runs)).0, counts(middle(runs)).1),
        policy: policy.to_owned(),
        classes: classes(status),
        jobs: jobs(middle(runs)),
        memory: middle(runs).map(|run| run.memory.clone()).unwrap_or_default(),
        truncated: false,
    };
    vec![
        of("fifo", &results.fifo, &results.fifo_status),
        of("multi-queue", &results.multi_queue, &results.multi_queue_status),
    ]
}

fn classes(status: &StatusView) -> Vec<ClassLine> {
    let line = |class: &ClassView| ClassLine {
        name: class.name.clone(),
        lanes: lanes_of(status, &class.name),
        cap_bytes: class.partition.cap_bytes,
    };
    status.classes.iter().map(line).collect()
}

fn lanes_of(status: &StatusView, class: &str) -> u32 {
    let lanes = status.lanes.iter().filter(|lane| lane.class == class).count();
    u32::try_from(lanes).unwrap_or(u32::MAX)
}

fn jobs(run: Option<&Run>) -> Vec<JobLine> {
    let mut jobs: Vec<JobLine> = run.into_iter().flat_map(|run| &run.finished).map(job).collect();
    jobs.sort_by_key(|job| job.ended_us);
    jobs
}

fn job(done: &Finished) -> JobLine {
    let view = &done.view;
    let (started_us, ended_us) = (done.started_us, ended_us(done));
    JobLine {
        job: view.id.0,
        class: view.class.clone(),
        uid: view.uid,
        what: done.job.text().to_owned(),
        submitted_us: done.submitted_us,
        attempts: vec![AttemptLine { lane: done.lane, started_us, parked: done.parked.clone(), ended_us }],
        ended_us,
        outcome: done.word().to_owned(),
    }
}

/// One run as a simulation would report it.
fn report(title: &str, policy: &str, seed: u64, run: Option<&Run>, status: &StatusView) -> Report {
    let finished: Vec<&Finished> = run.into_iter().flat_map(|run| &run.finished).collect();
    let makespan_us = finished.iter().map(|done| ended_us(done)).max().unwrap_or(0);
    let class = |class: &ClassView| {
        let mine: Vec<&Finished> = finished.iter().copied().filter(|done| done.view.class == class.name).collect();
        class_report(class, lanes_of(status, &class.name), &mine)
    };
    let classes: Vec<ClassReport> = status.classes.iter().map(class).filter(|class| class.submitted > 0).collect();
    let done: u64 = classes.iter().map(|class| class.done).sum();
    Report {
        title: title.to_owned(),
        policy: policy.to_owned(),
        seed,
        classes,
        done,
        makespan_us,
        jobs_per_second: done as f64 / (makespan_us.max(1) as f64 / 1e6),
        reflection: None,
        engine_losses: 0,
        violations: Vec::new(),
    }
}

fn class_report(class: &ClassView, lanes: u32, finished: &[&Finished]) -> ClassReport {
    let count = |word: &str| finished.iter().filter(|done| done.word() == word).count() as u64;
    let summary = |us: fn(&Finished) -> u64| Summary::of(finished.iter().map(|done| us(done)));
    let parked = finished.iter().map(|done| done.view.usage.parked_us).filter(|us| *us > 0);
    ClassReport {
        name: class.name.clone(),
        submitted: finished.len() as u64,
        launched: finished.iter().map(|done| u64::from(done.view.attempts)).sum(),
        // A client is not told.
        flushes: 0,
        done: count("done"),
        out_of_memory: finished.iter().map(|done| u64::from(done.view.retries)).sum(),
        failed: count("failed"),
        cancelled: count("cancelled"),
        expired: count("expired"),
        refused: BTreeMap::new(),
        wait: summary(|done| done.view.wait_us),
        run: summary(|done| done.view.run_us),
        latency: summary(latency_us),
        parked: Summary::of(parked),
        preemption: None,
        peak_busy_lanes: peak_busy(finished).min(lanes),
        // Since the daemon started: a run is not told apart.
        peak_bytes: class.partition.peak_bytes,
        cap_bytes: class.partition.cap_bytes,
    }
}

/// The most of `finished` that were on lanes at once, but for overlaps as short as news may be late.
fn peak_busy(finished: &[&Finished]) -> u32 {
    let on_lane = |done: &Finished, us: u64| (done.started_us..ended_us(done).saturating_sub(NEWS_US)).contains(&us);
    let at = |us: u64| finished.iter().filter(|done| on_lane(done, us)).count();
    let peak = finished.iter().map(|done| at(done.started_us)).max().unwrap_or(0);
    u32::try_from(peak).unwrap_or(u32::MAX)
}

fn latency_us(done: &Finished) -> u64 {
    done.view.wait_us + done.view.run_us
}

/// When its lane was done with it, since the run began.
fn ended_us(done: &Finished) -> u64 {
    done.started_us + done.view.run_us
}

/// Mean latency of the questions of a run.
fn light_latency_us(run: &Run) -> f64 {
    Summary::of(run.finished.iter().filter(|done| !done.is_image()).map(latency_us)).mean_us
}

/// When the last image, or the last question, of a run was done.
fn last_us(run: &Run, image: bool) -> f64 {
    run.finished.iter().filter(|done| done.is_image() == image).map(ended_us).max().unwrap_or(0) as f64
}

/// The median over the repetitions of a quantity in one kind of run to that in another.
fn ratio(of: &[Run], to: &[Run], quantity: fn(&Run) -> f64) -> f64 {
    median(of.iter().zip(to).map(|(of, to)| quantity(of) / quantity(to)).collect())
}

/// The run whose makespan is the median.
pub(super) fn middle(runs: &[Run]) -> Option<&Run> {
    let makespan = median(runs.iter().map(|run| run.makespan).collect());
    runs.iter().find(|run| run.makespan == makespan)
}

pub(super) fn counts(run: Option<&Run>) -> (usize, usize) {
    let finished = || run.into_iter().flat_map(|run| &run.finished);
    (finished().filter(|done| done.is_image()).count(), finished().filter(|done| !done.is_image()).count())
}

/// The processor and how many of its cores this process may use.
pub(super) fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = named.map_or("an unnamed processor", |(_, name)| name);
    format!("{cores} cores of {name}")
}
