//! Pictures of reflecting jobs, round by round: few and small, so that a page with them can be mailed.

use std::io::Cursor;

use gpusched_shared::{JobId, Rejection};
use image::imageops::FilterType;
use image::{DynamicImage, ImageFormat, ImageReader, Limits};

use super::record::Shown;
use crate::{Client, Error};

/// Jobs that are shown, the newest ones.
pub const MAX_JOBS: usize = 12;

/// Pixels along the longer side of a picture; larger ones are made smaller.
const SIDE: u32 = 320;

/// The most that all pictures together may take, in bytes.
const MAX_BYTES: usize = 4 << 20;

/// Pixels of a picture that is not worth its memory here.
const MAX_PIXELS_A_SIDE: u32 = 8192;

/// Fetches what is to be shown of jobs, in this order, as far as it fits. Pictures that are gone by now are left out.
///
/// # Errors
/// [`Error`] if the daemon cannot be asked.
pub async fn fetch(client: &Client, jobs: &[JobId]) -> Result<Vec<Shown>, Error> {
    let (mut shown, mut bytes) = (Vec::new(), 0);
    for &id in jobs.iter().take(MAX_JOBS) {
        let job = match client.show(id).await {
            // Forgotten since it was listed.
            Err(Error::Rejected(Rejection::NoSuchJob { .. })) => continue,
            found => found?,
        };
        let rounds = job.reflection.iter().flat_map(|reflection| &reflection.rounds);
        let made: Vec<u8> = rounds.filter(|round| round.image.is_some()).map(|round| round.number).collect();
        let mut pictures = Vec::new();
        for round in made {
            let fetched = match client.fetch_round_bytes(id, round).await {
                Err(Error::Rejected(_) | Error::Damaged { .. }) => continue,
                fetched => fetched?,
            };
            if let Some(small) = small(fetched) {
                bytes += small.len();
                pictures.push((round, small));
            }
        }
        if bytes > MAX_BYTES {
            break;
        }
        shown.push(Shown { job, pictures });
    }
    Ok(shown)
}

/// The picture, or a smaller one of it; `None` if it cannot be read.
fn small(png: Vec<u8>) -> Option<Vec<u8>> {
    let mut reader = ImageReader::with_format(Cursor::new(&png), ImageFormat::Png);
    let mut limits = Limits::default();
    (limits.max_image_width, limits.max_image_height) = (Some(MAX_PIXELS_A_SIDE), Some(MAX_PIXELS_A_SIDE));
    reader.limits(limits);
    let picture = reader.decode().ok()?;
    if picture.width().max(picture.height()) <= SIDE {
        return Some(png);
    }
    let mut jpeg = Vec::new();
    let small = picture.resize(SIDE, SIDE, FilterType::Triangle).to_rgb8();
    DynamicImage::from(small).write_to(&mut Cursor::new(&mut jpeg), ImageFormat::Jpeg).ok()?;
    Some(jpeg)
}

#[cfg(test)]
mod tests {
    use image::RgbImage;

    use super::*;

    fn png(width: u32, height: u32) -> Vec<u8> {
        let mut png = Vec::new();
        let picture = DynamicImage::from(RgbImage::from_pixel(width, height, image::Rgb([200, 10, 10])));
        picture.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).expect("a picture");
        png
    }

    #[test]
    fn large_pictures_are_made_smaller_and_small_ones_are_left_as_they_are() {
        assert_eq!(small(png(64, 64)), Some(png(64, 64)));
        let made = image::load_from_memory(&small(png(1280, 640)).expect("made")).expect("a picture");
        assert_eq!((made.width(), made.height()), (SIDE, SIDE / 2));
        assert_eq!(small(b"no picture".to_vec()), None);
    }
}
