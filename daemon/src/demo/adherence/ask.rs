//! Asks the daemon for every prompt, a few at a time, and looks at every picture that it made on the way.

use std::sync::Arc;

use anyhow::Context as _;
use gpusched_client::{Client, txt2img};
use gpusched_shared::{JobState, Reflect};
use tokio::task::JoinSet;

use super::super::progress::Progress;
use super::prompts::{Prompt, Prompts, Subject};
use super::trial::{Judged, Trial};

/// Jobs that are unfinished at once: enough that a picture is always being made while others are checked.
const WINDOW: usize = 8;

/// How each prompt is asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Request {
    /// The most rounds of a job.
    pub(super) rounds: u8,
    /// Diffusion steps; `None` for as many as the model takes by itself.
    pub(super) steps: Option<u32>,
    /// After which share of the steps pictures are looked at early, if they are.
    pub(super) early: Option<f32>,
}

/// Asks for the first `jobs` prompts of each of `subjects` in turn. The trials come in this order.
pub(super) async fn all(
    client: &Client,
    subjects: &[Subject],
    jobs: usize,
    request: Request,
) -> anyhow::Result<Vec<Trial>> {
    let prompts = Arc::new(Prompts::load()?);
    let mut places = (0..jobs).flat_map(|place| subjects.iter().map(move |subject| (place, *subject)));
    let progress = Progress::new("asking and looking", jobs * subjects.len());
    let mut running = JoinSet::new();
    let mut trials = Vec::new();
    loop {
        for (place, subject) in places.by_ref().take(WINDOW - running.len()) {
            let (client, prompts) = (client.clone(), Arc::clone(&prompts));
            running.spawn(async move {
                let prompt = prompts.of(subject).get(place).context("there are not so many prompts")?;
                // Fixed, and of no two prompts the same.
                let seed = (place * Subject::ALL.len()) as u64 + subject as u64;
                let trial = one(&client, subject, prompt, seed, request).await?;
                anyhow::Ok(((place, subject), trial))
            });
        }
        let Some(ended) = running.join_next().await else { break };
        trials.push(ended.context("a task of the experiment failed")??);
        progress.job_ended();
    }
    trials.sort_by_key(|(at, _)| *at);
    Ok(trials.into_iter().map(|(_, trial)| trial).collect())
}

/// Asks for a prompt, waits for its end, and judges each of its pictures.
async fn one(client: &Client, subject: Subject, prompt: &Prompt, seed: u64, request: Request) -> anyhow::Result<Trial> {
    let mut job = txt2img(&prompt.prompt).seed(seed);
    if let Some(steps) = request.steps {
        job = job.steps(steps);
    }
    let job = job.reflect(Reflect { rounds: Some(request.rounds), early: request.early, ..Reflect::default() });
    let id = client.submit(job, Vec::new(), true).await?;
    let view = client.wait(id).await?;
    let JobState::Done(outcome) = &view.state else { anyhow::bail!("job {id} ended without an outcome") };
    let reflection = view.reflection.with_context(|| format!("job {id} has no reflection on record"))?;
    let mut rounds = Vec::new();
    for round in reflection.rounds {
        let shown = match round.image {
            Some(_) => {
                let png = client.fetch_round_bytes(id, round.number).await?;
                let picture = image::load_from_memory_with_format(&png, image::ImageFormat::Png)?;
                Some(prompt.is_shown_by(&picture.to_rgb8()))
            }
            None => None,
        };
        rounds.push(Judged { round, shown });
    }
    Ok(Trial {
        subject,
        prompt: prompt.prompt.clone(),
        held_out: prompt.held_out,
        drawn_shown: prompt.is_shown_by_its_scene(),
        job: id.0,
        ended: outcome.word(),
        best: reflection.best,
        rounds,
    })
}
