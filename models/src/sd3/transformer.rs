//! The diffusion transformer (`SD3Transformer2DModel`).

use candle_core::{DType, Device, Result as Built, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, Module, VarBuilder, conv2d, linear};

use super::{
    blocks::{Block, modulate, normalise},
    config::TransformerConfig,
    text::Text,
};
use crate::{
    error::{Error, Result},
    sinusoid::sinusoid,
    yield_point::{Site, YieldPoint},
};

/// Numbers in the sinusoid of a noise level.
const SINUSOID: usize = 256;

/// Predicts the velocity, noise minus picture, of noisy latents.
pub struct Transformer {
    patches: Conv2d,
    /// (1, N, N, D): those of a picture are cut out around the centre.
    positions: Tensor,
    time: Embedder,
    pooled: Embedder,
    text_in: Linear,
    blocks: Vec<Block>,
    norm_out: Linear,
    image_out: Linear,
    config: TransformerConfig,
    device: Device,
    dtype: DType,
}

impl Transformer {
    /// Builds the transformer.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or of another shape.
    pub fn new(config: &TransformerConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let (width, patch, most) = (config.width(), config.patch_size, config.pos_embed_max_size);
        let stride = Conv2dConfig { stride: patch, ..Conv2dConfig::default() };
        let embedders = vb.pp("time_text_embed");
        let positions = vb.pp("pos_embed").get((1, most * most, width), "pos_embed")?;
        Ok(Self {
            patches: conv2d(config.in_channels, width, patch, stride, vb.pp("pos_embed.proj"))?,
            positions: positions.reshape((1, most, most, width))?,
            time: Embedder::new(SINUSOID, width, embedders.pp("timestep_embedder"))?,
            pooled: Embedder::new(config.pooled_projection_dim, width, embedders.pp("text_embedder"))?,
            text_in: linear(config.joint_attention_dim, width, vb.pp("context_embedder"))?,
            blocks: (0..config.num_layers)
                .map(|i| Block::new(config, i, vb.pp("transformer_blocks").pp(i)))
                .collect::<Built<_>>()?,
            norm_out: linear(width, 2 * width, vb.pp("norm_out.linear"))?,
            image_out: linear(width, patch * patch * config.out_channels(), vb.pp("proj_out"))?,
            config: config.clone(),
            device: vb.device().clone(),
            dtype: vb.dtype(),
        })
    }

    /// The velocity of `latents`, (B, C, H, W), at noise level `sigma`, of the same shape.
    ///
    /// H and W are multiples of `patch_size`, and no more than `pos_embed_max_size` patches.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] for another H or W, [`Error::Interrupted`], [`Error::Device`].
    pub fn forward(&self, latents: &Tensor, text: &Text, sigma: f32, observer: &dyn YieldPoint) -> Result<Tensor> {
        let (batch, _, height, width) = latents.dims4()?;
        let (patch, most) = (self.config.patch_size, self.config.pos_embed_max_size);
        let (rows, columns) = (height / patch, width / patch);
        let fits = |side: usize| side > 0 && side.is_multiple_of(patch) && side / patch <= most;
        if !fits(height) || !fits(width) {
            return Err(Error::Input(format!(
                "latents of {width} x {height} do not fit: each side is a multiple of {patch}, and at most {}",
                patch * most
            )));
        }
        let time = self.time.forward(&sinusoid(sigma * 1000.0, SINUSOID, &self.device, self.dtype)?)?;
        let activated = self.pooled.forward(&text.pooled)?.broadcast_add(&time)?.silu()?;
        let positions = self.positions.narrow(1, (most - rows) / 2, rows)?.narrow(2, (most - columns) / 2, columns)?;
        let positions = positions.reshape((1, rows * columns, self.config.width()))?;
        let mut image = self.patches.forward(latents)?.flatten_from(2)?.transpose(1, 2)?.broadcast_add(&positions)?;
        let mask = self.counting(rows * columns + text.tokens.dim(1)?, text.alike)?;
        let mut text = self.text_in.forward(&text.tokens)?;
        for block in &self.blocks {
            observer.reach(Site::Block)?;
            (image, text) = block.forward(&image, &text, mask.as_ref(), &activated)?;
        }
        let values = self.norm_out.forward(&activated)?;
        let size = self.config.width();
        // Here, unlike in the blocks, the scale comes before the shift.
        let (scale, shift) = (values.narrow(1, 0, size)?, values.narrow(1, size, size)?);
        let image = self.image_out.forward(&modulate(&normalise(&image)?, &scale, &shift)?)?;
        // Within a patch: row, column, channel.
        let channels = self.config.out_channels();
        let image = image.reshape(&[batch, rows, columns, patch, patch, channels][..])?.permute([0, 5, 1, 3, 2, 4])?;
        Ok(image.reshape((batch, channels, height, width))?)
    }

    /// What makes the last of so many tokens count as `alike` of them: the softmax of a score and of the logarithm of a number
    /// added to it is that of as many equal scores.
    fn counting(&self, tokens: usize, alike: usize) -> Built<Option<Tensor>> {
        if alike == 1 {
            return Ok(None);
        }
        let mut row = vec![0f32; tokens];
        row[tokens - 1] = (alike as f32).ln();
        let row = Tensor::from_vec(row, (1, 1, 1, tokens), &self.device)?.to_dtype(self.dtype)?;
        Ok(Some(row.broadcast_as((1, 1, tokens, tokens))?))
    }
}

/// `TimestepEmbedding`, `PixArtAlphaTextProjection`: two layers with SiLU in between.
struct Embedder {
    first: Linear,
    second: Linear,
}

impl Embedder {
    fn new(channels: usize, width: usize, vb: VarBuilder<'_>) -> Built<Self> {
        let (first, second) = (linear(channels, width, vb.pp("linear_1"))?, linear(width, width, vb.pp("linear_2"))?);
        Ok(Self { first, second })
    }

    fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        self.second.forward(&self.first.forward(xs)?.silu()?)
    }
}
