//! What an OWLv2 needs of memory.

use std::path::Path;

use super::{
    config::{self, ProcessorConfig},
    model::Network,
};
use crate::{
    clip::{text_numbers, vision_numbers},
    error::Result,
    footprint::{Breakdown, Footprint, Part, Quantised, tables_bytes, tokenizer_file_bytes},
    loader::WeightFiles,
};

/// Numbers for each pixel of the square, while a picture is brought to it: three sums, of four bytes each.
const SQUARE: u64 = 6;
/// Numbers for each pixel of the picture as it comes: three bytes as decoded and as turned; more of a picture with 16 bits
/// to a channel; and three sums, of four bytes each, once it is narrower.
const GIVEN: u64 = 9;

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
/// As [`Owlv2::load`](super::Owlv2::load), as far as they concern configurations and the headers of weight files.
pub fn breakdown(dir: &Path) -> Result<Breakdown> {
    let config = config::read(&dir.join("config.json"))?;
    ProcessorConfig::read(dir, config.vision.image_size)?;
    let files = WeightFiles::find(dir)?;
    let is_text = |name: &str| name.starts_with("owlv2.text_");
    let text = Part {
        name: "text encoder",
        parameters: files.parameters(&is_text)?,
        unread: 0,
        quantised: Quantised::default(),
        run_numbers: text_numbers(&config.text),
        run_numbers_per_pixel: GIVEN,
    };
    let vision = Part {
        name: "vision encoder and heads",
        parameters: files.parameters(&|name| !is_text(name) && Network::uses(name))?,
        unread: files.parameters(&|name| !Network::uses(name))?,
        // The heads' tensors are as wide as a layer's, and no more of them at a time.
        quantised: Quantised::default(),
        run_numbers: vision_numbers(&config.vision) + SQUARE * (config.vision.image_size as u64).pow(2),
        run_numbers_per_pixel: GIVEN,
    };
    // In the order in which they run.
    Ok(Breakdown { parts: vec![text, vision], tables_bytes: tables_bytes(tokenizer_file_bytes(dir)?) })
}
