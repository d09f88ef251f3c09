//! The diffusion transformer (`Flux2Transformer2DModel`).

use candle_core::{DType, Device, Result as Built, Tensor};
use candle_nn::ops::layer_norm;

use super::{
    blocks::{DoubleBlock, Modulator, SingleBlock},
    config::TransformerConfig,
    rope::{Rope, grid_positions, text_positions},
};
use crate::{
    error::Result,
    linear::{Linear, Weights},
    sinusoid::sinusoid,
    yield_point::{Site, YieldPoint},
};

/// Predicts the velocity, noise minus picture, of noisy latent tokens.
pub struct Transformer {
    time: TimeEmbedder,
    guidance: Option<TimeEmbedder>,
    image_modulator: Modulator,
    text_modulator: Modulator,
    single_modulator: Modulator,
    image_in: Linear,
    text_in: Linear,
    double_blocks: Vec<DoubleBlock>,
    single_blocks: Vec<SingleBlock>,
    norm_out: Linear,
    image_out: Linear,
    config: TransformerConfig,
    device: Device,
    dtype: DType,
}

/// Latents of a reference picture: clean tokens (1, rows * columns, C).
#[derive(Debug, Clone)]
pub struct Reference {
    /// The tokens, row by row.
    pub tokens: Tensor,
    /// Rows of tokens.
    pub rows: usize,
    /// Tokens in a row.
    pub columns: usize,
}

/// What stays the same over the steps of a run: the embedded text and references, and the rotary tables.
pub struct Context {
    text: Tensor,
    references: Option<Tensor>,
    rope: Rope,
}

impl Transformer {
    /// Builds the transformer.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or of another shape.
    pub fn new<'a>(config: &TransformerConfig, weights: impl Into<Weights<'a>>) -> Built<Self> {
        let (weights, width) = (weights.into(), config.width());
        let embedders = weights.pp("time_guidance_embed");
        let embedder = |name: &str| TimeEmbedder::new(config, &embedders.pp(name));
        let blocks = weights.pp("transformer_blocks");
        let single_blocks = weights.pp("single_transformer_blocks");
        Ok(Self {
            time: embedder("timestep_embedder")?,
            guidance: config.guidance_embeds.then(|| embedder("guidance_embedder")).transpose()?,
            image_modulator: Modulator::new(width, 2, &weights.pp("double_stream_modulation_img"))?,
            text_modulator: Modulator::new(width, 2, &weights.pp("double_stream_modulation_txt"))?,
            single_modulator: Modulator::new(width, 1, &weights.pp("single_stream_modulation"))?,
            image_in: weights.pp("x_embedder").linear(config.in_channels, width)?,
            text_in: weights.pp("context_embedder").linear(config.joint_attention_dim, width)?,
            double_blocks: (0..config.num_layers)
                .map(|i| DoubleBlock::new(config, &blocks.pp(i)))
                .collect::<Built<_>>()?,
            single_blocks: (0..config.num_single_layers)
                .map(|i| SingleBlock::new(config, &single_blocks.pp(i)))
                .collect::<Built<_>>()?,
            norm_out: weights.pp("norm_out.linear").linear(width, 2 * width)?,
            image_out: weights.pp("proj_out").linear(width, config.in_channels)?,
            config: config.clone(),
            device: weights.device().clone(),
            dtype: weights.dtype(),
        })
    }

    /// Prepares a run for a picture of `rows` x `columns` tokens.
    ///
    /// `text` is (B, T, `joint_attention_dim`); the references serve the whole batch.
    ///
    /// # Errors
    ///
    /// [`Error::Device`](crate::Error::Device) if shapes do not fit the configuration or the device fails.
    pub fn context(&self, text: &Tensor, rows: usize, columns: usize, references: &[Reference]) -> Result<Context> {
        let mut positions: Vec<_> = text_positions(text.dim(1)?).chain(grid_positions(0, rows, columns)).collect();
        for (time, reference) in (10..).step_by(10).zip(references) {
            positions.extend(grid_positions(time, reference.rows, reference.columns));
        }
        let rope = Rope::new(&positions, &self.config.axes_dims_rope, self.config.rope_theta, &self.device)?;
        let embedded = if references.is_empty() {
            None
        } else {
            let tokens: Vec<_> = references.iter().map(|r| &r.tokens).collect();
            let embedded = self.image_in.forward(&Tensor::cat(&tokens, 1)?.to_dtype(self.dtype)?)?;
            let (_, count, width) = embedded.dims3()?;
            Some(embedded.expand((text.dim(0)?, count, width))?.contiguous()?)
        };
        let text = self.text_in.forward(&text.to_dtype(self.dtype)?.contiguous()?)?;
        Ok(Context { text, references: embedded, rope })
    }

    /// The velocity of `tokens`, (B, L, C), at noise level `sigma`, of the same shape.
    ///
    /// `guidance` is embedded if the model was made for it (`guidance_embeds`) and has no effect otherwise.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`](crate::Error::Interrupted), [`Error::Device`](crate::Error::Device).
    pub fn forward(
        &self,
        tokens: &Tensor,
        context: &Context,
        sigma: f32,
        guidance: Option<f32>,
        observer: &dyn YieldPoint,
    ) -> Result<Tensor> {
        let mut embedding = self.time.forward(sigma * 1000.0, &self.device, self.dtype)?;
        if let (Some(embedder), Some(guidance)) = (&self.guidance, guidance) {
            embedding = (embedding + embedder.forward(guidance * 1000.0, &self.device, self.dtype)?)?;
        }
        let activated = embedding.silu()?;
        let image_modulation = self.image_modulator.forward(&activated)?;
        let text_modulation = self.text_modulator.forward(&activated)?;
        let [single_modulation] = self.single_modulator.forward(&activated)?;

        let length = tokens.dim(1)?;
        let mut image = self.image_in.forward(tokens)?;
        if let Some(references) = &context.references {
            image = Tensor::cat(&[&image, references], 1)?;
        }
        let mut text = context.text.clone();
        for block in &self.double_blocks {
            observer.reach(Site::Block)?;
            (image, text) = block.forward(&image, &text, (&image_modulation, &text_modulation), &context.rope)?;
        }
        let mut both = Tensor::cat(&[&text, &image], 1)?;
        for block in &self.single_blocks {
            observer.reach(Site::Block)?;
            both = block.forward(&both, &single_modulation, &context.rope)?;
        }
        // Only the noisy tokens are read out; text and references were there to be attended to.
        let image = both.narrow(1, text.dim(1)?, length)?.contiguous()?;
        let width = self.config.width();
        let values = self.norm_out.forward(&activated)?.squeeze(0)?;
        // Here, unlike in the blocks, the scale comes before the shift.
        let (scale, shift) = ((values.narrow(0, 0, width)? + 1.0)?, values.narrow(0, width, width)?);
        let normed = layer_norm(&image, &scale, &shift, self.config.eps as f32)?;
        Ok(self.image_out.forward(&normed)?)
    }
}

/// `Timesteps` and `TimestepEmbedding`: a number as a sinusoid, through two layers.
struct TimeEmbedder {
    first: Linear,
    second: Linear,
    channels: usize,
}

impl TimeEmbedder {
    fn new(config: &TransformerConfig, weights: &Weights<'_>) -> Built<Self> {
        let (channels, width) = (config.timestep_guidance_channels, config.width());
        Ok(Self {
            first: weights.pp("linear_1").linear(channels, width)?,
            second: weights.pp("linear_2").linear(width, width)?,
            channels,
        })
    }

    /// (1, D).
    fn forward(&self, value: f32, device: &Device, dtype: DType) -> Built<Tensor> {
        let wave = sinusoid(value, self.channels, device, dtype)?;
        self.second.forward(&self.first.forward(&wave)?.silu()?)
    }
}
