//! The layers of a Qwen3, for reading a text at once or as it grows.

use candle_core::{DType, Device, Result as Built, Tensor};
use candle_nn::{Linear, Module, VarBuilder, kv_cache::KvCache, linear_b, linear_no_bias, rotary_emb::rope};

use super::config::Config;
use crate::{
    attention::{attend, heads_first, split_heads},
    norm::RmsNorm,
};

/// Cosines and sines of positions, from the first on.
pub(crate) struct Rope {
    cos: Tensor,
    sin: Tensor,
}

impl Rope {
    /// Those of `tokens` positions; in `f32` throughout, as the library does, before they are brought to `dtype`.
    pub(crate) fn new(config: &Config, tokens: usize, device: &Device, dtype: DType) -> Built<Self> {
        let (half, base) = (config.head_dim / 2, config.rope_base() as f32);
        let frequency = |i: usize| 1.0 / base.powf((2 * i) as f32 / config.head_dim as f32);
        let frequencies: Vec<f32> = (0..half).map(frequency).collect();
        let angles: Vec<f32> = (0..tokens).flat_map(|t| frequencies.iter().map(move |f| t as f32 * f)).collect();
        let table = |f: fn(f32) -> f32| {
            let values: Vec<f32> = angles.iter().copied().map(f).collect();
            Tensor::from_vec(values, (tokens, half), device)?.to_dtype(dtype)
        };
        Ok(Self { cos: table(f32::cos)?, sin: table(f32::sin)? })
    }

    /// Those of `count` positions from `start` on.
    pub(crate) fn at(&self, start: usize, count: usize) -> Built<Self> {
        Ok(Self { cos: self.cos.narrow(0, start, count)?, sin: self.sin.narrow(0, start, count)? })
    }

    /// Turns (B, H, T, D) to the positions that there are.
    fn turn(&self, xs: &Tensor) -> Built<Tensor> {
        rope(xs, &self.cos, &self.sin)
    }
}

/// `Qwen3DecoderLayer`.
pub(crate) struct Layer {
    input_norm: RmsNorm,
    attention: Attention,
    post_attention_norm: RmsNorm,
    gate: Linear,
    up: Linear,
    down: Linear,
}

impl Layer {
    pub(crate) fn new(config: &Config, vb: VarBuilder<'_>) -> Built<Self> {
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

    /// (B, T, D) to the same, at the positions of `rope`. With a `past`, of one text, they also attend to what is in it, and
    /// are added to it; `mask` is then for the heads that share keys one after the other, so that it has T rows for each of them.
    pub(crate) fn forward(
        &self,
        xs: &Tensor,
        mask: Option<&Tensor>,
        rope: &Rope,
        past: Option<&mut KvCache>,
    ) -> Built<Tensor> {
        let xs = (xs + self.attention.forward(&self.input_norm.forward(xs)?, mask, rope, past)?)?;
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
    fn new(config: &Config, vb: VarBuilder<'_>) -> Built<Self> {
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

    fn forward(&self, xs: &Tensor, mask: Option<&Tensor>, rope: &Rope, past: Option<&mut KvCache>) -> Built<Tensor> {
        let heads = |layer: &Linear| split_heads(&layer.forward(xs)?, self.head_dim);
        let query = heads_first(&self.query_norm.forward(&heads(&self.query)?)?)?;
        let key = heads_first(&self.key_norm.forward(&heads(&self.key)?)?)?;
        let value = heads_first(&heads(&self.value)?)?;
        let (query, key) = (rope.turn(&query)?, rope.turn(&key)?);
        let scale = (self.head_dim as f64).powf(-0.5);
        let mixed = match past {
            None => attend(&query, &self.repeat(&key)?, &self.repeat(&value)?, mask, scale)?,
            Some(past) => {
                let (key, value) = past.append(&key, &value)?;
                self.attend_shared(&query, &key, &value, mask, scale)?
            }
        };
        self.output.forward(&mixed)
    }

    /// Each shared head once for every query head that uses it, in turn.
    fn repeat(&self, xs: &Tensor) -> Built<Tensor> {
        let (batch, heads, tokens, size) = xs.dims4()?;
        let repeated = xs.unsqueeze(2)?.expand((batch, heads, self.shared_by, tokens, size))?;
        repeated.reshape((batch, heads * self.shared_by, tokens, size))
    }

    /// As [`attend`], with the queries that share a head one after the other: what has been read is not copied for each of
    /// them, which would be all of it for every token.
    fn attend_shared(
        &self,
        query: &Tensor,
        key: &Tensor,
        value: &Tensor,
        mask: Option<&Tensor>,
        scale: f64,
    ) -> Built<Tensor> {
        let (_, heads, tokens, size) = query.dims4()?;
        let shared = heads / self.shared_by;
        let query = query.reshape((1, shared, self.shared_by * tokens, size))?;
        let mixed = attend(&query, key, value, mask, scale)?;
        // (1, queries of a head x T, shared heads x D) to (1, T, H x D).
        let mixed = mixed.reshape((self.shared_by, tokens, shared, size))?.permute((1, 2, 0, 3))?;
        mixed.contiguous()?.reshape((1, tokens, heads * size))
    }
}
