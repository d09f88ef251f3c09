//! Pictures as the models see them: 8 bits per channel, red, green, blue.

use std::io::Cursor;

use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits};

use crate::error::{Error, Result};

/// An RGB picture, 8 bits per channel, row by row from the top left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    width: u32,
    height: u32,
    rgb: Vec<u8>,
}

impl Picture {
    /// A picture of `width` x `height` pixels from `3 * width * height` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if a side is zero or the length does not fit.
    pub fn new(width: u32, height: u32, rgb: Vec<u8>) -> Result<Self> {
        let expected = u64::from(width) * u64::from(height) * 3;
        if expected == 0 {
            return Err(Error::Input(format!("a picture of {width} x {height} pixels is empty")));
        }
        if rgb.len() as u64 != expected {
            return Err(Error::Input(format!(
                "a picture of {width} x {height} pixels takes {expected} bytes, not {}",
                rgb.len()
            )));
        }
        Ok(Self { width, height, rgb })
    }

    /// Pixels per row.
    #[must_use]
    pub fn width(&self) -> u32 {
        self.width
    }

    /// Rows.
    #[must_use]
    pub fn height(&self) -> u32 {
        self.height
    }

    /// The bytes: red, green, blue of each pixel, row by row from the top left.
    #[must_use]
    pub fn rgb(&self) -> &[u8] {
        &self.rgb
    }

    /// Reads a PNG, JPEG or WebP file of at most `max_pixels` pixels.
    ///
    /// Transparency is laid over white, and the orientation noted in the file applied. The size is checked against
    /// the header before memory for the pixels is taken.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the file is of another format, damaged or too large.
    pub fn decode(bytes: &[u8], max_pixels: u64) -> Result<Self> {
        let damaged = |e: image::ImageError| Error::Input(format!("the picture cannot be read: {e}"));
        let format = image::guess_format(bytes).ok();
        let Some(format @ (ImageFormat::Png | ImageFormat::Jpeg | ImageFormat::WebP)) = format else {
            return Err(Error::Input("the picture is not a PNG, JPEG or WebP file".to_owned()));
        };
        let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
        let mut limits = Limits::no_limits();
        // Twice sixteen bits in four channels: the pixels themselves and as much again for the decoder's own buffers.
        limits.max_alloc = Some(max_pixels.saturating_mul(16).saturating_add(1 << 20));
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(damaged)?;
        let (width, height) = decoder.dimensions();
        if u64::from(width) * u64::from(height) > max_pixels {
            return Err(Error::Input(format!(
                "the picture has {width} x {height} pixels; at most {max_pixels} in all are accepted"
            )));
        }
        let orientation = decoder.orientation().map_err(damaged)?;
        let mut decoded = DynamicImage::from_decoder(decoder).map_err(damaged)?;
        decoded.apply_orientation(orientation);

        let (width, height) = (decoded.width(), decoded.height());
        let rgb = if decoded.color().has_alpha() {
            decoded.into_rgba8().pixels().flat_map(|p| over_white(p.0)).collect()
        } else {
            decoded.into_rgb8().into_raw()
        };
        Self::new(width, height, rgb)
    }
}

fn over_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    let alpha = u32::from(alpha);
    [red, green, blue].map(|c| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn png(image: &DynamicImage) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, ImageFormat::Png).unwrap();
        bytes.into_inner()
    }

    fn refusal(bytes: &[u8], max_pixels: u64) -> String {
        match Picture::decode(bytes, max_pixels) {
            Err(Error::Input(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn one_pixel() {
        let bytes = png(&image::RgbImage::from_pixel(1, 1, image::Rgb([1, 2, 3])).into());
        assert_eq!(Picture::decode(&bytes, 1).unwrap(), Picture::new(1, 1, vec![1, 2, 3]).unwrap());
    }

    #[test]
    fn transparency_is_laid_over_white() {
        let mut image = image::RgbaImage::from_pixel(3, 1, image::Rgba([200, 0, 100, 255]));
        image.put_pixel(1, 0, image::Rgba([200, 0, 100, 0]));
        image.put_pixel(2, 0, image::Rgba([200, 0, 100, 51]));
        let picture = Picture::decode(&png(&image.into()), 3).unwrap();
        assert_eq!(picture.rgb(), [200, 0, 100, 255, 255, 255, 244, 204, 224]);
    }

    #[test]
    fn jpeg_and_webp_are_read_and_other_formats_refused() {
        let image = DynamicImage::from(image::RgbImage::from_pixel(8, 4, image::Rgb([10, 10, 10])));
        for format in [ImageFormat::Jpeg, ImageFormat::WebP] {
            let mut bytes = Cursor::new(Vec::new());
            image.write_to(&mut bytes, format).unwrap();
            let picture = Picture::decode(bytes.get_ref(), 32).unwrap();
            assert_eq!((picture.width(), picture.height()), (8, 4), "{format:?}");
        }
        assert!(refusal(b"GIF89a\x01\x00\x01\x00", 100).contains("not a PNG"));
        assert!(refusal(b"", 100).contains("not a PNG"));
    }

    #[test]
    fn damage_is_an_input_error_wherever_it_is() {
        let whole = png(&image::RgbImage::from_fn(9, 9, |x, y| image::Rgb([x as u8, y as u8, 3])).into());
        for cut in 8..whole.len() - 12 {
            refusal(&whole[..cut], 100);
        }
    }

    #[test]
    fn a_huge_size_in_the_header_is_refused_before_memory_is_taken() {
        let mut bytes = png(&image::RgbImage::new(1, 1).into());
        bytes[16..24].copy_from_slice(&[0x7f, 0xff, 0xff, 0xff, 0x7f, 0xff, 0xff, 0xff]);
        refusal(&bytes, 1 << 24);
        let wide = png(&image::RgbImage::new(101, 1).into());
        assert!(refusal(&wide, 100).contains("101 x 1"));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        assert!(Picture::new(2, 2, vec![0; 11]).is_err());
        assert!(Picture::new(0, 2, vec![]).is_err());
    }
}
