//! The JSON files of a ViLT directory, with transformers' defaults for missing keys.

use std::{collections::BTreeMap, path::Path};

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    loader::read_json,
    processor::{MAX_EDGE, read_processor},
};

/// Bound on every size that a file gives: far above any real model, low enough that no product of sizes overflows.
const MAX_SIZE: usize = 1 << 20;

/// `config.json` of a `ViltForQuestionAnswering`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct ViltConfig {
    model_type: String,
    hidden_act: String,
    max_image_length: i64,
    num_channels: usize,
    id2label: BTreeMap<String, String>,
    pub vocab_size: usize,
    pub type_vocab_size: usize,
    pub modality_type_vocab_size: usize,
    pub max_position_embeddings: usize,
    pub hidden_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub intermediate_size: usize,
    pub layer_norm_eps: f64,
    pub image_size: usize,
    pub patch_size: usize,
    pub qkv_bias: bool,
}

impl ViltConfig {
    /// Reads `path` and refuses what [`Vqa`](super::Vqa) does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        let refuse = |reason: String| Err(Error::config(path, reason));
        for (key, value) in [
            ("vocab_size", config.vocab_size),
            ("type_vocab_size", config.type_vocab_size),
            ("max_position_embeddings", config.max_position_embeddings),
            ("hidden_size", config.hidden_size),
            ("num_attention_heads", config.num_attention_heads),
            ("intermediate_size", config.intermediate_size),
            ("image_size", config.image_size),
            ("patch_size", config.patch_size),
        ] {
            if !(1..=MAX_SIZE).contains(&value) {
                return refuse(format!("{key} is {value}; 1 to {MAX_SIZE} is supported"));
            }
        }
        if config.model_type != "vilt" {
            return refuse(format!("model_type is {:?}; only \"vilt\" is supported", config.model_type));
        }
        if config.hidden_act != "gelu" {
            return refuse(format!("hidden_act is {:?}; only \"gelu\" is supported", config.hidden_act));
        }
        if config.max_image_length >= 0 {
            // The library would then drop patches at random.
            return refuse(format!("max_image_length is {}; only -1 is supported", config.max_image_length));
        }
        if config.num_channels != 3 {
            return refuse(format!("num_channels is {}; only 3 is supported", config.num_channels));
        }
        if config.modality_type_vocab_size < 2 {
            return refuse("modality_type_vocab_size is below 2; text and picture need one each".to_owned());
        }
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        if width % heads != 0 {
            return refuse(format!("hidden_size is {width}, not a multiple of num_attention_heads, {heads}"));
        }
        let (image, patch) = (config.image_size, config.patch_size);
        if image < patch {
            return refuse(format!("image_size is {image} and patch_size {patch}; no patch fits"));
        }
        config.check_labels(path)?;
        Ok(config)
    }

    /// The answers, in the order of the classifier's outputs.
    #[must_use]
    pub fn labels(&self) -> Vec<String> {
        (0..self.id2label.len()).filter_map(|i| self.id2label.get(&i.to_string()).cloned()).collect()
    }

    fn check_labels(&self, path: &Path) -> Result<()> {
        if self.id2label.is_empty() || self.labels().len() != self.id2label.len() {
            return Err(Error::config(path, "id2label does not number the answers from 0 without gaps"));
        }
        Ok(())
    }
}

impl Default for ViltConfig {
    fn default() -> Self {
        Self {
            model_type: "vilt".to_owned(),
            hidden_act: "gelu".to_owned(),
            max_image_length: -1,
            num_channels: 3,
            id2label: (0..2).map(|i| (i.to_string(), format!("LABEL_{i}"))).collect(),
            vocab_size: 30_522,
            type_vocab_size: 2,
            modality_type_vocab_size: 2,
            max_position_embeddings: 40,
            hidden_size: 768,
            num_hidden_layers: 12,
            num_attention_heads: 12,
            intermediate_size: 3072,
            layer_norm_eps: 1e-12,
            image_size: 384,
            patch_size: 32,
            qkv_bias: true,
        }
    }
}

/// `preprocessor_config.json` of a `ViltImageProcessor`, or its section in `processor_config.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct ProcessorConfig {
    size: Size,
    resample: u32,
    pub do_resize: bool,
    pub do_rescale: bool,
    pub do_normalize: bool,
    pub size_divisor: u32,
    pub rescale_factor: f64,
    pub image_mean: [f64; 3],
    pub image_std: [f64; 3],
}

#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum Size {
    /// As older processors wrote it.
    Shortest(u32),
    Named {
        shortest_edge: u32,
    },
}

impl ProcessorConfig {
    /// Reads the configuration in `dir` and refuses what [`prepare`](super::preprocess::prepare) does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(dir: &Path) -> Result<Self> {
        let (path, config): (_, Self) = read_processor(dir)?;
        if config.resample != 3 {
            let reason = format!("resample is {}; only 3 (bicubic) is supported", config.resample);
            return Err(Error::config(&path, reason));
        }
        for (key, value) in [("size", config.shortest_edge()), ("size_divisor", config.size_divisor)] {
            if !(1..=MAX_EDGE).contains(&value) {
                return Err(Error::config(&path, format!("{key} is {value}; 1 to {MAX_EDGE} is supported")));
            }
        }
        if config.image_std.contains(&0.0) {
            return Err(Error::config(&path, "image_std must not be 0"));
        }
        Ok(config)
    }

    /// Length to which a picture's shorter side is brought, in pixels.
    #[must_use]
    pub fn shortest_edge(&self) -> u32 {
        match self.size {
            Size::Shortest(edge) | Size::Named { shortest_edge: edge } => edge,
        }
    }
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        Self {
            size: Size::Named { shortest_edge: 384 },
            resample: 3,
            do_resize: true,
            do_rescale: true,
            do_normalize: true,
            size_divisor: 32,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.5; 3],
            image_std: [0.5; 3],
        }
    }
}
