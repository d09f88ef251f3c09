//! What a SAM2 needs of memory.

use std::path::Path;

use super::{
    config::{BlockShape, HieraConfig, Sam2Config},
    model::is_used,
    prompt::MAX_PROMPTS,
};
use crate::{
    attention::MAX_SCORES,
    error::Result,
    footprint::{Breakdown, Footprint, Part, Quantised, tables_bytes},
    loader::WeightFiles,
};

/// Numbers for each pixel of the picture as the model sees it: three channels, rearranged, and bytes.
const PIXEL: u64 = 8;
/// Tensors of a patch's width that are alive at once: before a block, normalised, cut into windows, and going around it.
const STREAMS: u64 = 6;
/// Tensors of queries, keys and values: as they are computed and rearranged by head.
const PROJECTED: u64 = 7;
/// Tensors of the feed-forward network's inner width: before and after its activation.
const INNER: u64 = 2;
/// Scores of attention, and their softmax.
const SCORES: u64 = 2;
/// Tensors of the decoder's widest feature map, an eighth of its width at sixteen times its embedding's area.
const ENLARGED: u64 = 6;
/// Numbers for each pixel of the picture as it comes: three bytes as decoded, as turned, and as it is resized.
const GIVEN: u64 = 3;
/// And for its masks: a byte for each, and two bytes to a number at least.
const MASKS: u64 = MAX_PROMPTS as u64 / 2;

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
/// As [`Sam2::load`](super::Sam2::load), as far as they concern configurations and the headers of weight files.
pub fn breakdown(dir: &Path) -> Result<Breakdown> {
    let config = Sam2Config::read(&dir.join("config.json"))?;
    let files = WeightFiles::find(dir)?;
    let of_vision = |name: &str| name.starts_with("vision_encoder.");
    let vision = Part {
        name: "vision encoder",
        parameters: files.parameters(&|name| is_used(name) && of_vision(name))?,
        unread: 0,
        quantised: Quantised::default(),
        run_numbers: vision_numbers(&config),
        run_numbers_per_pixel: GIVEN,
    };
    let decoder = Part {
        name: "mask decoder",
        parameters: files.parameters(&|name| is_used(name) && !of_vision(name))?,
        unread: files.parameters(&|name| !is_used(name))?,
        quantised: Quantised::default(),
        run_numbers: decoder_numbers(&config),
        run_numbers_per_pixel: GIVEN + MASKS,
    };
    Ok(Breakdown { parts: vec![vision, decoder], tables_bytes: tables_bytes(0) })
}

fn vision_numbers(config: &Sam2Config) -> u64 {
    let backbone = &config.vision.backbone;
    let (side, grid) = (config.side() as u64, backbone.grid() as u64);
    let unfolded = grid * grid * (3 * (backbone.patch().kernel as u64).pow(2) + 2 * backbone.hidden_size as u64);
    let blocks = backbone.blocks();
    let stages: u64 = blocks.iter().filter(|block| block.last).map(stage_numbers).sum();
    let most = blocks.iter().map(block_numbers).max().unwrap_or(0);
    side * side * PIXEL + stages + most.max(unfolded).max(neck_numbers(backbone, config.vision.fpn_hidden_size))
}

/// What is kept of a stage until the neck reads it.
fn stage_numbers(block: &BlockShape) -> u64 {
    let (before, width) = (block.width_before as u64, block.width as u64);
    let side = if before == width { block.side } else { block.side / 2 } as u64;
    side * side * width
}

fn block_numbers(block: &BlockShape) -> u64 {
    let (before, width, side) = (block.width_before as u64, block.width as u64, block.side as u64);
    let padded = block.window.map_or(side, |window| side.next_multiple_of(window as u64));
    let (patches, patches_after) = (padded * padded, if before == width { side * side } else { side * side / 4 });
    let keys = block.window.map_or(patches, |window| (window as u64).pow(2));
    let queries = if before == width { patches } else { patches / 4 };
    let scores = SCORES * (block.heads as u64 * queries * keys).min(MAX_SCORES as u64);
    let attention = patches * PROJECTED * width + scores;
    let feed_forward = patches_after * INNER * block.inner as u64;
    patches * STREAMS * before.max(width) + attention.max(feed_forward)
}

fn neck_numbers(backbone: &HieraConfig, width: usize) -> u64 {
    let grid = backbone.grid() as u64;
    // Each level has a quarter of the area of the one before; while one is made there are two of it.
    3 * grid * grid * width as u64
}

fn decoder_numbers(config: &Sam2Config) -> u64 {
    let (width, side) = (config.decoder.hidden_size as u64, (config.side() / config.prompt.patch_size) as u64);
    let patches = side * side;
    // The embedding is an eighth of the width at sixteen times the area when it is enlarged, and so twice as large as before.
    let features = patches * width * 4;
    let attention = patches * width * STREAMS;
    let masks = (config.decoder.num_multimask_outputs as u64 + 1) * patches * 16 * 2;
    features + attention.max(ENLARGED * 2 * patches * width) + masks
}
