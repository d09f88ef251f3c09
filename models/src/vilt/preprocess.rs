//! Pictures to the tensor that ViLT reads (`ViltImageProcessorPil`).

use candle_core::{DType, Device, Tensor};

use super::config::ProcessorConfig;
use crate::{
    error::{Error, Result},
    picture::Picture,
    resample::{Filter, resize},
};

/// A picture ready for the model, padded on the right and at the bottom if it was batched with larger ones.
#[derive(Debug, Clone)]
pub struct Pixels {
    /// (1, 3, H, W).
    pub values: Tensor,
    /// Rows and columns, in pixels, that are of the picture; the mask of the library's batch is 1 there.
    pub valid: (usize, usize),
}

/// Resizes, rescales and normalises `picture`. Alone in its batch, it needs no padding.
///
/// # Errors
///
/// [`Error::Input`] if the picture is so narrow that nothing would be left of it, [`Error::Device`].
pub fn prepare(picture: &Picture, config: &ProcessorConfig, device: &Device, dtype: DType) -> Result<Pixels> {
    let resized;
    let picture = if config.do_resize {
        let (width, height) = target_size(picture.width(), picture.height(), config);
        if width == 0 || height == 0 {
            let (width, height) = (picture.width(), picture.height());
            return Err(Error::Input(format!("a picture of {width} x {height} pixels is too narrow to be looked at")));
        }
        resized = resize(picture, width, height, Filter::Bicubic)?;
        &resized
    } else {
        picture
    };
    let (rows, columns) = (picture.height() as usize, picture.width() as usize);
    let factor = if config.do_rescale { config.rescale_factor } else { 1.0 };
    let normalise = |value: f64, channel: usize| {
        if config.do_normalize { (value - config.image_mean[channel]) / config.image_std[channel] } else { value }
    };
    let values: Vec<f32> = (0..3)
        .flat_map(|c| picture.rgb().iter().skip(c).step_by(3).map(move |&v| normalise(f64::from(v) * factor, c) as f32))
        .collect();
    let values = Tensor::from_vec(values, (1, 3, rows, columns), device)?.to_dtype(dtype)?;
    Ok(Pixels { values, valid: (rows, columns) })
}

/// Width and height to which a picture is brought: the shorter side to `shortest_edge`, the longer in proportion but
/// at most 1333/800 of it, both rounded down to multiples of `size_divisor`.
fn target_size(width: u32, height: u32, config: &ProcessorConfig) -> (u32, u32) {
    let shorter = f64::from(config.shortest_edge());
    let longest = (1333.0 / 800.0 * shorter).floor();
    let scale = shorter / f64::from(width.min(height));
    let (mut new_width, mut new_height) =
        if height < width { (scale * f64::from(width), shorter) } else { (shorter, scale * f64::from(height)) };
    let longer = new_width.max(new_height);
    if longer > longest {
        let scale = longest / longer;
        (new_width, new_height) = (scale * new_width, scale * new_height);
    }
    let divisor = config.size_divisor;
    let side = |length: f64| (length + 0.5) as u32 / divisor * divisor;
    (side(new_width), side(new_height))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_are_bounded_multiples() {
        let config = ProcessorConfig::default();
        assert_eq!(target_size(640, 480, &config), (512, 384));
        assert_eq!(target_size(480, 640, &config), (384, 512));
        assert_eq!(target_size(100, 100, &config), (384, 384));
        assert_eq!(target_size(4000, 1000, &config), (608, 160));
        assert_eq!(target_size(100_000, 10, &config).1, 0);
    }

    #[test]
    fn a_hairline_is_refused() {
        let hairline = Picture::new(3000, 1, vec![0; 9000]).unwrap();
        let prepared = prepare(&hairline, &ProcessorConfig::default(), &Device::Cpu, DType::F32);
        assert!(matches!(prepared, Err(Error::Input(_))));
    }
}
