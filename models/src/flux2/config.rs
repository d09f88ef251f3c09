//! The JSON files of a FLUX.2 klein directory, with diffusers' and transformers' defaults for missing keys.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    loader::read_json,
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

/// `config.json` of a `Qwen3ForCausalLM`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct TextEncoderConfig {
    pub(super) model_type: String,
    pub(super) hidden_act: String,
    pub(super) use_sliding_window: bool,
    pub(super) layer_types: Option<Vec<String>>,
    pub(super) rope_theta: Option<f64>,
    pub(super) rope_parameters: Option<Rope>,
    pub(super) rope_scaling: Option<Rope>,
    pub(super) num_key_value_heads: Option<usize>,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    pub attention_bias: bool,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged)]
enum Side {
    Square(u32),
    Sides(Vec<u32>),
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(super) struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_rope_type: Option<String>,
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

impl TextEncoderConfig {
    /// Reads `path` and refuses what [`TextEncoder`](super::text_encoder::TextEncoder) does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        require(path, "model_type", &config.model_type.as_str(), &["qwen3"])?;
        require(path, "hidden_act", &config.hidden_act.as_str(), &["silu", "swish"])?;
        require(path, "use_sliding_window", &config.use_sliding_window, &[false])?;
        for kind in config.layer_types.iter().flatten() {
            require(path, "layer_types", &kind.as_str(), &["full_attention"])?;
        }
        for rope in config.rope_parameters.iter().chain(&config.rope_scaling) {
            let kind = rope.rope_type.as_deref().or(rope.old_rope_type.as_deref()).unwrap_or("default");
            require(path, "rope_type", &kind, &["default"])?;
        }
        for (key, value) in [
            ("vocab_size", config.vocab_size),
            ("hidden_size", config.hidden_size),
            ("intermediate_size", config.intermediate_size),
            ("num_attention_heads", config.num_attention_heads),
            ("num_key_value_heads", config.key_value_heads()),
            ("head_dim", config.head_dim),
        ] {
            require_size(path, key, value)?;
        }
        if config.head_dim % 2 == 1 {
            return Err(Error::config(path, format!("head_dim is {}; an even number is needed", config.head_dim)));
        }
        let (heads, shared) = (config.num_attention_heads, config.key_value_heads());
        if heads % shared != 0 {
            let reason = format!("num_attention_heads is {heads}, not a multiple of num_key_value_heads, {shared}");
            return Err(Error::config(path, reason));
        }
        if config.num_hidden_layers < 4 {
            let reason = format!("num_hidden_layers is {}; at least 4 are needed", config.num_hidden_layers);
            return Err(Error::config(path, reason));
        }
        Ok(config)
    }

    /// Heads of keys and values, each shared by several query heads.
    #[must_use]
    pub fn key_value_heads(&self) -> usize {
        self.num_key_value_heads.unwrap_or(self.num_attention_heads)
    }

    /// Base of the rotary frequencies, from either of its spellings.
    #[must_use]
    pub fn rope_base(&self) -> f64 {
        self.rope_parameters.as_ref().and_then(|r| r.rope_theta).or(self.rope_theta).unwrap_or(10_000.0)
    }

    /// The hidden states that the transformer reads: after so many layers each.
    ///
    /// klein reads (9, 18, 27) of the published encoders' 36 layers, which are the quarter points; a smaller encoder
    /// is read at its own. Never after the last layer: there the library has already applied the final norm.
    #[must_use]
    pub fn taps(&self) -> [usize; 3] {
        let layers = self.num_hidden_layers;
        if layers >= 28 { [9, 18, 27] } else { [layers / 4, layers / 2, layers * 3 / 4] }
    }
}

/// Bound on every size that a file gives: far above any real model, low enough that no product of sizes overflows.
const MAX_SIZE: usize = 1 << 20;
/// Levels of a VAE; each halves the picture.
const MAX_LEVELS: usize = 8;

pub(super) fn require<T: PartialEq + std::fmt::Debug>(
    path: &Path,
    key: &str,
    value: &T,
    supported: &[T],
) -> Result<()> {
    if supported.contains(value) {
        return Ok(());
    }
    let supported = supported.iter().map(|s| format!("{s:?}")).collect::<Vec<_>>().join(" or ");
    Err(Error::config(path, format!("{key} is {value:?}; only {supported} is supported")))
}

pub(super) fn require_size(path: &Path, key: &str, value: usize) -> Result<()> {
    if (1..=MAX_SIZE).contains(&value) {
        return Ok(());
    }
    Err(Error::config(path, format!("{key} is {value}; 1 to {MAX_SIZE} is supported")))
}

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

impl Default for TextEncoderConfig {
    fn default() -> Self {
        Self {
            model_type: "qwen3".to_owned(),
            hidden_act: "silu".to_owned(),
            use_sliding_window: false,
            layer_types: None,
            rope_theta: None,
            rope_parameters: None,
            rope_scaling: None,
            num_key_value_heads: Some(32),
            vocab_size: 151_936,
            hidden_size: 4096,
            intermediate_size: 22_016,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            head_dim: 128,
            rms_norm_eps: 1e-6,
            attention_bias: false,
        }
    }
}
