//! The JSON files of a Qwen3, with transformers' defaults for missing keys.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    error::{Error, Result},
    loader::{read_json, read_optional_json, require, require_size},
};

/// `config.json` of a `Qwen3ForCausalLM`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct Config {
    pub(crate) model_type: String,
    pub(crate) hidden_act: String,
    pub(crate) use_sliding_window: bool,
    pub(crate) layer_types: Option<Vec<String>>,
    pub(crate) rope_theta: Option<f64>,
    pub(crate) rope_parameters: Option<Rope>,
    pub(crate) rope_scaling: Option<Rope>,
    pub(crate) eos_token_id: Option<Tokens>,
    pub num_key_value_heads: Option<usize>,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    pub attention_bias: bool,
    pub max_position_embeddings: usize,
    pub tie_word_embeddings: bool,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Rope {
    rope_theta: Option<f64>,
    rope_type: Option<String>,
    #[serde(rename = "type")]
    old_rope_type: Option<String>,
}

/// One token, or several.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged)]
pub(crate) enum Tokens {
    One(u32),
    Many(Vec<u32>),
}

impl Tokens {
    fn list(self) -> Vec<u32> {
        match self {
            Self::One(token) => vec![token],
            Self::Many(tokens) => tokens,
        }
    }
}

impl Config {
    /// Reads `path` and refuses what the layers do not implement.
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
            ("num_hidden_layers", config.num_hidden_layers),
            ("num_attention_heads", config.num_attention_heads),
            ("num_key_value_heads", config.key_value_heads()),
            ("head_dim", config.head_dim),
            ("max_position_embeddings", config.max_position_embeddings),
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

    /// The tokens that end an answer, for the model in `dir`: what `generation_config.json` says, or without it this
    /// configuration. That file's ways to draw tokens are not looked at, for none are drawn; what changes the likeliest
    /// token is refused.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn ends(&self, dir: &Path) -> Result<Vec<u32>> {
        let path = dir.join("generation_config.json");
        let Some(told) = read_optional_json::<Map<String, Value>>(&path)? else {
            return Ok(self.eos_token_id.clone().map(Tokens::list).unwrap_or_default());
        };
        for (key, plain) in plain() {
            // A whole number may be written either way.
            let same = |value: &Value| *value == plain || (value.is_number() && value.as_f64() == plain.as_f64());
            if let Some(value) = told.get(key).filter(|value| !value.is_null() && !same(value)) {
                return Err(Error::config(&path, format!("{key} is {value}; only {plain} is supported")));
            }
        }
        let tokens: Option<Tokens> = match told.get("eos_token_id").filter(|value| !value.is_null()) {
            Some(value) => serde_json::from_value(value.clone())
                .map_err(|_| Error::config(&path, format!("eos_token_id is {value}; tokens are needed")))?,
            None => None,
        };
        Ok(tokens.map(Tokens::list).unwrap_or_default())
    }
}

/// Keys of `generation_config.json` that change which token is the likeliest, and the value at which they do not.
fn plain() -> [(&'static str, Value); 14] {
    [
        ("num_beams", json!(1)),
        ("repetition_penalty", json!(1.0)),
        ("encoder_repetition_penalty", json!(1.0)),
        ("no_repeat_ngram_size", json!(0)),
        ("min_length", json!(0)),
        ("min_new_tokens", json!(0)),
        ("penalty_alpha", json!(0.0)),
        ("guidance_scale", json!(1.0)),
        ("bad_words_ids", Value::Null),
        ("sequence_bias", Value::Null),
        ("suppress_tokens", Value::Null),
        ("begin_suppress_tokens", Value::Null),
        ("forced_bos_token_id", Value::Null),
        ("exponential_decay_length_penalty", Value::Null),
    ]
}

impl Default for Config {
    fn default() -> Self {
        Self {
            model_type: "qwen3".to_owned(),
            hidden_act: "silu".to_owned(),
            use_sliding_window: false,
            layer_types: None,
            rope_theta: None,
            rope_parameters: None,
            rope_scaling: None,
            eos_token_id: None,
            num_key_value_heads: Some(32),
            vocab_size: 151_936,
            hidden_size: 4096,
            intermediate_size: 22_016,
            num_hidden_layers: 32,
            num_attention_heads: 32,
            head_dim: 128,
            rms_norm_eps: 1e-6,
            attention_bias: false,
            max_position_embeddings: 32_768,
            tie_word_embeddings: false,
        }
    }
}
