//! Pictures to the tensor that CLIP reads (`CLIPImageProcessorPil`).

use candle_core::{DType, Device, Tensor};

use super::config::{ProcessorConfig, Resize};
use crate::{
    error::{Error, Result},
    picture::Picture,
    resample::{Filter, Part, resize_part},
};

/// The largest picture that is looked at, in pixels.
pub const MAX_PIXELS: u64 = 2048 * 2048;

/// Refuses a picture that is too large.
///
/// # Errors
///
/// [`Error::Input`].
pub fn check_size(picture: &Picture) -> Result<()> {
    let (width, height) = (picture.width(), picture.height());
    if u64::from(width) * u64::from(height) > MAX_PIXELS {
        let reason = format!("the picture has {width} x {height} pixels; at most {MAX_PIXELS} in all are looked at");
        return Err(Error::Input(reason));
    }
    Ok(())
}

/// Resizes `picture`, cuts out its middle, rescales and normalises it: (1, 3, S, S).
///
/// Only what is cut out is computed: resized, a picture that is one pixel wide would be millions of pixels high.
///
/// # Errors
///
/// [`Error::Input`] if the picture is too large, [`Error::Device`].
pub fn prepare(picture: &Picture, config: &ProcessorConfig, device: &Device, dtype: DType) -> Result<Tensor> {
    check_size(picture)?;
    let (width, height) = target_size(picture.width(), picture.height(), config.resize);
    let side = config.crop as usize;
    let middle = Part { left: (width - side) / 2, top: (height - side) / 2, width: side, height: side };
    let seen = resize_part(picture, (width, height), middle, Filter::Bicubic)?;
    let values = seen.rgb().iter().map(|&value| f64::from(value));
    Ok(config.scaling.tensor(values, (side, side), device)?.to_dtype(dtype)?)
}

/// Width and height of the whole picture, resized.
fn target_size(width: u32, height: u32, resize: Resize) -> (usize, usize) {
    match resize {
        Resize::To(height, width) => (width as usize, height as usize),
        Resize::Shortest(edge) => {
            let longer = |longer: u32, shorter: u32| {
                // At most 2^12 times 2^32.
                usize::try_from(u64::from(edge) * u64::from(longer) / u64::from(shorter)).unwrap_or(usize::MAX)
            };
            let edge = edge as usize;
            if width <= height { (edge, longer(height, width)) } else { (longer(width, height), edge) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::Scaling;

    fn config() -> ProcessorConfig {
        let scaling = Scaling { factor: 1.0, mean: [0.0; 3], std: [1.0; 3] };
        ProcessorConfig { resize: Resize::Shortest(224), crop: 224, scaling }
    }

    #[test]
    fn the_shorter_side_decides() {
        assert_eq!(target_size(640, 480, Resize::Shortest(224)), (298, 224));
        assert_eq!(target_size(480, 640, Resize::Shortest(224)), (224, 298));
        assert_eq!(target_size(480, 640, Resize::To(20, 30)), (30, 20));
        assert_eq!(target_size(1, 4_194_304, Resize::Shortest(224)), (224, 939_524_096));
    }

    #[test]
    fn a_hairline_takes_no_more_than_any_other_picture() {
        for (width, height) in [(1, 4_194_304), (4_194_304, 1)] {
            let hairline = Picture::new(width, height, vec![7; 3 * 4_194_304]).unwrap();
            let seen = prepare(&hairline, &config(), &Device::Cpu, DType::F32).unwrap();
            assert_eq!(seen.dims(), [1, 3, 224, 224]);
            assert!(seen.flatten_all().unwrap().to_vec1::<f32>().unwrap().iter().all(|&v| v == 7.0));
        }
    }

    #[test]
    fn too_large_a_picture_is_refused() {
        let large = Picture::new(2048, 2049, vec![0; 2048 * 2049 * 3]).unwrap();
        assert!(matches!(prepare(&large, &config(), &Device::Cpu, DType::F32), Err(Error::Input(_))));
    }
}
