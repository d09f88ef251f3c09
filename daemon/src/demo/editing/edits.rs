//! What is asked for, always the same: `models/training/make_edits.py` wrote it down.

use std::io::Cursor;

use anyhow::Context as _;
use image::{ImageFormat, RgbImage};
use serde::Deserialize;

use super::super::checker::{Kind, SIDE, find, shows};
use super::super::scene::{Shape, draw};

/// How far a shape may move, in pixels across and down together, and still be where it was.
const MOVED: f64 = 6.0;
/// Pixels around a shape that belong to its region.
const RIM: f64 = 3.0;

/// A picture, and what is to become of it. The first of its shapes is the one that is changed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Edit {
    pub(super) instruction: String,
    /// What the edited picture shows, in words.
    pub(super) caption: String,
    /// True if no picture of the generators' training showed what is to be seen before or after.
    pub(super) held_out: bool,
    before: Vec<Shape>,
    after: Vec<Shape>,
}

/// What the pixels of an edited picture say.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Judgement {
    /// It shows what it should, where it should, and nothing else.
    pub(super) correct: bool,
    /// The mean squared difference from the picture before, outside the region of what was to be changed; of 255.
    pub(super) outside: f64,
}

/// The edits, in their order.
pub(super) fn load() -> anyhow::Result<Vec<Edit>> {
    serde_json::from_str(include_str!("edits.json")).context("the edits of this build cannot be read")
}

impl Edit {
    /// How many shapes its picture shows.
    pub(super) fn shapes(&self) -> usize {
        self.before.len()
    }

    /// The picture before, as a PNG file.
    pub(super) fn png(&self) -> anyhow::Result<Vec<u8>> {
        let mut png = Cursor::new(Vec::new());
        draw(&self.before, SIDE).write_to(&mut png, ImageFormat::Png)?;
        Ok(png.into_inner())
    }

    /// Looks at an edited picture.
    pub(super) fn judge(&self, edited: &RgbImage) -> Judgement {
        let found = find(edited);
        let wanted: Vec<(&str, Kind)> = self.after.iter().map(|shape| (shape.color.as_str(), shape.kind)).collect();
        let drawn = find(&draw(&self.after, SIDE));
        let stays = drawn.iter().all(|shape| {
            let there = found.iter().find(|found| found.color == shape.color);
            there.is_some_and(|found| (found.x - shape.x).abs() + (found.y - shape.y).abs() < MOVED)
        });
        Judgement { correct: shows(&found, &wanted) && stays, outside: self.changed_outside(edited) }
    }

    fn changed_outside(&self, edited: &RgbImage) -> f64 {
        let before = draw(&self.before, SIDE);
        if edited.dimensions() != before.dimensions() {
            return f64::INFINITY;
        }
        let region = |x: u32, y: u32| {
            let at = (f64::from(x) + 0.5, f64::from(y) + 0.5);
            self.before.first().is_some_and(|shape| shape.distance(at.0, at.1) < RIM + 0.5)
        };
        let outside = before.enumerate_pixels().filter(|(x, y, _)| !region(*x, *y));
        let squares = outside.map(|(x, y, pixel)| {
            let other = edited.get_pixel(x, y);
            let difference = pixel.0.iter().zip(other.0).map(|(a, b)| (f64::from(*a) - f64::from(b)).powi(2));
            difference.sum::<f64>() / 3.0
        });
        let (count, sum) = squares.fold((0_u32, 0.0), |(count, sum), square| (count + 1, sum + square));
        sum / f64::from(count.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_a_hundred_and_what_they_ask_for_is_right() {
        let edits = load().expect("the edits");
        assert_eq!((edits.len(), edits.iter().filter(|edit| edit.held_out).count()), (100, 15));
        for edit in &edits {
            let asked = draw(&edit.after, SIDE);
            let right = edit.judge(&asked);
            assert!(right.correct && right.outside == 0.0, "{}: {right:?}", edit.instruction);
            assert!(!edit.judge(&draw(&edit.before, SIDE)).correct, "{}: it is to be changed", edit.instruction);
            assert!(edit.png().is_ok());
        }
    }

    #[test]
    fn what_changes_beside_the_region_is_counted() {
        let edit = load().expect("the edits").remove(1);
        let mut spoilt = draw(&edit.after, SIDE);
        spoilt.pixels_mut().for_each(|pixel| pixel.0 = pixel.0.map(|channel| channel.saturating_sub(10)));
        let judged = edit.judge(&spoilt);
        assert!((50.0..=100.0).contains(&judged.outside), "{judged:?}");
        assert_eq!(edit.judge(&RgbImage::new(8, 8)).outside, f64::INFINITY);
    }
}
