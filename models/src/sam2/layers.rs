//! Layers that the parts of the model share. Feature maps have their channels last: (1, rows, columns, channels).

use candle_core::{Module, Result as Built, Tensor};
use candle_nn::{Activation, Linear, VarBuilder, linear};

/// A convolution of 1 x 1, which with channels last is a linear layer.
pub(super) fn pointwise(from: usize, to: usize, vb: &VarBuilder<'_>) -> Built<Linear> {
    let weight = vb.get((to, from, 1, 1), "weight")?.reshape((to, from))?;
    Ok(Linear::new(weight, Some(vb.get(to, "bias")?)))
}

/// Linear layers with an activation between them (`Sam2FeedForward`).
pub(super) struct FeedForward {
    layers: Vec<Linear>,
    activation: Activation,
}

/// Widths of a [`FeedForward`] as it begins, inside, and as it ends.
pub(super) type Widths = (usize, usize, usize);

impl FeedForward {
    /// `depth` layers, and never fewer than two.
    pub(super) fn new(
        (from, inner, to): Widths,
        depth: usize,
        activation: Activation,
        vb: &VarBuilder<'_>,
    ) -> Built<Self> {
        let between = vb.pp("layers");
        let mut layers = vec![linear(from, inner, vb.pp("proj_in"))?];
        for i in 0..depth.saturating_sub(2) {
            layers.push(linear(inner, inner, between.pp(i))?);
        }
        layers.push(linear(inner, to, vb.pp("proj_out"))?);
        Ok(Self { layers, activation })
    }

    pub(super) fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        let mut hidden = xs.clone();
        for (i, layer) in self.layers.iter().enumerate() {
            if i > 0 {
                hidden = self.activation.forward(&hidden)?;
            }
            hidden = layer.forward(&hidden)?;
        }
        Ok(hidden)
    }
}

/// A transposed convolution of 2 x 2 with stride 2: each pixel becomes four of its own, so that it is a linear layer, too.
pub(super) struct Doubling {
    /// (from, 2 * 2 * to): rows, columns and channels of what a pixel becomes.
    weight: Tensor,
    bias: Tensor,
}

impl Doubling {
    pub(super) fn new(from: usize, to: usize, vb: &VarBuilder<'_>) -> Built<Self> {
        let weight = vb.get((from, to, 2, 2), "weight")?.permute((0, 2, 3, 1))?.reshape((from, 4 * to))?;
        Ok(Self { weight: weight.contiguous()?, bias: vb.get(to, "bias")? })
    }

    /// (1, H, W, from) to (1, 2 H, 2 W, to).
    pub(super) fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        let (_, rows, columns, from) = xs.dims4()?;
        let to = self.bias.dim(0)?;
        let blocks = xs.reshape((rows * columns, from))?.matmul(&self.weight)?;
        let blocks = blocks.reshape((rows, columns, 2, 2, to))?.permute((0, 2, 1, 3, 4))?;
        blocks.reshape((1, 2 * rows, 2 * columns, to))?.broadcast_add(&self.bias)
    }
}
