//! Pictures to hand over, and what is in those that come back.

use std::collections::BTreeMap;
use std::io::Cursor;

use gpusched_client::Picture;

/// A PNG file of one red circle on a white ground, as the models know them.
pub(crate) fn red_circle() -> Vec<u8> {
    png(64, 64, |x, y| {
        let (dx, dy) = (x - 31.5, y - 31.5);
        if dx * dx + dy * dy < 13.0 * 13.0 { [255, 0, 0] } else { [255, 255, 255] }
    })
}

/// The same, to be handed in.
pub(crate) fn red_circle_file() -> Picture {
    Picture::from_bytes(&red_circle()).expect("a memory file")
}

/// A PNG file, painted pixel by pixel.
pub(crate) fn png(width: u32, height: u32, paint: impl Fn(f32, f32) -> [u8; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, width, height);
    encoder.set_color(png::ColorType::Rgb);
    let mut writer = encoder.write_header().expect("a header");
    let rows = (0..height).flat_map(|y| (0..width).map(move |x| (x as f32, y as f32)));
    let pixels: Vec<u8> = rows.flat_map(|(x, y)| paint(x, y)).collect();
    writer.write_image_data(&pixels).expect("pixels");
    writer.finish().expect("an end");
    bytes
}

/// A PNG file that claims a size in its header and has next to nothing after it.
pub(crate) fn claiming(width: u32, height: u32) -> Vec<u8> {
    let mut whole = png(1, 1, |_, _| [0, 0, 0]);
    // Signature, length, type; then the header's data, which its checksum follows.
    whole[16..20].copy_from_slice(&width.to_be_bytes());
    whole[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&whole[12..29]);
    whole[29..33].copy_from_slice(&checksum.to_be_bytes());
    whole
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// A PNG file that has been read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) size: (u32, u32),
    pub(crate) texts: BTreeMap<String, String>,
    pub(crate) pixels: Vec<u8>,
}

/// Reads a PNG file that must be whole.
pub(crate) fn read(bytes: &[u8]) -> Read {
    let mut reader = png::Decoder::new(Cursor::new(bytes)).read_info().expect("a PNG file");
    let mut pixels = vec![0; reader.output_buffer_size().expect("it fits")];
    reader.next_frame(&mut pixels).expect("whole pixels");
    reader.finish().expect("an end");
    let info = reader.info();
    let plain = info.uncompressed_latin1_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.text.clone()));
    let utf8 = info.utf8_text.iter().map(|chunk| (chunk.keyword.clone(), chunk.get_text().expect("text")));
    Read { size: (info.width, info.height), texts: plain.chain(utf8).collect(), pixels }
}

/// The same PNG file without the chunk in which gpuctl notes the job.
pub(crate) fn without_job(png: &[u8]) -> Vec<u8> {
    let (signature, mut rest) = png.split_at(8);
    let mut kept = signature.to_vec();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest[..4].try_into().expect("four bytes")) as usize;
        let (chunk, after) = rest.split_at(length + 12);
        if !chunk[4..].starts_with(b"tEXtgpusched:job\0") {
            kept.extend_from_slice(chunk);
        }
        rest = after;
    }
    kept
}
