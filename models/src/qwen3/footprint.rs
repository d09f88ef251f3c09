//! What a Qwen3 needs of memory.

use std::path::Path;

use super::{
    config::Config,
    model::{MAX_PROMPT_TOKENS, READ_AT_ONCE, context, uses},
};
use crate::{
    error::Result,
    footprint::{Breakdown, Footprint, Part, Quantised, tables_bytes, tokenizer_file_bytes},
    loader::WeightFiles,
    tokenizer::ChatTokenizer,
};

/// Tensors of a layer's width that are alive at once: its input, the normalised one, queries, keys and values, as they
/// are projected and as they are turned, and what comes out.
const STREAMS: usize = 10;
/// Tensors of the feed-forward layer's inner width: gate, its activation, the other half, their product.
const INNER: usize = 4;
/// Scores of attention, masked, and their softmax.
const SCORES: usize = 3;
/// The mask, as it is made and as it is used: two of full precision.
const MASKS: usize = 3;
/// Cosines and sines of a position take half of a head each; while they are made as much again in full precision, angles too.
const ROPE: usize = 5;
/// Logits: as they come, and in full precision on the device and beside it.
const LOGITS: usize = 5;
/// What the tokenizer keeps for each thread that uses it, once it has.
const CACHES: usize = 65_536;

/// The footprint of the model in `dir`, without loading it.
///
/// # Errors
///
/// As [`breakdown`].
pub fn footprint(dir: &Path) -> Result<Footprint> {
    Ok(breakdown(dir)?.footprint())
}

/// What the model in `dir` needs, without loading it: with the longest question and the longest answer, for keys and values
/// have room for them whatever is asked.
///
/// # Errors
///
/// As [`Qwen3::load`](super::Qwen3::load), as far as they concern configurations, the tokenizer and the headers of weight files.
pub fn breakdown(dir: &Path) -> Result<Breakdown> {
    let config = Config::read(&dir.join("config.json"))?;
    config.ends(dir)?;
    ChatTokenizer::load(dir, config.vocab_size, MAX_PROMPT_TOKENS)?;
    let files = WeightFiles::find(dir)?;
    let model = Part {
        name: "language model",
        parameters: files.parameters(&|name| uses(&config, name))?,
        unread: files.parameters(&|name| !uses(&config, name))?,
        quantised: Quantised::default(),
        run_numbers: run_numbers(&config) as u64,
        run_numbers_per_pixel: 0,
    };
    Ok(Breakdown { parts: vec![model], tables_bytes: tables_bytes(tokenizer_file_bytes(dir)?) })
}

fn run_numbers(config: &Config) -> usize {
    let (tokens, most) = (READ_AT_ONCE, context(config));
    let past = 2 * config.num_hidden_layers * config.key_value_heads() * config.head_dim * most;
    let width = (config.num_attention_heads * config.head_dim).max(config.hidden_size);
    let layer = tokens * (STREAMS * width + INNER * config.intermediate_size);
    let heads = config.num_attention_heads;
    let masks = MASKS * heads / config.key_value_heads();
    let attention = tokens * most * (SCORES * heads + masks);
    past + layer + attention + ROPE * most * config.head_dim + LOGITS * config.vocab_size + CACHES
}
