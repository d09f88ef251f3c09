//! Which shapes a picture shows, found from its pixels alone, without any neural network; the same rules as
//! `models/training/checker.py`.

use std::fmt;

use image::RgbImage;
use serde::{Deserialize, Serialize};

/// Pixels along a side of the demo's pictures.
pub const SIDE: u32 = 64;
/// The colours the shipped models know.
pub const COLORS: [(&str, [u8; 3]); 8] = [
    ("red", [255, 0, 0]),
    ("green", [0, 255, 0]),
    ("blue", [0, 0, 255]),
    ("yellow", [255, 255, 0]),
    ("teal", [0, 128, 128]),
    ("gray", [128, 128, 128]),
    ("black", [0, 0, 0]),
    ("brown", [165, 42, 42]),
];
/// Squared distance (RGB in 0..1) beyond which a pixel belongs to no colour.
const FAR: f64 = 0.12;
/// Pixels below which a colour is noise.
const MIN_AREA: usize = 40;
/// How far apart, in pixels, centres must lie the way that a relation says, and how far apart they may lie across.
const MARGIN: f64 = 4.0;
const SLACK: f64 = 16.0;

/// A shape the shipped models know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A disc.
    Circle,
    /// With sides along the picture's.
    Square,
    /// Standing on its base.
    Triangle,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Circle, Self::Square, Self::Triangle];
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
        })
    }
}

/// Where one shape lies, seen from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// To its left.
    Left,
    /// To its right.
    Right,
    /// Higher up.
    Above,
    /// Further down.
    Below,
}

/// A shape that a picture shows.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its colour, of [`COLORS`].
    pub color: &'static str,
    /// What it is; `None` if it is none of those known.
    pub kind: Option<Kind>,
    /// The mean of its pixels' columns, from 0 at the left.
    pub x: f64,
    /// The mean of its pixels' rows, from 0 at the top.
    pub y: f64,
}

/// The RGB value of a colour of [`COLORS`]; black for any other name.
pub fn color(name: &str) -> [u8; 3] {
    COLORS.iter().find(|(other, _)| *other == name).map_or([0; 3], |(_, rgb)| *rgb)
}

/// The shapes in `picture`, at most one for each colour.
pub fn find(picture: &RgbImage) -> Vec<Found> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let labels: Vec<Option<usize>> = picture.pixels().map(|pixel| label(pixel.0)).collect();
    let found = COLORS.iter().enumerate().filter_map(|(index, (color, _))| {
        let mask: Vec<bool> = labels.iter().map(|label| *label == Some(index)).collect();
        // Opening drops the slivers that anti-aliased edges leave.
        let eroded = spread(&mask, width, height, false);
        let mask = spread(&eroded, width, height, true);
        let set: Vec<usize> = mask.iter().enumerate().filter(|(_, set)| **set).map(|(at, _)| at).collect();
        let mean = |of: fn(usize, usize) -> usize| {
            set.iter().map(|at| of(*at, width)).sum::<usize>() as f64 / set.len() as f64
        };
        let (x, y) = (mean(|at, width| at % width), mean(|at, width| at / width));
        (set.len() >= MIN_AREA).then(|| Found { color, kind: kind(&mask, width), x, y })
    });
    found.collect()
}

/// Whether exactly these shapes, each a colour and a kind, were found and nothing else.
pub fn shows(found: &[Found], wanted: &[(&str, Kind)]) -> bool {
    let mut found: Vec<_> = found.iter().map(|found| (found.color, found.kind)).collect();
    let mut wanted: Vec<_> = wanted.iter().map(|(color, kind)| (*color, Some(*kind))).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    found == wanted
}

/// Whether what was found in colour `a` lies as `relation` says, seen from what was found in colour `b`.
pub fn stand(found: &[Found], a: &str, relation: Relation, b: &str) -> bool {
    let of = |color: &str| found.iter().find(|found| found.color == color);
    let (Some(a), Some(b)) = (of(a), of(b)) else { return false };
    let (dx, dy) = (a.x - b.x, a.y - b.y);
    let (along, across) = match relation {
        Relation::Left => (-dx, dy),
        Relation::Right => (dx, dy),
        Relation::Above => (-dy, dx),
        Relation::Below => (dy, dx),
    };
    along > MARGIN && across.abs() < SLACK
}

/// The nearest colour, if it is near enough and nearer than the light ground.
fn label(pixel: [u8; 3]) -> Option<usize> {
    let unit = pixel.map(|channel| f64::from(channel) / 255.0);
    let ground: f64 = unit.iter().map(|channel| (channel - channel.clamp(0.88, 1.0)).powi(2)).sum();
    let distance = |rgb: &[u8; 3]| -> f64 {
        unit.iter().zip(rgb).map(|(channel, want)| (channel - f64::from(*want) / 255.0).powi(2)).sum()
    };
    let distances = COLORS.iter().map(|(_, rgb)| distance(rgb)).enumerate();
    let (index, nearest) = distances.min_by(|a, b| a.1.total_cmp(&b.1))?;
    (nearest < FAR && nearest < ground).then_some(index)
}

/// Dilates (`set` true) or erodes a mask by 3 x 3; what lies outside the picture does not count.
fn spread(mask: &[bool], width: usize, height: usize, set: bool) -> Vec<bool> {
    let neighbours = |x: usize, y: usize| {
        let rows = y.saturating_sub(1)..(y + 2).min(height);
        rows.flat_map(move |y| (x.saturating_sub(1)..(x + 2).min(width)).map(move |x| y * width + x))
    };
    let at = |index: usize| neighbours(index % width, index / width).any(|near| mask[near] == set) == set;
    (0..mask.len()).map(at).collect()
}

/// The kind of shape, from its fill of the bounding box and the widths of its top and bottom thirds.
fn kind(mask: &[bool], width: usize) -> Option<Kind> {
    let set = |row: usize| mask[row * width..(row + 1) * width].iter().filter(|set| **set).count();
    let rows: Vec<usize> = (0..mask.len() / width).filter(|row| set(*row) > 0).collect();
    let columns: Vec<usize> = mask.iter().enumerate().filter(|(_, set)| **set).map(|(i, _)| i % width).collect();
    let (top, bottom) = (*rows.first()?, *rows.last()? + 1);
    let (left, right) = (*columns.iter().min()?, *columns.iter().max()? + 1);
    let (tall, wide) = (bottom - top, right - left);
    let aspect = tall as f64 / wide as f64;
    if aspect <= 0.65 || aspect >= 1.55 {
        return None;
    }
    let fill = columns.len() as f64 / (tall * wide) as f64;
    let third = (tall / 3).max(1);
    let above: usize = (top..top + third).map(set).sum();
    let below: usize = (bottom - third..bottom).map(set).sum();
    if fill < 0.72 && (above as f64) < 0.6 * below as f64 {
        Some(Kind::Triangle)
    } else if fill > 0.905 {
        Some(Kind::Square)
    } else {
        (fill > 0.68).then_some(Kind::Circle)
    }
}

#[cfg(test)]
mod tests {
    use super::super::scene::{Shape, draw};
    use super::*;

    const RED_CIRCLE: (&str, Kind) = ("red", Kind::Circle);
    const BLUE_SQUARE: (&str, Kind) = ("blue", Kind::Square);

    /// What is found in a picture of these shapes, each with its centre.
    fn found(shapes: &[((&str, Kind), f64, f64)]) -> Vec<Found> {
        let shape = |((color, kind), x, y): &((&str, Kind), f64, f64)| Shape {
            color: (*color).to_owned(),
            kind: *kind,
            x: *x,
            y: *y,
            radius: 9.0,
        };
        find(&draw(&shapes.iter().map(shape).collect::<Vec<_>>(), SIDE))
    }

    #[test]
    fn every_shape_is_seen_for_what_it_is_and_where() {
        for (color, _) in COLORS {
            for kind in Kind::ALL {
                let found = found(&[((color, kind), 20.0, 40.0)]);
                assert!(shows(&found, &[(color, kind)]), "{color} {kind}: {found:?}");
                // The centre of a triangle's area lies below that of its height.
                assert!((found[0].x - 19.5).abs() < 0.6 && (-0.6..4.0).contains(&(found[0].y - 39.5)), "{found:?}");
            }
        }
    }

    #[test]
    fn what_differs_in_anything_is_not_what_was_asked_for() {
        let both = found(&[(RED_CIRCLE, 14.0, 32.0), (BLUE_SQUARE, 50.0, 32.0)]);
        assert!(shows(&both, &[RED_CIRCLE, BLUE_SQUARE]) && shows(&both, &[BLUE_SQUARE, RED_CIRCLE]));
        let others: [&[(&str, Kind)]; 5] = [
            &[("green", Kind::Circle), BLUE_SQUARE],
            &[("red", Kind::Triangle), BLUE_SQUARE],
            &[("red", Kind::Square), ("blue", Kind::Circle)],
            &[RED_CIRCLE],
            &[RED_CIRCLE, BLUE_SQUARE, ("black", Kind::Square)],
        ];
        for other in others {
            assert!(!shows(&both, other), "{other:?}");
        }
        assert!(shows(&found(&[]), &[]));
    }

    #[test]
    fn a_relation_holds_one_way_only() {
        let beside = found(&[(RED_CIRCLE, 14.0, 30.0), (BLUE_SQUARE, 50.0, 36.0)]);
        let above = found(&[(RED_CIRCLE, 36.0, 14.0), (BLUE_SQUARE, 30.0, 50.0)]);
        let holds = |found: &[Found]| {
            let all = [Relation::Left, Relation::Right, Relation::Above, Relation::Below];
            all.map(|relation| (stand(found, "red", relation, "blue"), stand(found, "blue", relation, "red")))
        };
        let (yes, no, swapped) = ((true, false), (false, false), (false, true));
        assert_eq!(holds(&beside), [yes, swapped, no, no]);
        assert_eq!(holds(&above), [no, no, yes, swapped]);
        assert!(!stand(&beside, "red", Relation::Left, "green"), "there is no green");
    }

    #[test]
    fn centres_must_be_clearly_apart_and_roughly_in_line() {
        let at = |color, x, y| Found { color, kind: None, x, y };
        for (dx, dy, holds) in [(4.0, 0.0, false), (4.1, 0.0, true), (30.0, 15.9, true), (30.0, 16.0, false)] {
            let found = [at("red", 10.0, 30.0), at("blue", 10.0 + dx, 30.0 + dy)];
            assert_eq!(stand(&found, "red", Relation::Left, "blue"), holds, "{dx} {dy}");
        }
    }

    /// What `checker.py` found in a picture.
    #[derive(Deserialize)]
    struct Expected {
        color: String,
        kind: Option<Kind>,
        x: f64,
        y: f64,
    }

    /// `models/training/make_prompts.py` drew the sheet and looked at it.
    #[test]
    fn it_agrees_with_the_checker_of_the_training() {
        let sheet = image::load_from_memory(include_bytes!("adherence/checked.png")).expect("a picture").to_rgb8();
        let expected: Vec<Vec<Expected>> =
            serde_json::from_str(include_str!("adherence/checked.json")).expect("what was found");
        let columns = sheet.width() / SIDE;
        assert_eq!(expected.len(), (columns * sheet.height() / SIDE) as usize);
        for (place, expected) in (0..).zip(expected) {
            let (x, y) = (place % columns * SIDE, place / columns * SIDE);
            let found = find(&image::imageops::crop_imm(&sheet, x, y, SIDE, SIDE).to_image());
            let same = |(found, expected): (&Found, &Expected)| {
                (found.color, found.kind) == (&expected.color, expected.kind)
                    && (found.x - expected.x).abs() + (found.y - expected.y).abs() < 0.01
            };
            assert!(
                found.len() == expected.len() && found.iter().zip(&expected).all(same),
                "picture {place}: {found:?}"
            );
        }
    }
}
