//! The backbone (`Sam2HieraDetModel`): a transformer in stages, each with half the grid of the one before, whose blocks
//! attend within windows, and a few to the whole.

use candle_core::{DType, Module, Result as Built, Tensor};
use candle_nn::{Activation, Conv2d, Conv2dConfig, Linear, VarBuilder, conv2d, linear};

use super::{
    config::{BlockShape, HieraConfig},
    layers::FeedForward,
};
use crate::{
    attention::{attend, heads_first},
    error::Result,
    norm::LayerNorm,
    yield_point::{Site, YieldPoint},
};

/// PyTorch's parameter of cubic interpolation.
const CUBIC: f64 = -0.75;

/// The backbone.
pub struct Hiera {
    patches: Conv2d,
    /// (1, grid, grid, C).
    positions: Tensor,
    blocks: Vec<Block>,
}

impl Hiera {
    /// Reads the weights below `vb`.
    ///
    /// # Errors
    ///
    /// If one is missing or of another shape.
    pub fn new(config: &HieraConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let patch = config.patch();
        let convolution = Conv2dConfig { stride: patch.stride, padding: patch.padding, ..Conv2dConfig::default() };
        let projection = vb.pp("patch_embed.projection");
        let blocks = vb.pp("blocks");
        let shapes = config.blocks().into_iter().enumerate();
        Ok(Self {
            patches: conv2d(3, config.hidden_size, patch.kernel, convolution, projection)?,
            positions: positions(config, vb)?,
            blocks: shapes
                .map(|(i, shape)| Block::new(&shape, config.layer_norm_eps, &blocks.pp(i)))
                .collect::<Built<_>>()?,
        })
    }

    /// The features of (1, 3, H, W) after each stage, the largest first, each (1, rows, columns, channels).
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`](crate::Error::Interrupted), [`Error::Device`](crate::Error::Device).
    pub fn forward(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Vec<Tensor>> {
        let patches = self.patches.forward(pixels)?.permute((0, 2, 3, 1))?;
        let mut hidden = (patches + &self.positions)?;
        let mut stages = Vec::new();
        for block in &self.blocks {
            observer.reach(Site::Block)?;
            hidden = block.forward(&hidden)?;
            if block.last {
                stages.push(hidden.clone());
            }
        }
        Ok(stages)
    }
}

/// Position embeddings of the whole grid, (1, grid, grid, C): a few for the whole picture, resized, and those of a window,
/// repeated.
fn positions(config: &HieraConfig, vb: &VarBuilder<'_>) -> Built<Tensor> {
    let (width, grid, window) = (config.hidden_size, config.grid(), config.window_size_per_stage[0]);
    let [rows, columns] = config.window_positional_embedding_background_size;
    let background = vb.get((1, width, rows, columns), "pos_embed")?.to_dtype(DType::F32)?;
    let matrix = |from: usize| Tensor::from_vec(cubic(from, grid), (grid, from), vb.device());
    let wide = background.reshape((width * rows, columns))?.matmul(&matrix(columns)?.t()?.contiguous()?)?;
    // (rows, C * grid), for the other axis to be the first of a matrix.
    let wide = wide.reshape((width, rows, grid))?.transpose(0, 1)?.reshape((rows, width * grid))?;
    let whole = matrix(rows)?.matmul(&wide)?.reshape((grid, width, grid))?.transpose(1, 2)?;
    let one = vb.get((1, width, window, window), "pos_embed_window")?.to_dtype(DType::F32)?;
    let one = one.squeeze(0)?.permute((1, 2, 0))?.contiguous()?;
    let repeated = one.repeat((grid / window, grid / window, 1))?;
    (whole + repeated)?.unsqueeze(0)?.to_dtype(vb.dtype())
}

/// Weights of cubic interpolation from `from` points to `to` points, row by row; beyond the ends their values go on.
fn cubic(from: usize, to: usize) -> Vec<f32> {
    let near = |x: f64| ((CUBIC + 2.0) * x - (CUBIC + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((CUBIC * x - 5.0 * CUBIC) * x + 8.0 * CUBIC) * x - 4.0 * CUBIC;
    let mut weights = vec![0.0; from * to];
    for (i, row) in weights.chunks_mut(from).enumerate() {
        let at = (i as f64 + 0.5) * from as f64 / to as f64 - 0.5;
        let share = at - at.floor();
        for (k, weight) in [far(share + 1.0), near(share), near(1.0 - share), far(2.0 - share)].into_iter().enumerate()
        {
            let point = (at.floor() + k as f64 - 1.0).clamp(0.0, from as f64 - 1.0);
            row[point as usize] += weight as f32;
        }
    }
    weights
}

/// `Sam2MultiScaleBlock`.
struct Block {
    norm_before: LayerNorm,
    attention: Attention,
    norm_after: LayerNorm,
    feed_forward: FeedForward,
    /// Makes the grid's patches as wide as those of the stage that begins here.
    widen: Option<Linear>,
    window: Option<usize>,
    last: bool,
}

impl Block {
    fn new(shape: &BlockShape, eps: f64, vb: &VarBuilder<'_>) -> Built<Self> {
        let (before, width) = (shape.width_before, shape.width);
        let widen = before != width;
        Ok(Self {
            norm_before: LayerNorm::new(before, eps, vb.pp("layer_norm1"))?,
            attention: Attention::new(shape, &vb.pp("attn"))?,
            norm_after: LayerNorm::new(width, eps, vb.pp("layer_norm2"))?,
            feed_forward: FeedForward::new((width, shape.inner, width), 2, Activation::Gelu, &vb.pp("mlp"))?,
            widen: widen.then(|| linear(before, width, vb.pp("proj"))).transpose()?,
            window: shape.window,
            last: shape.last,
        })
    }

    fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        let mixed = {
            let normed = self.norm_before.forward(xs)?;
            let shortcut = match &self.widen {
                Some(widen) => halve(&widen.forward(&normed)?)?,
                None => xs.clone(),
            };
            let mixed = match self.window {
                Some(size) => {
                    let (_, rows, columns, _) = shortcut.dims4()?;
                    join(&self.attention.forward(&partition(&normed, size)?)?, rows, columns)?
                }
                None => self.attention.forward(&normed)?,
            };
            (shortcut + mixed)?
        };
        &mixed + self.feed_forward.forward(&self.norm_after.forward(&mixed)?)?
    }
}

/// `Sam2MultiScaleAttention`.
struct Attention {
    queries_keys_values: Linear,
    out: Linear,
    heads: usize,
    /// Whether queries are those of the next stage's grid.
    halves: bool,
}

impl Attention {
    fn new(shape: &BlockShape, vb: &VarBuilder<'_>) -> Built<Self> {
        let width = shape.width;
        Ok(Self {
            queries_keys_values: linear(shape.width_before, 3 * width, vb.pp("qkv"))?,
            out: linear(width, width, vb.pp("proj"))?,
            heads: shape.heads,
            halves: shape.width_before != width,
        })
    }

    /// (B, H, W, C), each of the batch by itself.
    fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        let (batch, rows, columns, _) = xs.dims4()?;
        let joint = self.queries_keys_values.forward(xs)?;
        let width = joint.dim(3)? / 3;
        let part = |i: usize| joint.narrow(3, i * width, width);
        let by_head = |part: &Tensor| {
            let (batch, rows, columns, width) = part.dims4()?;
            heads_first(&part.reshape((batch, rows * columns, self.heads, width / self.heads))?)
        };
        let query = if self.halves { halve(&part(0)?)? } else { part(0)? };
        let (rows, columns) = if self.halves { (rows / 2, columns / 2) } else { (rows, columns) };
        let scale = ((width / self.heads) as f64).powf(-0.5);
        let mixed = attend(&by_head(&query)?, &by_head(&part(1)?)?, &by_head(&part(2)?)?, None, scale)?;
        self.out.forward(&mixed.reshape((batch, rows, columns, width))?)
    }
}

/// The largest of each four neighbours: (B, H, W, C) to (B, H / 2, W / 2, C). H and W are even.
fn halve(xs: &Tensor) -> Built<Tensor> {
    let (batch, rows, columns, width) = xs.dims4()?;
    let halved = xs.reshape((batch, rows, columns / 2, 2 * width))?;
    let halved = halved.narrow(3, 0, width)?.maximum(&halved.narrow(3, width, width)?)?;
    let halved = halved.reshape((batch, rows / 2, columns * width))?;
    let length = columns / 2 * width;
    let halved = halved.narrow(2, 0, length)?.maximum(&halved.narrow(2, length, length)?)?;
    halved.reshape((batch, rows / 2, columns / 2, width))
}

/// (1, H, W, C) to windows, (windows, size, size, C). What is missing at the right and at the bottom is zeros.
fn partition(xs: &Tensor, size: usize) -> Built<Tensor> {
    let (_, rows, columns, width) = xs.dims4()?;
    let (down, across) = (rows.div_ceil(size), columns.div_ceil(size));
    let padded = xs.pad_with_zeros(1, 0, down * size - rows)?.pad_with_zeros(2, 0, across * size - columns)?;
    let windows = padded.reshape((down, size, across, size * width))?.transpose(1, 2)?;
    windows.reshape((down * across, size, size, width))
}

/// Windows back to (1, rows, columns, C), without what was added.
fn join(windows: &Tensor, rows: usize, columns: usize) -> Built<Tensor> {
    let (_, size, _, width) = windows.dims4()?;
    let (down, across) = (rows.div_ceil(size), columns.div_ceil(size));
    let whole = windows.reshape((down, across, size, size * width))?.transpose(1, 2)?;
    let whole = whole.reshape((1, down * size, across * size, width))?;
    whole.narrow(1, 0, rows)?.narrow(2, 0, columns)?.contiguous()
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;

    fn counting(shape: (usize, usize, usize, usize)) -> Tensor {
        let count = shape.0 * shape.1 * shape.2 * shape.3;
        Tensor::arange(0f32, count as f32, &Device::Cpu).unwrap().reshape(shape).unwrap()
    }

    #[test]
    fn windows_and_back() {
        let xs = counting((1, 5, 7, 2));
        let windows = partition(&xs, 3).unwrap();
        assert_eq!(windows.dims(), [6, 3, 3, 2]);
        // The second window begins in the first row's fourth column; the third is padded at its right.
        let value = |at: [usize; 4]| {
            at.into_iter().fold(windows.clone(), |rest, i| rest.get(i).unwrap()).to_scalar::<f32>().unwrap()
        };
        assert_eq!((value([1, 0, 0, 1]), value([2, 0, 0, 0]), value([2, 0, 1, 0])), (7.0, 12.0, 0.0));
        let back = join(&windows, 5, 7).unwrap();
        let values = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!((back.dims(), values(&back)), (xs.dims(), values(&xs)));
    }

    #[test]
    fn the_largest_of_four() {
        let halved = halve(&counting((2, 2, 4, 3)).neg().unwrap()).unwrap();
        assert_eq!(halved.dims(), [2, 1, 2, 3]);
        let halved: Vec<f32> = halved.flatten_all().unwrap().to_vec1().unwrap();
        assert_eq!(halved, [0.0, -1.0, -2.0, -6.0, -7.0, -8.0, -24.0, -25.0, -26.0, -30.0, -31.0, -32.0]);
    }

    #[test]
    fn cubic_weights_keep_what_is_plain() {
        for (from, to) in [(7, 256), (3, 16), (1, 4), (5, 5)] {
            for row in cubic(from, to).chunks(from) {
                assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6, "{from} to {to}");
            }
        }
        assert_eq!(cubic(2, 2), [1.0, 0.0, 0.0, 1.0]);
    }
}
