//! Normalisation.

use candle_core::{Result, Tensor};
use candle_nn::{VarBuilder, ops};

/// Root-mean-square normalisation over the last axis with a learned weight (`torch.nn.RMSNorm`, `Qwen3RMSNorm`).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Tensor,
    eps: f32,
}

impl RmsNorm {
    /// Reads `weight`, of `size` elements.
    ///
    /// # Errors
    ///
    /// If the weight is missing or of another shape.
    pub fn new(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get(size, "weight")?, eps: eps as f32 })
    }

    /// Normalises a contiguous tensor.
    ///
    /// # Errors
    ///
    /// If the last axis is not `size` long, or the device fails.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::rms_norm(xs, &self.weight, self.eps)
    }
}

/// Layer normalisation over the last axis with a learned weight and bias (`torch.nn.LayerNorm`).
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Tensor,
    bias: Tensor,
    eps: f32,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, of `size` elements each.
    ///
    /// # Errors
    ///
    /// If one is missing or of another shape.
    pub fn new(size: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { weight: vb.get(size, "weight")?, bias: vb.get(size, "bias")?, eps: eps as f32 })
    }

    /// Normalises `xs`.
    ///
    /// Takes the mean off before squaring. candle's fused kernel subtracts squares instead, which loses all digits
    /// where eps is as small as ViLT's 1e-12 and a row is nearly constant.
    ///
    /// # Errors
    ///
    /// If the last axis is not `size` long, or the device fails.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        ops::layer_norm_slow(xs, &self.weight, &self.bias, self.eps)
    }
}
