//! The numbers behind the pictures.

use gpusched_shared::QualityView;
use maud::{Markup, html};

use super::figures::StageFigures;
use super::record::{Latency, Record};
use super::words::{bytes, instant, span};

/// Rows of a table, the newest ones.
const ROWS: usize = 200;

/// Kinds of stages that are told of.
pub(super) const KINDS: usize = 12;

/// A table that opens when it is asked for. Columns whose names end in `#` are numbers.
fn table(name: &str, columns: &[&str], rows: &[Vec<String>], more: usize) -> Markup {
    let is_number = |column: &str| column.ends_with('#');
    html! {
        details {
            summary { (name) }
            div.scroll {
                table {
                    thead { tr { @for column in columns {
                        th.number[is_number(column)] { (column.trim_end_matches('#')) }
                    } } }
                    tbody { @for row in rows { tr { @for (cell, column) in row.iter().zip(columns) {
                        td.number[is_number(column)] { (cell) }
                    } } } }
                }
            }
            @if more > 0 { p { (more) " more; gpuctl export has all." } }
        }
    }
}

pub(super) fn spans(record: &Record) -> Markup {
    let rows: Vec<Vec<String>> = record
        .spans
        .iter()
        .rev()
        .take(ROWS)
        .map(|of| {
            let about = of.about.as_ref();
            let took = of.ended_unix_ms.map(|ended| ended.saturating_sub(of.started_unix_ms) as f64 * 1e3);
            let parked: u64 = of.parked.iter().map(|stay| stay.until_us.saturating_sub(stay.from_us)).sum();
            vec![
                of.lane.clone(),
                about.map_or_else(|| "someone else's".to_owned(), |about| about.job.to_string()),
                about.map_or_else(String::new, |about| about.kind.to_string()),
                instant(of.started_unix_ms),
                took.map_or_else(|| "-".to_owned(), span),
                span(parked as f64),
                of.end.map_or_else(|| "-".to_owned(), |end| format!("{end:?}")),
            ]
        })
        .collect();
    let more = record.spans.len().saturating_sub(ROWS);
    table("Attempts", &["lane", "job", "task", "began", "took#", "parked#", "end"], &rows, more)
}

pub(super) fn latencies(policies: &[(&str, &[Latency])]) -> Markup {
    let rows: Vec<Vec<String>> = policies
        .iter()
        .flat_map(|(policy, latencies)| {
            latencies.iter().map(move |latency| {
                vec![
                    latency.class.clone(),
                    (*policy).to_owned(),
                    latency.jobs.to_string(),
                    span(latency.wait_mean_us),
                    span(latency.run_mean_us),
                    span(latency.mean_us()),
                    span(latency.p99_us as f64),
                ]
            })
        })
        .collect();
    table("Latencies", &["class", "policy", "jobs#", "wait#", "run#", "latency#", "p99#"], &rows, 0)
}

pub(super) fn stages(figures: &[StageFigures]) -> Markup {
    let rows: Vec<Vec<String>> = figures
        .iter()
        .take(KINDS)
        .map(|stage| {
            vec![
                stage.stage.clone(),
                stage.model.clone(),
                stage.runs.to_string(),
                bytes(stage.mean_bytes),
                bytes(stage.peak_bytes as f64),
                span(stage.mean_us),
                span(stage.parked_us as f64),
            ]
        })
        .collect();
    let columns = ["stage", "model", "runs#", "average#", "peak#", "mean time#", "parked in all#"];
    table("Stages", &columns, &rows, figures.len().saturating_sub(KINDS))
}

pub(super) fn outcomes(outcomes: &[(&str, u64)]) -> Markup {
    let rows: Vec<Vec<String>> =
        outcomes.iter().map(|(word, count)| vec![(*word).to_owned(), count.to_string()]).collect();
    table("Outcomes", &["outcome", "jobs#"], &rows, 0)
}

pub(super) fn memory(record: &Record, class: &str) -> Markup {
    let samples: Vec<_> = record.memory.iter().filter(|sample| sample.class == class).collect();
    let rows: Vec<Vec<String>> = samples
        .iter()
        .rev()
        .take(ROWS)
        .map(|sample| {
            let resident = sample.resident_bytes;
            vec![
                instant(sample.unix_ms),
                sample.event.word().replace('_', " "),
                bytes(sample.used_bytes as f64),
                bytes(sample.reserved_bytes as f64),
                if resident == 0 { "-".to_owned() } else { bytes(resident as f64) },
            ]
        })
        .collect();
    let columns = ["when", "event", "in use#", "promised#", "process#"];
    table("Samples", &columns, &rows, samples.len().saturating_sub(ROWS))
}

pub(super) fn trend(quality: &QualityView) -> Markup {
    let rows: Vec<Vec<String>> = quality
        .trend
        .iter()
        .map(|point| {
            let success = point.success;
            vec![
                instant(point.until_unix_ms),
                success.jobs.to_string(),
                success.first_passed.to_string(),
                success.passed.to_string(),
                success.rounds.to_string(),
            ]
        })
        .collect();
    table("Trend", &["until", "jobs#", "passed at first#", "passed in the end#", "pictures#"], &rows, 0)
}

/// What is not in the report, and why.
pub(super) fn left_out(record: &Record) -> Markup {
    html! {
        @if !record.left_out.is_empty() {
            section id="left-out" {
                h2 { "Not in here" }
                ul { @for sentence in &record.left_out { li { (sentence) } } }
            }
        }
    }
}
