//! What the demo asks for: pictures of single shapes, and questions about shapes it draws itself.

use gpusched_client::{Picture, txt2img, vqa};
use gpusched_shared::JobSpec;
use image::RgbImage;

use super::checker::{COLORS, Kind};
use super::scene::{self, Shape};

/// Pixels along a side of the pictures that questions are about: as large as pictures usually are, so that a question takes
/// as long beside an image as published.
const PHOTO_SIDE: u32 = 768;

/// One job of the demo and what must come out of it.
#[derive(Debug, Clone)]
pub(super) enum Job {
    Image { prompt: String, seed: u64, steps: u32, shows: (&'static str, Kind) },
    Question { question: String, picture: RgbImage, answer: String },
}

impl Job {
    pub(super) fn spec(&self) -> JobSpec {
        match self {
            Self::Image { prompt, seed, steps, .. } => txt2img(prompt).seed(*seed).steps(*steps).into(),
            Self::Question { question, .. } => vqa(question).into(),
        }
    }

    pub(super) fn pictures(&self) -> anyhow::Result<Vec<Picture>> {
        match self {
            Self::Image { .. } => Ok(Vec::new()),
            Self::Question { picture, .. } => {
                let mut png = std::io::Cursor::new(Vec::new());
                picture.write_to(&mut png, image::ImageFormat::Png)?;
                Ok(vec![Picture::from_bytes(png.get_ref())?])
            }
        }
    }

    pub(super) fn is_image(&self) -> bool {
        matches!(self, Self::Image { .. })
    }

    pub(super) fn text(&self) -> &str {
        match self {
            Self::Image { prompt, .. } => prompt,
            Self::Question { question, .. } => question,
        }
    }
}

/// In an order that `seed` decides.
pub(super) fn shuffled(jobs: impl Iterator<Item = Job>, seed: u64) -> Vec<Job> {
    let mut jobs: Vec<Job> = jobs.collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut jobs);
    jobs
}

/// Colours and kinds in turn, so that neighbours differ in both.
fn shape(index: usize) -> (&'static str, Kind) {
    (COLORS[(3 * index) % COLORS.len()].0, Kind::ALL[index % Kind::ALL.len()])
}

pub(super) fn images(count: u32, steps: u32) -> impl Iterator<Item = Job> {
    (0..count).map(move |index| {
        let (color, kind) = shape(index as usize);
        Job::Image { prompt: format!("a {color} {kind}"), seed: u64::from(index) + 1, steps, shows: (color, kind) }
    })
}

pub(super) fn questions(count: u32) -> impl Iterator<Item = Job> {
    (0..count as usize).map(|index| {
        let (color, kind) = shape(index);
        let picture = draw(color, kind, PHOTO_SIDE);
        let (question, answer) = match index % 5 {
            0 => ("what color is the shape?".to_owned(), color.to_owned()),
            1 => (format!("what shape is {color}?"), kind.to_string()),
            2 => (format!("is there a {color} {kind}?"), "yes".to_owned()),
            3 => ("how many shapes are there?".to_owned(), "1".to_owned()),
            _ => (format!("is there a {} shape?", shape(index + 1).0), "no".to_owned()),
        };
        Job::Question { question, picture, answer }
    })
}

/// A shape in the middle of a white ground, `side` pixels across.
fn draw(color: &str, kind: Kind, side: u32) -> RgbImage {
    let (middle, radius) = (f64::from(side) / 2.0, f64::from(side) / 5.0);
    scene::draw(&[Shape { color: color.to_owned(), kind, x: middle, y: middle, radius }], side)
}

#[cfg(test)]
mod tests {
    use super::super::checker::{SIDE, find, shows};
    use super::*;

    #[test]
    fn the_checker_sees_what_is_drawn() {
        for index in 0..24 {
            let (color, kind) = shape(index);
            assert!(shows(&find(&draw(color, kind, SIDE)), &[(color, kind)]), "{color} {kind}");
        }
    }
}
