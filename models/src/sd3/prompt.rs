//! A prompt's way through the tokenizers and text encoders.

use std::path::Path;

use candle_core::{DType, Device};

use super::{
    files::{Configs, TOWERS},
    text::{Text, Tower, encode},
};
use crate::{
    clip::config::TextConfig,
    error::{Error, Result},
    footprint::tokenizer_file_bytes,
    loader::{Progress, WeightFiles},
    tokenizer::{PaddedWords, Prompt},
    yield_point::YieldPoint,
};

/// Directories of the tokenizers.
const TOKENIZERS: [&str; 2] = ["tokenizer", "tokenizer_2"];

/// The tokenizers.
pub struct Words {
    towers: [PaddedWords; 2],
    /// Tokens of a prompt for each tower.
    length: usize,
}

impl Words {
    /// Reads those in `dir`. As in diffusers, the first one's `model_max_length` is the length for both.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`] or [`Error::Tokenizer`].
    pub(super) fn load(dir: &Path, towers: &[&TextConfig; 2]) -> Result<Self> {
        let [first, second] = TOKENIZERS.map(|name| dir.join(name));
        let path = first.join("tokenizer_config.json");
        let first = PaddedWords::load(&first, towers[0].vocab_size)?;
        let second = PaddedWords::load(&second, towers[1].vocab_size)?;
        let (length, most) =
            (first.max_length(), towers[0].max_position_embeddings.min(towers[1].max_position_embeddings));
        // A text has a begin and an end token at least.
        if !(2..=most).contains(&length) {
            let reason = format!("model_max_length is {length}; the text encoders read 2 to {most} tokens");
            return Err(Error::config(&path, reason));
        }
        Ok(Self { towers: [first, second], length })
    }

    /// Tokens of a prompt for each tower.
    #[must_use]
    pub fn length(&self) -> usize {
        self.length
    }

    /// Tokens that the transformer reads of a prompt.
    pub(super) fn tokens(&self) -> usize {
        self.length + 1
    }

    /// `prompt` as token ids, for each tower.
    ///
    /// # Errors
    ///
    /// [`Error::Tokenizer`] if it cannot be split.
    pub fn encode(&self, prompt: &str) -> Result<[Prompt; 2]> {
        let [first, second] = &self.towers;
        Ok([first.encode(prompt, self.length)?, second.encode(prompt, self.length)?])
    }
}

/// The size of the tokenizers' files in `dir`.
pub(super) fn file_bytes(dir: &Path) -> Result<u64> {
    TOKENIZERS.iter().map(|name| tokenizer_file_bytes(&dir.join(name))).sum()
}

/// The tokenizers and text encoders.
pub(super) struct Reader {
    pub(super) words: Words,
    towers: [Tower; 2],
    /// What the transformer reads.
    width: usize,
}

/// Weight files of the text encoders.
pub(super) struct TextFiles {
    towers: [WeightFiles; 2],
}

impl TextFiles {
    pub(super) fn find(configs: &Configs) -> Result<Self> {
        let [first, second] = TOWERS.map(|tower| WeightFiles::find(&configs.part(tower)));
        Ok(Self { towers: [first?, second?] })
    }

    pub(super) fn count(&self) -> u32 {
        self.towers.iter().map(WeightFiles::count).sum()
    }
}

impl Reader {
    pub(super) fn load(
        configs: &Configs,
        words: Words,
        files: &TextFiles,
        (device, dtype): (&Device, DType),
        progress: &Progress<'_>,
    ) -> Result<Self> {
        let tower = |i: usize| {
            let weights = files.towers[i].load(device, dtype, &|_| true, progress)?;
            files.towers[i].check(Tower::new(&configs.towers[i], &weights))
        };
        Ok(Self { words, towers: [tower(0)?, tower(1)?], width: configs.transformer.joint_attention_dim })
    }

    /// What the transformer reads of `prompt`, and how many of its tokens had no room.
    pub(super) fn read(&self, prompt: &str, observer: &dyn YieldPoint) -> Result<(Text, u32)> {
        let [first, second] = self.words.encode(prompt)?;
        let text = encode(&self.towers, [&first.ids, &second.ids], None, self.width, observer)?;
        Ok((text, first.truncated.max(second.truncated)))
    }
}
