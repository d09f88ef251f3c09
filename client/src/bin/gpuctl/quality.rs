//! `gpuctl quality`.

use gpusched_client::Client;

use crate::cli::Quality;
use crate::commands::print;
use crate::failure::Failure;
use crate::output::Output;
use crate::render;

/// Shows how often pictures pass their checks.
pub(crate) async fn run(client: &Client, what: &Quality, output: &Output) -> Result<(), Failure> {
    let since_unix_ms = what.since.map_or(0, |since| {
        let since_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        render::now_unix_ms().saturating_sub(since_ms)
    });
    let view = client.quality(since_unix_ms, what.window, what.points).await?;
    if what.csv {
        return output.text(&render::quality::csv(&view.trend));
    }
    if view.overall.jobs == 0 && !output.json {
        let within = if what.since.is_some() { " in that time" } else { "" };
        output.note(&format!("no job that reflects has come to a verdict{within}"));
        return Ok(());
    }
    print(&view, output, render::quality::full)
}
