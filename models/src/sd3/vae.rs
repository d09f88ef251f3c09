//! The autoencoder between pixels and latents (`AutoencoderKL`), of the same blocks as FLUX.2's.

use std::path::Path;

use candle_core::{Result as Built, Tensor};
use candle_nn::VarBuilder;
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    flux2::{
        config::VaeConfig as Blocks,
        vae::{Decoder, Encoder},
    },
    loader::read_json,
    yield_point::YieldPoint,
};

/// `config.json` of an `AutoencoderKL`.
#[derive(Debug, Clone)]
pub struct VaeConfig {
    /// Its blocks.
    pub blocks: Blocks,
    /// What latents are multiplied with after `shift` is taken off, so that they are of unit scale.
    pub scale: f64,
    /// Their mean.
    pub shift: f64,
}

/// What of the file must not be missing, as its defaults are not FLUX.2's.
#[derive(Deserialize)]
#[expect(dead_code, reason = "that they are there is all that is asked of most")]
struct Keys {
    block_out_channels: Vec<usize>,
    latent_channels: usize,
    layers_per_block: usize,
    norm_num_groups: usize,
    sample_size: serde_json::Value,
    scaling_factor: f64,
    shift_factor: Option<f64>,
    use_quant_conv: bool,
    use_post_quant_conv: bool,
}

impl VaeConfig {
    /// Reads `path` and refuses what [`Vae`] does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let keys: Keys = read_json(path)?;
        let (scale, shift) = (keys.scaling_factor, keys.shift_factor.unwrap_or(0.0));
        if !(scale.is_finite() && scale > 0.0 && shift.is_finite()) {
            return Err(Error::config(path, format!("scaling_factor {scale} and shift_factor {shift} make no sense")));
        }
        if keys.use_quant_conv || keys.use_post_quant_conv {
            let reason = "use_quant_conv and use_post_quant_conv are supported as false only, as in Stable Diffusion 3";
            return Err(Error::config(path, reason));
        }
        Ok(Self { blocks: Blocks::read(path)?, scale, shift })
    }
}

/// Encoder and decoder.
pub struct Vae {
    encoder: Encoder,
    decoder: Decoder,
    config: VaeConfig,
}

impl Vae {
    /// Builds the autoencoder.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or of another shape.
    pub fn new(config: &VaeConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        Ok(Self {
            encoder: Encoder::new(&config.blocks, vb.pp("encoder"))?,
            decoder: Decoder::new(&config.blocks, vb.pp("decoder"))?,
            config: config.clone(),
        })
    }

    /// Pixels (B, 3, H, W) in −1..1 to latents (B, C, H/s, W/s) of unit scale: the mode of the posterior, so without chance.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn encode(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let moments = self.encoder.forward(pixels, observer)?;
        let mode = moments.narrow(1, 0, self.config.blocks.latent_channels)?;
        Ok(((mode - self.config.shift)? * self.config.scale)?)
    }

    /// Latents (B, C, H/s, W/s) of unit scale to pixels (B, 3, H, W), about −1..1.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn decode(&self, latents: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        self.decoder.forward(&((latents / self.config.scale)? + self.config.shift)?, observer)
    }
}
