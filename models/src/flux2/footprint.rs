//! What a FLUX.2 klein needs of memory.
//!
//! The text encoder, the transformer and the autoencoder are in memory together and run one after the other. The factors below count the tensors alive at the worst moment of a layer and are rounded up; the
//! engine's tests compare the result with what is measured.

use std::path::Path;

use super::{
    config::{TransformerConfig, VaeConfig},
    files::TransformerFiles,
    pipeline::{Defaults, defaults},
    text_encoder::TextEncoder,
};
use crate::{
    attention::MAX_SCORES,
    catalog::KLEIN_PARTS,
    error::Result,
    footprint::{Breakdown, Footprint, Part, Quantised, tables_bytes, tokenizer_file_bytes},
    loader::WeightFiles,
    qwen3,
};

/// Tensors of a layer's width that are alive at once: its input, the normalised one, queries, keys and values, as they
/// are projected and as they are rotated, and what comes out.
const STREAMS: f64 = 10.0;
/// Tensors of the feed-forward layer's inner width: gate, its activation, the other half, their product.
const INNER: f64 = 4.0;
/// Scores of attention, and their softmax.
const SCORES: f64 = 2.0;
/// Feature maps around a convolution of the autoencoder: input, normalised, activated, rearranged, output, and its sum. In
/// half precision norms are computed in full, which is as much: the input twice, and two maps of double size. What a GPU
/// unfolds of large pictures is less than what this is rounded up by.
const MAPS: f64 = 6.0;
/// Numbers for each pixel of the pictures themselves: three channels, as bytes and twice as numbers.
pub(crate) const PIXEL: f64 = 8.0;
/// What the tokenizer keeps for each thread that uses it, once it has.
pub(crate) const CACHES: f64 = 65_536.0;

/// Numbers for each of a quantised matrix while it is multiplied: in full precision, and in half.
const CONVERTED: f64 = 3.0;

/// Configurations of the parts, and what they say about requests.
pub(super) struct Configs {
    pub(super) text: qwen3::Config,
    pub(super) transformer: TransformerConfig,
    pub(super) vae: VaeConfig,
    pub(super) defaults: Defaults,
}

/// Parameters of a part: those that are loaded, and those that are not.
#[derive(Clone, Copy, Default)]
pub(super) struct Count {
    pub(super) read: u64,
    pub(super) unread: u64,
    /// Those among the loaded that stay quantised,
    pub(super) quantised: Quantised,
    /// and the numbers of the largest band that is brought into another type at once.
    pub(super) band: u64,
}

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
/// As [`defaults`], and for weight files without a usable header.
pub fn breakdown(dir: &Path) -> Result<Breakdown> {
    let [text_dir, transformer_dir, vae_dir] = KLEIN_PARTS.map(|part| dir.join(part));
    let configs = Configs {
        text: TextEncoder::config(&text_dir.join("config.json"))?,
        transformer: TransformerConfig::read(&transformer_dir.join("config.json"))?,
        vae: VaeConfig::read(&vae_dir.join("config.json"))?,
        defaults: defaults(dir)?,
    };
    let count = |dir: &Path, used: &dyn Fn(&str) -> bool| -> Result<Count> {
        let files = WeightFiles::find(dir)?;
        let (read, unread) = (files.parameters(used)?, files.parameters(&|name| !used(name))?);
        Ok(Count { read, unread, ..Count::default() })
    };
    let counts = [
        count(&text_dir, &|name| TextEncoder::uses(&configs.text, name))?,
        TransformerFiles::find(&transformer_dir)?.parameters()?,
        count(&vae_dir, &|_| true)?,
    ];
    Ok(configs.breakdown(counts, tokenizer_file_bytes(&dir.join("tokenizer"))?))
}

impl Configs {
    /// What the parts need, with so many parameters each.
    pub(super) fn breakdown(&self, counts: [Count; 3], tokenizer_file_bytes: u64) -> Breakdown {
        let names = ["text encoder", "transformer", "autoencoder"];
        let needs = [self.text_encoder(), self.transformer(), (0.0, autoencoder(&self.vae, self.largest()))];
        let part = |((name, count), (numbers, per_pixel)): ((_, Count), (f64, f64))| Part {
            name,
            parameters: count.read,
            unread: count.unread,
            quantised: count.quantised,
            run_numbers: (numbers + CACHES + CONVERTED * count.band as f64).ceil() as u64,
            run_numbers_per_pixel: (per_pixel + PIXEL).ceil() as u64,
        };
        let parts = names.into_iter().zip(counts).zip(needs).map(part).collect();
        Breakdown { parts, tables_bytes: tables_bytes(tokenizer_file_bytes) }
    }

    /// Prompts that run in one batch: with guidance both.
    fn batch(&self) -> f64 {
        if self.defaults.distilled { 1.0 } else { 2.0 }
    }

    fn tokens(&self) -> f64 {
        f64::from(self.defaults.text_tokens)
    }

    /// Pixels of the largest picture that the estimate is for.
    fn largest(&self) -> f64 {
        4.0 * f64::from(self.defaults.side).powi(2)
    }

    /// Numbers that the text encoder holds, whatever the size of the picture, and for each pixel.
    fn text_encoder(&self) -> (f64, f64) {
        let (config, tokens) = (&self.text, self.tokens());
        // The three hidden states that are kept come on top.
        let width = (config.num_attention_heads * config.head_dim).max(config.hidden_size) as f64;
        let per_token = (STREAMS + 3.0) * width + INNER * config.intermediate_size as f64;
        let scores = SCORES * config.num_attention_heads as f64 * tokens;
        (self.batch() * tokens * (per_token + scores), 0.0)
    }

    /// Likewise of the transformer.
    fn transformer(&self) -> (f64, f64) {
        let (config, tokens) = (&self.transformer, self.tokens());
        let per_token = self.batch() * (STREAMS * config.width() as f64 + INNER * config.mlp_width() as f64);
        let picture_tokens = 1.0 / f64::from(self.defaults.multiple).powi(2);
        let heads = self.batch() * config.num_attention_heads as f64;
        let (scores, scores_per_token) = scores(SCORES, heads, tokens, self.largest() * picture_tokens);
        (tokens * per_token + scores, picture_tokens * (per_token + scores_per_token))
    }
}

/// Numbers that an autoencoder holds for each pixel, of pictures of up to `largest` pixels.
pub(crate) fn autoencoder(config: &VaeConfig, largest: f64) -> f64 {
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
    // One head over all positions of the lowest level.
    let area = f64::from(config.scale()).powi(2);
    let (_, scores_per_position) = scores(SCORES, 1.0, 0.0, largest / area);
    maps.max(scores_per_position / area)
}

/// What attention holds of scores, over `fixed` tokens and up to `most` others: for the fixed ones alone, and for each of the others.
///
/// With `t` fixed tokens and `x` others there are (t + x)² = t² + (2t + x) x scores, up to where queries are taken in
/// slices; the line through the point where that begins lies above them all. `copies` of each score are alive at once.
pub(crate) fn scores(copies: f64, heads: f64, fixed: f64, most: f64) -> (f64, f64) {
    let whole = (MAX_SCORES as f64 / heads).sqrt();
    let (fixed, others) = (fixed.min(whole), most.min((whole - fixed).max(0.0)));
    let each = copies * heads;
    (each * fixed * fixed, if others > 0.0 { each * (2.0 * fixed + others) } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_nowhere_below_the_scores() {
        for (heads, fixed, most) in [(64.0, 512.0, 16_384.0), (8.0, 64.0, 256.0), (1.0, 0.0, 65_536.0), (1e6, 1e3, 9.0)]
        {
            let (at_zero, each) = scores(SCORES, heads, fixed, most);
            for part in 0..=100 {
                let others = most * f64::from(part) / 100.0;
                let held = SCORES * (heads * (fixed + others).powi(2)).min(MAX_SCORES as f64);
                let estimate = at_zero + each * others;
                assert!(estimate >= held * (1.0 - 1e-9), "{heads} heads, {fixed} and {others}: {estimate} < {held}");
            }
        }
    }
}
