//! One edit, one way: what the daemon made of it, how long each stage took, and what the picture is worth.

use anyhow::{Context as _, bail};
use gpusched_client::{Client, Picture, img2img};
use gpusched_shared::{
    EditSpec, EditStep, Found, JobId, JobSpec, JobState, JobView, Outcome, ScoreSpec, StageRole, StageView, Task,
};
use serde::Serialize;

use super::super::progress::Progress;
use super::edits::{Edit, Judgement};

/// How a picture is edited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Way {
    /// Detection, segmentation, inpainting.
    Pipeline,
    /// FLUX.2 with the picture as reference.
    Flux2,
}

/// A stage of an edit. FLUX.2 has one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct StageTime {
    pub(super) name: &'static str,
    /// How long a lane had it, in microseconds; loading its model, if that was necessary, is a part of this.
    pub(super) run_us: u64,
    /// How long it waited for a lane, in microseconds.
    pub(super) wait_us: u64,
    /// The most memory it used beside its model, in bytes.
    pub(super) peak_bytes: u64,
}

/// An edit that was made, or not.
#[derive(Debug, Clone)]
pub(super) struct Trial {
    pub(super) edit: Edit,
    pub(super) job: JobId,
    /// Why there is no picture, if there is none.
    pub(super) failed: Option<String>,
    /// From handing it in until its result was known, in microseconds.
    pub(super) latency_us: u64,
    pub(super) stages: Vec<StageTime>,
    /// The edited picture, a PNG file.
    pub(super) png: Option<Vec<u8>>,
    pub(super) judged: Option<Judgement>,
    /// What was taken for the thing to be changed, and its mask as a PNG file.
    pub(super) found: Option<Found>,
    pub(super) mask: Option<Vec<u8>>,
    /// CLIP's cosine of the edited picture and what it should show.
    pub(super) score: Option<f32>,
}

impl Way {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Pipeline => "pipeline",
            Self::Flux2 => "flux2",
        }
    }

    /// The job of an edit.
    pub(super) fn spec(self, edit: &Edit, seed: u64, steps: Option<u32>) -> JobSpec {
        match self {
            Self::Pipeline => {
                let spec = EditSpec { seed: Some(seed), steps, ..EditSpec::new(&edit.instruction) };
                JobSpec::new(Task::Edit(Box::new(spec)))
            }
            Self::Flux2 => {
                let job = img2img(&edit.instruction).seed(seed);
                steps.map_or(job.clone(), |steps| job.steps(steps)).into()
            }
        }
    }
}

/// Makes the edits one after the other.
pub(super) async fn all(client: &Client, way: Way, edits: &[Edit], steps: Option<u32>) -> anyhow::Result<Vec<Trial>> {
    let progress = Progress::new(&format!("editing by {}", way.word()), edits.len());
    let mut trials = Vec::new();
    for (seed, edit) in (0..).zip(edits) {
        trials.push(one(client, way.spec(edit, seed, steps), edit).await?);
        progress.job_ended();
    }
    Ok(trials)
}

async fn one(client: &Client, spec: JobSpec, edit: &Edit) -> anyhow::Result<Trial> {
    let picture = Picture::from_bytes(&edit.png()?)?;
    let began = std::time::Instant::now();
    let job = client.submit(spec, vec![picture], true).await?;
    let view = client.wait(job).await?;
    let latency_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
    let stages = client.stages(job).await?;
    let JobState::Done(outcome) = &view.state else { bail!("job {job} ended without an outcome") };
    let mut trial = Trial {
        edit: edit.clone(),
        job,
        failed: None,
        latency_us,
        stages: times(&view, &stages),
        png: None,
        judged: None,
        found: None,
        mask: None,
        score: None,
    };
    for stage in &stages {
        if let Some(Outcome::Found(found)) = &stage.outcome {
            trial.found = found.first().copied();
        }
        if let Some(Outcome::Mask { .. }) = &stage.outcome {
            trial.mask = Some(client.fetch_round_bytes(job, EditStep::Segment.number()).await?);
        }
    }
    if let Outcome::Failed { message, .. } = outcome {
        trial.failed = Some(message.clone());
        return Ok(trial);
    }
    let png = client.fetch_bytes(job).await?;
    let edited = image::load_from_memory_with_format(&png, image::ImageFormat::Png)?.to_rgb8();
    trial.judged = Some(edit.judge(&edited));
    trial.png = Some(png);
    Ok(trial)
}

fn times(view: &JobView, stages: &[StageView]) -> Vec<StageTime> {
    let name = |role: StageRole| match role {
        StageRole::Detect => "detect",
        StageRole::Segment => "segment",
        StageRole::Inpaint => "inpaint",
        StageRole::Whole | StageRole::Image | StageRole::Check | StageRole::Glance => "other",
    };
    if stages.is_empty() {
        let (run_us, wait_us, peak_bytes) = (view.run_us, view.wait_us, view.usage.peak_bytes);
        return vec![StageTime { name: "edit", run_us, wait_us, peak_bytes }];
    }
    let time = |stage: &StageView| StageTime {
        name: name(stage.role),
        run_us: stage.run_us,
        wait_us: stage.wait_us,
        peak_bytes: stage.usage.peak_bytes,
    };
    stages.iter().map(time).collect()
}

/// Has each picture scored by how well it fits what it should show.
pub(super) async fn score(client: &Client, trials: &mut [Trial]) -> anyhow::Result<()> {
    let progress = Progress::new("scoring by CLIP", trials.len());
    for trial in trials {
        if let Some(png) = &trial.png {
            let spec = JobSpec::new(Task::Score(ScoreSpec { text: trial.edit.caption.clone() }));
            let job = client.submit(spec, vec![Picture::from_bytes(png)?], true).await?;
            let view = client.wait(job).await?;
            let JobState::Done(Outcome::Score(score)) = view.state else {
                bail!("job {job} gave no score: {:?}", view.state)
            };
            trial.score = Some(score);
        }
        progress.job_ended();
    }
    Ok(())
}

impl Trial {
    /// Whether the picture is what was asked for.
    pub(super) fn is_correct(&self) -> bool {
        self.judged.is_some_and(|judged| judged.correct)
    }

    /// The time of a stage, in microseconds.
    pub(super) fn run_us(&self, stage: &str) -> anyhow::Result<u64> {
        let found = self.stages.iter().find(|time| time.name == stage);
        found.map(|time| time.run_us).with_context(|| format!("edit {:?} has no stage {stage}", self.edit.instruction))
    }
}
