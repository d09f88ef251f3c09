//! What a model is expected to need of memory, as told by its configuration and the headers of its weight files.

use std::path::Path;

use crate::{
    error::{Error, Result},
    tokenizer::is_of_byte_pairs,
};

/// An estimate, on the safe side: of numbers, whose size is that of the type computed in, and of bytes beside them.
///
/// It holds for pictures of up to four times the area that the model was made for. What attention needs grows with the
/// square of the area, and a straight line through the larger sizes would be far above the usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Numbers in the weights, but for those that stay quantised.
    pub parameters: u64,
    /// Bytes of the weights that stay quantised, whatever the type computed in.
    pub quantised_bytes: u64,
    /// Bytes beside the weights for as long as the model is loaded: tokenizer and tables.
    pub tables_bytes: u64,
    /// Numbers held while it runs, whatever the size of the pictures.
    pub run_numbers: u64,
    /// And for each pixel of the picture to make and of the pictures given.
    pub run_numbers_per_pixel: u64,
}

/// What the parts of a model need. They are in memory together and run one after the other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breakdown {
    /// The parts, in the order in which they run.
    pub parts: Vec<Part>,
    /// As in [`Footprint`].
    pub tables_bytes: u64,
}

/// A part of a model, or a model that has no parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// What it is called, for people.
    pub name: &'static str,
    /// Numbers in those of its weights that are loaded.
    pub parameters: u64,
    /// Those among them that stay quantised in memory.
    pub quantised: Quantised,
    /// Numbers in the weights that belong to it and that no picture or answer needs, so that they are never read.
    pub unread: u64,
    /// Numbers held while it runs, as in [`Footprint`].
    pub run_numbers: u64,
    /// And for each pixel, as in [`Footprint`].
    pub run_numbers_per_pixel: u64,
}

/// Weights that are kept as they are stored, in blocks of few bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quantised {
    /// Numbers in them.
    pub parameters: u64,
    /// Bytes that they take.
    pub bytes: u64,
}

impl Part {
    /// Bytes of the weights in memory, where a number takes so many.
    #[must_use]
    pub fn weights_bytes(&self, number_bytes: u64) -> u64 {
        self.dense() * number_bytes + self.quantised.bytes
    }

    fn dense(&self) -> u64 {
        self.parameters - self.quantised.parameters
    }
}

impl Breakdown {
    /// What the model needs as a whole: all weights, and while it runs the most that any part does.
    #[must_use]
    pub fn footprint(&self) -> Footprint {
        let most = |numbers: fn(&Part) -> u64| self.parts.iter().map(numbers).max().unwrap_or(0);
        Footprint {
            parameters: self.parts.iter().map(Part::dense).sum(),
            quantised_bytes: self.parts.iter().map(|part| part.quantised.bytes).sum(),
            tables_bytes: self.tables_bytes,
            run_numbers: most(|part| part.run_numbers),
            run_numbers_per_pixel: most(|part| part.run_numbers_per_pixel),
        }
    }
}

/// Bytes of what every model keeps beside weights and vocabulary: the tokenizer's caches, the names of tensors.
const TABLES_BYTES: u64 = 1 << 20;
/// Bytes in memory for each of a tokenizer's file: its vocabulary is kept in several tables.
const TOKENIZER: u64 = 6;

/// What a model with this tokenizer keeps beside its weights.
pub(crate) fn tables_bytes(tokenizer_file_bytes: u64) -> u64 {
    TABLES_BYTES + TOKENIZER * tokenizer_file_bytes
}

/// The size of the tokenizer's file in `dir`, or what it would about be of a vocabulary and merges.
pub(crate) fn tokenizer_file_bytes(dir: &Path) -> Result<u64> {
    let size = |name: &str| {
        let path = dir.join(name);
        Ok(std::fs::metadata(&path).map_err(|e| Error::missing(&path, e))?.len())
    };
    if is_of_byte_pairs(dir) { Ok(2 * (size("vocab.json")? + size("merges.txt")?)) } else { size("tokenizer.json") }
}
