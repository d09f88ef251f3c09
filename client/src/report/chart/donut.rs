//! Parts of a whole.

use plotters::element::Pie;
use plotters::prelude::RGBColor;
use plotters::style::text_anchor::HPos;

use super::super::ReportError;
use super::{sized_text, svg};

const SIDE: u32 = 200;

/// The chart, with what is in its middle. Of nothing there is none.
pub(in super::super) fn chart(
    label: &str,
    middle: &str,
    parts: &[(u64, RGBColor)],
) -> Result<Option<String>, ReportError> {
    let (sizes, colors): (Vec<f64>, Vec<RGBColor>) =
        parts.iter().filter(|(size, _)| *size > 0).map(|(size, color)| (*size as f64, *color)).unzip();
    if sizes.is_empty() {
        return Ok(None);
    }
    let center = (100, 100);
    let names = vec![""; sizes.len()];
    let drawn = svg("outcomes", "donut", label, (SIDE, SIDE), |area| {
        let mut pie = Pie::new(&center, &90.0, &sizes, &colors, &names);
        pie.start_angle(-90.0);
        pie.donut_hole(56.0);
        area.draw(&pie)?;
        area.draw_text(middle, &sized_text(area, 26, HPos::Center), center)?;
        Ok(())
    })?;
    Ok(Some(drawn))
}
