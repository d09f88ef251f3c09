//! The pictures of a report, as SVG.
//!
//! The colours here are names: the style sheet of the page finds marks by them and gives them the colours of its own, for light
//! and for dark. So each thing has a colour that nothing else has, which is also how tests count marks.

mod axis;
pub(super) mod bars;
pub(super) mod donut;
pub(super) mod lanes;
pub(super) mod memory;
pub(super) mod trend;

use plotters::coord::Shift;
use plotters::prelude::{DrawingArea, DrawingAreaErrorKind, IntoDrawingArea, RGBColor, SVGBackend};
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{IntoTextStyle, TextStyle};

use super::ReportError;

/// Work that makes way, and where it is parked.
pub(super) const HEAVY: RGBColor = RGBColor(0x1F, 0x3A, 0x6E);
pub(super) const HEAVY_PARKED: RGBColor = RGBColor(0x9D, 0xB2, 0xD6);
/// Work that it makes way for: the first class, and others.
pub(super) const LIGHT: RGBColor = RGBColor(0xD1, 0x34, 0x3C);
pub(super) const OTHERS: [RGBColor; 3] =
    [RGBColor(0x2A, 0x7F, 0x62), RGBColor(0xB7, 0x79, 0x1F), RGBColor(0x6B, 0x4F, 0xA0)];
/// One queue, to compare with.
pub(super) const FIFO: RGBColor = RGBColor(0x98, 0xA2, 0xB3);
/// What was promised, what may be had at most, flushes, and where memory ran out.
pub(super) const RESERVED: RGBColor = RGBColor(0x7A, 0x8C, 0xA8);
pub(super) const CAP: RGBColor = RGBColor(0x4A, 0x52, 0x5E);
pub(super) const FLUSH: RGBColor = RGBColor(0x0E, 0x8A, 0x9E);
pub(super) const OOM: RGBColor = RGBColor(0xE0, 0x6C, 0x00);
/// Outcomes: done, failed, cancelled, expired, unfinished.
pub(super) const OUTCOMES: [RGBColor; 5] = [
    RGBColor(0x2E, 0x8B, 0x57),
    RGBColor(0xC0, 0x39, 0x2B),
    RGBColor(0x8E, 0x99, 0xA6),
    RGBColor(0xD3, 0x9B, 0x22),
    RGBColor(0x5B, 0x8D, 0xC9),
];
/// Pictures that passed in the end, and at first.
pub(super) const PASSED: RGBColor = RGBColor(0x2E, 0x8B, 0x58);
pub(super) const PASSED_FIRST: RGBColor = RGBColor(0x8F, 0xC7, 0xA6);
/// Text, and lines to measure by.
pub(super) const INK: RGBColor = RGBColor(0x57, 0x60, 0x6B);
pub(super) const GRID: RGBColor = RGBColor(0xDF, 0xE3, 0xE8);

/// Widths, in pixels: of a page, and of a telephone.
pub(super) const WIDE: u32 = 1040;
pub(super) const NARROW: u32 = 340;
/// The size of text; a quarter more than its pixels.
const TEXT: u32 = 15;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// What drawing comes to; writing into memory does not fail.
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// Draws a picture. `label` says what it is to those who cannot see it.
fn svg(
    chart: &'static str,
    class: &str,
    label: &str,
    size: (u32, u32),
    draw: impl FnOnce(&Area<'_>) -> Drawn,
) -> Result<String, ReportError> {
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
    let drawn = draw(&area).and_then(|()| area.present());
    drop(area);
    drawn.map_err(|e| ReportError::Chart { chart, what: e.to_string() })?;
    let label = label.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    Ok(text.replacen("<svg ", &format!("<svg class=\"{class}\" role=\"img\" aria-label=\"{label}\" "), 1))
}

/// The same picture for a page and for a telephone; the style sheet shows one of them.
fn both(draw: impl Fn(u32, &str) -> Result<String, ReportError>) -> Result<String, ReportError> {
    Ok(draw(WIDE, "wide")? + &draw(NARROW, "narrow")?)
}

/// Text at a place that is its left, its middle or its right, half-way up.
fn text_style<'a>(area: &Area<'_>, at: HPos) -> TextStyle<'a> {
    sized_text(area, TEXT, at)
}

fn sized_text<'a>(area: &Area<'_>, size: u32, at: HPos) -> TextStyle<'a> {
    ("sans-serif", size).with_color(INK).into_text_style(area).pos(Pos::new(at, VPos::Center))
}

/// The colour of each class: navy for the first that makes way, red for the first of the others.
pub(super) fn colors(classes: &[super::ClassInfo]) -> Vec<RGBColor> {
    let (mut heavy, mut light, mut others) = (Some(HEAVY), Some(LIGHT), OTHERS.into_iter().cycle());
    let color = |class: &super::ClassInfo| {
        let first = if class.makes_way { heavy.take() } else { light.take() };
        first.or_else(|| others.next()).unwrap_or(LIGHT)
    };
    classes.iter().map(color).collect()
}
