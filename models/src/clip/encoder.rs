//! The layers of either tower (`CLIPEncoder`).

use candle_core::{Result as Built, Tensor};
use candle_nn::{Linear, Module, VarBuilder, linear, ops::sigmoid};

use super::config::{Activation, EncoderConfig};
use crate::{
    attention::{attend, heads_first, split_heads},
    error::Result,
    norm::LayerNorm,
    yield_point::{Site, YieldPoint},
};

/// Layers, one after the other.
pub struct Encoder {
    layers: Vec<Layer>,
}

impl Encoder {
    /// Reads the layers.
    ///
    /// # Errors
    ///
    /// If a weight is missing or of another shape.
    pub fn new(config: &EncoderConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let layers = vb.pp("layers");
        let layers = (0..config.num_hidden_layers).map(|i| Layer::new(config, &layers.pp(i)));
        Ok(Self { layers: layers.collect::<Built<_>>()? })
    }

    /// Hidden states (B, T, D) after all layers; `mask` is added to the scores of attention. `site` is reached before
    /// each layer.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`](crate::Error::Interrupted), [`Error::Device`](crate::Error::Device).
    pub fn forward(&self, xs: Tensor, mask: Option<&Tensor>, site: Site, observer: &dyn YieldPoint) -> Result<Tensor> {
        run(&self.layers, xs, mask, site, observer)
    }

    /// As [`Self::forward`], with what there is before the last layer as well: that first.
    ///
    /// # Errors
    ///
    /// As [`Self::forward`].
    pub fn last_two(
        &self,
        xs: Tensor,
        mask: Option<&Tensor>,
        site: Site,
        observer: &dyn YieldPoint,
    ) -> Result<(Tensor, Tensor)> {
        let (before, last) = self.layers.split_at(self.layers.len().saturating_sub(1));
        let before = run(before, xs, mask, site, observer)?;
        let after = run(last, before.clone(), mask, site, observer)?;
        Ok((before, after))
    }
}

fn run(layers: &[Layer], xs: Tensor, mask: Option<&Tensor>, site: Site, observer: &dyn YieldPoint) -> Result<Tensor> {
    let mut hidden = xs;
    for layer in layers {
        observer.reach(site)?;
        hidden = layer.forward(&hidden, mask)?;
    }
    Ok(hidden)
}

/// `CLIPEncoderLayer`.
struct Layer {
    attention_norm: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_out: Linear,
    inner_norm: LayerNorm,
    inner: Linear,
    output: Linear,
    activation: Activation,
    head_dim: usize,
}

impl Layer {
    fn new(config: &EncoderConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let projection = |name: &str| linear(width, width, vb.pp("self_attn").pp(name));
        Ok(Self {
            attention_norm: LayerNorm::new(width, eps, vb.pp("layer_norm1"))?,
            query: projection("q_proj")?,
            key: projection("k_proj")?,
            value: projection("v_proj")?,
            attention_out: projection("out_proj")?,
            inner_norm: LayerNorm::new(width, eps, vb.pp("layer_norm2"))?,
            inner: linear(width, inner, vb.pp("mlp.fc1"))?,
            output: linear(inner, width, vb.pp("mlp.fc2"))?,
            activation: config.hidden_act,
            head_dim: width / config.num_attention_heads,
        })
    }

    fn forward(&self, xs: &Tensor, mask: Option<&Tensor>) -> Built<Tensor> {
        let normed = self.attention_norm.forward(xs)?;
        let heads = |layer: &Linear| heads_first(&split_heads(&layer.forward(&normed)?, self.head_dim)?);
        let (query, key, value) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        let mixed = attend(&query, &key, &value, mask, (self.head_dim as f64).powf(-0.5))?;
        let xs = (xs + self.attention_out.forward(&mixed)?)?;
        let inner = self.activation.forward(&self.inner.forward(&self.inner_norm.forward(&xs)?)?)?;
        &xs + self.output.forward(&inner)?
    }
}

impl Activation {
    fn forward(self, xs: &Tensor) -> Built<Tensor> {
        match self {
            Self::QuickGelu => xs * sigmoid(&(xs * 1.702)?)?,
            Self::Gelu => xs.gelu_erf(),
        }
    }
}
