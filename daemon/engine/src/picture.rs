//! Checks of picture files, for the front, which must refuse a bad one before it accepts the job.

use gpusched_models::Picture;
use gpusched_shared::Size;
use gpusched_shared::spec::MAX_IMAGE_PIXELS;

/// Decodes a PNG, JPEG or WebP file and returns its size in pixels.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check(bytes: &[u8]) -> Result<Size, String> {
    let picture = Picture::decode(bytes, MAX_IMAGE_PIXELS).map_err(|e| e.to_string())?;
    Ok(Size { width: picture.width(), height: picture.height() })
}
