//! What edits cost whoever asks questions meanwhile.

use anyhow::bail;
use gpusched_client::{Client, JobSpec, Picture, vqa};
use gpusched_shared::{JobState, Outcome};
use serde::Serialize;

use super::edits::Edit;
use super::figures::median;
use super::trial::Way;

/// Questions that are asked alone.
const ALONE: usize = 15;

/// How long questions take alone, and beside edits.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Beside {
    /// Edits that were handed in together.
    pub(super) edits: usize,
    /// Questions that were asked one after the other until all edits had ended.
    pub(super) questions: usize,
    /// From asking to the answer, the median, in milliseconds.
    pub(super) alone_ms: f64,
    /// Likewise, while edits were made.
    pub(super) beside_ms: f64,
}

/// Asks questions, and goes on asking while edits are made.
pub(super) async fn measure(client: &Client, way: Way, edits: &[Edit], steps: Option<u32>) -> anyhow::Result<Beside> {
    let Some(first) = edits.first() else { bail!("there are no edits to ask beside") };
    let picture = first.png()?;
    // The first loads the model.
    ask(client, &picture).await?;
    let mut alone = Vec::new();
    for _ in 0..ALONE {
        alone.push(ask(client, &picture).await?);
    }
    let mut jobs = Vec::new();
    for (seed, edit) in (1000..).zip(edits) {
        let given = vec![Picture::from_bytes(&edit.png()?)?];
        jobs.push(client.submit(way.spec(edit, seed, steps), given, true).await?);
    }
    let mut beside = Vec::new();
    let mut unfinished = jobs;
    while !unfinished.is_empty() {
        beside.push(ask(client, &picture).await?);
        let mut still = Vec::new();
        for job in unfinished {
            if !matches!(client.show(job).await?.state, JobState::Done(_)) {
                still.push(job);
            }
        }
        unfinished = still;
    }
    Ok(Beside {
        edits: edits.len(),
        questions: beside.len(),
        alone_ms: median(alone).unwrap_or(0.0),
        beside_ms: median(beside).unwrap_or(0.0),
    })
}

/// How long a question takes, in milliseconds.
async fn ask(client: &Client, png: &[u8]) -> anyhow::Result<f64> {
    let began = std::time::Instant::now();
    let spec: JobSpec = vqa("how many shapes are there?").into();
    let job = client.submit(spec, vec![Picture::from_bytes(png)?], true).await?;
    let view = client.wait(job).await?;
    let JobState::Done(Outcome::Answers(_)) = view.state else { bail!("job {job} gave no answer: {:?}", view.state) };
    Ok(began.elapsed().as_secs_f64() * 1e3)
}
