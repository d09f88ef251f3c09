//! The configuration of the transformer, with diffusers' defaults for missing keys.

use std::path::Path;

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    loader::read_json,
};

/// `config.json` of an `SD3Transformer2DModel`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are diffusers'")]
pub struct TransformerConfig {
    out_channels: Option<usize>,
    caption_projection_dim: usize,
    qk_norm: Option<String>,
    pub sample_size: usize,
    pub patch_size: usize,
    pub in_channels: usize,
    pub num_layers: usize,
    pub attention_head_dim: usize,
    pub num_attention_heads: usize,
    pub joint_attention_dim: usize,
    pub pooled_projection_dim: usize,
    pub pos_embed_max_size: usize,
    pub dual_attention_layers: Vec<usize>,
}

impl Default for TransformerConfig {
    fn default() -> Self {
        Self {
            out_channels: Some(16),
            caption_projection_dim: 1152,
            qk_norm: None,
            sample_size: 128,
            patch_size: 2,
            in_channels: 16,
            num_layers: 18,
            attention_head_dim: 64,
            num_attention_heads: 18,
            joint_attention_dim: 4096,
            pooled_projection_dim: 2048,
            pos_embed_max_size: 96,
            dual_attention_layers: Vec::new(),
        }
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
        let refuse = |reason: String| Err(Error::config(path, reason));
        for (key, value) in [
            ("sample_size", config.sample_size),
            ("caption_projection_dim", config.caption_projection_dim),
            ("patch_size", config.patch_size),
            ("in_channels", config.in_channels),
            ("out_channels", config.out_channels()),
            ("num_layers", config.num_layers),
            ("attention_head_dim", config.attention_head_dim),
            ("num_attention_heads", config.num_attention_heads),
            ("joint_attention_dim", config.joint_attention_dim),
            ("pooled_projection_dim", config.pooled_projection_dim),
            ("pos_embed_max_size", config.pos_embed_max_size),
        ] {
            if !(1..=MAX_SIZE).contains(&value) {
                return refuse(format!("{key} is {value}; 1 to {MAX_SIZE} are supported"));
            }
        }
        if config.caption_projection_dim != config.width() {
            return refuse(format!(
                "caption_projection_dim is {}; only the width of the attention, {}, is supported",
                config.caption_projection_dim,
                config.width()
            ));
        }
        match config.qk_norm.as_deref() {
            None | Some("rms_norm") => Ok(config),
            Some(other) => refuse(format!("qk_norm is {other:?}; only null and \"rms_norm\" are supported")),
        }
    }

    /// Numbers in a token.
    #[must_use]
    pub fn width(&self) -> usize {
        self.attention_head_dim.saturating_mul(self.num_attention_heads)
    }

    /// Channels of what is predicted.
    #[must_use]
    pub fn out_channels(&self) -> usize {
        self.out_channels.unwrap_or(self.in_channels)
    }

    /// Whether queries and keys are normalised.
    #[must_use]
    pub fn normalises_queries(&self) -> bool {
        self.qk_norm.is_some()
    }
}

/// Far above every model's sizes, so that nothing is made of a number that makes no sense.
const MAX_SIZE: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_implemented_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let of = |text: &str| {
            std::fs::write(file.path(), text).unwrap();
            TransformerConfig::read(file.path()).map_err(|e| e.to_string())
        };
        let defaults = of("{}").unwrap();
        assert_eq!((defaults.width(), defaults.out_channels(), defaults.normalises_queries()), (1152, 16, false));
        for (text, word) in [
            (r#"{"patch_size": 0}"#, "patch_size is 0"),
            (r#"{"num_layers": 99999999}"#, "num_layers is 99999999"),
            (r#"{"num_attention_heads": 24}"#, "caption_projection_dim is 1152"),
            (r#"{"qk_norm": "layer_norm"}"#, "qk_norm is \"layer_norm\""),
        ] {
            let refused = of(text).unwrap_err();
            assert!(refused.contains(word), "{refused}");
        }
    }
}
