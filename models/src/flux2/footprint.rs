//! What a FLUX.2 klein needs of memory.
//!
//! The text encoder, the transformer and the autoencoder run one after the other, so what is needed is the most that any
//! of them holds at once. The factors below count the tensors alive at the worst moment of a layer and are rounded up; the
//! engine's tests compare the result with what is measured.

use std::path::Path;

use super::{
    config::{TextEncoderConfig, TransformerConfig, VaeConfig},
    pipeline::defaults,
    text_encoder::TextEncoder,
};
use crate::{
    attention::MAX_SCORES,
    catalog::KLEIN_PARTS,
    error::Result,
    footprint::{Footprint, TABLES_BYTES, tokenizer_bytes},
    loader::WeightFiles,
};

/// With guidance both prompts run in one batch.
const BATCH: f64 = 2.0;
/// Tensors of a layer's width that are alive at once: its input, the normalised one, queries, keys and values, as they
/// are projected and as they are rotated, and what comes out.
const STREAMS: f64 = 10.0;
/// Tensors of the feed-forward layer's inner width: gate, its activation, the other half, their product.
const INNER: f64 = 4.0;
/// Scores of attention, and their softmax.
const SCORES: f64 = 2.0;
/// Feature maps around a convolution of the autoencoder: input, normalised, activated, rearranged, output, and its sum.
const MAPS: f64 = 6.0;
/// Numbers for each pixel of the pictures themselves: three channels, as bytes and twice as numbers.
const PIXEL: f64 = 8.0;
/// What the tokenizer keeps for each thread that uses it, once it has.
const CACHES: f64 = 65_536.0;

/// The footprint of the model in `dir`, without loading it.
///
/// # Errors
///
/// As [`defaults`], and for weight files without a usable header.
pub fn footprint(dir: &Path) -> Result<Footprint> {
    let [text_dir, transformer_dir, vae_dir] = KLEIN_PARTS.map(|part| dir.join(part));
    let text = TextEncoderConfig::read(&text_dir.join("config.json"))?;
    let transformer = TransformerConfig::read(&transformer_dir.join("config.json"))?;
    let vae = VaeConfig::read(&vae_dir.join("config.json"))?;
    let defaults = defaults(dir)?;
    let parameters = WeightFiles::find(&text_dir)?.parameters(&|name| TextEncoder::uses(&text, name))?
        + WeightFiles::find(&transformer_dir)?.parameters(&|_| true)?
        + WeightFiles::find(&vae_dir)?.parameters(&|_| true)?;

    let tokens = f64::from(defaults.text_tokens);
    let largest = 4.0 * f64::from(defaults.side).powi(2);
    let (encoding, width, heads) =
        (encoder_numbers(&text, tokens), transformer.width() as f64, transformer.num_attention_heads as f64);
    let per_token = BATCH * (STREAMS * width + INNER * transformer.mlp_width() as f64);
    let per_score = BATCH * SCORES * heads;
    // With `t` tokens of text and `x` of picture the scores are (t + x)² = t² + (2t + x) x.
    let picture_tokens = 1.0 / f64::from(defaults.multiple).powi(2);
    let per_picture_token = per_token + per_score * (2.0 * tokens + largest * picture_tokens);
    let at_once = tokens * per_token + per_score * tokens * tokens;
    let per_pixel = vae_numbers(&vae, largest).max(picture_tokens * per_picture_token) + PIXEL;
    Ok(Footprint {
        parameters,
        tables_bytes: TABLES_BYTES + tokenizer_bytes(&dir.join("tokenizer"))?,
        run_numbers: (encoding.max(at_once) + CACHES).ceil() as u64,
        run_numbers_per_pixel: per_pixel.ceil() as u64,
    })
}

fn encoder_numbers(config: &TextEncoderConfig, tokens: f64) -> f64 {
    // The three hidden states that are kept come on top.
    let width = (config.num_attention_heads * config.head_dim).max(config.hidden_size) as f64;
    let per_token = (STREAMS + 3.0) * width + INNER * config.intermediate_size as f64;
    BATCH * tokens * (per_token + SCORES * config.num_attention_heads as f64 * tokens)
}

/// Numbers for each pixel, in pictures of up to `largest` pixels.
fn vae_numbers(config: &VaeConfig, largest: f64) -> f64 {
    // A level works on its own channels and, where it doubles the size, on those of the level below.
    let level = |channels: &[usize], i: usize| {
        let here = channels[i..].iter().take(2).copied().max().unwrap_or(0) as f64;
        here / 4f64.powi(i as i32)
    };
    let channels = [config.block_out_channels.as_slice(), config.decoder_channels()];
    let maps = channels.into_iter().flat_map(|all| (0..all.len()).map(move |i| level(all, i)));
    let maps = MAPS * maps.fold(0.0, f64::max);
    if !config.mid_block_add_attention {
        return maps;
    }
    // One head over all positions of the lowest level, in slices if there are too many.
    let area = f64::from(config.scale()).powi(2);
    let positions = largest / area;
    maps.max(SCORES * (positions * positions).min(MAX_SCORES as f64) / largest)
}
