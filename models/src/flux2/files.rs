//! The files of a transformer's weights: safetensors, or one GGUF file of which matrices stay quantised.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};

use super::{config::TransformerConfig, footprint::Count, names::renamed, transformer::Transformer};
use crate::{
    error::{Error, Result},
    footprint::Quantised,
    linear::MAX_BAND,
    loader::{Progress, WeightFiles},
    quantised::{QuantisedFile, read_header},
};

/// Files of a transformer.
#[derive(Debug, Clone)]
pub enum TransformerFiles {
    /// As diffusers writes them.
    Tensors(WeightFiles),
    /// In GGUF, with the original checkpoint's names or with diffusers'.
    Gguf(PathBuf),
}

impl TransformerFiles {
    /// Looks into `dir`, for safetensors first.
    ///
    /// # Errors
    ///
    /// As [`WeightFiles::find`], and [`Error::Config`] if there are several GGUF files.
    pub fn find(dir: &Path) -> Result<Self> {
        let missing = match WeightFiles::find(dir) {
            Err(missing @ Error::Missing { .. }) => missing,
            found => return found.map(Self::Tensors),
        };
        let listing = std::fs::read_dir(dir).map_err(|e| Error::missing(dir, e))?;
        let mut files = listing
            .map(|item| Ok(item?.path()))
            .filter(|path| path.as_ref().is_ok_and(|path| path.extension().is_some_and(|end| end == "gguf")))
            .collect::<std::io::Result<Vec<_>>>()
            .map_err(|e| Error::missing(dir, e))?;
        match (files.pop(), files.is_empty()) {
            (Some(file), true) => Ok(Self::Gguf(file)),
            (None, _) => Err(missing),
            (Some(_), false) => {
                let reason = "holds several GGUF files, and only one can be the transformer: take the others away";
                Err(Error::config(dir, reason))
            }
        }
    }

    /// Number of files.
    #[must_use]
    pub fn count(&self) -> u32 {
        match self {
            Self::Tensors(files) => files.count(),
            Self::Gguf(_) => 1,
        }
    }

    /// Their size on disk.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if one is not there.
    pub fn bytes(&self) -> Result<u64> {
        match self {
            Self::Tensors(files) => files.bytes(),
            Self::Gguf(path) => Ok(std::fs::metadata(path).map_err(|e| Error::missing(path, e))?.len()),
        }
    }

    /// What they hold, by their headers.
    pub(super) fn parameters(&self) -> Result<Count> {
        match self {
            Self::Tensors(files) => Ok(Count { read: files.parameters(&|_| true)?, ..Count::default() }),
            Self::Gguf(path) => {
                let mut count = Count::default();
                for tensor in read_header(path)?.tensors.values() {
                    let numbers = tensor.numbers();
                    count.read = count.read.saturating_add(numbers);
                    if tensor.stays_quantised() {
                        let Quantised { parameters, bytes } = &mut count.quantised;
                        *parameters = parameters.saturating_add(numbers);
                        *bytes = bytes.saturating_add(tensor.bytes());
                        count.band = count.band.max(numbers.min(MAX_BAND as u64));
                    }
                }
                Ok(count)
            }
        }
    }

    /// Loads the transformer.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] and [`Error::Weights`] for unusable files, [`Error::Interrupted`], [`Error::Device`].
    pub fn load(
        &self,
        config: &TransformerConfig,
        device: &Device,
        dtype: DType,
        progress: &Progress<'_>,
    ) -> Result<Transformer> {
        match self {
            Self::Tensors(files) => {
                let weights = files.load(device, dtype, &|_| true, progress)?;
                files.check(Transformer::new(config, weights))
            }
            Self::Gguf(path) => {
                let file = QuantisedFile::open(path, device, dtype, renamed, progress)?;
                file.outcome(Transformer::new(config, &file))
            }
        }
    }
}
