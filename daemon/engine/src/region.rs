//! Stages about regions of a picture, and about how well it fits a text.

use gpusched_models::clip::Clip;
use gpusched_models::owlv2::{self, Owlv2};
use gpusched_models::sam2::{self, Sam2};
use gpusched_models::{Error, Picture};
use gpusched_shared::{Area, DetectSpec, Found, ScoreSpec, SegmentSpec};

use crate::event::{Failure, Product};
use crate::product;
use crate::stage::Stopped;
use crate::yield_point::LaneYield;

/// Of two boxes for the same thing that share more than this, the surer one counts.
const OVERLAP: f32 = 0.5;
/// The most that is told of what was found, the surest first.
const MOST_FOUND: usize = 100;

/// Where in the picture is what a text names.
pub(crate) fn detect(
    model: &Owlv2,
    picture: &Picture,
    asked: &DetectSpec,
    at: &LaneYield<'_>,
) -> Result<Product, Stopped> {
    let threshold = asked.threshold.ok_or_else(|| Failure::engine("the stage leaves the threshold open"))?;
    let request = owlv2::Request { texts: &[&asked.query], threshold, overlap: Some(OVERLAP) };
    let found = model.detect(picture, &request, at)?;
    let found = found.into_iter().take(MOST_FOUND).map(|one| {
        let owlv2::Bounds { left, top, right, bottom } = one.bounds;
        Found { area: Area { left, top, right, bottom }, score: one.score }
    });
    Ok(Product::Found(at.handing_out(|| found.collect())))
}

/// The pixels of the thing that an area or points are about.
pub(crate) fn segment(
    model: &Sam2,
    picture: &Picture,
    asked: &SegmentSpec,
    at: &LaneYield<'_>,
) -> Result<Product, Stopped> {
    let points = asked.points.iter().map(|point| sam2::Point { x: point.x, y: point.y, inside: point.inside });
    let area = asked.area.map(|area| within(area, picture)).transpose()?;
    let masks = model.segment(picture, &[sam2::Prompt { area, points: points.collect() }], at)?;
    let mask = masks.first().ok_or_else(|| Failure::engine("the model made no mask"))?;
    Ok(at.handing_out(|| product::mask(mask))?)
}

/// How well the picture fits a text.
pub(crate) fn score(
    model: &Clip,
    picture: &Picture,
    asked: &ScoreSpec,
    at: &LaneYield<'_>,
) -> Result<Product, Stopped> {
    let scores = model.score(picture, &[&asked.text], at)?;
    let score = scores.first().ok_or_else(|| Failure::engine("the model gave no score"))?;
    Ok(Product::Score(score.cosine))
}

/// What of an area is in the picture: a detector may say that a thing reaches beyond it.
fn within(area: Area, picture: &Picture) -> Result<sam2::Area, Error> {
    let (width, height) = (picture.width() as f32, picture.height() as f32);
    let (left, top) = (area.left.clamp(0.0, width), area.top.clamp(0.0, height));
    let (right, bottom) = (area.right.clamp(0.0, width), area.bottom.clamp(0.0, height));
    if right <= left || bottom <= top {
        return Err(Error::Input(format!("the area {area} is not in the picture of {width} x {height} pixels")));
    }
    Ok(sam2::Area { left, top, right, bottom })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_end_with_their_picture() {
        let picture = Picture::new(8, 4, vec![0; 96]).unwrap();
        let area = Area { left: -3.0, top: 1.0, right: 5.0, bottom: 9.0 };
        let inside = within(area, &picture).unwrap();
        assert_eq!((inside.left, inside.top, inside.right, inside.bottom), (0.0, 1.0, 5.0, 4.0));
        let beside = within(Area { left: 9.0, right: 12.0, ..area }, &picture).unwrap_err().to_string();
        assert!(beside.contains("the area 9,1 to 12,9 is not in the picture of 8 x 4 pixels"), "{beside}");
    }
}
