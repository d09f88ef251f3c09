//! The blocks of the transformer: modulation, double-stream and single-stream blocks.

use candle_core::{DType, Result, Tensor};
use candle_nn::ops::layer_norm;

use super::{config::TransformerConfig, rope::Rope};
use crate::{
    attention::{attend, heads_first, split_heads},
    linear::{Linear, Weights},
    norm::RmsNorm,
};

/// One set of shift, scale and gate, (D) each; the same for all tokens and for the whole batch, as all of it is at the
/// same noise level.
pub(super) struct Modulation {
    shift: Tensor,
    /// The scale plus one.
    scale: Tensor,
    gate: Tensor,
}

impl Modulation {
    /// Layer norm without weights of its own, then scaled and shifted.
    fn normalise(&self, xs: &Tensor, eps: f64) -> Result<Tensor> {
        layer_norm(xs, &self.scale, &self.shift, eps as f32)
    }

    fn gated_add(&self, xs: &Tensor, update: &Tensor) -> Result<Tensor> {
        xs + update.broadcast_mul(&self.gate)?
    }
}

/// `Flux2Modulation`: one per kind of stream, shared by all blocks of that kind.
pub(super) struct Modulator {
    linear: Linear,
    width: usize,
}

impl Modulator {
    pub(super) fn new(width: usize, sets: usize, weights: &Weights<'_>) -> Result<Self> {
        Ok(Self { linear: weights.pp("linear").linear(width, 3 * sets * width)?, width })
    }

    /// The sets for a time embedding (1, D), to which SiLU has been applied.
    pub(super) fn forward<const SETS: usize>(&self, activated: &Tensor) -> Result<[Modulation; SETS]> {
        let values = self.linear.forward(activated)?.squeeze(0)?;
        let part = |i: usize| values.narrow(0, i * self.width, self.width);
        let sets = (0..SETS)
            .map(|i| {
                let (shift, scale, gate) = (part(3 * i)?, (part(3 * i + 1)? + 1.0)?, part(3 * i + 2)?);
                Ok(Modulation { shift, scale, gate })
            })
            .collect::<Result<Vec<_>>>()?;
        sets.try_into().map_err(|_| candle_core::Error::msg("modulation sets"))
    }
}

/// Modulation of a double-stream block: before attention and before the feed-forward layer.
pub(super) type StreamModulation = [Modulation; 2];

/// `Flux2TransformerBlock`: picture and text keep weights of their own and meet in attention.
pub(super) struct DoubleBlock {
    image: Stream,
    text: Stream,
    eps: f64,
    scale: f64,
}

impl DoubleBlock {
    pub(super) fn new(config: &TransformerConfig, weights: &Weights<'_>) -> Result<Self> {
        const IMAGE: [&str; 7] = ["to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k", "ff"];
        const TEXT: [&str; 7] =
            ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k", "ff_context"];
        Ok(Self {
            image: Stream::new(config, IMAGE, weights)?,
            text: Stream::new(config, TEXT, weights)?,
            eps: config.eps,
            scale: (config.attention_head_dim as f64).powf(-0.5),
        })
    }

    /// Image and text tokens, (B, L, D) and (B, T, D), one block further; `rope` is for text, then image.
    pub(super) fn forward(
        &self,
        image: &Tensor,
        text: &Tensor,
        (image_modulation, text_modulation): (&StreamModulation, &StreamModulation),
        rope: &Rope,
    ) -> Result<(Tensor, Tensor)> {
        let [image_q, image_k, image_v] = self.image.project(&image_modulation[0].normalise(image, self.eps)?)?;
        let [text_q, text_k, text_v] = self.text.project(&text_modulation[0].normalise(text, self.eps)?)?;
        let join = |text: &Tensor, image: &Tensor| heads_first(&Tensor::cat(&[text, image], 1)?);
        let q = rope.rotate(&join(&text_q, &image_q)?)?;
        let k = rope.rotate(&join(&text_k, &image_k)?)?;
        let mixed = attend(&q, &k, &join(&text_v, &image_v)?, None, self.scale)?;
        let (text_length, image_length) = (text.dim(1)?, image.dim(1)?);
        let text_mixed = mixed.narrow(1, 0, text_length)?.contiguous()?;
        let image_mixed = mixed.narrow(1, text_length, image_length)?.contiguous()?;
        let image = self.image.finish(image, &image_mixed, image_modulation, self.eps)?;
        let text = self.text.finish(text, &text_mixed, text_modulation, self.eps)?;
        Ok((image, within_half_range(text)?))
    }
}

/// One stream's weights in a double-stream block.
struct Stream {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
    head_dim: usize,
}

impl Stream {
    fn new(config: &TransformerConfig, names: [&str; 7], weights: &Weights<'_>) -> Result<Self> {
        let (width, inner, head_dim) = (config.width(), config.mlp_width(), config.attention_head_dim);
        let [query, key, value, output, query_norm, key_norm, feed_forward] = names;
        let (attention, feed_forward) = (weights.pp("attn"), weights.pp(feed_forward));
        let linear = |name: &str| attention.pp(name).linear(width, width);
        let norm =
            |name: &str| -> Result<RmsNorm> { Ok(RmsNorm::with(attention.pp(name).vector(head_dim)?, config.eps)) };
        let [gate, up] = feed_forward.pp("linear_in").joint(width, [inner; 2])?;
        Ok(Self {
            query: linear(query)?,
            key: linear(key)?,
            value: linear(value)?,
            output: linear(output)?,
            query_norm: norm(query_norm)?,
            key_norm: norm(key_norm)?,
            gate,
            up,
            down: feed_forward.pp("linear_out").linear(inner, width)?,
            head_dim,
        })
    }

    /// Queries, keys and values, (B, T, H, D) each.
    fn project(&self, xs: &Tensor) -> Result<[Tensor; 3]> {
        let heads = |layer: &Linear| split_heads(&layer.forward(xs)?, self.head_dim);
        let query = self.query_norm.forward(&heads(&self.query)?)?;
        let key = self.key_norm.forward(&heads(&self.key)?)?;
        Ok([query, key, heads(&self.value)?])
    }

    fn finish(&self, xs: &Tensor, mixed: &Tensor, modulation: &StreamModulation, eps: f64) -> Result<Tensor> {
        let xs = modulation[0].gated_add(xs, &self.output.forward(mixed)?)?;
        let normed = modulation[1].normalise(&xs, eps)?;
        let inner = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        modulation[1].gated_add(&xs, &self.down.forward(&inner)?)
    }
}

/// `Flux2SingleTransformerBlock`: text and picture in one sequence, attention and feed-forward side by side.
pub(super) struct SingleBlock {
    query: Linear,
    key: Linear,
    value: Linear,
    gate: Linear,
    up: Linear,
    output: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    head_dim: usize,
    eps: f64,
}

impl SingleBlock {
    pub(super) fn new(config: &TransformerConfig, weights: &Weights<'_>) -> Result<Self> {
        let (width, inner, head_dim) = (config.width(), config.mlp_width(), config.attention_head_dim);
        let weights = weights.pp("attn");
        let norm =
            |name: &str| -> Result<RmsNorm> { Ok(RmsNorm::with(weights.pp(name).vector(head_dim)?, config.eps)) };
        let outputs = [width, width, width, inner, inner];
        let [query, key, value, gate, up] = weights.pp("to_qkv_mlp_proj").joint(width, outputs)?;
        Ok(Self {
            query,
            key,
            value,
            gate,
            up,
            output: weights.pp("to_out").linear(width + inner, width)?,
            query_norm: norm("norm_q")?,
            key_norm: norm("norm_k")?,
            head_dim,
            eps: config.eps,
        })
    }

    /// Text and image tokens (B, T + L, D), one block further.
    pub(super) fn forward(&self, xs: &Tensor, modulation: &Modulation, rope: &Rope) -> Result<Tensor> {
        let normed = modulation.normalise(xs, self.eps)?;
        let heads = |layer: &Linear| split_heads(&layer.forward(&normed)?, self.head_dim);
        let query = heads_first(&self.query_norm.forward(&heads(&self.query)?)?)?;
        let key = heads_first(&self.key_norm.forward(&heads(&self.key)?)?)?;
        let value = heads_first(&heads(&self.value)?)?;
        let scale = (self.head_dim as f64).powf(-0.5);
        let mixed = attend(&rope.rotate(&query)?, &rope.rotate(&key)?, &value, None, scale)?;
        let inner = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        let update = self.output.forward(&Tensor::cat(&[mixed, inner], 2)?)?;
        within_half_range(modulation.gated_add(xs, &update)?)
    }
}

/// The residual stream outgrows f16 in a few channels; the library cuts it to the largest finite value.
fn within_half_range(xs: Tensor) -> Result<Tensor> {
    if xs.dtype() == DType::F16 { xs.clamp(-65504f32, 65504f32) } else { Ok(xs) }
}
