//! What a Stable Diffusion 3 needs of memory.

use std::path::Path;

use super::{
    config::TransformerConfig,
    files::{Configs, TOWERS, TRANSFORMER, VAE},
    prompt::file_bytes,
};
use crate::{
    clip::text_numbers,
    error::{Error, Result},
    flux2::footprint::{CACHES, PIXEL, autoencoder, scores},
    footprint::{Breakdown, Footprint, Part, Quantised, tables_bytes},
    loader::WeightFiles,
};

/// Tensors of the transformer's width that are alive at once: a token before and after attention, normalised, its queries, keys and
/// values, by itself and together with the other kind of tokens, and what comes out.
const STREAMS: f64 = 16.0;
/// Tensors of the feed-forward layer's inner width, which is four times as much: before and after its activation.
const INNER: f64 = 2.0 * 4.0;
/// Scores of attention, with what counts a token several times, and their softmax.
const SCORES: f64 = 3.0;
/// Tensors of what the transformer reads of prompts, as they are put together.
const READ: u64 = 4;
/// Prompts that run in one batch: with guidance the empty one, too.
const BATCH: f64 = 2.0;

/// The footprint of the model in `dir`, without loading it.
///
/// # Errors
///
/// As [`breakdown`].
pub fn footprint(dir: &Path) -> Result<Footprint> {
    Ok(breakdown(dir)?.footprint())
}

/// What the parts of the model in `dir` need, without loading it.
///
/// # Errors
///
/// As [`defaults`](super::defaults), and for weight files without a usable header.
pub fn breakdown(dir: &Path) -> Result<Breakdown> {
    let (configs, words) = Configs::read(dir)?;
    let largest = 4.0 * f64::from(configs.defaults.side).powi(2);
    let tokens = words.tokens() as f64;
    let part = |name, directory: &str, (numbers, per_pixel): (f64, f64)| {
        Ok::<_, Error>(Part {
            name,
            parameters: WeightFiles::find(&configs.part(directory))?.parameters(&|_| true)?,
            unread: 0,
            quantised: Quantised::default(),
            run_numbers: (numbers + CACHES).ceil() as u64,
            run_numbers_per_pixel: (per_pixel + PIXEL).ceil() as u64,
        })
    };
    let read = BATCH * READ as f64 * tokens * configs.transformer.joint_attention_dim as f64;
    let tower = |i: usize| (text_numbers(&configs.towers[i].0) as f64 + read, 0.0);
    let parts = vec![
        part("text encoder", TOWERS[0], tower(0))?,
        part("second text encoder", TOWERS[1], tower(1))?,
        part("transformer", TRANSFORMER, transformer(&configs.transformer, configs.cell(), tokens, largest))?,
        part("autoencoder", VAE, (0.0, autoencoder(&configs.vae.blocks, largest)))?,
    ];
    Ok(Breakdown { parts, tables_bytes: tables_bytes(file_bytes(dir)?) })
}

/// Numbers that the transformer holds beside so many text tokens, whatever the size of the picture, and for each pixel.
fn transformer(config: &TransformerConfig, cell: u32, tokens: f64, largest: f64) -> (f64, f64) {
    let per_token = BATCH * (STREAMS + INNER) * config.width() as f64;
    let picture_tokens = 1.0 / (f64::from(cell) * config.patch_size as f64).powi(2);
    let heads = BATCH * config.num_attention_heads as f64;
    let (scores, scores_per_token) = scores(SCORES, heads, tokens, largest * picture_tokens);
    (tokens * per_token + scores, picture_tokens * (per_token + scores_per_token))
}
