//! Stages of Stable Diffusion 3: pictures from prompts, and regions of pictures made anew.

use gpusched_models::sd3::{self, Canvas, Region};
use gpusched_models::{Error, Picture};
use gpusched_shared::{ImageSpec, InpaintSpec, JobSpec};

use crate::event::{Failure, Product};
use crate::product;
use crate::stage::{Stopped, open};
use crate::yield_point::LaneYield;

/// A picture of a prompt.
pub(crate) fn generate(
    pipeline: &sd3::Pipeline,
    spec: &JobSpec,
    image: &ImageSpec,
    at: &LaneYield<'_>,
) -> Result<Product, Stopped> {
    let size = image.size.ok_or_else(open)?;
    let canvas = Canvas::Whole { width: size.width, height: size.height };
    let made = pipeline.generate(&request(image, canvas)?, at)?;
    Ok(at.handing_out(|| product::image(&made.picture, spec, image, made.truncated_tokens))?)
}

/// A picture of which what is white in the mask is made anew; the rest stays as it is, to the pixel.
pub(crate) fn inpaint(
    pipeline: &sd3::Pipeline,
    spec: &JobSpec,
    asked: &InpaintSpec,
    pictures: &[Picture],
    at: &LaneYield<'_>,
) -> Result<Product, Stopped> {
    let [picture, mask] = pictures else {
        return Err(Failure::engine("an inpaint stage needs a picture and a mask").into());
    };
    let sheet = Sheet::of(picture, mask, pipeline.defaults().multiple)?;
    let grow = asked.grow.ok_or_else(open)?;
    let region = Region { grow, ..Region::new(&sheet.picture, &sheet.mask) };
    let made = pipeline.generate(&request(&asked.image, Canvas::Part(region))?, at)?;
    let picture = cut(&made.picture, picture.width(), picture.height())?;
    Ok(at.handing_out(|| product::image(&picture, spec, &asked.image, made.truncated_tokens))?)
}

fn request<'a>(image: &'a ImageSpec, canvas: Canvas<'a>) -> Result<sd3::Request<'a>, Failure> {
    Ok(sd3::Request {
        prompt: &image.prompt,
        canvas,
        steps: image.steps.ok_or_else(open)?,
        guidance: f64::from(image.guidance.ok_or_else(open)?),
        seed: image.seed.ok_or_else(open)?,
    })
}

/// A picture and its mask, made so large that the model can take them: the last column and row are repeated, and are not in the mask.
struct Sheet {
    picture: Picture,
    mask: Vec<bool>,
}

impl Sheet {
    fn of(picture: &Picture, mask: &Picture, multiple: u32) -> Result<Self, Error> {
        let (width, height) = (picture.width(), picture.height());
        if (mask.width(), mask.height()) != (width, height) {
            return Err(Error::Input(format!(
                "the mask has {} x {} pixels, and the picture {width} x {height}; they must be of one size",
                mask.width(),
                mask.height()
            )));
        }
        let multiple = multiple.max(1);
        let (wide, tall) = (width.next_multiple_of(multiple), height.next_multiple_of(multiple));
        let mut rgb = Vec::with_capacity(wide as usize * tall as usize * 3);
        let mut inside = Vec::with_capacity(wide as usize * tall as usize);
        for y in 0..tall {
            for x in 0..wide {
                let at = (y.min(height - 1) as usize * width as usize + x.min(width - 1) as usize) * 3;
                rgb.extend_from_slice(&picture.rgb()[at..at + 3]);
                let [red, green, blue] = [0, 1, 2].map(|channel| u32::from(mask.rgb()[at + channel]));
                inside.push(x < width && y < height && red + green + blue > 3 * 127);
            }
        }
        Ok(Self { picture: Picture::new(wide, tall, rgb)?, mask: inside })
    }
}

/// The top left part of a picture.
fn cut(picture: &Picture, width: u32, height: u32) -> Result<Picture, Error> {
    let rows = picture.rgb().chunks(picture.width() as usize * 3).take(height as usize);
    Picture::new(width, height, rows.flat_map(|row| &row[..width as usize * 3]).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_of_any_size_is_laid_on_a_sheet_that_fits_and_cut_out_again() {
        let picture = Picture::new(3, 2, (0..18).collect()).unwrap();
        let mask = Picture::new(3, 2, [[0; 9], [255; 9]].concat()).unwrap();
        let sheet = Sheet::of(&picture, &mask, 4).unwrap();
        assert_eq!((sheet.picture.width(), sheet.picture.height()), (4, 4));
        assert_eq!(&sheet.picture.rgb()[..12], [0, 1, 2, 3, 4, 5, 6, 7, 8, 6, 7, 8]);
        let rows: Vec<Vec<bool>> = sheet.mask.chunks(4).map(<[bool]>::to_vec).collect();
        assert_eq!(rows[..3], [vec![false; 4], vec![true, true, true, false], vec![false; 4]]);
        assert_eq!(cut(&sheet.picture, 3, 2).unwrap(), picture);
        let small = Picture::new(1, 2, vec![0; 6]).unwrap();
        let refused = Sheet::of(&picture, &small, 4).err().map(|e| e.to_string()).unwrap_or_default();
        assert!(refused.contains("the mask has 1 x 2 pixels, and the picture 3 x 2"), "{refused}");
    }
}
