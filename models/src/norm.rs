//! Normalisation.

use candle_core::{DType, Result, Tensor};
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
        Ok(Self::with(vb.get(size, "weight")?, eps))
    }

    /// With a weight that has been read.
    #[must_use]
    pub fn with(weight: Tensor, eps: f64) -> Self {
        Self { weight, eps: eps as f32 }
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

/// Group normalisation of feature maps with a learned weight and bias (`torch.nn.GroupNorm`).
///
/// It computes what candle's does, but gives back each intermediate once the next is there. In half precision, where they
/// are of twice the size, candle's keeps three of them to the end, and they are the largest tensors of a whole picture.
#[derive(Debug, Clone)]
pub struct GroupNorm {
    weight: Tensor,
    bias: Tensor,
    groups: usize,
    eps: f64,
}

impl GroupNorm {
    /// Reads `weight` and `bias`, of `channels` elements each; `groups` is a divisor of `channels`.
    ///
    /// # Errors
    ///
    /// If one is missing or of another shape.
    pub fn new(groups: usize, channels: usize, eps: f64, vb: VarBuilder<'_>) -> Result<Self> {
        let each = |name| vb.get(channels, name)?.reshape((1, channels, 1, 1));
        Ok(Self { weight: each("weight")?, bias: each("bias")?, groups, eps })
    }

    /// Normalises (B, C, H, W).
    ///
    /// # Errors
    ///
    /// If the tensor is of another rank, or the device fails.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        let (batch, channels, rows, columns) = xs.dims4()?;
        let size = channels * rows * columns / self.groups;
        let wide = if xs.dtype().size_in_bytes() < 4 { DType::F32 } else { xs.dtype() };
        let centred = {
            let grouped = xs.reshape((batch, self.groups, size))?.to_dtype(wide)?;
            let mean = (grouped.sum_keepdim(2)? / size as f64)?;
            grouped.broadcast_sub(&mean)?
        };
        let variance = (centred.sqr()?.sum_keepdim(2)? / size as f64)?;
        let normed = centred.broadcast_div(&(variance + self.eps)?.sqrt()?)?;
        drop(centred);
        let normed = normed.to_dtype(xs.dtype())?.reshape((batch, channels, rows, columns))?;
        normed.broadcast_mul(&self.weight)?.broadcast_add(&self.bias)
    }
}

#[cfg(test)]
mod tests {
    use candle_core::{Device, Module};

    use super::*;

    #[test]
    fn groups_are_normalised_as_the_library_does() {
        let draw = |seed, count| crate::noise::standard_normal(seed, count);
        let of = |values: Vec<f32>, shape: &[usize]| Tensor::from_vec(values, shape, &Device::Cpu).unwrap();
        let (weight, bias) = (of(draw(1, 6), &[6]), of(draw(2, 6), &[6]));
        let named = [("weight", &weight), ("bias", &bias)];
        let xs = of(draw(3, 2 * 6 * 5 * 4), &[2, 6, 5, 4]);
        for dtype in [DType::F32, DType::F16] {
            let tensors = named.map(|(name, tensor)| (name.to_owned(), tensor.to_dtype(dtype).unwrap()));
            let vb = VarBuilder::from_tensors(tensors.into_iter().collect(), dtype, &Device::Cpu);
            let ours = GroupNorm::new(3, 6, 1e-6, vb.clone()).unwrap();
            let theirs = candle_nn::group_norm(3, 6, 1e-6, vb).unwrap();
            let xs = xs.to_dtype(dtype).unwrap();
            let values = |ys: Tensor| ys.to_dtype(DType::F32).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
            assert_eq!(values(ours.forward(&xs).unwrap()), values(theirs.forward(&xs).unwrap()), "{dtype:?}");
        }
    }
}
