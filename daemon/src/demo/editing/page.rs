//! The experiment's page.

use std::io::Cursor;
use std::path::Path;

use anyhow::Context as _;
use gpusched_client::report::editing::{self, Axis, Edits, Example};
use gpusched_shared::Found;
use image::{ImageFormat, Rgb, RgbImage, imageops};

use super::figures::Figures;
use super::report::{Report, Summary};
use super::trial::{Trial, Way};

/// The file's name.
pub(super) const FILE: &str = "edits.html";
/// Edits that are shown.
const SHOWN: usize = 16;
/// How much larger pictures are shown than they are, so that a box is seen in them.
const ENLARGED: u32 = 4;
const BOX: Rgb<u8> = Rgb([230, 30, 140]);
const MASK: Rgb<u8> = Rgb([30, 200, 220]);

/// Writes the page.
pub(super) fn write(report: &Report, out: &Path) -> anyhow::Result<()> {
    let summary = &report.summary;
    let pairs = report.trials(Way::Pipeline).iter().zip(report.trials(Way::Flux2));
    let edits = Edits {
        title: "Edits by stages, and by FLUX.2 alone".to_owned(),
        subtitle: format!("{}; {} edits, one after the other.", summary.machine, pairs.len()),
        ways: vec!["pipeline".to_owned(), "FLUX.2 alone".to_owned()],
        rows: summary.rows(),
        axes: axes(summary),
        findings: summary.findings(),
        examples: pairs.take(SHOWN).map(|(stages, alone)| example(stages, alone)).collect::<anyhow::Result<_>>()?,
    };
    std::fs::write(out.join(FILE), editing::page(&edits)).with_context(|| format!("cannot write {FILE}"))
}

fn axes(summary: &Summary) -> Vec<Axis> {
    let axis = |name: &str, values: Vec<f64>, less_is_better: bool| {
        let best = values.iter().copied().reduce(if less_is_better { f64::min } else { f64::max }).unwrap_or(1.0);
        let worth = |value: &f64| if less_is_better { best / value } else { value / best };
        Axis { name: name.to_owned(), worth: values.iter().map(worth).collect() }
    };
    let of = |value: fn(&Figures) -> f64| summary.ways.iter().map(value).collect::<Vec<_>>();
    vec![
        axis("latency", of(|figures| figures.latency_ms), true),
        axis("CLIP score", of(|figures| figures.clip_score), false),
        axis("memory efficiency", of(|figures| figures.peak_bytes as f64), true),
        axis("few parts", summary.parts.iter().map(|parts| parts.count() as f64).collect(), true),
    ]
}

fn example(stages: &Trial, alone: &Trial) -> anyhow::Result<Example> {
    let mut pictures = vec![("found and masked".to_owned(), marked(stages)?)];
    for (name, trial) in [("pipeline", stages), ("FLUX.2 alone", alone)] {
        if let Some(png) = &trial.png {
            let verdict = if trial.is_correct() { "correct" } else { "wrong" };
            pictures.push((format!("{name}: {verdict}"), png.clone()));
        }
    }
    Ok(Example { instruction: stages.edit.instruction.clone(), pictures })
}

/// The picture before, with the box that was found and the outline of the mask.
fn marked(trial: &Trial) -> anyhow::Result<Vec<u8>> {
    let enlarge = |picture: &RgbImage| {
        let (width, height) = (picture.width() * ENLARGED, picture.height() * ENLARGED);
        imageops::resize(picture, width, height, imageops::FilterType::Nearest)
    };
    let mut shown = enlarge(&image::load_from_memory(&trial.edit.png()?)?.to_rgb8());
    if let Some(mask) = &trial.mask {
        outline(&mut shown, &enlarge(&image::load_from_memory(mask)?.to_rgb8()));
    }
    if let Some(found) = &trial.found {
        frame(&mut shown, found);
    }
    let mut png = Cursor::new(Vec::new());
    shown.write_to(&mut png, ImageFormat::Png)?;
    Ok(png.into_inner())
}

/// Marks the pixels of a mask that have one beside them that is not of it.
fn outline(shown: &mut RgbImage, mask: &RgbImage) {
    let is_inside = |x: u32, y: u32| mask.get_pixel_checked(x, y).is_some_and(|pixel| pixel.0[0] > 127);
    let inside = mask.enumerate_pixels().filter(|(x, y, _)| is_inside(*x, *y));
    for (x, y, _) in inside {
        let beside = [(x.wrapping_sub(1), y), (x + 1, y), (x, y.wrapping_sub(1)), (x, y + 1)];
        if beside.iter().any(|(x, y)| !is_inside(*x, *y)) && shown.get_pixel_checked(x, y).is_some() {
            shown.put_pixel(x, y, MASK);
        }
    }
}

fn frame(shown: &mut RgbImage, found: &Found) {
    let at = |value: f32, most: u32| (value * ENLARGED as f32).clamp(0.0, most.saturating_sub(1) as f32) as u32;
    let (width, height) = shown.dimensions();
    let (left, right) = (at(found.area.left, width), at(found.area.right, width));
    let (top, bottom) = (at(found.area.top, height), at(found.area.bottom, height));
    for x in left..=right {
        shown.put_pixel(x, top, BOX);
        shown.put_pixel(x, bottom, BOX);
    }
    for y in top..=bottom {
        shown.put_pixel(left, y, BOX);
        shown.put_pixel(right, y, BOX);
    }
}
