//! A number as waves of many lengths (diffusers' `Timesteps`, with the cosines first and no shift of the frequencies).

use candle_core::{DType, Device, Result, Tensor};

/// `value` as (1, `channels`), computed in `f32`; `channels` is even.
///
/// # Errors
///
/// If the device fails.
pub(crate) fn sinusoid(value: f32, channels: usize, device: &Device, dtype: DType) -> Result<Tensor> {
    let half = channels / 2;
    let frequency = |i: usize| (-(10_000f64.ln() as f32) * i as f32 / half as f32).exp();
    let angles: Vec<f32> = (0..half).map(|i| value * frequency(i)).collect();
    let wave: Vec<f32> = angles.iter().map(|a| a.cos()).chain(angles.iter().map(|a| a.sin())).collect();
    Tensor::from_vec(wave, (1, channels), device)?.to_dtype(dtype)
}
