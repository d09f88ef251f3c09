//! Picture files. They come as descriptors of files that others may hold as well, so they are read with limits, from the
//! begin wherever their offset is, and never mapped: a file that shrinks under a mapping kills who looks.

use std::fs::File;
use std::os::unix::fs::FileExt;

use gpusched_models::Picture;
use gpusched_shared::Size;
use gpusched_shared::spec::{MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// Decodes a PNG, JPEG or WebP file and returns its size in pixels.
///
/// # Errors
/// What is wrong with it, for a person.
pub fn check(bytes: &[u8]) -> Result<Size, String> {
    let picture = Picture::decode(bytes, MAX_IMAGE_PIXELS).map_err(|e| e.to_string())?;
    Ok(Size { width: picture.width(), height: picture.height() })
}

/// All bytes of a picture file.
///
/// # Errors
/// What is wrong with it, for a person.
pub(crate) fn read(file: &File) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut chunk = vec![0; CHUNK];
    loop {
        let count = file.read_at(&mut chunk, bytes.len() as u64).map_err(|e| format!("cannot be read: {e}"))?;
        if count == 0 {
            return Ok(bytes);
        }
        bytes.extend_from_slice(&chunk[..count]);
        if bytes.len() as u64 > MAX_IMAGE_BYTES {
            return Err(format!("more than {MAX_IMAGE_BYTES} bytes, which is the limit"));
        }
    }
}
