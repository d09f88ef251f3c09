//! Pictures as PNG files that say how they were made.

use gpusched_models::Picture;
use gpusched_models::sam2::Mask;
use gpusched_shared::{ImageSpec, JobSpec, Size};

use crate::event::{Failure, Product};

/// A PNG of `picture` with the request in its text chunks: `prompt`, `seed`, `model`, `steps`, `guidance`.
pub(crate) fn image(
    picture: &Picture,
    spec: &JobSpec,
    image: &ImageSpec,
    truncated_tokens: u32,
) -> Result<Product, Failure> {
    let size = Size { width: picture.width(), height: picture.height() };
    let texts = [
        ("Software", Some(concat!("gpusched ", env!("CARGO_PKG_VERSION")).to_owned())),
        ("prompt", Some(image.prompt.clone())),
        ("seed", image.seed.map(|seed| seed.to_string())),
        ("model", spec.model.clone()),
        ("steps", image.steps.map(|steps| steps.to_string())),
        ("guidance", image.guidance.map(|guidance| guidance.to_string())),
    ];
    let png = encode(picture, &texts).map_err(|e| Failure::engine(format!("cannot write the PNG: {e}")))?;
    Ok(Product::Image { png, size, truncated_tokens })
}

/// A PNG of a mask: white inside, black outside.
pub(crate) fn mask(mask: &Mask) -> Result<Product, Failure> {
    let gray: Vec<u8> = mask.bits.iter().map(|inside| if *inside { u8::MAX } else { 0 }).collect();
    let inside = mask.bits.iter().filter(|inside| **inside).count() as u64;
    let png = write((mask.width, mask.height), png::ColorType::Grayscale, &gray, &[])
        .map_err(|e| Failure::engine(format!("cannot write the PNG: {e}")))?;
    Ok(Product::Mask { png, size: Size { width: mask.width, height: mask.height }, inside, score: mask.score })
}

/// A PNG of what a picture is about to become. It says nothing of the request, of which it is not the result.
pub(crate) fn preview(picture: &Picture) -> Result<Vec<u8>, png::EncodingError> {
    encode(picture, &[])
}

fn encode(picture: &Picture, texts: &[(&str, Option<String>)]) -> Result<Vec<u8>, png::EncodingError> {
    write((picture.width(), picture.height()), png::ColorType::Rgb, picture.rgb(), texts)
}

fn write(
    (width, height): (u32, u32),
    color: png::ColorType,
    pixels: &[u8],
    texts: &[(&str, Option<String>)],
) -> Result<Vec<u8>, png::EncodingError> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(color);
    encoder.set_depth(png::BitDepth::Eight);
    for (keyword, text) in texts {
        if let Some(text) = text {
            // iTXt, because prompts are UTF-8.
            encoder.add_itxt_chunk((*keyword).to_owned(), text.clone())?;
        }
    }
    let mut writer = encoder.write_header()?;
    writer.write_image_data(pixels)?;
    writer.finish()?;
    Ok(bytes)
}
