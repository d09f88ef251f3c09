//! The demo's report: what its two daemons have on record of the middle runs of both kinds of jobs, beside each other.

use std::path::Path;

use anyhow::Context as _;
use gpusched_client::Client;
use gpusched_client::report::{Comparison, Latency, Record, collect, figures, html};
use gpusched_shared::StatusView;

use super::experiment::{Results, Run};
use super::table::{counts, machine, middle};

/// The file's name.
pub(super) const FILE: &str = "report.html";

/// What is shown before the first job and after the last one, in milliseconds.
const MARGIN_MS: u64 = 20;

/// Writes the page.
pub(super) async fn write(multi_queue: &Client, fifo: &Client, results: &Results, out: &Path) -> anyhow::Result<()> {
    let (Some(several), Some(one)) = (middle(&results.multi_queue), middle(&results.fifo)) else { return Ok(()) };
    let baseline = record(fifo, one).await?;
    let mut record = record(multi_queue, several).await?;
    let (images, questions) = counts(Some(several));
    record.title = format!("gpuschedd demo: {images} images and {questions} questions, handed in together");
    record.left_out.push(
        "The demo makes nothing that is checked and made again: gpuctl submit txt2img --reflect does, and gpuctl report shows \
         how it came about."
            .to_owned(),
    );
    record.comparison = Some(Comparison {
        title: format!("The middle ones of {} runs each, on {}.", results.multi_queue.len(), machine()),
        fifo: latencies(one, &results.fifo_status),
        multi_queue: latencies(several, &results.multi_queue_status),
        baseline: Some(Box::new(baseline)),
    });
    let page = html(&record)?;
    std::fs::write(out.join(FILE), page).with_context(|| format!("cannot write {FILE}"))
}

/// What a daemon has on record of a run. It runs nothing else meanwhile.
async fn record(client: &Client, run: &Run) -> anyhow::Result<Record> {
    let views = || run.finished.iter().map(|done| &done.view);
    let since = views().map(|view| view.submitted_unix_ms).min().unwrap_or(0);
    let ended = views().map(|view| view.submitted_unix_ms + (view.wait_us + view.run_us).div_ceil(1000));
    let until = ended.max().unwrap_or(since);
    Ok(collect::collect(client, since.saturating_sub(MARGIN_MS), until + MARGIN_MS).await?)
}

fn latencies(run: &Run, status: &StatusView) -> Vec<Latency> {
    let of_class = |name: &str| {
        let views = run.finished.iter().map(|done| &done.view).filter(|view| view.class == name);
        figures::latency(name, views.map(|view| (view.wait_us, view.run_us)))
    };
    status.classes.iter().map(|class| of_class(&class.name)).filter(|latency| latency.jobs > 0).collect()
}
