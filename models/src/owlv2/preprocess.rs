//! Pictures to the tensor that OWLv2 reads (`Owlv2ImageProcessorPil`).
//!
//! A picture is made a square by black below it or to its right, blurred if it is to shrink, and interpolated linearly.
//! All of this is linear, and the same along either side; so blur and interpolation are one sum over the pixels that there
//! are, and the black is never there at all. Hence a picture that is one pixel wide takes no more than any other.

use candle_core::{DType, Device, Tensor};

use super::config::ProcessorConfig;
use crate::{clip::preprocess::check_size, error::Result, picture::Picture};

/// The blur reaches this many standard deviations to either side.
const REACH: f64 = 4.0;

/// Makes a square of `picture`, resizes, rescales and normalises it: (1, 3, S, S).
///
/// # Errors
///
/// [`Error::Input`](crate::Error::Input) if the picture is too large, [`Error::Device`](crate::Error::Device).
pub fn prepare(picture: &Picture, config: &ProcessorConfig, device: &Device, dtype: DType) -> Result<Tensor> {
    check_size(picture)?;
    let (width, height, side) = (picture.width() as usize, picture.height() as usize, config.side);
    let square = width.max(height);
    let (rows, columns) = (taps(square, height, side), taps(square, width, side));
    // The library's values are f32 from here on.
    let factor = config.scaling.factor;
    let given = |i: usize| (f64::from(picture.rgb()[i]) * factor) as f32;
    // The longer side first: what is in between is then no larger than the picture or the result.
    let values = if width >= height {
        let narrowed = along(given, (height, width, 3), &columns);
        along(|i| narrowed[i], (1, height, side * 3), &rows)
    } else {
        let flattened = along(given, (1, height, width * 3), &rows);
        along(|i| flattened[i], (side, width, 3), &columns)
    };
    // The library now keeps values within those of the picture; positive weights that add up to 1 do so by themselves.
    let scaling = crate::processor::Scaling { factor: 1.0, ..config.scaling };
    Ok(scaling.tensor(values.iter().map(|&value| f64::from(value)), (side, side), device)?.to_dtype(dtype)?)
}

/// The pixels along a side that make up one of the result: from `start`, with their weights.
struct Tap {
    start: usize,
    weights: Vec<f64>,
}

/// The sums along the middle axis of an array of three.
fn along(value: impl Fn(usize) -> f32, (outer, length, inner): (usize, usize, usize), taps: &[Tap]) -> Vec<f32> {
    let mut made = Vec::with_capacity(outer * taps.len() * inner);
    let mut sums = vec![0.0; inner];
    for block in 0..outer {
        for tap in taps {
            sums.fill(0.0);
            for (at, weight) in (block * length + tap.start..).zip(&tap.weights) {
                for (sum, i) in sums.iter_mut().zip(at * inner..) {
                    *sum += weight * f64::from(value(i));
                }
            }
            made.extend(sums.iter().map(|&sum| sum as f32));
        }
    }
    made
}

/// The weights for bringing a side of `from` pixels, of which the first `there` are of the picture and the rest black, to
/// `to` pixels. Beyond its ends the side is mirrored at the middle of the last pixel, as scipy's `mirror` does.
fn taps(from: usize, there: usize, to: usize) -> Vec<Tap> {
    let scale = from as f64 / to as f64;
    let blur = gaussian((scale - 1.0) / 2.0);
    let reach = blur.len() / 2;
    let tap = |i: usize| {
        let at = (i as f64 + 0.5) * scale - 0.5;
        let below = at.floor();
        let share = at - below;
        let neighbours =
            [(below as isize, 1.0 - share), (below as isize + 1, share)].map(|(j, w)| (mirror(j, from), w));
        let [first, second] = neighbours.map(|(j, _)| j);
        let start = first.min(second).saturating_sub(reach);
        let end = (first.max(second) + reach + 1).min(there);
        let mut weights = vec![0.0; end.saturating_sub(start)];
        for (j, share) in neighbours {
            for (k, weight) in blur.iter().enumerate() {
                let pixel = mirror(j as isize + k as isize - reach as isize, from);
                // What is missing is black.
                if let Some(sum) = pixel.checked_sub(start).and_then(|i| weights.get_mut(i)) {
                    *sum += share * weight;
                }
            }
        }
        Tap { start, weights }
    };
    (0..to).map(tap).collect()
}

/// A bell curve of this standard deviation in pixels, cut off, with a sum of 1; of one pixel if there is nothing to blur.
fn gaussian(deviation: f64) -> Vec<f64> {
    let reach = (REACH * deviation.max(0.0) + 0.5) as i64;
    if reach == 0 {
        return vec![1.0];
    }
    let bell: Vec<f64> = (-reach..=reach).map(|x| (-0.5 * (x as f64 / deviation).powi(2)).exp()).collect();
    let sum: f64 = bell.iter().sum();
    bell.into_iter().map(|weight| weight / sum).collect()
}

/// Which of `length` pixels stands at `at`, which may lie beyond either end.
fn mirror(at: isize, length: usize) -> usize {
    if length == 1 {
        return 0;
    }
    let last = length as isize - 1;
    let within = at.rem_euclid(2 * last);
    within.min(2 * last - within) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{error::Error, processor::Scaling};

    fn config(side: usize) -> ProcessorConfig {
        ProcessorConfig { side, scaling: Scaling { factor: 1.0, mean: [0.0; 3], std: [1.0; 3] } }
    }

    #[test]
    fn mirrors_have_the_last_pixel_once() {
        let seen: Vec<_> = (-4..8).map(|at| mirror(at, 4)).collect();
        assert_eq!(seen, [2, 3, 2, 1, 0, 1, 2, 3, 2, 1, 0, 1]);
        assert_eq!([mirror(-1, 1), mirror(0, 1), mirror(7, 1)], [0; 3]);
    }

    #[test]
    fn weights_add_up_to_one_where_nothing_is_missing() {
        for (from, to) in [(1, 7), (5, 7), (7, 7), (90, 7), (1000, 7)] {
            for tap in taps(from, from, to) {
                assert!((tap.weights.iter().sum::<f64>() - 1.0).abs() < 1e-12, "{from} to {to}");
            }
        }
    }

    #[test]
    fn a_hairline_takes_no_more_than_any_other_picture() {
        for (width, height) in [(1, 400_000), (400_000, 1)] {
            let hairline = Picture::new(width, height, vec![200; 3 * 400_000]).unwrap();
            let seen = prepare(&hairline, &config(16), &Device::Cpu, DType::F32).unwrap();
            let seen: Vec<f32> = seen.flatten_all().unwrap().to_vec1().unwrap();
            // All but nothing of a pixel in 400,000 is left.
            assert!(seen.iter().all(|&value| value < 0.1), "{:?}", &seen[..16]);
            assert!(seen[0] > 0.0);
        }
    }

    #[test]
    fn too_large_a_picture_is_refused() {
        let large = Picture::new(2048, 2049, vec![0; 2048 * 2049 * 3]).unwrap();
        assert!(matches!(prepare(&large, &config(16), &Device::Cpu, DType::F32), Err(Error::Input(_))));
    }
}
