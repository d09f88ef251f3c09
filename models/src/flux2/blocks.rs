//! The blocks of the transformer: modulation, double-stream and single-stream blocks.

use candle_core::{DType, Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear_no_bias, ops::layer_norm};

use super::{config::TransformerConfig, rope::Rope};
use crate::{
    attention::{attend, heads_first, split_heads},
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
    pub(super) fn new(width: usize, sets: usize, vb: VarBuilder<'_>) -> Result<Self> {
        Ok(Self { linear: linear_no_bias(width, 3 * sets * width, vb.pp("linear"))?, width })
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
    pub(super) fn new(config: &TransformerConfig, vb: VarBuilder<'_>) -> Result<Self> {
        const IMAGE: [&str; 7] = ["to_q", "to_k", "to_v", "to_out.0", "norm_q", "norm_k", "ff"];
        const TEXT: [&str; 7] =
            ["add_q_proj", "add_k_proj", "add_v_proj", "to_add_out", "norm_added_q", "norm_added_k", "ff_context"];
        Ok(Self {
            image: Stream::new(config, IMAGE, &vb)?,
            text: Stream::new(config, TEXT, &vb)?,
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
    fn new(config: &TransformerConfig, names: [&str; 7], vb: &VarBuilder<'_>) -> Result<Self> {
        let (width, inner, head_dim) = (config.width(), config.mlp_width(), config.attention_head_dim);
        let [query, key, value, output, query_norm, key_norm, feed_forward] = names;
        let (attention, feed_forward) = (vb.pp("attn"), vb.pp(feed_forward));
        let linear = |name: &str| linear_no_bias(width, width, attention.pp(name));
        let both = feed_forward.pp("linear_in").get((2 * inner, width), "weight")?;
        Ok(Self {
            query: linear(query)?,
            key: linear(key)?,
            value: linear(value)?,
            output: linear(output)?,
            query_norm: RmsNorm::new(head_dim, config.eps, attention.pp(query_norm))?,
            key_norm: RmsNorm::new(head_dim, config.eps, attention.pp(key_norm))?,
            gate: rows(&both, 0, inner)?,
            up: rows(&both, inner, inner)?,
            down: linear_no_bias(inner, width, feed_forward.pp("linear_out"))?,
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
    pub(super) fn new(config: &TransformerConfig, vb: VarBuilder<'_>) -> Result<Self> {
        let (width, inner, head_dim) = (config.width(), config.mlp_width(), config.attention_head_dim);
        let vb = vb.pp("attn");
        // The checkpoint has one matrix for all five. Taken apart by rows, which copies nothing, each product comes
        // out contiguous, where slices of a joint product would have to be copied for every token.
        let joint = vb.pp("to_qkv_mlp_proj").get((3 * width + 2 * inner, width), "weight")?;
        Ok(Self {
            query: rows(&joint, 0, width)?,
            key: rows(&joint, width, width)?,
            value: rows(&joint, 2 * width, width)?,
            gate: rows(&joint, 3 * width, inner)?,
            up: rows(&joint, 3 * width + inner, inner)?,
            output: linear_no_bias(width + inner, width, vb.pp("to_out"))?,
            query_norm: RmsNorm::new(head_dim, config.eps, vb.pp("norm_q"))?,
            key_norm: RmsNorm::new(head_dim, config.eps, vb.pp("norm_k"))?,
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

/// A layer from `count` rows of a joint weight.
fn rows(joint: &Tensor, start: usize, count: usize) -> Result<Linear> {
    Ok(Linear::new(joint.narrow(0, start, count)?, None))
}

/// The residual stream outgrows f16 in a few channels; the library cuts it to the largest finite value.
fn within_half_range(xs: Tensor) -> Result<Tensor> {
    if xs.dtype() == DType::F16 { xs.clamp(-65504f32, 65504f32) } else { Ok(xs) }
}
