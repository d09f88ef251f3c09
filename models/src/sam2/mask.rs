//! Masks: which of the decoder's is taken, and what it says of each pixel of the picture.

use candle_core::{DType, Error as DeviceError};

use super::{config::DecoderConfig, decoder::Decoded};
use crate::error::{Error, Result};

/// Which pixels of a picture belong to what was looked for.
#[derive(Debug, Clone, PartialEq)]
pub struct Mask {
    /// Pixels in a row, as many as the picture has.
    pub width: u32,
    /// Rows, as many as the picture has.
    pub height: u32,
    /// Whether a pixel belongs to it, row by row from the top left.
    pub bits: Vec<bool>,
    /// How well the model expects the mask to agree with what was meant: intersection over union, 0 to 1.
    pub score: f32,
    /// How sure the model is that there is anything of the kind, as a logit: above zero it rather is.
    pub object: f32,
}

/// A mask as the decoder made it, smaller than the picture.
#[derive(Debug, Clone, PartialEq)]
pub struct Small {
    rows: usize,
    columns: usize,
    /// Above zero is inside.
    values: Vec<f32>,
    score: f32,
    object: f32,
}

impl Small {
    /// Of what was decoded the mask to be taken: of an `ambiguous` prompt the one with the best score besides the first;
    /// else the first, unless the configuration has it give way where its outline is unsure.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if the device fails or computed what is not a number.
    pub fn choose(decoded: &Decoded, ambiguous: bool, config: &DecoderConfig) -> Result<Self> {
        let scores: Vec<f32> = decoded.scores.to_dtype(DType::F32)?.to_vec1()?;
        let values = |i: usize| -> Result<Vec<f32>> {
            let values: Vec<f32> = decoded.masks.get(i)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
            if values.iter().chain(&scores).any(|value| value.is_nan()) {
                return Err(Error::Device(DeviceError::msg("the model computed values that are not numbers")));
            }
            Ok(values)
        };
        // Of equals the first.
        let best = (2..scores.len()).fold(1, |best, i| if scores[i] > scores[best] { i } else { best });
        let single = if ambiguous { None } else { Some(values(0)?) };
        let (taken, values) = match single {
            Some(values) if !config.dynamic_multimask_via_stability || is_stable(&values, config) => (0, values),
            Some(_) | None => (best, values(best)?),
        };
        let (_, rows, columns) = decoded.masks.dims3()?;
        let object = decoded.object.to_dtype(DType::F32)?.to_vec1::<f32>()?;
        let object = object.first().copied().unwrap_or_default();
        Ok(Self { rows, columns, values, score: scores[taken], object })
    }

    /// The mask at the size of the picture. Values between the small mask's are interpolated linearly, as PyTorch does.
    #[must_use]
    pub fn enlarge(&self, width: u32, height: u32) -> Mask {
        let across = taps(self.columns, width);
        let row = |down: &Tap| {
            let line = |row: usize| &self.values[row * self.columns..(row + 1) * self.columns];
            let (upper, lower, share) = (line(down.first), line(down.second), down.share);
            across.iter().map(move |tap| (1.0 - share) * tap.of(upper) + share * tap.of(lower) > 0.0)
        };
        let bits = taps(self.rows, height).iter().flat_map(row).collect();
        Mask { width, height, bits, score: self.score, object: self.object }
    }
}

/// Whether a mask hardly changes if its threshold is moved a little.
fn is_stable(values: &[f32], config: &DecoderConfig) -> bool {
    let delta = config.dynamic_multimask_stability_delta;
    let above = |threshold: f32| values.iter().filter(|&&value| value > threshold).count() as f32;
    let (strict, lenient) = (above(delta), above(-delta));
    let score = if lenient > 0.0 { strict / lenient } else { 1.0 };
    score >= config.dynamic_multimask_stability_thresh
}

/// The two values between which one lies.
struct Tap {
    first: usize,
    second: usize,
    /// Of the second.
    share: f32,
}

impl Tap {
    fn of(&self, line: &[f32]) -> f32 {
        (1.0 - self.share) * line[self.first] + self.share * line[self.second]
    }
}

fn taps(from: usize, to: u32) -> Vec<Tap> {
    let scale = from as f32 / to as f32;
    let tap = |i: u32| {
        let at = (scale * (i as f32 + 0.5) - 0.5).max(0.0);
        let first = (at as usize).min(from - 1);
        Tap { first, second: (first + 1).min(from - 1), share: at - first as f32 }
    };
    (0..to).map(tap).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Tensor};

    use super::*;

    fn decoded(masks: &[[f32; 4]], scores: &[f32]) -> Decoded {
        let values: Vec<f32> = masks.iter().flatten().copied().collect();
        Decoded {
            masks: Tensor::from_vec(values, (masks.len(), 2, 2), &Device::Cpu).unwrap(),
            scores: Tensor::new(scores, &Device::Cpu).unwrap(),
            object: Tensor::new(&[0.5f32], &Device::Cpu).unwrap(),
        }
    }

    fn score(decoded: &Decoded, ambiguous: bool, config: &DecoderConfig) -> f32 {
        Small::choose(decoded, ambiguous, config).unwrap().score
    }

    #[test]
    fn an_unsure_single_mask_gives_way() {
        let config = DecoderConfig::default();
        let fixed = DecoderConfig { dynamic_multimask_via_stability: false, ..config.clone() };
        let others = [[1.0; 4], [2.0; 4], [3.0; 4]];
        let of = |single| decoded(&[&[single][..], &others].concat(), &[0.9, 0.1, 0.3, 0.3]);
        let (sure, unsure) = (of([1.0, -1.0, 1.0, -1.0]), of([1.0, 0.01, 1.0, -1.0]));
        assert_eq!((score(&sure, false, &config), score(&unsure, false, &config)), (0.9, 0.3));
        assert_eq!(score(&unsure, false, &fixed), 0.9);
        // Nothing at all is sure, too.
        assert_eq!(score(&of([-1.0; 4]), false, &config), 0.9);
        let ambiguous = Small::choose(&sure, true, &config).unwrap();
        assert_eq!((ambiguous.score, ambiguous.values), (0.3, vec![2.0; 4]));
    }

    #[test]
    fn what_is_not_a_number_is_no_mask() {
        let config = DecoderConfig::default();
        let broken = decoded(&[[f32::NAN; 4], [1.0; 4]], &[0.5, 0.5]);
        assert!(matches!(Small::choose(&broken, false, &config), Err(Error::Device(_))));
    }

    #[test]
    fn masks_grow_and_shrink() {
        let small = Small { rows: 2, columns: 2, values: vec![1.0, -1.0, -1.0, -1.0], score: 0.5, object: 0.0 };
        let inside = |width, height| small.enlarge(width, height).bits.iter().filter(|bit| **bit).count();
        assert_eq!(small.enlarge(2, 2).bits, [true, false, false, false]);
        // Half-way between inside and outside is outside, and so is what most of the corners say.
        assert_eq!((inside(4, 4), inside(1, 1), inside(8, 2)), (4, 0, 4));
    }
}
