//! What is looked for in a picture, and how the model is told (`Sam2PromptEncoder`).

use candle_core::{DType, Result as Built, Tensor};
use candle_nn::VarBuilder;

use super::config::{POINT_KINDS, PromptConfig};
use crate::error::{Error, Result};

/// Most prompts about one picture.
pub const MAX_PROMPTS: usize = 16;
/// Most points of one prompt.
pub const MAX_POINTS: usize = 64;

/// One thing that is looked for: by a box around it, by points, or by both.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Prompt {
    /// A box around it.
    pub area: Option<Area>,
    /// Points in it and beside it.
    pub points: Vec<Point>,
}

/// A box, in pixels of the picture from its top left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Area {
    /// Its left side.
    pub left: f32,
    /// Its upper side.
    pub top: f32,
    /// Its right side, right of the left one.
    pub right: f32,
    /// Its lower side, below the upper one.
    pub bottom: f32,
}

/// A point, in pixels of the picture from its top left corner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    /// Pixels from the left.
    pub x: f32,
    /// Pixels from the top.
    pub y: f32,
    /// Whether it lies in what is looked for (label 1) or beside it (label 0).
    pub inside: bool,
}

impl Prompt {
    /// A box alone.
    #[must_use]
    pub fn area(area: Area) -> Self {
        Self { area: Some(area), points: Vec::new() }
    }

    /// Points alone.
    #[must_use]
    pub fn points(points: Vec<Point>) -> Self {
        Self { area: None, points }
    }

    /// Whether it may mean several things: a point by itself may be of a part or of the whole.
    #[must_use]
    pub fn is_ambiguous(&self) -> bool {
        self.area.is_none() && self.points.len() == 1
    }

    /// Whether it can be asked about a picture of this size.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if it is empty, has too many points, or lies outside the picture.
    pub fn check(&self, width: u32, height: u32) -> Result<()> {
        let refuse = |reason: String| Err(Error::Input(reason));
        if self.area.is_none() && self.points.is_empty() {
            return refuse("a prompt needs a box or points".to_owned());
        }
        if self.points.len() > MAX_POINTS {
            return refuse(format!("a prompt has {} points; up to {MAX_POINTS} are accepted", self.points.len()));
        }
        // What is not a number is not in a range, either.
        let within = |x: f32, y: f32| (0.0..=width as f32).contains(&x) && (0.0..=height as f32).contains(&y);
        if let Some(point) = self.points.iter().find(|point| !within(point.x, point.y)) {
            let (x, y) = (point.x, point.y);
            return refuse(format!("the point ({x}, {y}) is outside the picture of {width} x {height} pixels"));
        }
        if let Some(Area { left, top, right, bottom }) = self.area {
            let corners = format!("the box from ({left}, {top}) to ({right}, {bottom})");
            if !within(left, top) || !within(right, bottom) {
                return refuse(format!("{corners} is outside the picture of {width} x {height} pixels"));
            }
            if left >= right || top >= bottom {
                return refuse(format!("{corners} is empty: left and top come first"));
            }
        }
        Ok(())
    }
}

/// Random waves as an encoding of places (`Sam2PositionalEmbedding`).
pub(super) struct Waves {
    /// How fast each wave goes along x, and then along y.
    frequencies: [Vec<f32>; 2],
}

impl Waves {
    pub(super) fn new(width: usize, vb: &VarBuilder<'_>) -> Built<Self> {
        let matrix = vb.get((2, width / 2), "positional_embedding")?.to_dtype(DType::F32)?;
        Ok(Self { frequencies: [matrix.get(0)?.to_vec1()?, matrix.get(1)?.to_vec1()?] })
    }

    /// Sines, then cosines, for a place; the picture goes from 0 to 1 along both axes.
    pub(super) fn at(&self, x: f32, y: f32) -> impl Iterator<Item = f32> {
        let [along_x, along_y] = &self.frequencies;
        let (x, y) = (2.0 * x - 1.0, 2.0 * y - 1.0);
        let phases = along_x.iter().zip(along_y).map(move |(a, b)| std::f32::consts::TAU * (x * a + y * b));
        phases.clone().map(f32::sin).chain(phases.map(f32::cos))
    }
}

/// The encoder of prompts.
pub struct PromptEncoder {
    waves: Waves,
    /// (kinds, C): what is added to a point outside, a point inside, a box's first corner and its last.
    kinds: Tensor,
    /// (1, C): what stands at the end of every prompt.
    end: Tensor,
    /// (1, C): what stands for a mask that was not given.
    no_mask: Tensor,
    /// Side of the picture that the model sees, in pixels.
    side: f32,
}

impl PromptEncoder {
    /// Reads the weights below `vb`. Those for masks as prompts are not among them.
    ///
    /// # Errors
    ///
    /// If one is missing or of another shape.
    pub fn new(config: &PromptConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let width = config.hidden_size;
        let table = |name: &str, rows: usize| vb.pp(name).get((rows, width), "weight");
        Ok(Self {
            waves: Waves::new(width, &vb.pp("shared_embedding"))?,
            kinds: table("point_embed", POINT_KINDS)?,
            end: table("not_a_point_embed", 1)?,
            no_mask: table("no_mask_embed", 1)?,
            side: config.image_size as f32,
        })
    }

    /// The tokens of a prompt about a picture of `width` x `height` pixels, (1, T, C): points, then corners, then an end.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] as [`Prompt::check`], [`Error::Device`].
    pub fn forward(&self, prompt: &Prompt, width: u32, height: u32) -> Result<Tensor> {
        prompt.check(width, height)?;
        let points = prompt.points.iter().map(|point| (point.x, point.y, u32::from(point.inside)));
        let corners = prompt.area.iter().flat_map(|area| [(area.left, area.top, 2), (area.right, area.bottom, 3)]);
        let (mut waves, mut kinds) = (Vec::new(), Vec::new());
        for (x, y, kind) in points.chain(corners) {
            // To the model's pixels, and to the middle of one.
            let place =
                |at: f32, length: u32| (at * (f64::from(self.side) / f64::from(length)) as f32 + 0.5) / self.side;
            waves.extend(self.waves.at(place(x, width), place(y, height)));
            kinds.push(kind);
        }
        let device = self.kinds.device();
        let shape = (kinds.len(), self.kinds.dim(1)?);
        let waves = Tensor::from_vec(waves, shape, device)?.to_dtype(self.kinds.dtype())?;
        let tokens = (waves + self.kinds.index_select(&Tensor::new(kinds, device)?, 0)?)?;
        Ok(Tensor::cat(&[&tokens, &self.end], 0)?.unsqueeze(0)?)
    }

    /// What is added to a picture's embedding where no mask is given as a prompt, (1, C).
    #[must_use]
    pub fn no_mask(&self) -> &Tensor {
        &self.no_mask
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_are_bounded() {
        let area = |left, top, right, bottom| Prompt::area(Area { left, top, right, bottom });
        let points = |x, y, count| Prompt::points(vec![Point { x, y, inside: true }; count]);
        for good in [area(0.0, 0.0, 20.0, 10.0), points(20.0, 10.0, MAX_POINTS), points(0.0, 0.0, 1)] {
            good.check(20, 10).unwrap();
        }
        for (bad, reason) in [
            (Prompt::default(), "needs a box"),
            (points(1.0, 1.0, MAX_POINTS + 1), "65 points"),
            (points(20.5, 1.0, 1), "outside"),
            (points(1.0, -0.1, 1), "outside"),
            (points(f32::NAN, 1.0, 1), "outside"),
            (points(1.0, f32::INFINITY, 1), "outside"),
            (area(0.0, 0.0, 20.0, 11.0), "outside"),
            (area(0.0, f32::NAN, 20.0, 1.0), "outside"),
            (area(3.0, 0.0, 3.0, 1.0), "empty"),
            (area(0.0, 5.0, 3.0, 1.0), "empty"),
        ] {
            let refused = bad.check(20, 10);
            assert!(matches!(&refused, Err(Error::Input(text)) if text.contains(reason)), "{bad:?}: {refused:?}");
        }
    }

    #[test]
    fn a_point_by_itself_may_mean_several_things() {
        let point = Point { x: 1.0, y: 1.0, inside: true };
        let area = Area { left: 0.0, top: 0.0, right: 2.0, bottom: 2.0 };
        assert!(Prompt::points(vec![point]).is_ambiguous());
        assert!(!Prompt::points(vec![point; 2]).is_ambiguous());
        assert!(!Prompt::area(area).is_ambiguous());
        assert!(!Prompt { area: Some(area), points: vec![point] }.is_ambiguous());
    }
}
