//! What a CLIP needs of memory.

use std::path::Path;

use super::config::{EncoderConfig, Family, ProcessorConfig, TextConfig, TowersConfig, VisionConfig};
use crate::{
    attention::MAX_SCORES,
    error::Result,
    footprint::{Breakdown, Footprint, Part, Quantised, tables_bytes, tokenizer_file_bytes},
    loader::WeightFiles,
};

/// Tensors of a layer's width that are alive at once.
const STREAMS: u64 = 7;
/// Tensors of the feed-forward layer's inner width: before and after its activation, and half way.
const INNER: u64 = 4;
/// Scores of attention, and their softmax.
const SCORES: u64 = 2;
/// Numbers for each pixel of the picture as the model sees it: three channels, as they are and rearranged, and bytes.
const PIXEL: u64 = 8;
/// And for each of the picture as it comes: three bytes as decoded, as turned, and as it is resized; more of a picture with
/// 16 bits to a channel.
const GIVEN: u64 = 3;

/// The footprint of the model in `dir`, without loading it.
///
/// # Errors
///
/// As [`breakdown`].
pub fn footprint(dir: &Path) -> Result<Footprint> {
    Ok(breakdown(dir)?.footprint())
}

/// What the model in `dir` needs, without loading it. Whatever the picture's size, the model sees one of its own.
///
/// # Errors
///
/// As [`Clip::load`](super::Clip::load), as far as they concern configurations and the headers of weight files.
pub fn breakdown(dir: &Path) -> Result<Breakdown> {
    let config = TowersConfig::read(&dir.join("config.json"), Family::Clip)?;
    ProcessorConfig::read(dir, config.vision.image_size)?;
    let files = WeightFiles::find(dir)?;
    let is_text = |name: &str| name.starts_with("text_");
    let text = Part {
        name: "text encoder",
        parameters: files.parameters(&is_text)?,
        unread: 0,
        quantised: Quantised::default(),
        run_numbers: text_numbers(&config.text),
        run_numbers_per_pixel: GIVEN,
    };
    let vision = Part {
        name: "vision encoder",
        parameters: files.parameters(&|name| !is_text(name))?,
        unread: 0,
        quantised: Quantised::default(),
        run_numbers: vision_numbers(&config.vision),
        run_numbers_per_pixel: GIVEN,
    };
    // In the order in which they run.
    Ok(Breakdown { parts: vec![vision, text], tables_bytes: tables_bytes(tokenizer_file_bytes(dir)?) })
}

/// Numbers held while the text tower runs: texts run one after the other.
pub(crate) fn text_numbers(config: &TextConfig) -> u64 {
    let tokens = config.max_position_embeddings as u64;
    // The mask counts once more.
    encoder_numbers(&config.encoder, tokens) + tokens * tokens
}

/// Numbers held while the vision tower runs.
pub(crate) fn vision_numbers(config: &VisionConfig) -> u64 {
    let (pixels, side) = ((config.image_size as u64).pow(2), config.side() as u64);
    pixels * PIXEL + encoder_numbers(&config.encoder, side * side + 1)
}

fn encoder_numbers(config: &EncoderConfig, tokens: u64) -> u64 {
    let per_token = STREAMS * config.hidden_size as u64 + INNER * config.intermediate_size as u64;
    let scores = (config.num_attention_heads as u64 * tokens * tokens).min(MAX_SCORES as u64);
    tokens * per_token + SCORES * scores
}
