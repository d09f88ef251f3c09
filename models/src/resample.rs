//! Resizing pictures with the arithmetic of Pillow's `Image.resize`, on which the models' processors rest.
//!
//! Each output pixel is a weighted mean of the input pixels around its centre; when shrinking, the filter is widened
//! by the scale. Rows are resized first, rounded to 8 bits, then columns. The weights are rounded to multiples of
//! 2^-22, which is what makes the result equal to Pillow's to the last bit.
//!
//! PyTorch does the same with weights of 16 bits ([`resize_as_torch`]), on which processors without a Pillow form rest.

use crate::{error::Result, picture::Picture};

/// How input pixels are weighted by their distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    /// A triangle, as `PIL.Image.BILINEAR`.
    Bilinear,
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
    resize_with(picture, width, height, |from, to| taps(from, to, filter, |_| FRACTION_BITS))
}

/// As [`resize`], with the weights of PyTorch's `interpolate` with antialiasing of 8-bit tensors on the CPU: they have as
/// many binary places as the largest of them leaves in 16 bits.
///
/// # Errors
///
/// As [`resize`].
pub fn resize_as_torch(picture: &Picture, width: u32, height: u32, filter: Filter) -> Result<Picture> {
    let bits = |largest: f64| (0..FRACTION_BITS).find(|bits| (largest * f64::from(2 << bits)).round() >= 32768.0);
    let bits = |largest: f64| bits(largest).unwrap_or(FRACTION_BITS);
    resize_with(picture, width, height, |from, to| taps(from, to, filter, bits))
}

fn resize_with(picture: &Picture, width: u32, height: u32, taps: impl Fn(usize, usize) -> Vec<Tap>) -> Result<Picture> {
    let (from_width, from_height) = (picture.width() as usize, picture.height() as usize);
    let (to_width, to_height) = (width as usize, height as usize);
    let mut rgb = picture.rgb().to_vec();
    if to_width != from_width {
        let taps = taps(from_width, to_width);
        let row = |y: usize| {
            let line = &rgb[y * from_width * 3..(y + 1) * from_width * 3];
            taps.iter().flat_map(|tap| (0..3).map(|c| tap.apply(|x| line[x * 3 + c]))).collect::<Vec<u8>>()
        };
        rgb = (0..from_height).flat_map(row).collect();
    }
    if to_height != from_height {
        let stride = to_width * 3;
        let column = |tap: &Tap| (0..stride).map(|x| tap.apply(|y| rgb[y * stride + x])).collect::<Vec<u8>>();
        rgb = taps(from_height, to_height).iter().flat_map(column).collect();
    }
    Picture::new(width, height, rgb)
}

/// Binary places of Pillow's weights.
const FRACTION_BITS: u32 = 22;

/// The input pixels that make up one output pixel: from `start`, with fixed-point weights.
struct Tap {
    start: usize,
    weights: Vec<i64>,
    /// Binary places of the weights.
    bits: u32,
}

impl Tap {
    fn apply(&self, pixel: impl Fn(usize) -> u8) -> u8 {
        let half = (1i64 << self.bits) / 2;
        let sum = self.weights.iter().zip(self.start..).map(|(w, i)| w * i64::from(pixel(i))).sum::<i64>();
        ((sum + half) >> self.bits).clamp(0, 255) as u8
    }
}

/// One for each output pixel. `bits` says how many binary places the weights have, by the largest of them.
fn taps(from: usize, to: usize, filter: Filter, bits: impl Fn(f64) -> u32) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = filter.support() * stretch;
    let weighted = |i: usize| {
        let centre = (i as f64 + 0.5) * scale;
        let start = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weights: Vec<f64> = (start..end).map(|x| filter.weight((x as f64 - centre + 0.5) / stretch)).collect();
        let total: f64 = weights.iter().sum();
        (start, weights.into_iter().map(|weight| weight / total).collect::<Vec<f64>>())
    };
    let weighted: Vec<_> = (0..to).map(weighted).collect();
    let bits = bits(weighted.iter().flat_map(|(_, weights)| weights).copied().fold(0.0, f64::max));
    let one = f64::from(1u32 << bits);
    let tap = |(start, weights): (usize, Vec<f64>)| Tap {
        start,
        weights: weights.iter().map(|w| (w * one).round() as i64).collect(),
        bits,
    };
    weighted.into_iter().map(tap).collect()
}

impl Filter {
    fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
            Self::Lanczos => 3.0,
        }
    }

    fn weight(self, x: f64) -> f64 {
        let x = x.abs();
        match self {
            Self::Bilinear if x < 1.0 => 1.0 - x,
            Self::Bicubic if x < 1.0 => (1.5 * x - 2.5) * x * x + 1.0,
            Self::Bicubic if x < 2.0 => ((-0.5 * x + 2.5) * x - 4.0) * x + 2.0,
            Self::Lanczos if x < 3.0 => sinc(x) * sinc(x / 3.0),
            Self::Bilinear | Self::Bicubic | Self::Lanczos => 0.0,
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
        for filter in [Filter::Bilinear, Filter::Bicubic, Filter::Lanczos] {
            for (width, height) in [(1, 1), (3, 11), (20, 2), (7, 5)] {
                for resize in [resize, resize_as_torch] {
                    let resized = resize(&plain, width, height, filter).unwrap();
                    assert!(resized.rgb().chunks(3).all(|p| p == [9, 130, 255]), "{filter:?} {width}x{height}");
                }
            }
        }
        assert!(resize(&plain, 0, 4, Filter::Bicubic).is_err());
    }
}
