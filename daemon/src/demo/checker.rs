//! Which shapes a picture shows, found from its pixels alone, without any neural network; the same rules as
//! `models/training/checker.py`.

use std::fmt;

use image::RgbImage;

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

/// A shape the shipped models know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// The RGB value of a colour of [`COLORS`]; black for any other name.
pub fn color(name: &str) -> [u8; 3] {
    COLORS.iter().find(|(other, _)| *other == name).map_or([0; 3], |(_, rgb)| *rgb)
}

/// The shapes in `picture`, at most one for each colour; without a kind where it is none of those known.
pub fn find(picture: &RgbImage) -> Vec<(&'static str, Option<Kind>)> {
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let labels: Vec<Option<usize>> = picture.pixels().map(|pixel| label(pixel.0)).collect();
    let found = COLORS.iter().enumerate().filter_map(|(index, (name, _))| {
        let mask: Vec<bool> = labels.iter().map(|label| *label == Some(index)).collect();
        // Opening drops the slivers that anti-aliased edges leave.
        let eroded = spread(&mask, width, height, false);
        let mask = spread(&eroded, width, height, true);
        (mask.iter().filter(|set| **set).count() >= MIN_AREA).then(|| (*name, kind(&mask, width)))
    });
    found.collect()
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
    if !(0.65..1.55).contains(&aspect) {
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
