//! What a model is expected to need of memory, as told by its configuration and the headers of its weight files.

use std::path::Path;

use crate::error::{Error, Result};

/// An estimate, on the safe side: of numbers, whose size is that of the type computed in, and of bytes beside them.
///
/// It holds for pictures of up to four times the area that the model was made for. What attention needs grows with the
/// square of the area, and a straight line through the larger sizes would be far above the usual ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// Numbers in the weights.
    pub parameters: u64,
    /// Bytes beside the weights for as long as the model is loaded: tokenizer and tables.
    pub tables_bytes: u64,
    /// Numbers held while it runs, whatever the size of the pictures.
    pub run_numbers: u64,
    /// And for each pixel of the picture to make and of the pictures given.
    pub run_numbers_per_pixel: u64,
}

/// Bytes of what every model keeps beside weights and vocabulary: the tokenizer's caches, the names of tensors.
pub(crate) const TABLES_BYTES: u64 = 1 << 20;
/// Bytes in memory for each of a tokenizer's file: its vocabulary is kept in several tables.
const TOKENIZER: u64 = 6;

/// What the tokenizer in `dir` takes in memory.
pub(crate) fn tokenizer_bytes(dir: &Path) -> Result<u64> {
    let path = dir.join("tokenizer.json");
    Ok(TOKENIZER * std::fs::metadata(&path).map_err(|e| Error::missing(&path, e))?.len())
}
