//! The JSON files of an OWLv2 directory, with transformers' defaults for missing keys.

use std::path::Path;

use serde::Deserialize;

use crate::{
    clip::config::{Family, TowersConfig},
    error::{Error, Result},
    processor::{Scaling, ScalingKeys, read_processor},
};

/// Reads `config.json` at `path` and refuses what [`Owlv2`](super::Owlv2) does not implement.
///
/// # Errors
///
/// [`Error::Missing`] or [`Error::Config`].
pub fn read(path: &Path) -> Result<TowersConfig> {
    let config = TowersConfig::read(path, Family::Owlv2)?;
    // Patches are brought to the text tower's width and compared with projected texts.
    let (width, projected) = (config.text.encoder.hidden_size, config.projection_dim);
    if width != projected {
        let reason = format!("projection_dim is {projected}; only the text tower's hidden_size, {width}, is supported");
        return Err(Error::config(path, reason));
    }
    if config.vision.side() < 2 {
        let (image, patch) = (config.vision.image_size, config.vision.patch_size);
        let reason = format!("patch_size is {patch} and image_size {image}; boxes need a grid of patches");
        return Err(Error::config(path, reason));
    }
    Ok(config)
}

/// `preprocessor_config.json` of an `Owlv2ImageProcessor`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessorConfig {
    /// Side of the square that a picture is brought to, in pixels.
    pub side: usize,
    /// What becomes of its values. Their factor comes before resizing, the rest after it.
    pub scaling: Scaling,
}

impl ProcessorConfig {
    /// Reads the configuration in `dir` for a model that looks at squares of `image_size` pixels a side, and refuses what
    /// [`prepare`](super::preprocess::prepare) does not implement. The filter, `resample`, says nothing: the library
    /// always takes the linear one.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(dir: &Path, image_size: usize) -> Result<Self> {
        let (path, file): (_, File) = read_processor(dir)?;
        for (key, value) in [("do_resize", file.do_resize), ("do_pad", file.do_pad)] {
            if value == Some(false) {
                return Err(Error::config(&path, format!("{key} is false; only true is supported")));
            }
        }
        let Size { height, width } = file.size.unwrap_or(Size { height: 960, width: 960 });
        if (height, width) != (image_size, image_size) {
            let reason = format!("size is {width} x {height}; the model looks at {image_size} x {image_size}");
            return Err(Error::config(&path, reason));
        }
        Ok(Self { side: image_size, scaling: file.scaling.scaling(&path)? })
    }
}

#[derive(Deserialize)]
struct File {
    size: Option<Size>,
    do_resize: Option<bool>,
    do_pad: Option<bool>,
    #[serde(flatten)]
    scaling: ScalingKeys,
}

#[derive(Deserialize)]
struct Size {
    height: usize,
    width: usize,
}
