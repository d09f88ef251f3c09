//! Rotary position embedding over four axes: time, row, column, text position (`Flux2PosEmbed`).

use candle_core::{DType, Device, Result, Tensor};
use candle_nn::rotary_emb::rope_i;

/// Coordinates of a token on the four axes.
pub type Position = [u32; 4];

/// Positions of `count` text tokens: the last axis counts them.
pub fn text_positions(count: usize) -> impl Iterator<Item = Position> {
    (0..count as u32).map(|i| [0, 0, 0, i])
}

/// Positions of a grid of latents, row by row, at `time`: 0 for the picture that is made, 10, 20, … for the
/// references.
pub fn grid_positions(time: u32, rows: usize, columns: usize) -> impl Iterator<Item = Position> {
    (0..rows as u32).flat_map(move |row| (0..columns as u32).map(move |column| [time, row, column, 0]))
}

/// Cosines and sines for a sequence of tokens.
#[derive(Debug, Clone)]
pub struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Tables for tokens at `positions`; `axes` are the channels of a head given to each axis.
    ///
    /// Computed on the host in `f64`, as the library does, and rounded to `f32`.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn new(positions: &[Position], axes: &[usize], theta: f64, device: &Device) -> Result<Self> {
        let frequencies: Vec<(usize, f64)> = axes
            .iter()
            .enumerate()
            .flat_map(|(axis, &size)| {
                (0..size / 2).map(move |i| (axis, 1.0 / theta.powf((2 * i) as f64 / size as f64)))
            })
            .collect();
        let angles = || positions.iter().flat_map(|p| frequencies.iter().map(|&(axis, f)| f64::from(p[axis]) * f));
        let shape = (positions.len(), frequencies.len());
        let cos = angles().map(|a| a.cos() as f32).collect::<Vec<_>>();
        let sin = angles().map(|a| a.sin() as f32).collect::<Vec<_>>();
        Ok(Self { cos: Tensor::from_vec(cos, shape, device)?, sin: Tensor::from_vec(sin, shape, device)? })
    }

    /// Rotates each pair of neighbouring channels of a contiguous (B, H, T, D); in `f32` whatever the type of `xs`.
    ///
    /// # Errors
    ///
    /// If the table is for another number of tokens or channels, or the device fails.
    pub fn rotate(&self, xs: &Tensor) -> Result<Tensor> {
        if xs.dtype() == DType::F32 {
            return rope_i(xs, &self.cos, &self.sin);
        }
        rope_i(&xs.to_dtype(DType::F32)?, &self.cos, &self.sin)?.to_dtype(xs.dtype())
    }
}
