//! What a ViLT needs of memory.

use std::path::Path;

use super::config::{ProcessorConfig, ViltConfig};
use crate::{
    error::Result,
    footprint::{Breakdown, Footprint, Part, Quantised, tables_bytes, tokenizer_file_bytes},
    loader::WeightFiles,
};

/// Numbers for each pixel of the picture as the model sees it: three channels, as they are and rearranged, and bytes.
const PIXEL: u64 = 8;
/// Tensors of a layer's width that are alive at once.
const STREAMS: u64 = 6;
/// Tensors of the feed-forward layer's inner width: before and after its activation.
const INNER: u64 = 2;
/// Scores of attention, and their softmax.
const SCORES: u64 = 2;
/// Numbers for each pixel of the picture as it comes: three bytes as decoded, as turned, and as it is resized; more of a
/// picture with 16 bits to a channel.
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
/// As [`Vqa::load`](super::Vqa::load), as far as they concern configurations and the headers of weight files.
pub fn breakdown(dir: &Path) -> Result<Breakdown> {
    let config = ViltConfig::read(&dir.join("config.json"))?;
    let edge = u64::from(ProcessorConfig::read(dir)?.shortest_edge());
    // The longer side is at most 1333/800 of the shorter.
    let pixels = edge * edge * 1333 / 800;
    let tokens = pixels / (config.patch_size as u64).pow(2) + 1 + config.max_position_embeddings as u64;
    let per_token = STREAMS * config.hidden_size as u64 + INNER * config.intermediate_size as u64;
    let scores = SCORES * config.num_attention_heads as u64 * tokens * tokens;
    let model = Part {
        name: "model",
        parameters: WeightFiles::find(dir)?.parameters(&|_| true)?,
        unread: 0,
        quantised: Quantised::default(),
        run_numbers: pixels * PIXEL + tokens * per_token + scores,
        run_numbers_per_pixel: GIVEN,
    };
    Ok(Breakdown { parts: vec![model], tables_bytes: tables_bytes(tokenizer_file_bytes(dir)?) })
}
