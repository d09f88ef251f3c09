//! Pictures to the tensor that SAM2 reads (`Sam2ImageProcessor`).

use std::path::Path;

use candle_core::{DType, Device, Tensor};
use serde::Deserialize;

use crate::{
    error::{Error, Result},
    loader::{read_json, read_optional_json},
    picture::Picture,
    resample::{Filter, resize_as_torch},
};

/// Pillow's number for bilinear resizing.
const BILINEAR: u32 = 2;

/// `preprocessor_config.json` of a `Sam2ImageProcessor`, or its section in `processor_config.json`.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct ProcessorConfig {
    size: Size,
    resample: u32,
    do_resize: bool,
    pub do_rescale: bool,
    pub do_normalize: bool,
    pub rescale_factor: f64,
    pub image_mean: [f64; 3],
    pub image_std: [f64; 3],
}

#[derive(Debug, Clone, Copy, Deserialize)]
struct Size {
    height: u32,
    width: u32,
}

/// `processor_config.json` of a `Sam2Processor`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Processor {
    image_processor: Option<ProcessorConfig>,
    target_size: Option<u32>,
}

impl ProcessorConfig {
    /// Reads the configuration in `dir`, for a model that sees pictures of `side` x `side` pixels, and refuses what
    /// [`prepare`] does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(dir: &Path, side: usize) -> Result<Self> {
        let processor_path = dir.join("processor_config.json");
        let processor: Processor = read_optional_json(&processor_path)?.unwrap_or_default();
        let target = processor.target_size;
        let (path, config) = match processor.image_processor {
            Some(config) => (processor_path.clone(), config),
            None => {
                let path = dir.join("preprocessor_config.json");
                let config: Self = read_json(&path)?;
                (path, config)
            }
        };
        if target.is_some_and(|target| target as usize != side) {
            let reason = format!("target_size is {target:?}; only the model's {side} is supported");
            return Err(Error::config(&processor_path, reason));
        }
        let Size { width, height } = config.size;
        let refuse = |reason: String| Err(Error::config(&path, reason));
        if (width as usize, height as usize) != (side, side) {
            return refuse(format!("size is {width} x {height}; only the model's {side} x {side} is supported"));
        }
        if config.resample != BILINEAR {
            return refuse(format!("resample is {}; only {BILINEAR} (bilinear) is supported", config.resample));
        }
        if !config.do_resize {
            return refuse("do_resize is false; only true is supported".to_owned());
        }
        if config.image_std.contains(&0.0) {
            return refuse("image_std must not be 0".to_owned());
        }
        Ok(config)
    }
}

impl Default for ProcessorConfig {
    fn default() -> Self {
        Self {
            size: Size { height: 1024, width: 1024 },
            resample: BILINEAR,
            do_resize: true,
            do_rescale: true,
            do_normalize: true,
            rescale_factor: 1.0 / 255.0,
            image_mean: [0.485, 0.456, 0.406],
            image_std: [0.229, 0.224, 0.225],
        }
    }
}

/// Resizes, rescales and normalises `picture`: (1, 3, side, side), whatever the picture's proportions.
///
/// # Errors
///
/// [`Error::Device`].
pub fn prepare(picture: &Picture, config: &ProcessorConfig, device: &Device, dtype: DType) -> Result<Tensor> {
    let Size { width, height } = config.size;
    let resized = resize_as_torch(picture, width, height, Filter::Bilinear)?;
    let factor = if config.do_rescale { config.rescale_factor } else { 1.0 };
    let normalise = |value: f64, channel: usize| {
        if config.do_normalize { (value - config.image_mean[channel]) / config.image_std[channel] } else { value }
    };
    let values: Vec<f32> = (0..3)
        .flat_map(|c| resized.rgb().iter().skip(c).step_by(3).map(move |&v| normalise(f64::from(v) * factor, c) as f32))
        .collect();
    Ok(Tensor::from_vec(values, (1, 3, height as usize, width as usize), device)?.to_dtype(dtype)?)
}
