//! What the demo leaves behind: checked results, a JSON of all timings, the pictures and a sheet of them.

use std::path::Path;

use anyhow::Context as _;
use gpusched_shared::{JobState, Outcome};
use image::RgbImage;
use image::imageops::{FilterType, overlay, resize};
use serde_json::json;

use super::checker::{SIDE, find, shows};
use super::experiment::{Finished, Results, Run};
use super::jobs::Job;

/// Pictures in a row of the sheet, and how much larger than life they are.
const ROW: u32 = 5;
const SCALE: u32 = 2;

impl Finished {
    fn outcome(&self) -> Option<&Outcome> {
        match &self.view.state {
            JobState::Done(outcome) => Some(outcome),
            JobState::Queued { .. }
            | JobState::BackingOff { .. }
            | JobState::Running { .. }
            | JobState::Reflecting { .. }
            | JobState::Editing { .. } => None,
        }
    }

    fn picture(&self) -> anyhow::Result<RgbImage> {
        let png = self.png.as_deref().context("there is no picture")?;
        Ok(image::load_from_memory_with_format(png, image::ImageFormat::Png)?.to_rgb8())
    }

    /// What is wrong with the result, if anything: a job that did not succeed, a picture that is none, a wrong answer.
    /// Whether a picture shows what was asked for is the model's affair and counted instead.
    pub(super) fn problem(&self) -> Option<String> {
        let wrong = |what: String| Some(format!("  job {} ({}): {what}", self.view.id, self.job.text()));
        match (&self.job, self.outcome()) {
            (Job::Image { .. }, Some(Outcome::Image { .. })) => match self.picture() {
                Ok(picture) if (picture.width(), picture.height()) != (SIDE, SIDE) => wrong("wrong size".to_owned()),
                Ok(picture) if picture.pixels().all(|p| p == picture.get_pixel(0, 0)) => wrong("blank".to_owned()),
                Ok(_) => None,
                Err(e) => wrong(format!("no picture: {e:#}")),
            },
            (Job::Question { answer, .. }, Some(Outcome::Answers(answers))) => match answers.first() {
                Some(best) if best.label == *answer => None,
                best => wrong(format!("answered {:?}, right is {answer:?}", best.map(|best| &best.label))),
            },
            (_, Some(Outcome::Failed { kind, message })) => wrong(format!("{kind}: {message}")),
            (_, outcome) => wrong(format!("ended with {outcome:?}")),
        }
    }

    /// Whether the picture shows the one shape that was asked for.
    fn adheres(&self) -> bool {
        match &self.job {
            Job::Image { shows: (color, kind), .. } => {
                self.picture().is_ok_and(|picture| shows(&find(&picture), &[(color, *kind)]))
            }
            Job::Question { .. } => false,
        }
    }

    /// Writes the picture, named by job and prompt.
    pub(super) fn save(&self, out: &Path) -> anyhow::Result<()> {
        if let Some(png) = &self.png {
            let name = format!("{:02}-{}.png", self.view.id.0, self.job.text().replace(' ', "-"));
            std::fs::write(out.join(&name), png).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(())
    }
}

/// All pictures on one sheet, `sheet.png`.
pub(super) fn sheet(finished: &[Finished], out: &Path) -> anyhow::Result<()> {
    let pictures: Vec<RgbImage> = finished.iter().filter_map(|done| done.picture().ok()).collect();
    let count = u32::try_from(pictures.len())?;
    if count == 0 {
        return Ok(());
    }
    let cell = SIDE * SCALE;
    let mut sheet = RgbImage::from_pixel(ROW.min(count) * cell, count.div_ceil(ROW) * cell, image::Rgb([255; 3]));
    for (index, picture) in (0..).zip(&pictures) {
        let large = resize(picture, cell, cell, FilterType::Nearest);
        overlay(&mut sheet, &large, i64::from(index % ROW * cell), i64::from(index / ROW * cell));
    }
    Ok(sheet.save(out.join("sheet.png"))?)
}

/// Every job's times, `timings.json`.
pub(super) fn timings(results: &Results, out: &Path) -> anyhow::Result<()> {
    let run = |run: &Run| {
        let jobs = run.finished.iter().map(|done| {
            let view = &done.view;
            json!({
                "job": view.id, "class": view.class, "task": view.spec.task.kind(), "text": done.job.text(),
                "submitted_unix_ms": view.submitted_unix_ms, "wait_us": view.wait_us, "run_us": view.run_us,
                "usage": view.usage, "state": view.state,
            })
        });
        json!({ "makespan_ms": run.makespan.as_secs_f64() * 1e3, "jobs": jobs.collect::<Vec<_>>() })
    };
    let runs = |runs: &[Run]| runs.iter().map(run).collect::<Vec<_>>();
    let document = json!({
        "light_alone": runs(&results.light_alone), "heavy_alone": runs(&results.heavy_alone),
        "multi_queue": runs(&results.multi_queue), "fifo": runs(&results.fifo), "probes": run(&results.probes),
    });
    std::fs::write(out.join("timings.json"), serde_json::to_vec_pretty(&document)?).context("cannot write timings.json")
}

/// How many pictures show what was asked for, and how many answers are right, over all runs.
pub(super) fn quality(results: &Results) -> String {
    let all = || results.runs().flat_map(|run| &run.finished);
    let (images, questions): (Vec<_>, Vec<_>) = all().partition(|done| done.is_image());
    let good = images.iter().filter(|done| done.adheres()).count();
    let right = questions.iter().filter(|done| done.problem().is_none()).count();
    format!(
        "{good} of {} pictures show what was asked for, {right} of {} answers are right",
        images.len(),
        questions.len()
    )
}
