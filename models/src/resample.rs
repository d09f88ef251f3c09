//! Resizing pictures with the arithmetic of Pillow's `Image.resize`, on which the models' processors rest.
//!
//! Each output pixel is a weighted mean of the input pixels around its centre; when shrinking, the filter is widened
//! by the scale. Rows are resized first, rounded to 8 bits, then columns. The weights are rounded to multiples of
//! 2^-22, which is what makes the result equal to Pillow's to the last bit: to that of versions before 13, which takes columns
//! first for some pictures.
//!
//! PyTorch does the same with weights of 16 bits ([`resize_as_torch`]), on which processors without a Pillow form rest.

use std::ops::Range;

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
    let (width, height) = (width as usize, height as usize);
    resize_part(picture, (width, height), Part::all(width, height), filter)
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
    let (width, height) = (width as usize, height as usize);
    resample(picture, (width, height), Part::all(width, height), (filter, &bits))
}

/// A part of a picture, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Part {
    pub left: usize,
    pub top: usize,
    pub width: usize,
    pub height: usize,
}

impl Part {
    fn all(width: usize, height: usize) -> Self {
        Self { left: 0, top: 0, width, height }
    }
}

/// `part` of `picture` at `width` x `height` pixels, within which it lies. The rest is not computed.
///
/// # Errors
///
/// [`Error::Input`](crate::Error::Input) if a side of `part` is zero.
pub fn resize_part(picture: &Picture, size: (usize, usize), part: Part, filter: Filter) -> Result<Picture> {
    resample(picture, size, part, (filter, &|_| FRACTION_BITS))
}

/// How many binary places weights have, by the largest of them.
type Places<'a> = &'a dyn Fn(f64) -> u32;

fn resample(
    picture: &Picture,
    (width, height): (usize, usize),
    part: Part,
    by: (Filter, Places<'_>),
) -> Result<Picture> {
    let (from_width, from_height) = (picture.width() as usize, picture.height() as usize);
    let columns = taps(from_width, width, part.left..part.left + part.width, by);
    let rows = taps(from_height, height, part.top..part.top + part.height, by);
    // The rows that are read, of which the first to be kept is counted as 0 from here on.
    let first = rows.iter().map(|tap| tap.start).min().unwrap_or(0);
    let last = rows.iter().map(|tap| tap.start + tap.weights.len()).max().unwrap_or(0);
    let row = |y: usize| {
        let line = &picture.rgb()[y * from_width * 3..(y + 1) * from_width * 3];
        columns.iter().flat_map(move |tap| (0..3).map(move |c| tap.apply(|x| line[x * 3 + c])))
    };
    let narrowed: Vec<u8> = (first..last).flat_map(row).collect();
    let stride = part.width * 3;
    let column =
        |tap: &Tap| (0..stride).map(|x| tap.apply(|y| narrowed[(y - first) * stride + x])).collect::<Vec<u8>>();
    let rgb = rows.iter().flat_map(column).collect();
    Picture::new(part.width as u32, part.height as u32, rgb)
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

/// Those of the output pixels in `part`, of `to` in all.
fn taps(from: usize, to: usize, part: Range<usize>, (filter, places): (Filter, Places<'_>)) -> Vec<Tap> {
    if from == to {
        let one = 1i64 << FRACTION_BITS;
        return part.map(|i| Tap { start: i, weights: vec![one], bits: FRACTION_BITS }).collect();
    }
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
    let weighted: Vec<_> = part.map(weighted).collect();
    let bits = places(weighted.iter().flat_map(|(_, weights)| weights).copied().fold(0.0, f64::max));
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

    #[test]
    fn a_part_is_cut_out_of_the_whole() {
        let picture = Picture::new(9, 7, (0..189).map(|i| (i * 37 % 251) as u8).collect()).unwrap();
        for (width, height) in [(20, 30), (5, 7), (9, 3), (9, 7)] {
            let whole = resize(&picture, width, height, Filter::Bicubic).unwrap();
            let part = Part { left: 1, top: 2, width: width as usize - 2, height: height as usize - 2 };
            let cut = resize_part(&picture, (width as usize, height as usize), part, Filter::Bicubic).unwrap();
            let row = |y: usize| &whole.rgb()[(y * width as usize + 1) * 3..][..part.width * 3];
            let expected: Vec<u8> = (2..height as usize).flat_map(row).copied().collect();
            assert_eq!(cut.rgb(), expected, "{width}x{height}");
        }
    }
}
