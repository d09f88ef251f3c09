//! What edits came to, taken together.

use std::path::Path;

use anyhow::Context as _;
use gpusched_client::Client;
use gpusched_client::report::collect;
use gpusched_core::footprint::{Footprints, Shape};
use gpusched_core::{Catalog, ModelId, Picture};
use gpusched_engine::survey::{self, Survey};
use gpusched_shared::{
    Area, BlobHash, BlobRef, DetectSpec, ImageSpec, InpaintSpec, JobSpec, MemoryEvent, SegmentSpec, StatusView, Task,
    TaskKind,
};
use serde::Serialize;

use super::super::checker::SIDE;
use super::beside::Beside;
use super::trial::{Trial, Way};

/// What a stage takes.
#[derive(Debug, Clone, Serialize)]
pub(super) struct StageFigures {
    pub(super) name: &'static str,
    /// What the first of its kind took longer than the median, in milliseconds: its model had to be loaded.
    pub(super) load_ms: f64,
    /// The median of how long a lane had the others, in milliseconds.
    pub(super) compute_ms: f64,
    /// The most memory beside the model, in bytes.
    pub(super) peak_bytes: u64,
}

/// What all edits of a way came to.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Figures {
    pub(super) way: Way,
    pub(super) edits: usize,
    pub(super) correct: usize,
    pub(super) correct_of_two: (usize, usize),
    pub(super) correct_held_out: (usize, usize),
    /// Edits without a picture.
    pub(super) failed: usize,
    /// How little changed outside the region, over all pictures, in decibels; `None` if nothing did.
    pub(super) outside_db: Option<f64>,
    /// From handing in to the result, the median but for the first edit, in milliseconds.
    pub(super) latency_ms: f64,
    pub(super) stages: Vec<StageFigures>,
    /// What is left of the latency beside waiting and lanes: storing, recording, handing over; the median, in milliseconds.
    pub(super) transfer_ms: f64,
    /// The median wait for lanes, in milliseconds.
    pub(super) wait_ms: f64,
    /// 100 times CLIP's cosine, the mean.
    pub(super) clip_score: f64,
    /// The most that was in use, the sum over partitions, in bytes.
    pub(super) peak_bytes: u64,
    pub(super) beside: Beside,
}

/// What edits by stages came to in a partition that cannot hold all models.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Swap {
    pub(super) cap_bytes: u64,
    pub(super) peak_bytes: u64,
    pub(super) edits: usize,
    /// Edits with a picture, and those with the right one.
    pub(super) made: usize,
    pub(super) correct: usize,
    /// Models that were loaded, over all edits.
    pub(super) loads: usize,
    /// The median latency, the first edit included, in milliseconds.
    pub(super) latency_ms: f64,
    /// What that is more than with all models in memory, in milliseconds.
    pub(super) cost_ms: f64,
}

impl Figures {
    pub(super) fn of(way: Way, trials: &[Trial], status: &StatusView, beside: Beside) -> Self {
        let count = |which: &dyn Fn(&Trial) -> bool| {
            let asked: Vec<_> = trials.iter().filter(|trial| which(trial)).collect();
            (asked.iter().filter(|trial| trial.is_correct()).count(), asked.len())
        };
        let judged = trials.iter().filter_map(|trial| trial.judged);
        let warm = || trials.iter().skip(1);
        let ms = |us: u64| us as f64 / 1e3;
        let lanes = |trial: &Trial| trial.stages.iter().map(|stage| stage.run_us + stage.wait_us).sum::<u64>();
        let scores: Vec<f64> = trials.iter().filter_map(|trial| trial.score.map(f64::from)).collect();
        Self {
            way,
            edits: trials.len(),
            correct: count(&|_| true).0,
            correct_of_two: count(&|trial| trial.edit.shapes() > 1),
            correct_held_out: count(&|trial| trial.edit.held_out),
            failed: trials.iter().filter(|trial| trial.png.is_none()).count(),
            outside_db: decibels(judged.map(|judged| judged.outside).collect()),
            latency_ms: median(warm().map(|trial| ms(trial.latency_us)).collect()).unwrap_or(0.0),
            stages: stages(trials),
            transfer_ms: median(warm().map(|t| ms(t.latency_us.saturating_sub(lanes(t)))).collect()).unwrap_or(0.0),
            wait_ms: median(warm().map(|t| ms(t.stages.iter().map(|stage| stage.wait_us).sum())).collect())
                .unwrap_or(0.0),
            clip_score: 100.0 * scores.iter().sum::<f64>() / scores.len().max(1) as f64,
            peak_bytes: peak_bytes(status),
            beside,
        }
    }
}

impl Swap {
    pub(super) async fn of(
        client: &Client,
        cap_bytes: u64,
        trials: &[Trial],
        status: &StatusView,
        resident: &Figures,
    ) -> anyhow::Result<Self> {
        let now = u64::try_from(std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.as_millis())?;
        let record = collect::collect(client, 0, now + 1000).await?;
        let latency_ms =
            median(trials.iter().map(|trial| trial.latency_us as f64 / 1e3).collect()).context("there are no edits")?;
        Ok(Self {
            cap_bytes,
            peak_bytes: peak_bytes(status),
            edits: trials.len(),
            made: trials.iter().filter(|trial| trial.png.is_some()).count(),
            correct: trials.iter().filter(|trial| trial.is_correct()).count(),
            loads: record.memory.iter().filter(|sample| sample.event == MemoryEvent::Loaded).count(),
            latency_ms,
            cost_ms: latency_ms - resident.latency_ms,
        })
    }
}

fn stages(trials: &[Trial]) -> Vec<StageFigures> {
    let names: Vec<&'static str> = trials.first().iter().flat_map(|t| &t.stages).map(|stage| stage.name).collect();
    let figures = names.into_iter().map(|name| {
        let runs: Vec<f64> =
            trials.iter().filter_map(|trial| trial.run_us(name).ok()).map(|us| us as f64 / 1e3).collect();
        let compute_ms = median(runs.iter().skip(1).copied().collect()).unwrap_or(0.0);
        let all = trials.iter().flat_map(|trial| &trial.stages).filter(|stage| stage.name == name);
        StageFigures {
            name,
            load_ms: (runs.first().copied().unwrap_or(0.0) - compute_ms).max(0.0),
            compute_ms,
            peak_bytes: all.map(|stage| stage.peak_bytes).max().unwrap_or(0),
        }
    });
    figures.collect()
}

fn peak_bytes(status: &StatusView) -> u64 {
    status.classes.iter().map(|class| class.partition.peak_bytes).sum()
}

/// Mean squared differences, of 255, as a signal-to-noise ratio.
fn decibels(differences: Vec<f64>) -> Option<f64> {
    let mean = differences.iter().sum::<f64>() / differences.len().max(1) as f64;
    (mean > 0.0).then(|| 10.0 * (255.0 * 255.0 / mean).log10())
}

/// The middle one; of an even number the mean of the middle two.
pub(super) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = *values.get((values.len() - 1) / 2)?;
    Some(f64::midpoint(lower, upper))
}

/// What a model takes by its parts.
pub(super) fn surveyed(models: &Path, task: TaskKind) -> anyhow::Result<Survey> {
    let directories = [models.to_path_buf()];
    let mut surveys = survey::names(&directories)?
        .into_iter()
        .filter(|(_, source)| matches!(source, survey::Source::Files(_)))
        .map(|(name, _)| survey::survey(&directories, &name, None, None));
    let found = surveys.find(|survey| survey.as_ref().map_or(true, |survey| survey.info.tasks.contains(&task)));
    Ok(found.with_context(|| format!("no model in {} does {task}", models.display()))??)
}

/// What the stage of an edit that takes the most memory takes, with its model and a little to spare.
pub(super) fn largest_stage_bytes(models: &Path) -> anyhow::Result<u64> {
    let blob = BlobRef { hash: BlobHash([0; 32]), bytes: 0 };
    let picture = Picture { blob, pixels: u64::from(SIDE) * u64::from(SIDE) };
    let area = Area { left: 0.0, top: 0.0, right: 1.0, bottom: 1.0 };
    let stages = [
        (Task::Detect(DetectSpec { query: "x".to_owned(), threshold: None }), 1),
        (Task::Segment(SegmentSpec::of(area)), 1),
        (Task::Inpaint(InpaintSpec { image: ImageSpec::new("x"), grow: None }), 2),
    ];
    let mut most = 0;
    for (task, pictures) in stages {
        let info = surveyed(models, task.kind())?.info;
        let shape = Shape::of(ModelId(0), &JobSpec::new(task), &vec![picture; pictures]);
        most = most.max(Footprints::default().demand(&Catalog::new(vec![info]), shape, u64::MAX).bytes());
    }
    // What is measured may be a tenth more than what it was the first time.
    Ok(most + most / 8)
}
