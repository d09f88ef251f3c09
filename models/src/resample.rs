//! Resizing pictures with the arithmetic of Pillow's `Image.resize`, on which the models' processors rest.
//!
//! Each output pixel is a weighted mean of the input pixels around its centre; when shrinking, the filter is widened
//! by the scale. Rows are resized first, rounded to 8 bits, then columns. The weights are rounded to multiples of
//! 2^-22, which is what makes the result equal to Pillow's to the last bit.

use crate::{error::Result, picture::Picture};

/// How input pixels are weighted by their distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// Keys' cubic with a = −1/2, as `PIL.Image.BICUBIC`.
    Bicubic,
    /// The sinc windowed to three lobes, as `PIL.Image.LANCZOS`.
    Lanczos,
}

/// `picture` at `width` x `height` pixels.
///
/// # Errors
///
/// [`Error::Input`](crate::Error::Input) if a side is zero.
pub fn resize(picture: &Picture, width: u32, height: u32, filter: Filter) -> Result<Picture> {
    let (from_width, from_height) = (picture.width() as usize, picture.height() as usize);
    let (to_width, to_height) = (width as usize, height as usize);
    let mut rgb = picture.rgb().to_vec();
    if to_width != from_width {
        let taps = taps(from_width, to_width, filter);
        let row = |y: usize| {
            let line = &rgb[y * from_width * 3..(y + 1) * from_width * 3];
            taps.iter().flat_map(|tap| (0..3).map(|c| tap.apply(|x| line[x * 3 + c]))).collect::<Vec<u8>>()
        };
        rgb = (0..from_height).flat_map(row).collect();
    }
    if to_height != from_height {
        let stride = to_width * 3;
        let column = |tap: &Tap| (0..stride).map(|x| tap.apply(|y| rgb[y * stride + x])).collect::<Vec<u8>>();
        rgb = taps(from_height, to_height, filter).iter().flat_map(column).collect();
    }
    Picture::new(width, height, rgb)
}

const FRACTION_BITS: u32 = 22;

/// The input pixels that make up one output pixel: from `start`, with fixed-point weights.
struct Tap {
    start: usize,
    weights: Vec<i64>,
}

impl Tap {
    fn apply(&self, pixel: impl Fn(usize) -> u8) -> u8 {
        let half = 1i64 << (FRACTION_BITS - 1);
        let sum = self.weights.iter().zip(self.start..).map(|(w, i)| w * i64::from(pixel(i))).sum::<i64>();
        ((sum + half) >> FRACTION_BITS).clamp(0, 255) as u8
    }
}

fn taps(from: usize, to: usize, filter: Filter) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = filter.support() * stretch;
    let tap = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let start = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weights: Vec<f64> = (start..end).map(|x| filter.weight((x as f64 - centre + 0.5) / stretch)).collect();
        let total: f64 = weights.iter().sum();
        let one = (1u32 << FRACTION_BITS) as f64;
        Tap { start, weights: weights.iter().map(|w| (w / total * one).round() as i64).collect() }
    };
    (0..to).map(tap).collect()
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Bicubic | Self::Lanczos => 0.0,
        }
    }
}

fn sinc(x: f64) -> f64 {
    let x = x * std::f64::consts::PI;
    if x == 0.0 { 1.0 } else { x.sin() / x }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_picture_stays_plain() {
        let plain = Picture::new(7, 5, [9, 130, 255].repeat(35)).unwrap();
        for filter in [Filter::Bicubic, Filter::Lanczos] {
            for (width, height) in [(1, 1), (3, 11), (20, 2), (7, 5)] {
                let resized = resize(&plain, width, height, filter).unwrap();
                assert!(resized.rgb().chunks(3).all(|p| p == [9, 130, 255]), "{filter:?} {width}x{height}");
            }
        }
        assert!(resize(&plain, 0, 4, Filter::Bicubic).is_err());
    }
}
