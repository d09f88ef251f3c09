//! Text chunks of PNG files.

/// What every PNG file starts with: the signature, then the header chunk (length 13, `IHDR`).
const START: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR";
/// Where the chunk after the header starts: signature, then length, type, 13 bytes and CRC of the header.
const AFTER_HEADER: usize = 8 + 4 + 4 + 13 + 4;

/// The PNG file with one more tEXt chunk after its header; the same bytes if it is no PNG file. `keyword` and `text` must
/// be ASCII, `keyword` 1 to 79 bytes, as the format demands.
pub(crate) fn with_text(png: &[u8], keyword: &str, text: &str) -> Vec<u8> {
    let (Some(header), Some(rest)) = (png.get(..AFTER_HEADER), png.get(AFTER_HEADER..)) else { return png.to_vec() };
    if !header.starts_with(START) {
        return png.to_vec();
    }
    let mut chunk = b"tEXt".to_vec();
    chunk.extend_from_slice(keyword.as_bytes());
    chunk.push(0);
    chunk.extend_from_slice(text.as_bytes());
    // The length counts the data alone, the CRC the type, too.
    let length = u32::try_from(chunk.len() - 4).unwrap_or(u32::MAX);
    let crc = crc32fast::hash(&chunk);
    [header, &length.to_be_bytes(), &chunk, &crc.to_be_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chunk_stands_after_the_header() {
        // 1x1, grey, with a real IHDR CRC; the rest is not looked at.
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55REST";
        let with = with_text(png, "gpusched:job", "7");
        assert_eq!(&with[..AFTER_HEADER], &png[..AFTER_HEADER]);
        // The CRC was computed with Python's zlib.crc32(b"tEXtgpusched:job\x007").
        assert_eq!(&with[AFTER_HEADER..], b"\0\0\0\x0etEXtgpusched:job\x007\x6f\xc5\x3a\x31REST");
    }

    #[cfg(feature = "preview")]
    #[test]
    fn the_file_still_decodes() {
        let mut png = std::io::Cursor::new(Vec::new());
        image::RgbImage::from_pixel(3, 2, image::Rgb([9, 8, 7]))
            .write_to(&mut png, image::ImageFormat::Png)
            .expect("a picture");
        let with = with_text(png.get_ref(), "gpusched:job", "12345");
        let back = image::load_from_memory_with_format(&with, image::ImageFormat::Png).expect("a PNG file");
        assert_eq!(back.to_rgb8().get_pixel(2, 1).0, [9, 8, 7]);
    }

    #[test]
    fn other_bytes_stay_as_they_are() {
        for bytes in [&b""[..], b"GIF89a", &[0; 100]] {
            assert_eq!(with_text(bytes, "k", "v"), bytes);
        }
    }
}
