//! Horizontal bars with what they mean beside them.

use plotters::element::Text;
use plotters::prelude::{ChartBuilder, RGBColor, Rectangle};
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::super::ReportError;
use super::{NARROW, svg, text_style};

/// Pixels that a bar is high, with what is above it; of which the bar itself.
const ROW: u32 = 42;

/// One bar.
#[derive(Debug, Clone)]
pub(in super::super) struct Bar {
    /// What it is of, above it.
    pub(in super::super) name: String,
    /// What it comes to, above it at the right.
    pub(in super::super) value: String,
    /// Its parts from left to right, and their colours; none is negative.
    pub(in super::super) parts: Vec<(f64, RGBColor)>,
}

/// The chart. The longest bar is as long as there is room.
pub(in super::super) fn chart(name: &'static str, label: &str, bars: &[Bar]) -> Result<String, ReportError> {
    let rows = u32::try_from(bars.len()).unwrap_or(1).max(1);
    let length = |bar: &Bar| bar.parts.iter().map(|(length, _)| length).sum::<f64>();
    let longest = bars.iter().map(length).fold(f64::MIN_POSITIVE, f64::max);
    svg(name, "small", label, (NARROW, rows * ROW + 4), |area| {
        let mut chart = ChartBuilder::on(area).build_cartesian_2d(0.0..longest, f64::from(rows)..0.0)?;
        let unit = longest / f64::from(NARROW);
        for (row, bar) in (0u32..).zip(bars) {
            let (above, top, bottom) = (f64::from(row) + 0.24, f64::from(row) + 0.45, f64::from(row) + 0.88);
            let mut from = 0.0;
            for &(length, color) in bar.parts.iter().filter(|(length, _)| *length > 0.0) {
                // What is shorter than a pixel is a pixel.
                let until = (from + length.max(unit)).min(longest);
                chart.draw_series([Rectangle::new([(from, top), (until, bottom)], color.filled())])?;
                from = until;
            }
            let name: String = bar.name.chars().take(40).collect();
            chart.draw_series([
                Text::new(name, (0.0, above), text_style(area, HPos::Left)),
                Text::new(bar.value.clone(), (longest, above), text_style(area, HPos::Right)),
            ])?;
        }
        Ok(())
    })
}
