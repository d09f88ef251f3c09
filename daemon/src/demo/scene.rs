//! Drawn pictures of coloured shapes, with the geometry of `models/training/world.py`.

use image::{Rgb, RgbImage};
use serde::Deserialize;

use super::checker::{Kind, color};

/// A shape of a scene.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(super) struct Shape {
    pub(super) color: String,
    pub(super) kind: Kind,
    /// The middle of it, in pixels from the left and from the top.
    pub(super) x: f64,
    pub(super) y: f64,
    /// Of a circle; shapes of other kinds are about as large.
    pub(super) radius: f64,
}

impl Shape {
    /// How far outside the shape a point is, in pixels; negative inside.
    pub(super) fn distance(&self, x: f64, y: f64) -> f64 {
        let (dx, dy) = (x - self.x, y - self.y);
        match self.kind {
            Kind::Circle => dx.hypot(dy) - self.radius,
            Kind::Square => dx.abs().max(dy.abs()) - 0.886 * self.radius,
            Kind::Triangle => {
                let (half_base, height) = (1.1 * self.radius, 1.9 * self.radius);
                let sides = (dx.abs() * height - (dy + height / 2.0) * half_base) / height.hypot(half_base);
                sides.max(dy - height / 2.0)
            }
        }
    }
}

/// The shapes on a white ground, `side` pixels across, with smooth edges.
pub(super) fn draw(shapes: &[Shape], side: u32) -> RgbImage {
    RgbImage::from_fn(side, side, |x, y| {
        let ground = [255.0; 3];
        let seen = shapes.iter().fold(ground, |below, shape| {
            let share = (0.5 - shape.distance(f64::from(x) + 0.5, f64::from(y) + 0.5)).clamp(0.0, 1.0);
            let above = color(&shape.color).map(f64::from);
            std::array::from_fn(|channel| below[channel] * (1.0 - share) + above[channel] * share)
        });
        Rgb(seen.map(|channel: f64| channel.round() as u8))
    })
}
