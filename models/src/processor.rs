//! Image processors: where their configuration lies, and the step that all of them end with.

use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    error::{Error, Result},
    loader::{read_json, read_optional_json},
};

/// Bound on the length to which pictures are brought, in pixels.
pub const MAX_EDGE: u32 = 4096;

/// `preprocessor_config.json` in `dir` or else the section in `processor_config.json`, and which of the two it is.
///
/// # Errors
///
/// [`Error::Missing`] if there is neither, [`Error::Config`] if it is not what `T` expects.
pub fn read_processor<T: DeserializeOwned>(dir: &Path) -> Result<(PathBuf, T)> {
    #[derive(Deserialize)]
    struct Processor<T> {
        image_processor: T,
    }

    let path = dir.join("preprocessor_config.json");
    if let Some(config) = read_optional_json(&path)? {
        return Ok((path, config));
    }
    let path = dir.join("processor_config.json");
    let processor: Processor<T> = read_json(&path)?;
    Ok((path, processor.image_processor))
}

/// How values from 0 to 255 become those that a model reads: `(value * factor - mean) / std`, for red, green and blue.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scaling {
    /// What values are multiplied by; 1 if they are not rescaled.
    pub factor: f64,
    /// What is taken off.
    pub mean: [f64; 3],
    /// What the rest is divided by; nowhere 0.
    pub std: [f64; 3],
}

/// The keys of a processor's configuration that make a [`Scaling`].
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
pub(crate) struct ScalingKeys {
    do_rescale: bool,
    do_normalize: bool,
    rescale_factor: f64,
    image_mean: [f64; 3],
    image_std: [f64; 3],
}

impl ScalingKeys {
    /// The scaling they ask for; `path` is the file they are from.
    pub(crate) fn scaling(&self, path: &Path) -> Result<Scaling> {
        if self.image_std.contains(&0.0) {
            return Err(Error::config(path, "image_std must not be 0"));
        }
        let (mean, std) = if self.do_normalize { (self.image_mean, self.image_std) } else { ([0.0; 3], [1.0; 3]) };
        Ok(Scaling { factor: if self.do_rescale { self.rescale_factor } else { 1.0 }, mean, std })
    }
}

impl Default for ScalingKeys {
    /// What CLIP was trained with.
    fn default() -> Self {
        Self {
            do_rescale: true,
            do_normalize: true,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.481_454_66, 0.457_827_5, 0.408_210_73],
            image_std: [0.268_629_54, 0.261_302_58, 0.275_777_11],
        }
    }
}

impl Scaling {
    /// Values of a picture, red, green and blue of each pixel, as a tensor (1, 3, `rows`, `columns`) of f32.
    ///
    /// # Errors
    ///
    /// [`Error::Device`] if their number is another, or the device fails.
    pub fn tensor(
        &self,
        values: impl Iterator<Item = f64> + Clone,
        (rows, columns): (usize, usize),
        device: &Device,
    ) -> Result<Tensor> {
        let channel = |c: usize| {
            let scale = move |value: f64| ((value * self.factor - self.mean[c]) / self.std[c]) as f32;
            values.clone().skip(c).step_by(3).map(scale)
        };
        let planes: Vec<f32> = (0..3).flat_map(channel).collect();
        Ok(Tensor::from_vec(planes, (1, 3, rows, columns), device)?)
    }
}
