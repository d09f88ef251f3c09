//! The text encoder: hidden states from within a `Qwen3ForCausalLM`.

use candle_core::{DType, Device, Result as Built, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear_b, linear_no_bias, rotary_emb::rope};

use crate::{
    attention::{attend, heads_first, split_heads},
    error::{Error, Result},
    flux2::config::TextEncoderConfig,
    norm::RmsNorm,
    tokenizer::Prompt,
    yield_point::{Site, YieldPoint},
};

/// The lower three quarters of a Qwen3: embeddings and the layers up to the last hidden state that is read.
pub struct TextEncoder {
    embeddings: Tensor,
    layers: Vec<Layer>,
    taps: [usize; 3],
    head_dim: usize,
    rope_base: f64,
}

impl TextEncoder {
    /// Builds the encoder from the weights of a `Qwen3ForCausalLM`.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or of another shape.
    pub fn new(config: &TextEncoderConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let vb = vb.pp("model");
        let taps = config.taps();
        let embeddings = vb.pp("embed_tokens").get((config.vocab_size, config.hidden_size), "weight")?;
        let layers = (0..taps[2]).map(|i| Layer::new(config, vb.pp("layers").pp(i))).collect::<Built<_>>()?;
        Ok(Self { embeddings, layers, taps, head_dim: config.head_dim, rope_base: config.rope_base() })
    }

    /// Whether the encoder uses the tensor `name` of the checkpoint.
    ///
    /// Nothing past the last hidden state that is read is loaded: the upper layers, the final norm and the language
    /// model's head would take a quarter of the memory and never be computed with.
    #[must_use]
    pub fn uses(config: &TextEncoderConfig, name: &str) -> bool {
        let Some(rest) = name.strip_prefix("model.") else { return false };
        match rest.strip_prefix("layers.").and_then(|rest| rest.split('.').next()) {
            Some(layer) => layer.parse::<usize>().is_ok_and(|layer| layer < config.taps()[2]),
            None => rest.starts_with("embed_tokens."),
        }
    }

    /// Hidden states of `prompts`, all of one length: (B, T, 3 * hidden_size), for each token those after the three
    /// tapped layers side by side.
    ///
    /// Padding is masked as a key but has hidden states of its own; the transformer does attend to them.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if a token is none of the table's or the prompts' lengths differ, [`Error::Interrupted`],
    /// [`Error::Device`].
    pub fn forward(&self, prompts: &[&Prompt], observer: &dyn YieldPoint) -> Result<Tensor> {
        let (vocabulary, width) = self.embeddings.dims2()?;
        let tokens = prompts.first().map_or(0, |p| p.ids.len());
        let ids: Vec<u32> = prompts.iter().flat_map(|p| p.ids.iter().copied()).collect();
        if tokens == 0 || prompts.iter().any(|p| p.ids.len() != tokens || p.used == 0) {
            return Err(Error::Input("prompts need tokens, and as many each".to_owned()));
        }
        if let Some(id) = ids.iter().find(|&&id| id as usize >= vocabulary) {
            return Err(Error::Input(format!("token {id} is none of the {vocabulary} the text encoder knows")));
        }
        let (device, dtype) = (self.embeddings.device(), self.embeddings.dtype());
        let count = ids.len();
        let ids = Tensor::from_vec(ids, count, device)?;
        let mut hidden = self.embeddings.index_select(&ids, 0)?.reshape((prompts.len(), tokens, width))?;
        let mask = causal_mask(prompts, tokens, device)?.to_dtype(dtype)?;
        let rope = self.rope(tokens)?;
        let mut tapped = Vec::with_capacity(self.taps.len());
        for (i, layer) in self.layers.iter().enumerate() {
            observer.reach(Site::TextEncoderBlock)?;
            hidden = layer.forward(&hidden, &mask, &rope)?;
            if self.taps.contains(&(i + 1)) {
                tapped.push(hidden.clone());
            }
        }
        Ok(Tensor::cat(&tapped, 2)?)
    }

    /// Cosines and sines (T, D / 2); in `f32` throughout, as the library does.
    fn rope(&self, tokens: usize) -> Built<(Tensor, Tensor)> {
        let half = self.head_dim / 2;
        let frequency = |i: usize| 1.0 / (self.rope_base as f32).powf((2 * i) as f32 / self.head_dim as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles: Vec<f32> = (0..tokens).flat_map(|t| frequencies.iter().map(move |f| t as f32 * f)).collect();
        let (device, dtype) = (self.embeddings.device(), self.embeddings.dtype());
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().copied().map(f).collect();
            Tensor::from_vec(values, (tokens, half), device)?.to_dtype(dtype)
        };
        Ok((table(f32::cos)?, table(f32::sin)?))
    }
}

/// 0 where a token may attend, −∞ elsewhere: to itself and the tokens before it, padding left out. (B, 1, T, T)
///
/// Padding is on the right, so the first token is always one that may be attended to and no row is empty.
fn causal_mask(prompts: &[&Prompt], tokens: usize, device: &Device) -> Built<Tensor> {
    let allowed = |used: usize, query: usize, key: usize| key <= query && key < used;
    let mask: Vec<f32> = prompts
        .iter()
        .flat_map(|p| (0..tokens).flat_map(move |q| (0..tokens).map(move |k| allowed(p.used, q, k))))
        .map(|allowed| if allowed { 0.0 } else { f32::NEG_INFINITY })
        .collect();
    Tensor::from_vec(mask, (prompts.len(), 1, tokens, tokens), device)?.to_dtype(DType::F32)
}

/// `Qwen3DecoderLayer`.
struct Layer {
    input_norm: RmsNorm,
    attention: Attention,
    post_attention_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    fn new(config: &TextEncoderConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.rms_norm_eps);
        let mlp = vb.pp("mlp");
        Ok(Self {
            input_norm: RmsNorm::new(width, eps, vb.pp("input_layernorm"))?,
            attention: Attention::new(config, vb.pp("self_attn"))?,
            post_attention_norm: RmsNorm::new(width, eps, vb.pp("post_attention_layernorm"))?,
            gate: linear_no_bias(width, inner, mlp.pp("gate_proj"))?,
            up: linear_no_bias(width, inner, mlp.pp("up_proj"))?,
            down: linear_no_bias(inner, width, mlp.pp("down_proj"))?,
        })
    }

    fn forward(&self, xs: &Tensor, mask: &Tensor, rope: &(Tensor, Tensor)) -> Built<Tensor> {
        let xs = (xs + self.attention.forward(&self.input_norm.forward(xs)?, mask, rope)?)?;
        let normed = self.post_attention_norm.forward(&xs)?;
        let inner = (self.gate.forward(&normed)?.silu()? * self.up.forward(&normed)?)?;
        &xs + self.down.forward(&inner)?
    }
}

/// `Qwen3Attention`: several query heads share a head of keys and values; queries and keys are normalised per head.
struct Attention {
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
    query_norm: RmsNorm,
    key_norm: RmsNorm,
    head_dim: usize,
    shared_by: usize,
}

impl Attention {
    fn new(config: &TextEncoderConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let (width, size, bias) = (config.hidden_size, config.head_dim, config.attention_bias);
        let (heads, shared) = (config.num_attention_heads, config.key_value_heads());
        Ok(Self {
            query: linear_b(width, heads * size, bias, vb.pp("q_proj"))?,
            key: linear_b(width, shared * size, bias, vb.pp("k_proj"))?,
            value: linear_b(width, shared * size, bias, vb.pp("v_proj"))?,
            output: linear_b(heads * size, width, bias, vb.pp("o_proj"))?,
            query_norm: RmsNorm::new(size, config.rms_norm_eps, vb.pp("q_norm"))?,
            key_norm: RmsNorm::new(size, config.rms_norm_eps, vb.pp("k_norm"))?,
            head_dim: size,
            shared_by: heads / shared,
        })
    }

    fn forward(&self, xs: &Tensor, mask: &Tensor, (cos, sin): &(Tensor, Tensor)) -> Built<Tensor> {
        let heads = |layer: &Linear| split_heads(&layer.forward(xs)?, self.head_dim);
        let query = heads_first(&self.query_norm.forward(&heads(&self.query)?)?)?;
        let key = heads_first(&self.key_norm.forward(&heads(&self.key)?)?)?;
        let value = heads_first(&heads(&self.value)?)?;
        let key = self.repeat(&rope(&key, cos, sin)?)?;
        let scale = (self.head_dim as f64).powf(-0.5);
        let mixed = attend(&rope(&query, cos, sin)?, &key, &self.repeat(&value)?, Some(mask), scale)?;
        self.output.forward(&mixed)
    }

    /// Each shared head once for every query head that uses it, in turn.
    fn repeat(&self, xs: &Tensor) -> Built<Tensor> {
        let (batch, heads, tokens, size) = xs.dims4()?;
        let repeated = xs.unsqueeze(2)?.expand((batch, heads, self.shared_by, tokens, size))?;
        repeated.reshape((batch, heads * self.shared_by, tokens, size))
    }
}
