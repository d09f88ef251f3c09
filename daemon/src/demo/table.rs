//! What the demo measured: the same quantities, computed the same way, for every run; ratios between them; and the goals.

use std::fmt::Write as _;

use gpusched_shared::PreemptionView;
use serde::Serialize;

use super::experiment::{Finished, REPETITIONS, Results, Run, median};
use crate::telemetry::preemption::percentile;

/// One run in numbers. Times in milliseconds. What does not apply is 0.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(super) struct Numbers {
    light_wait_mean: f64,
    light_run_mean: f64,
    /// From acceptance to the outcome being known.
    light_latency_mean: f64,
    light_latency_p99: f64,
    heavy_run_mean: f64,
    /// From the first submission to the end of the last image.
    heavy_makespan: f64,
    heavy_parked_mean: f64,
    makespan: f64,
    /// Jobs of either kind, by the whole time.
    jobs_per_second: f64,
    /// Questions, by the time until the last of them was answered.
    answers_per_second: f64,
}

/// Everything the demo says, also as `report.json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    machine: String,
    steps: u32,
    one_light_ms: f64,
    one_heavy_ms: f64,
    light_alone: Numbers,
    heavy_alone: Numbers,
    multi_queue: Numbers,
    fifo: Numbers,
    probes: Numbers,
    light_to_alone: f64,
    fifo_to_multi_queue: f64,
    heavy_to_work: f64,
    throughput_ratio: f64,
    answer_rate_ratio: f64,
    preemption: Option<PreemptionView>,
    longest_gap_us: u64,
}

impl Report {
    pub(super) fn of(results: &Results) -> Self {
        let of = |runs: &[Run]| middle(runs.iter().map(numbers).collect());
        let pairs = |a: &[Run], b: &[Run], ratio: fn(Numbers, Numbers) -> f64| {
            median(a.iter().zip(b).map(|(a, b)| ratio(numbers(a), numbers(b))).collect())
        };
        let (multi, fifo) = (&results.multi_queue, &results.fifo);
        let work: Vec<f64> = results
            .heavy_alone
            .iter()
            .zip(&results.light_alone)
            .map(|(heavy, light)| numbers(heavy).heavy_makespan + numbers(light).makespan)
            .collect();
        let heavy_to_work = multi.iter().zip(work).map(|(run, work)| numbers(run).heavy_makespan / work);
        let gaps = multi.iter().chain([&results.probes]).flat_map(|run| &run.finished);
        Self {
            machine: machine(),
            steps: results.steps,
            one_light_ms: results.one_light.as_secs_f64() * 1e3,
            one_heavy_ms: results.one_heavy.as_secs_f64() * 1e3,
            light_alone: of(&results.light_alone),
            heavy_alone: of(&results.heavy_alone),
            multi_queue: of(multi),
            fifo: of(fifo),
            probes: numbers(&results.probes),
            light_to_alone: pairs(multi, &results.light_alone, |m, a| m.light_latency_mean / a.light_latency_mean),
            fifo_to_multi_queue: pairs(fifo, multi, |f, m| f.light_latency_mean / m.light_latency_mean),
            heavy_to_work: median(heavy_to_work.collect()),
            throughput_ratio: pairs(multi, fifo, |m, f| m.jobs_per_second / f.jobs_per_second),
            answer_rate_ratio: pairs(multi, fifo, |m, f| m.answers_per_second / f.answers_per_second),
            preemption: results.preemption.clone(),
            longest_gap_us: gaps.filter(|d| d.is_image()).map(|d| d.view.usage.longest_gap_us).max().unwrap_or(0),
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
        let ratio = self.one_heavy_ms / self.one_light_ms;
        writeln!(f, "{}", self.machine)?;
        writeln!(
            f,
            "one question by itself {}, one image of {} steps {} ({ratio:.1} times as long); medians of {REPETITIONS} runs\n",
            ms(self.one_light_ms),
            self.steps,
            ms(self.one_heavy_ms)
        )?;
        let columns = ["alone", "multi-queue", "fifo"];
        writeln!(f, "{:<28} {:>12} {:>12} {:>12}", "", columns[0], columns[1], columns[2])?;
        let alone = Numbers {
            heavy_run_mean: self.heavy_alone.heavy_run_mean,
            heavy_makespan: self.heavy_alone.heavy_makespan,
            ..self.light_alone
        };
        let mut row = |name: &str, value: fn(&Numbers) -> f64| {
            let cells = [&alone, &self.multi_queue, &self.fifo].map(|numbers| ms(value(numbers)));
            writeln!(f, "{name:<28} {:>12} {:>12} {:>12}", cells[0], cells[1], cells[2])
        };
        row("question: mean wait", |n| n.light_wait_mean)?;
        row("question: mean run", |n| n.light_run_mean)?;
        row("question: mean latency", |n| n.light_latency_mean)?;
        row("question: p99 latency", |n| n.light_latency_p99)?;
        row("image: mean run", |n| n.heavy_run_mean)?;
        row("image: mean time parked", |n| n.heavy_parked_mean)?;
        row("images: makespan", |n| n.heavy_makespan)?;
        let mut rate = |name: &str, value: fn(&Numbers) -> f64| {
            let (multi, fifo) = (value(&self.multi_queue), value(&self.fifo));
            writeln!(f, "{name:<28} {:>12} {:>10.1}/s {:>10.1}/s", "", multi, fifo)
        };
        rate("jobs / makespan", |n| n.jobs_per_second)?;
        rate("answers / time to the last", |n| n.answers_per_second)?;
        writeln!(f)?;
        self.write_ratios(f)?;
        self.write_preemption(f)
    }

    fn write_ratios(&self, f: &mut String) -> std::fmt::Result {
        let mut line = |name: &str, value: f64, goal: &str, met: bool| {
            writeln!(f, "{name:<52} {value:>7.2}  goal {goal}: {}", if met { "met" } else { "MISSED" })
        };
        line("question latency, multi-queue / alone", self.light_to_alone, "<= 1.30", self.light_to_alone <= 1.3)?;
        line(
            "question latency, fifo / multi-queue",
            self.fifo_to_multi_queue,
            ">= 8.50",
            self.fifo_to_multi_queue >= 8.5,
        )?;
        line(
            "images' makespan, multi-queue / (alone + questions)",
            self.heavy_to_work,
            "<= 1.10",
            self.heavy_to_work <= 1.1,
        )?;
        writeln!(f, "{:<52} {:>7.2}", "throughput in jobs / makespan, multi-queue / fifo", self.throughput_ratio)?;
        writeln!(f, "{:<52} {:>7.2}", "answers / time to the last, multi-queue / fifo", self.answer_rate_ratio)
    }

    fn write_preemption(&self, f: &mut String) -> std::fmt::Result {
        let Some(p) = &self.preemption else { return Ok(()) };
        let us = |us: u64| ms(us as f64 / 1e3);
        let step_ms = self.one_heavy_ms / f64::from(self.steps);
        writeln!(
            f,
            "\nimages made way {} times ({} more: the question was over first; {} refused for the images' minimum share)",
            p.parked, p.missed, p.refused
        )?;
        let twice = p.p99_us <= 2 * self.longest_gap_us;
        writeln!(
            f,
            "after p50 {}, p99 {}, max {}; longest gap between yield points {}; one diffusion step {}",
            us(p.p50_us),
            us(p.p99_us),
            us(p.max_us),
            us(self.longest_gap_us),
            ms(step_ms)
        )?;
        writeln!(f, "p99 within twice the longest gap: {}", if twice { "met" } else { "MISSED" })
    }
}

fn numbers(run: &Run) -> Numbers {
    let (heavy, light): (Vec<&Finished>, Vec<&Finished>) = run.finished.iter().partition(|done| done.is_image());
    let mean = |jobs: &[&Finished], us: fn(&Finished) -> u64| {
        jobs.iter().map(|done| us(done)).sum::<u64>() as f64 / 1e3 / jobs.len().max(1) as f64
    };
    let mut latencies: Vec<u64> = light.iter().map(|done| latency_us(done)).collect();
    latencies.sort_unstable();
    let began = run.finished.iter().map(|done| done.view.submitted_unix_ms).min().unwrap_or(0);
    let end_ms = |done: &&&Finished| (done.view.submitted_unix_ms - began) as f64 + latency_us(done) as f64 / 1e3;
    let last = |jobs: &[&Finished]| jobs.iter().map(|done| end_ms(&done)).fold(0.0, f64::max);
    let makespan = run.makespan.as_secs_f64() * 1e3;
    let per_second = |jobs: usize, ms: f64| if ms > 0.0 { jobs as f64 * 1e3 / ms } else { 0.0 };
    Numbers {
        light_wait_mean: mean(&light, |done| done.view.wait_us),
        light_run_mean: mean(&light, |done| done.view.run_us),
        light_latency_mean: mean(&light, latency_us),
        light_latency_p99: percentile(&latencies, 99) as f64 / 1e3,
        heavy_run_mean: mean(&heavy, |done| done.view.run_us),
        heavy_makespan: last(&heavy),
        heavy_parked_mean: mean(&heavy, |done| done.view.usage.parked_us),
        makespan,
        jobs_per_second: per_second(run.finished.len(), makespan),
        answers_per_second: per_second(light.len(), last(&light)),
    }
}

fn latency_us(done: &Finished) -> u64 {
    done.view.wait_us + done.view.run_us
}

/// The median of each quantity.
fn middle(runs: Vec<Numbers>) -> Numbers {
    let of = |value: fn(&Numbers) -> f64| median(runs.iter().map(value).collect());
    Numbers {
        light_wait_mean: of(|n| n.light_wait_mean),
        light_run_mean: of(|n| n.light_run_mean),
        light_latency_mean: of(|n| n.light_latency_mean),
        light_latency_p99: of(|n| n.light_latency_p99),
        heavy_run_mean: of(|n| n.heavy_run_mean),
        heavy_makespan: of(|n| n.heavy_makespan),
        heavy_parked_mean: of(|n| n.heavy_parked_mean),
        makespan: of(|n| n.makespan),
        jobs_per_second: of(|n| n.jobs_per_second),
        answers_per_second: of(|n| n.answers_per_second),
    }
}

fn ms(ms: f64) -> String {
    match ms {
        _ if ms == 0.0 => "0".to_owned(),
        _ if ms < 100.0 => format!("{ms:.2} ms"),
        _ => format!("{:.3} s", ms / 1e3),
    }
}

/// The processor and how many of its cores this process may use.
fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let named = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let name = named.map_or("an unnamed processor", |(_, name)| name);
    format!("{cores} cores of {name}")
}
