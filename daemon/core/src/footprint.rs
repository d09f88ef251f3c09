//! What jobs need: declared by their model until jobs of the same shape have been measured.

use std::collections::BTreeMap;

use gpusched_shared::{Declared, JobSpec};
use serde::{Deserialize, Serialize};

use crate::catalog::{Catalog, ModelId};
use crate::effect::Picture;
use crate::policy::admission::Demand;

/// Shapes that are remembered.
const SHAPES: usize = 4096;
/// The most pixels of one picture that a model looks at.
const SEEN_PIXELS: u64 = 1 << 20;
/// Bytes for each pixel of a picture while it is decoded and scaled.
const DECODING_BYTES: u64 = 8;

/// Jobs of one shape need the same memory, and the same time for each diffusion step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shape {
    /// The model.
    pub model: ModelId,
    /// Pixels across, 0 where no picture is made.
    pub width: u32,
    /// Pixels down, 0 where no picture is made.
    pub height: u32,
    /// Pictures that go in together: the batch.
    pub pictures: u32,
    /// Pixels of all of them, rounded up to a power of two, so that one large picture says nothing of small ones.
    pub input_pixels: u64,
}

/// What jobs of one shape were measured to need, as the journal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measurement {
    /// The model's name.
    pub model: String,
    /// See [`Shape`].
    pub width: u32,
    /// See [`Shape`].
    pub height: u32,
    /// See [`Shape`].
    pub pictures: u32,
    /// See [`Shape`].
    pub input_pixels: u64,
    /// The most memory one used beside the weights, in bytes.
    pub peak_bytes: u64,
    /// How long one takes for each step, in microseconds: a mean in which later ones weigh more.
    pub step_us: u64,
    /// How many were measured.
    pub runs: u64,
}

#[derive(Debug, Clone, Copy, Default)]
struct Measured {
    peak_bytes: u64,
    step_us: u64,
    runs: u64,
    /// When it was last learnt from, counted in lessons.
    at: u64,
}

/// What has been measured.
#[derive(Debug, Default)]
pub struct Footprints {
    shapes: BTreeMap<Shape, Measured>,
    /// Measured weights, which replace the declared ones.
    weights: BTreeMap<ModelId, u64>,
    lessons: u64,
}

impl Shape {
    /// The shape of a job of `model` with `pictures`.
    pub fn of(model: ModelId, spec: &JobSpec, pictures: &[Picture]) -> Self {
        let size = spec.task.size();
        let (width, height) = size.map_or((0, 0), |size| (size.width, size.height));
        let input_pixels = match pictures.iter().map(|picture| picture.pixels).sum::<u64>() {
            0 => 0,
            pixels => pixels.checked_next_power_of_two().unwrap_or(u64::MAX),
        };
        Self { model, width, height, pictures: u32::try_from(pictures.len()).unwrap_or(u32::MAX), input_pixels }
    }

    /// What a job of this shape is declared to use beside its model's weights, in bytes.
    fn declared_bytes(self, declared: Declared) -> u64 {
        let made = u64::from(self.width) * u64::from(self.height);
        // Models scale larger pictures down before they look at them.
        let seen = self.input_pixels.min(u64::from(self.pictures) * SEEN_PIXELS);
        let model = declared.run_bytes_per_pixel.saturating_mul(made + seen).saturating_add(declared.run_bytes);
        model.saturating_add(DECODING_BYTES.saturating_mul(self.input_pixels))
    }
}

/// Diffusion steps, or 1 for a job without.
pub fn steps(spec: &JobSpec) -> u64 {
    spec.task.image().map_or(1, |image| u64::from(image.steps.unwrap_or(1).max(1)))
}

impl Footprints {
    /// What a job of this shape needs with its model's weights not yet in memory, in a partition of `cap_bytes`.
    pub fn demand(&self, catalog: &Catalog, shape: Shape, cap_bytes: u64) -> Demand {
        let declared = catalog.model(shape.model).map(|model| model.declared).unwrap_or_default();
        let weights_bytes = self.weights.get(&shape.model).copied().unwrap_or(declared.weights_bytes);
        let measured = self.shapes.get(&shape).map(|measured| measured.peak_bytes).filter(|peak| *peak > 0);
        let run_bytes = match measured {
            // Measured, and a tenth for what differs from job to job; but what has fitted must not be refused for that tenth.
            Some(peak) => peak.saturating_add(peak / 10).min(cap_bytes.saturating_sub(weights_bytes)).max(peak),
            None => shape.declared_bytes(declared),
        };
        Demand { weights_bytes, run_bytes }
    }

    /// How long a job is likely to hold a lane, in microseconds; `None` if none of its shape has been measured.
    pub fn cost_us(&self, shape: Shape, steps: u64) -> Option<u64> {
        let measured = self.shapes.get(&shape).filter(|measured| measured.runs > 0)?;
        Some(measured.step_us.saturating_mul(steps))
    }

    /// Learns from a job that ran to its end in `run_us` on one lane. Returns what is worth keeping: when the peak has
    /// grown, and each time the number of runs has doubled.
    pub fn learn(
        &mut self,
        catalog: &Catalog,
        shape: Shape,
        peak_bytes: u64,
        steps: u64,
        run_us: u64,
    ) -> Option<Measurement> {
        let measured = self.measured(shape);
        let grown = peak_bytes > measured.peak_bytes;
        measured.peak_bytes = measured.peak_bytes.max(peak_bytes);
        let step_us = run_us / steps.max(1);
        // A quarter of the newest: a change shows within a few jobs, one odd job does not.
        measured.step_us =
            if measured.runs == 0 { step_us } else { (measured.step_us.saturating_mul(3) + step_us) / 4 };
        measured.runs += 1;
        let measured = *measured;
        (grown || measured.runs.is_power_of_two()).then(|| to_keep(catalog, shape, measured)).flatten()
    }

    /// Learns that a job needed `peak_bytes`, from one that ran out of memory or whose time says nothing. Returns what is
    /// worth keeping: when the peak has grown.
    pub fn learn_peak(&mut self, catalog: &Catalog, shape: Shape, peak_bytes: u64) -> Option<Measurement> {
        let measured = self.measured(shape);
        let grown = peak_bytes > measured.peak_bytes;
        measured.peak_bytes = measured.peak_bytes.max(peak_bytes);
        let measured = *measured;
        grown.then(|| to_keep(catalog, shape, measured)).flatten()
    }

    /// Learns how many bytes a model's weights take.
    pub fn learn_weights(&mut self, model: ModelId, bytes: u64) {
        if bytes > 0 {
            self.weights.insert(model, bytes);
        }
    }

    /// Takes back what the journal kept.
    pub fn recall(&mut self, catalog: &Catalog, kept: &Measurement) {
        let Measurement { width, height, pictures, input_pixels, peak_bytes, step_us, runs, .. } = *kept;
        if let Some(model) = catalog.id_of(&kept.model) {
            let measured = self.measured(Shape { model, width, height, pictures, input_pixels });
            (measured.peak_bytes, measured.step_us, measured.runs) = (peak_bytes, step_us, runs);
        }
    }

    /// What is known of a shape, to be added to. Where there are too many, the one that was learnt from longest ago makes
    /// room, so that nobody fills the table for good.
    fn measured(&mut self, shape: Shape) -> &mut Measured {
        if self.shapes.len() >= SHAPES
            && !self.shapes.contains_key(&shape)
            && let Some(oldest) = self.shapes.iter().min_by_key(|(_, measured)| measured.at).map(|(shape, _)| *shape)
        {
            self.shapes.remove(&oldest);
        }
        self.lessons += 1;
        let measured = self.shapes.entry(shape).or_default();
        measured.at = self.lessons;
        measured
    }
}

fn to_keep(catalog: &Catalog, shape: Shape, measured: Measured) -> Option<Measurement> {
    let Shape { model, width, height, pictures, input_pixels } = shape;
    let Measured { peak_bytes, step_us, runs, at: _ } = measured;
    let model = catalog.model(model)?.name.clone();
    Some(Measurement { model, width, height, pictures, input_pixels, peak_bytes, step_us, runs })
}

#[cfg(test)]
mod tests {
    use gpusched_shared::{Declared, ModelInfo, Size, TaskKind};

    use super::*;

    fn catalog() -> Catalog {
        Catalog::new(vec![ModelInfo {
            name: "flux".to_owned(),
            kind: "k".to_owned(),
            tasks: vec![TaskKind::Txt2Img],
            bytes: 1,
            default_size: Size { width: 64, height: 64 },
            size_multiple: 16,
            max_pixels: 1 << 20,
            default_steps: 20,
            default_guidance_milli: 3000,
            declared: Declared { weights_bytes: 500, run_bytes: 100, run_bytes_per_pixel: 2 },
        }])
    }

    const CAP: u64 = 10_000;
    const SHAPE: Shape = Shape { model: ModelId(0), width: 8, height: 4, pictures: 1, input_pixels: 32 };

    #[test]
    fn measured_replaces_declared() {
        let catalog = catalog();
        let mut footprints = Footprints::default();
        assert_eq!(
            footprints.demand(&catalog, SHAPE, CAP),
            Demand { weights_bytes: 500, run_bytes: 100 + 2 * 64 + 8 * 32 }
        );
        assert_eq!(footprints.cost_us(SHAPE, 3), None);
        let kept = footprints.learn(&catalog, SHAPE, 50, 4, 400).expect("the first is kept");
        assert_eq!((kept.peak_bytes, kept.step_us, kept.runs), (50, 100, 1));
        assert_eq!(footprints.demand(&catalog, SHAPE, CAP).run_bytes, 55);
        assert_eq!(footprints.cost_us(SHAPE, 3), Some(300));
        footprints.learn_weights(ModelId(0), 480);
        footprints.learn_weights(ModelId(0), 0);
        assert_eq!(footprints.demand(&catalog, SHAPE, CAP).weights_bytes, 480);

        // The margin ends where the partition does, and what was measured does not.
        assert_eq!(footprints.demand(&catalog, SHAPE, 480 + 52).run_bytes, 52);
        assert_eq!(footprints.demand(&catalog, SHAPE, 480 + 40).run_bytes, 50);

        let mut later = Footprints::default();
        later.recall(&catalog, &kept);
        assert_eq!(later.demand(&catalog, SHAPE, CAP).run_bytes, 55);
        later.recall(&catalog, &Measurement { model: "gone".to_owned(), ..kept });
        assert_eq!(later.shapes.len(), 1);
    }

    #[test]
    fn what_is_worth_keeping_is_kept() {
        let catalog = catalog();
        let mut footprints = Footprints::default();
        let mut learn = |peak, run_us| footprints.learn(&catalog, SHAPE, peak, 1, run_us).is_some();
        // By run: the 1st, the 2nd, not the 3rd, the 4th, then one with a higher peak.
        assert_eq!(
            [learn(9, 8), learn(9, 8), learn(9, 8), learn(9, 8), learn(10, 16), learn(9, 16)],
            [true, true, false, true, true, false]
        );
        assert_eq!(footprints.cost_us(SHAPE, 1), Some((10 * 3 + 16) / 4));
        let kept = footprints.learn_peak(&catalog, SHAPE, 100).expect("kept");
        assert_eq!((kept.peak_bytes, kept.runs), (100, 6));
        assert_eq!(footprints.learn_peak(&catalog, SHAPE, 100), None);
    }

    #[test]
    fn no_more_shapes_than_the_bound() {
        let catalog = catalog();
        let mut footprints = Footprints::default();
        for width in 0..SHAPES as u32 + 10 {
            footprints.learn(&catalog, Shape { width, ..SHAPE }, 1, 1, 1);
        }
        assert_eq!(footprints.shapes.len(), SHAPES);
        assert!(!footprints.shapes.contains_key(&Shape { width: 9, ..SHAPE }), "the oldest have gone");
        assert_eq!(footprints.cost_us(Shape { width: SHAPES as u32 + 9, ..SHAPE }, 1), Some(1), "the newest are there");
    }
}
