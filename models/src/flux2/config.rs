//! The JSON files of a FLUX.2 klein directory, with diffusers' and transformers' defaults for missing keys.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    loader::{read_json, require, require_size},
};

const PIPELINE_CLASS: &str = "Flux2KleinPipeline";

/// `model_index.json` of a `Flux2KleinPipeline`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PipelineConfig {
    #[serde(rename = "_class_name")]
    class_name: String,
    /// Distilled to few steps: such a model runs without guidance, whatever the request says.
    pub is_distilled: bool,
}

/// `config.json` of a `Flux2Transformer2DModel`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are diffusers'")]
pub struct TransformerConfig {
    pub(super) patch_size: usize,
    pub(super) out_channels: Option<usize>,
    pub in_channels: usize,
    pub num_layers: usize,
    pub num_single_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    pub joint_attention_dim: usize,
    pub timestep_guidance_channels: usize,
    pub mlp_ratio: f64,
    pub axes_dims_rope: Vec<usize>,
    pub rope_theta: f64,
    pub eps: f64,
    pub guidance_embeds: bool,
}

/// `config.json` of an `AutoencoderKLFlux2`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are diffusers'")]
pub struct VaeConfig {
    act_fn: String,
    down_block_types: Option<Vec<String>>,
    up_block_types: Option<Vec<String>>,
    patch_size: Vec<usize>,
    sample_size: Side,
    decoder_block_out_channels: Option<Vec<usize>>,
    pub in_channels: usize,
    pub out_channels: usize,
    pub block_out_channels: Vec<usize>,
    pub layers_per_block: usize,
    pub latent_channels: usize,
    pub norm_num_groups: usize,
    pub use_quant_conv: bool,
    pub use_post_quant_conv: bool,
    pub mid_block_add_attention: bool,
    pub batch_norm_eps: f64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged)]
enum Side {
    Square(u32),
    Sides(Vec<u32>),
}

impl PipelineConfig {
    /// What says that a directory is such a pipeline.
    pub(super) fn new(is_distilled: bool) -> Self {
        Self { class_name: PIPELINE_CLASS.to_owned(), is_distilled }
    }

    /// Reads `path` and refuses another pipeline class.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        require(path, "_class_name", &config.class_name.as_str(), &[PIPELINE_CLASS])?;
        Ok(config)
    }
}

impl TransformerConfig {
    /// Reads `path` and refuses what [`Transformer`](super::transformer::Transformer) does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        require(path, "patch_size", &config.patch_size, &[1])?;
        for (key, value) in [
            ("in_channels", config.in_channels),
            ("num_attention_heads", config.num_attention_heads),
            ("attention_head_dim", config.attention_head_dim),
            ("joint_attention_dim", config.joint_attention_dim),
            ("timestep_guidance_channels", config.timestep_guidance_channels),
        ] {
            require_size(path, key, value)?;
        }
        let refuse = |reason: String| Err(Error::config(path, reason));
        if let Some(out) = config.out_channels.filter(|&out| out != config.in_channels) {
            return refuse(format!("out_channels is {out}; only in_channels ({}) is supported", config.in_channels));
        }
        let axes = &config.axes_dims_rope;
        let head = config.attention_head_dim;
        let fits = |axis: &usize| axis.is_multiple_of(2) && *axis <= head;
        if axes.len() != 4 || !axes.iter().all(fits) || axes.iter().sum::<usize>() != head {
            return refuse(format!("axes_dims_rope is {axes:?}; four even numbers that add up to {head} are needed"));
        }
        if !(config.mlp_ratio > 0.0 && config.mlp_ratio <= 64.0) {
            return refuse(format!("mlp_ratio is {}; above 0 and up to 64 is supported", config.mlp_ratio));
        }
        if config.timestep_guidance_channels % 2 == 1 {
            return refuse("timestep_guidance_channels is odd; an even number is needed".to_owned());
        }
        if !config.in_channels.is_multiple_of(4) {
            return refuse(format!("in_channels is {}; latents of 2 x 2 need a multiple of 4", config.in_channels));
        }
        Ok(config)
    }

    /// Width of the residual stream.
    #[must_use]
    pub fn width(&self) -> usize {
        self.num_attention_heads * self.attention_head_dim
    }

    /// Width inside the feed-forward layers, after the gate.
    #[must_use]
    pub fn mlp_width(&self) -> usize {
        (self.width() as f64 * self.mlp_ratio) as usize
    }
}

impl VaeConfig {
    /// Reads `path` and refuses what [`Vae`](super::vae::Vae) does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        require(path, "act_fn", &config.act_fn.as_str(), &["silu", "swish"])?;
        require(path, "patch_size", &config.patch_size, &[vec![2, 2]])?;
        require(path, "in_channels", &config.in_channels, &[3])?;
        require(path, "out_channels", &config.out_channels, &[3])?;
        let levels = config.block_out_channels.len();
        if !(1..=MAX_LEVELS).contains(&levels) {
            return Err(Error::config(
                path,
                format!("block_out_channels has {levels} entries; 1 to {MAX_LEVELS} are needed"),
            ));
        }
        for (key, types, supported) in [
            ("down_block_types", &config.down_block_types, "DownEncoderBlock2D"),
            ("up_block_types", &config.up_block_types, "UpDecoderBlock2D"),
        ] {
            // Not given, the library's four must match the channels' count all the same.
            let count = types.as_ref().map_or(4, Vec::len);
            if count != levels || types.iter().flatten().any(|t| t != supported) {
                let reason = format!("{key} is {types:?}; {levels} times {supported:?} is supported");
                return Err(Error::config(path, reason));
            }
        }
        require_size(path, "latent_channels", config.latent_channels)?;
        require_size(path, "layers_per_block", config.layers_per_block)?;
        require_size(path, "norm_num_groups", config.norm_num_groups)?;
        if config.decoder_channels().len() != levels {
            return Err(Error::config(path, "decoder_block_out_channels is not as long as block_out_channels"));
        }
        for &channels in config.block_out_channels.iter().chain(config.decoder_channels()) {
            require_size(path, "block_out_channels", channels)?;
            if channels % config.norm_num_groups != 0 {
                let reason = format!("{channels} channels do not fall into {} groups", config.norm_num_groups);
                return Err(Error::config(path, reason));
            }
        }
        if config.sample_side() == 0 {
            return Err(Error::config(path, "sample_size is empty or 0"));
        }
        Ok(config)
    }

    /// Channels of the decoder's levels, from the picture's side.
    #[must_use]
    pub fn decoder_channels(&self) -> &[usize] {
        self.decoder_block_out_channels.as_ref().unwrap_or(&self.block_out_channels)
    }

    /// Pixels along each side of one latent.
    #[must_use]
    pub fn scale(&self) -> u32 {
        1 << (self.block_out_channels.len() - 1)
    }

    /// Side of the pictures that the model was made for, in pixels.
    #[must_use]
    pub fn sample_side(&self) -> u32 {
        match &self.sample_size {
            Side::Square(side) => *side,
            Side::Sides(sides) => sides.first().copied().unwrap_or(0),
        }
    }
}

/// Levels of a VAE; each halves the picture.
const MAX_LEVELS: usize = 8;

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            patch_size: 1,
            out_channels: None,
            in_channels: 128,
            num_layers: 8,
            num_single_layers: 48,
            attention_head_dim: 128,
            num_attention_heads: 48,
            joint_attention_dim: 15_360,
            timestep_guidance_channels: 256,
            mlp_ratio: 3.0,
            axes_dims_rope: vec![32; 4],
            rope_theta: 2000.0,
            eps: 1e-6,
            guidance_embeds: true,
        }
    }
}

impl Default for VaeConfig {
    fn default() -> Self {
        Self {
            act_fn: "silu".to_owned(),
            down_block_types: None,
            up_block_types: None,
            patch_size: vec![2, 2],
            sample_size: Side::Square(1024),
            decoder_block_out_channels: None,
            in_channels: 3,
            out_channels: 3,
            block_out_channels: vec![128, 256, 512, 512],
            layers_per_block: 2,
            latent_channels: 32,
            norm_num_groups: 32,
            use_quant_conv: true,
            use_post_quant_conv: true,
            mid_block_add_attention: true,
            batch_norm_eps: 1e-4,
        }
    }
}
