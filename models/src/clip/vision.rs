//! The vision tower (`CLIPVisionModel`).

use candle_core::{Module, Result as Built, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, VarBuilder, conv2d_no_bias};

use super::{config::VisionConfig, encoder::Encoder};
use crate::{
    error::{Error, Result},
    norm::LayerNorm,
    yield_point::{Site, YieldPoint},
};

/// Pictures to vectors: one for the whole, and one for each patch.
pub struct VisionTower {
    patches: Conv2d,
    class: Tensor,
    positions: Tensor,
    pre_norm: LayerNorm,
    encoder: Encoder,
    post_norm: LayerNorm,
    image_size: usize,
}

impl VisionTower {
    /// Reads the tower.
    ///
    /// # Errors
    ///
    /// If a weight is missing or of another shape.
    pub fn new(config: &VisionConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let (width, patch, eps) = (config.encoder.hidden_size, config.patch_size, config.encoder.layer_norm_eps);
        let embeddings = vb.pp("embeddings");
        let stride = Conv2dConfig { stride: patch, ..Conv2dConfig::default() };
        let positions = config.side() * config.side() + 1;
        Ok(Self {
            patches: conv2d_no_bias(3, width, patch, stride, embeddings.pp("patch_embedding"))?,
            class: embeddings.get(width, "class_embedding")?.reshape((1, 1, width))?,
            positions: embeddings.pp("position_embedding").get((positions, width), "weight")?,
            pre_norm: LayerNorm::new(width, eps, vb.pp(config.pre_norm))?,
            encoder: Encoder::new(&config.encoder, &vb.pp("encoder"))?,
            post_norm: LayerNorm::new(width, eps, vb.pp("post_layernorm"))?,
            image_size: config.image_size,
        })
    }

    /// The hidden states of the class token and of all patches, row by row, (1, 1 + P, D), from pixels (1, 3, S, S).
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the pixels are of another shape, [`Error::Interrupted`], [`Error::Device`].
    pub fn forward(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let side = self.image_size;
        if pixels.dims() != [1, 3, side, side] {
            return Err(Error::Input(format!("the model looks at one picture of {side} x {side} pixels")));
        }
        let patches = self.patches.forward(pixels)?.flatten_from(2)?.transpose(1, 2)?;
        let embedded = Tensor::cat(&[&self.class, &patches], 1)?.broadcast_add(&self.positions)?;
        self.encoder.forward(self.pre_norm.forward(&embedded)?, None, Site::Block, observer)
    }

    /// The norm after the layers.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn post_norm(&self, hidden: &Tensor) -> Built<Tensor> {
        self.post_norm.forward(hidden)
    }

    /// The vector of the whole picture, (1, D), from the hidden states: the class token's.
    ///
    /// # Errors
    ///
    /// If the device fails.
    pub fn whole(&self, hidden: &Tensor) -> Built<Tensor> {
        self.post_norm(&hidden.narrow(1, 0, 1)?.contiguous()?)?.squeeze(1)
    }
}
