//! The blocks of the transformer (`JointTransformerBlock`): picture and text keep weights of their own and meet in attention.

use candle_core::{Result, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear};

use super::config::TransformerConfig;
use crate::{
    attention::{attend, heads_first, split_heads},
    norm::RmsNorm,
};

/// Of the layer norms, which have no weights, and of the norms of queries and keys.
pub(super) const EPS: f64 = 1e-6;
/// Inner width of a feed-forward layer, of the tokens' width.
const WIDENING: usize = 4;

/// Layer norm over the last axis without weights, then scaled by one more than `scale` and shifted, (B, D) each.
pub(super) fn modulate(normed: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    normed.broadcast_mul(&(scale.unsqueeze(1)? + 1.0)?)?.broadcast_add(&shift.unsqueeze(1)?)
}

/// Layer norm over the last axis without weights.
pub(super) fn normalise(xs: &Tensor) -> Result<Tensor> {
    let centred = xs.broadcast_sub(&xs.mean_keepdim(2)?)?;
    let deviation = (centred.sqr()?.mean_keepdim(2)? + EPS)?.sqrt()?;
    centred.broadcast_div(&deviation)
}

/// Parts of a width `width` of what a layer makes of the embedding: (B, N D) as N times (B, D).
fn parts(layer: &Linear, activated: &Tensor, width: usize) -> Result<Vec<Tensor>> {
    let values = layer.forward(activated)?;
    (0..values.dim(1)? / width).map(|i| values.narrow(1, i * width, width)).collect()
}

/// A block.
pub(super) struct Block {
    image: Stream,
    text: Text,
    /// A second attention, of the picture with itself.
    own: Option<Attention>,
    width: usize,
    scale: f64,
}

/// What a block does with the text.
enum Text {
    /// As with the picture.
    Full(Stream),
    /// In the last block it is only attended to.
    Last { modulation: Linear, attention: Attention },
}

impl Block {
    pub(super) fn new(config: &TransformerConfig, index: usize, vb: VarBuilder<'_>) -> Result<Self> {
        let width = config.width();
        let is_dual = config.dual_attention_layers.contains(&index);
        let is_last = index + 1 == config.num_layers;
        let text = if is_last {
            let modulation = linear(width, 2 * width, vb.pp("norm1_context.linear"))?;
            Text::Last { modulation, attention: Attention::new(config, &TEXT, None, vb.pp("attn"))? }
        } else {
            Text::Full(Stream::new(config, &TEXT, ("norm1_context", 6), "ff_context", &vb)?)
        };
        Ok(Self {
            image: Stream::new(config, &IMAGE, ("norm1", if is_dual { 9 } else { 6 }), "ff", &vb)?,
            text,
            own: is_dual.then(|| Attention::new(config, &IMAGE, Some(IMAGE.output), vb.pp("attn2"))).transpose()?,
            width,
            scale: (config.attention_head_dim as f64).powf(-0.5),
        })
    }

    /// Image and text tokens, (B, L, D) and (B, T, D), one block further. `activated` is the embedding, (B, D), after SiLU.
    /// `mask`, (1, 1, L + T, L + T), is added to the scores of both together, and there may be none. The text of the last block is of no
    /// more use, and as it was.
    pub(super) fn forward(
        &self,
        image: &Tensor,
        text: &Tensor,
        mask: Option<&Tensor>,
        activated: &Tensor,
    ) -> Result<(Tensor, Tensor)> {
        let of_image = parts(&self.image.modulation, activated, self.width)?;
        let normed = normalise(image)?;
        let image_in = modulate(&normed, &of_image[1], &of_image[0])?;
        let of_text = match &self.text {
            Text::Full(stream) => parts(&stream.modulation, activated, self.width)?,
            // Here, unlike elsewhere, the scale comes before the shift.
            Text::Last { modulation, .. } => parts(modulation, activated, self.width)?.into_iter().rev().collect(),
        };
        let text_in = modulate(&normalise(text)?, &of_text[1], &of_text[0])?;
        let text_attention = match &self.text {
            Text::Full(stream) => &stream.attention,
            Text::Last { attention, .. } => attention,
        };

        let [image_q, image_k, image_v] = self.image.attention.project(&image_in)?;
        let [text_q, text_k, text_v] = text_attention.project(&text_in)?;
        let join = |image: &Tensor, text: &Tensor| heads_first(&Tensor::cat(&[image, text], 1)?);
        let (q, k, v) = (join(&image_q, &text_q)?, join(&image_k, &text_k)?, join(&image_v, &text_v)?);
        let mixed = attend(&q, &k, &v, mask, self.scale)?;
        let (image_length, text_length) = (image.dim(1)?, text.dim(1)?);
        let image_mixed = mixed.narrow(1, 0, image_length)?.contiguous()?;

        let mut image = gated_add(image, &self.image.attention.finish(&image_mixed)?, &of_image[2])?;
        if let Some(own) = &self.own {
            let [q, k, v] = own.project(&modulate(&normed, &of_image[7], &of_image[6])?)?;
            let mixed = attend(&heads_first(&q)?, &heads_first(&k)?, &heads_first(&v)?, None, self.scale)?;
            image = gated_add(&image, &own.finish(&mixed)?, &of_image[8])?;
        }
        let image = self.image.feed_forward(&image, &of_image)?;
        let text = match &self.text {
            Text::Full(stream) => {
                let mixed = mixed.narrow(1, image_length, text_length)?.contiguous()?;
                let text = gated_add(text, &stream.attention.finish(&mixed)?, &of_text[2])?;
                stream.feed_forward(&text, &of_text)?
            }
            Text::Last { .. } => text.clone(),
        };
        Ok((image, text))
    }
}

fn gated_add(xs: &Tensor, update: &Tensor, gate: &Tensor) -> Result<Tensor> {
    xs + update.broadcast_mul(&gate.unsqueeze(1)?)?
}

/// The names of a stream's layers in an attention.
struct Names {
    query: &'static str,
    key: &'static str,
    value: &'static str,
    output: &'static str,
    query_norm: &'static str,
    key_norm: &'static str,
}

const IMAGE: Names =
    Names { query: "to_q", key: "to_k", value: "to_v", output: "to_out.0", query_norm: "norm_q", key_norm: "norm_k" };

const TEXT: Names = Names {
    query: "add_q_proj",
    key: "add_k_proj",
    value: "add_v_proj",
    output: "to_add_out",
    query_norm: "norm_added_q",
    key_norm: "norm_added_k",
};

/// A stream's weights in a block.
struct Stream {
    modulation: Linear,
    attention: Attention,
    up: Linear,
    down: Linear,
}

impl Stream {
    fn new(
        config: &TransformerConfig,
        names: &Names,
        (modulation, sets): (&str, usize),
        feed_forward: &str,
        vb: &VarBuilder<'_>,
    ) -> Result<Self> {
        let (width, feed_forward) = (config.width(), vb.pp(feed_forward));
        Ok(Self {
            modulation: linear(width, sets * width, vb.pp(modulation).pp("linear"))?,
            attention: Attention::new(config, names, Some(names.output), vb.pp("attn"))?,
            up: linear(width, WIDENING * width, feed_forward.pp("net.0.proj"))?,
            down: linear(WIDENING * width, width, feed_forward.pp("net.2"))?,
        })
    }

    /// `values` are the block's modulation: at 3, 4 and 5 shift, scale and gate of this layer.
    fn feed_forward(&self, xs: &Tensor, values: &[Tensor]) -> Result<Tensor> {
        let inner = modulate(&normalise(xs)?, &values[4], &values[3])?;
        // candle's is the approximation by a hyperbolic tangent, as here.
        let update = self.down.forward(&self.up.forward(&inner)?.gelu()?)?;
        gated_add(xs, &update, &values[5])
    }
}

/// One stream's side of an attention.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Option<Linear>,
    /// Of queries and of keys.
    norms: Option<[RmsNorm; 2]>,
    head_dim: usize,
}

impl Attention {
    fn new(config: &TransformerConfig, names: &Names, output: Option<&str>, vb: VarBuilder<'_>) -> Result<Self> {
        let (width, head_dim) = (config.width(), config.attention_head_dim);
        let layer = |name: &str| linear(width, width, vb.pp(name));
        let norm = |name: &str| RmsNorm::new(head_dim, EPS, vb.pp(name));
        let norms = || Ok::<_, candle_core::Error>([norm(names.query_norm)?, norm(names.key_norm)?]);
        Ok(Self {
            query: layer(names.query)?,
            key: layer(names.key)?,
            value: layer(names.value)?,
            output: output.map(layer).transpose()?,
            norms: config.normalises_queries().then(norms).transpose()?,
            head_dim,
        })
    }

    /// Queries, keys and values, (B, T, H, D) each.
    fn project(&self, xs: &Tensor) -> Result<[Tensor; 3]> {
        let heads = |layer: &Linear| split_heads(&layer.forward(xs)?, self.head_dim);
        let (mut query, mut key) = (heads(&self.query)?, heads(&self.key)?);
        if let Some([of_queries, of_keys]) = &self.norms {
            (query, key) = (of_queries.forward(&query)?, of_keys.forward(&key)?);
        }
        Ok([query, key, heads(&self.value)?])
    }

    /// What comes out of the attention, (B, T, D), through the last layer, if there is one.
    fn finish(&self, mixed: &Tensor) -> Result<Tensor> {
        self.output.as_ref().map_or_else(|| Ok(mixed.clone()), |output| output.forward(mixed))
    }
}
