//! The mask decoder (`Sam2MaskDecoder`): tokens of a prompt and a picture's embedding look at each other, and each of
//! some further tokens becomes a mask.

use candle_core::{Module, Result as Built, Tensor};
use candle_nn::{Activation, Linear, VarBuilder, linear, ops::sigmoid};

use super::{
    config::DecoderConfig,
    layers::{Doubling, FeedForward, pointwise},
};
use crate::{
    attention::{attend, heads_first, split_heads},
    error::Result,
    norm::LayerNorm,
    yield_point::{Site, YieldPoint},
};

/// PyTorch's epsilon for a `LayerNorm` that is given none.
const EPS: f64 = 1e-5;
/// That of `Sam2LayerNorm`.
const UPSCALE_EPS: f64 = 1e-6;
/// Tokens before those of masks: whether there is anything, and how good the masks are.
const BEFORE_MASKS: usize = 2;

/// What is seen of a picture, with channels last.
pub struct Features {
    /// (1, n, n, C): the picture's embedding.
    pub embedding: Tensor,
    /// (1, 2n, 2n, C / 4).
    pub fine: Tensor,
    /// (1, 4n, 4n, C / 8).
    pub finest: Tensor,
}

/// What the decoder makes of a prompt.
pub struct Decoded {
    /// (M, 4n, 4n): the single mask, then the others. Above zero is inside.
    pub masks: Tensor,
    /// (M): how well each is expected to agree with what was meant (intersection over union).
    pub scores: Tensor,
    /// (1): logit of there being anything.
    pub object: Tensor,
}

/// The decoder.
pub struct Decoder {
    /// (1, 2 + M, C): the tokens that do not depend on the prompt.
    tokens: Tensor,
    layers: Vec<Layer>,
    final_attention: Attention,
    final_norm: LayerNorm,
    first_doubling: Doubling,
    doubling_norm: LayerNorm,
    second_doubling: Doubling,
    /// From a mask's token to its weights for the channels of the enlarged embedding.
    mask_heads: Vec<FeedForward>,
    score_head: FeedForward,
    object_head: FeedForward,
    to_finest: Linear,
    to_fine: Linear,
}

impl Decoder {
    /// Reads the weights below `vb`.
    ///
    /// # Errors
    ///
    /// If one is missing or of another shape.
    pub fn new(config: &DecoderConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let (width, masks) = (config.hidden_size, config.num_multimask_outputs + 1);
        let table = |name: &str, rows: usize| vb.pp(name).get((rows, width), "weight");
        let tokens = [table("obj_score_token", 1)?, table("iou_token", 1)?, table("mask_tokens", masks)?];
        let (transformer, heads) = (vb.pp("transformer"), vb.pp("output_hypernetworks_mlps"));
        let layers = transformer.pp("layers");
        let head = |widths, depth, vb: &VarBuilder<'_>| FeedForward::new(widths, depth, Activation::Relu, vb);
        let score_widths = (width, config.iou_head_hidden_dim, masks);
        Ok(Self {
            tokens: Tensor::cat(&tokens, 0)?.unsqueeze(0)?,
            layers: (0..config.num_hidden_layers)
                .map(|i| Layer::new(config, i == 0, &layers.pp(i)))
                .collect::<Built<_>>()?,
            final_attention: Attention::narrowed(config, &transformer.pp("final_attn_token_to_image"))?,
            final_norm: LayerNorm::new(width, EPS, transformer.pp("layer_norm_final_attn"))?,
            first_doubling: Doubling::new(width, width / 4, &vb.pp("upscale_conv1"))?,
            doubling_norm: LayerNorm::new(width / 4, UPSCALE_EPS, vb.pp("upscale_layer_norm"))?,
            second_doubling: Doubling::new(width / 4, width / 8, &vb.pp("upscale_conv2"))?,
            mask_heads: (0..masks).map(|i| head((width, width, width / 8), 3, &heads.pp(i))).collect::<Built<_>>()?,
            score_head: head(score_widths, config.iou_head_depth, &vb.pp("iou_prediction_head"))?,
            object_head: head((width, width, 1), 3, &vb.pp("pred_obj_score_head"))?,
            to_finest: pointwise(width, width / 8, &vb.pp("conv_s0"))?,
            to_fine: pointwise(width, width / 4, &vb.pp("conv_s1"))?,
        })
    }

    /// The neck's three largest levels as the decoder reads them.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn features(&self, [finest, fine, embedding]: [&Tensor; 3]) -> Built<Features> {
        let (finest, fine) = (self.to_finest.forward(finest)?, self.to_fine.forward(fine)?);
        Ok(Features { embedding: embedding.clone(), fine, finest })
    }

    /// Masks for the tokens of a prompt, (1, T, C). `positions`, (1, n * n, C), say where in the picture an embedding is;
    /// `mask`, broadcast to the embedding, is what is known of the mask beforehand.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`](crate::Error::Interrupted), [`Error::Device`](crate::Error::Device).
    pub fn forward(
        &self,
        features: &Features,
        positions: &Tensor,
        prompt: &Tensor,
        mask: &Tensor,
        observer: &dyn YieldPoint,
    ) -> Result<Decoded> {
        let (_, rows, columns, width) = features.embedding.dims4()?;
        let tokens = Tensor::cat(&[&self.tokens, prompt], 1)?;
        let embedding = features.embedding.broadcast_add(mask)?;
        let mut image = embedding.reshape((1, rows * columns, width))?;
        let mut queries = tokens.clone();
        for layer in &self.layers {
            observer.reach(Site::Block)?;
            (queries, image) = layer.forward(&queries, &image, &tokens, positions)?;
        }
        observer.reach(Site::Block)?;
        let seen = self.final_attention.forward(&(&queries + &tokens)?, &(&image + positions)?, &image)?;
        let queries = self.final_norm.forward(&(queries + seen)?)?;
        Ok(self.decode(&queries, &image.reshape((1, rows, columns, width))?, features)?)
    }

    fn decode(&self, queries: &Tensor, image: &Tensor, features: &Features) -> Built<Decoded> {
        let doubled = (self.first_doubling.forward(image)? + &features.fine)?;
        let doubled = self.doubling_norm.forward(&doubled)?.gelu_erf()?;
        let large = (self.second_doubling.forward(&doubled)? + &features.finest)?.gelu_erf()?;
        let (_, rows, columns, width) = large.dims4()?;

        let token = |i: usize| queries.narrow(1, i, 1)?.squeeze(1)?.contiguous();
        let weights = self.mask_heads.iter().enumerate();
        let weights = weights.map(|(i, head)| head.forward(&token(BEFORE_MASKS + i)?)).collect::<Built<Vec<_>>>()?;
        let masks = Tensor::cat(&weights, 0)?.matmul(&large.reshape((rows * columns, width))?.t()?)?;
        Ok(Decoded {
            masks: masks.reshape((weights.len(), rows, columns))?,
            scores: sigmoid(&self.score_head.forward(&token(1)?)?)?.squeeze(0)?,
            object: self.object_head.forward(&token(0)?)?.squeeze(0)?,
        })
    }
}

/// `Sam2TwoWayAttentionBlock`.
struct Layer {
    /// The first layer's tokens attend to each other as they are, and become what they see.
    first: bool,
    among_tokens: Attention,
    norm_among: LayerNorm,
    to_image: Attention,
    norm_to_image: LayerNorm,
    feed_forward: FeedForward,
    norm_feed_forward: LayerNorm,
    from_image: Attention,
    norm_image: LayerNorm,
}

impl Layer {
    fn new(config: &DecoderConfig, first: bool, vb: &VarBuilder<'_>) -> Built<Self> {
        let width = config.hidden_size;
        let norm = |i: usize| LayerNorm::new(width, EPS, vb.pp(format!("layer_norm{i}")));
        // The library makes these networks as deep as the transformer itself.
        let depth = config.num_hidden_layers;
        Ok(Self {
            first,
            among_tokens: Attention::new(config, width, &vb.pp("self_attn"))?,
            norm_among: norm(1)?,
            to_image: Attention::narrowed(config, &vb.pp("cross_attn_token_to_image"))?,
            norm_to_image: norm(2)?,
            feed_forward: FeedForward::new((width, config.mlp_dim, width), depth, Activation::Relu, &vb.pp("mlp"))?,
            norm_feed_forward: norm(3)?,
            from_image: Attention::narrowed(config, &vb.pp("cross_attn_image_to_token"))?,
            norm_image: norm(4)?,
        })
    }

    /// Tokens and image, each having seen the other. `tokens` are the tokens as they came.
    fn forward(
        &self,
        queries: &Tensor,
        image: &Tensor,
        tokens: &Tensor,
        positions: &Tensor,
    ) -> Built<(Tensor, Tensor)> {
        let queries = if self.first {
            self.among_tokens.forward(queries, queries, queries)?
        } else {
            let placed = (queries + tokens)?;
            (queries + self.among_tokens.forward(&placed, &placed, queries)?)?
        };
        let queries = self.norm_among.forward(&queries)?;

        let placed_image = (image + positions)?;
        let seen = self.to_image.forward(&(&queries + tokens)?, &placed_image, image)?;
        let queries = self.norm_to_image.forward(&(queries + seen)?)?;
        let queries = self.norm_feed_forward.forward(&(&queries + self.feed_forward.forward(&queries)?)?)?;

        let seen = self.from_image.forward(&placed_image, &(&queries + tokens)?, &queries)?;
        let image = self.norm_image.forward(&(image + seen)?)?;
        Ok((queries, image))
    }
}

/// `Sam2Attention`.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    out: Linear,
    head_dim: usize,
}

impl Attention {
    /// At a fraction of the decoder's width.
    fn narrowed(config: &DecoderConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        Self::new(config, config.hidden_size / config.attention_downsample_rate, vb)
    }

    fn new(config: &DecoderConfig, inner: usize, vb: &VarBuilder<'_>) -> Built<Self> {
        let projection = |name: &str| linear(config.hidden_size, inner, vb.pp(name));
        Ok(Self {
            query: projection("q_proj")?,
            key: projection("k_proj")?,
            value: projection("v_proj")?,
            out: linear(inner, config.hidden_size, vb.pp("o_proj"))?,
            head_dim: inner / config.num_attention_heads,
        })
    }

    fn forward(&self, query: &Tensor, key: &Tensor, value: &Tensor) -> Built<Tensor> {
        let heads = |layer: &Linear, xs: &Tensor| heads_first(&split_heads(&layer.forward(xs)?, self.head_dim)?);
        let (query, key, value) = (heads(&self.query, query)?, heads(&self.key, key)?, heads(&self.value, value)?);
        self.out.forward(&attend(&query, &key, &value, None, (self.head_dim as f64).powf(-0.5))?)
    }
}
