//! Reference pictures as the pipeline prepares them (`Flux2ImageProcessor`).

use candle_core::{DType, Device, Tensor};

use crate::{
    error::{Error, Result},
    picture::Picture,
    resample::{Filter, resize},
};

/// Shortest side of a reference, in pixels.
pub const MIN_SIDE: u32 = 64;
/// Longest ratio between a reference's sides.
pub const MAX_ASPECT: f64 = 8.0;
/// Larger references are shrunk to this area, in pixels.
pub const MAX_AREA: u32 = 1024 * 1024;

/// The part of `picture` that the model sees: shrunk to a megapixel if larger, then cut around the centre to sides
/// that are multiples of `multiple`.
///
/// # Errors
///
/// [`Error::Input`] if the picture is too small or too narrow.
pub fn prepare(picture: &Picture, multiple: u32) -> Result<Picture> {
    let (width, height) = (picture.width(), picture.height());
    let smallest = MIN_SIDE.max(multiple);
    if width < smallest || height < smallest {
        return Err(Error::Input(format!(
            "a reference picture needs at least {smallest} pixels along each side; this one has {width} x {height}"
        )));
    }
    let (w, h) = (f64::from(width), f64::from(height));
    if (w / h).max(h / w) > MAX_ASPECT {
        return Err(Error::Input(format!(
            "a reference picture of {width} x {height} pixels is too narrow; the sides may differ {MAX_ASPECT} times"
        )));
    }
    if u64::from(width) * u64::from(height) <= u64::from(MAX_AREA) {
        return crop(picture, width / multiple * multiple, height / multiple * multiple);
    }
    let scale = (f64::from(MAX_AREA) / (w * h)).sqrt();
    let (width, height) = ((w * scale) as u32, (h * scale) as u32);
    let shrunk = resize(picture, width, height, Filter::Lanczos)?;
    crop(&shrunk, width / multiple * multiple, height / multiple * multiple)
}

/// A picture as (1, 3, H, W) in −1..1.
///
/// # Errors
///
/// [`Error::Device`].
pub fn pixels(picture: &Picture, device: &Device, dtype: DType) -> Result<Tensor> {
    let values: Vec<f32> = picture.rgb().iter().map(|&v| f32::from(v) / 255.0 * 2.0 - 1.0).collect();
    let shape = (1, picture.height() as usize, picture.width() as usize, 3);
    let pixels = Tensor::from_vec(values, shape, &Device::Cpu)?.permute((0, 3, 1, 2))?.contiguous()?;
    Ok(pixels.to_device(device)?.to_dtype(dtype)?)
}

fn crop(picture: &Picture, width: u32, height: u32) -> Result<Picture> {
    let (left, top) = ((picture.width() - width) / 2, (picture.height() - height) / 2);
    let row = |y: u32| {
        let start = ((top + y) as usize * picture.width() as usize + left as usize) * 3;
        &picture.rgb()[start..start + width as usize * 3]
    };
    Picture::new(width, height, (0..height).flat_map(row).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cut_around_the_centre() {
        let rgb = (0..70u8).flat_map(|y| (0..81u8).flat_map(move |x| [x, y, 0])).collect();
        let cut = prepare(&Picture::new(81, 70, rgb).unwrap(), 16).unwrap();
        assert_eq!((cut.width(), cut.height()), (80, 64));
        assert_eq!(cut.rgb()[..3], [0, 3, 0]);
        assert_eq!(cut.rgb()[cut.rgb().len() - 3..], [79, 66, 0]);
    }

    #[test]
    fn large_pictures_are_shrunk_and_unusable_ones_refused() {
        let of = |w: u32, h: u32| Picture::new(w, h, vec![7; (w * h * 3) as usize]).unwrap();
        let shrunk = prepare(&of(2048, 1024), 16).unwrap();
        assert_eq!((shrunk.width(), shrunk.height()), (1440, 720));
        assert!(prepare(&of(63, 100), 16).is_err());
        assert!(prepare(&of(64, 513), 16).is_err());
        assert!(prepare(&of(64, 512), 16).is_ok());
    }
}
