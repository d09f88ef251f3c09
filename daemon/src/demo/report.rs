//! What the demo leaves behind: checked results, a table, a JSON of all timings, the pictures and a sheet of them.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use gpusched_shared::{JobState, JobView, Outcome};
use image::RgbImage;
use image::imageops::{FilterType, overlay, resize};
use serde_json::json;

use super::checker::{SIDE, find};
use super::jobs::Job;

/// Pictures in a row of the sheet, and how much larger than life they are.
const ROW: u32 = 5;
const SCALE: u32 = 2;

/// A job that has ended.
pub(super) struct Finished {
    pub(super) job: Job,
    pub(super) view: JobView,
    pub(super) png: Option<Vec<u8>>,
}

impl Finished {
    fn outcome(&self) -> Option<&Outcome> {
        match &self.view.state {
            JobState::Done(outcome) => Some(outcome),
            JobState::Queued { .. } | JobState::Running { .. } => None,
        }
    }

    fn picture(&self) -> anyhow::Result<RgbImage> {
        let png = self.png.as_deref().context("there is no picture")?;
        Ok(image::load_from_memory_with_format(png, image::ImageFormat::Png)?.to_rgb8())
    }

    /// What is wrong with the result, if anything: a job that did not succeed, a picture that is none, a wrong answer.
    /// Whether a picture shows what was asked for is the model's affair and counted in the table instead.
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
                self.picture().is_ok_and(|picture| find(&picture) == vec![(*color, Some(*kind))])
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
pub(super) fn timings(finished: &[Finished], makespan: Duration, out: &Path) -> anyhow::Result<()> {
    let jobs: Vec<_> = finished
        .iter()
        .map(|done| {
            let view = &done.view;
            json!({
                "job": view.id, "class": view.class, "task": view.spec.task.kind(), "text": done.job.text(),
                "wait_ms": view.wait_ms, "run_ms": view.run_ms, "latency_ms": view.wait_ms + view.run_ms,
                "submitted_unix_ms": view.submitted_unix_ms, "state": view.state,
            })
        })
        .collect();
    let document = json!({ "makespan_ms": makespan.as_millis() as u64, "jobs": jobs });
    std::fs::write(out.join("timings.json"), serde_json::to_vec_pretty(&document)?).context("cannot write timings.json")
}

/// The table that the demo prints.
pub(super) fn table(finished: &[Finished], makespan: Duration) -> String {
    let mut table = String::new();
    let mut line = |text: String| {
        // A String takes everything.
        let _ = writeln!(table, "{text}");
    };
    line(format!(
        "{:<6} {:>5} {:>10} {:>10} {:>10} {:>10} {:>12}",
        "class", "jobs", "wait mean", "wait max", "run mean", "run max", "latency mean"
    ));
    let mut classes: Vec<&str> = finished.iter().map(|done| done.view.class.as_str()).collect();
    classes.sort_unstable();
    classes.dedup();
    for class in classes {
        let views: Vec<&JobView> = finished.iter().map(|done| &done.view).filter(|view| view.class == class).collect();
        let mean =
            |ms: fn(&JobView) -> u64| seconds(views.iter().map(|v| ms(v)).sum::<u64>() as f64 / views.len() as f64);
        let most = |ms: fn(&JobView) -> u64| seconds(views.iter().map(|v| ms(v)).max().unwrap_or(0) as f64);
        line(format!(
            "{class:<6} {:>5} {:>10} {:>10} {:>10} {:>10} {:>12}",
            views.len(),
            mean(|v| v.wait_ms),
            most(|v| v.wait_ms),
            mean(|v| v.run_ms),
            most(|v| v.run_ms),
            mean(|v| v.wait_ms + v.run_ms)
        ));
    }
    line(format!("makespan {}", seconds(makespan.as_secs_f64() * 1000.0)));
    let images = finished.iter().filter(|done| matches!(done.job, Job::Image { .. }));
    let (made, adhering) = images.fold((0, 0), |(made, good), done| (made + 1, good + u32::from(done.adheres())));
    let questions = finished.len() - made;
    let right = finished.iter().filter(|d| matches!(d.job, Job::Question { .. }) && d.problem().is_none()).count();
    line(format!("{adhering} of {made} pictures show what was asked for, {right} of {questions} answers are right"));
    table
}

fn seconds(ms: f64) -> String {
    format!("{:.3} s", ms / 1000.0)
}
