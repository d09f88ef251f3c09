//! The axis of time: seconds since the beginning of a short record, the time of day of a long one.

use plotters::chart::{ChartBuilder, ChartContext};
use plotters::coord::cartesian::Cartesian2d;
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::{DrawingAreaErrorKind, SVGBackend};
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::super::words::strftime;
use super::{Area, GRID, INK, text_style};

/// A record up to this long is told in seconds.
const SHORT_MS: u64 = 150_000;
const MINUTE_MS: u64 = 60_000;
const HOUR_MS: u64 = 60 * MINUTE_MS;
/// One from this length on is told in hours.
const LONG_MS: u64 = 6 * HOUR_MS;

pub(super) type Plane = Cartesian2d<RangedCoordf64, RangedCoordf64>;

/// Milliseconds since the Unix epoch, as numbers that a chart divides evenly.
#[derive(Debug, Clone, Copy)]
pub(super) struct TimeAxis {
    origin_ms: u64,
    unit_ms: u64,
    from_ms: u64,
    until_ms: u64,
}

impl TimeAxis {
    /// From a moment to another, or to a second later if that is not later.
    pub(super) fn new(from_ms: u64, until_ms: u64) -> Self {
        let until_ms = until_ms.max(from_ms.saturating_add(1000));
        let length_ms = until_ms - from_ms;
        let unit_ms = match length_ms {
            0..SHORT_MS => 1000,
            SHORT_MS..LONG_MS => MINUTE_MS,
            _ => HOUR_MS,
        };
        // Full minutes and hours are where people look for them.
        let origin_ms = if unit_ms == 1000 { from_ms } else { from_ms / HOUR_MS * HOUR_MS };
        Self { origin_ms, unit_ms, from_ms, until_ms }
    }

    /// A moment on the axis, within its ends.
    pub(super) fn at_us(&self, us: u64) -> f64 {
        let us = us.clamp(self.from_ms * 1000, self.until_ms * 1000);
        (us - self.origin_ms * 1000) as f64 / (self.unit_ms * 1000) as f64
    }

    pub(super) fn at_ms(&self, ms: u64) -> f64 {
        self.at_us(ms.saturating_mul(1000))
    }

    pub(super) fn range(&self) -> std::ops::Range<f64> {
        self.at_ms(self.from_ms)..self.at_ms(self.until_ms)
    }

    fn label(&self, at: f64) -> String {
        if self.unit_ms == 1000 {
            return format!("{} s", (at * 100.0).round() / 100.0);
        }
        let ms = self.origin_ms + (at * self.unit_ms as f64).round().max(0.0) as u64;
        let days = self.until_ms - self.from_ms > 36 * HOUR_MS;
        strftime(ms, if days { "%m-%d %H:%M" } else { "%H:%M" })
    }

    /// A plane with this axis below it. `left` is room for what stands there; `heights` says what the numbers at the left mean,
    /// if they are to be shown.
    pub(super) fn plane<'a, 'b>(
        &self,
        area: &'a Area<'b>,
        left: u32,
        height: std::ops::Range<f64>,
        heights: Option<&dyn Fn(&f64) -> String>,
    ) -> Result<ChartContext<'a, SVGBackend<'b>, Plane>, DrawingAreaErrorKind<std::io::Error>> {
        let mut chart = ChartBuilder::on(area)
            .margin_top(8)
            .margin_right(24)
            .x_label_area_size(26)
            .y_label_area_size(left)
            .build_cartesian_2d(self.range(), height)?;
        let (width, _) = area.dim_in_pixel();
        let label = |at: &f64| self.label(*at);
        let style = text_style(area, HPos::Center);
        let mut mesh = chart.configure_mesh();
        mesh.x_labels((width / 110).max(3) as usize)
            .x_label_formatter(&label)
            .x_label_style(style.clone())
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(GRID.mix(0.0));
        match heights {
            Some(format) => mesh.y_labels(5).y_label_formatter(format).y_label_style(style.color(&INK)).draw()?,
            None => mesh.disable_y_mesh().y_labels(0).draw()?,
        }
        Ok(chart)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_records_are_told_in_seconds_and_long_ones_by_the_clock() {
        let day = 1_795_305_600_000;
        let short = TimeAxis::new(day + 500, day + 5000);
        assert_eq!((short.range(), short.label(1.25)), (0.0..4.5, "1.25 s".to_owned()));
        let empty = TimeAxis::new(7, 7);
        assert_eq!(empty.range(), 0.0..1.0);
        let hour = TimeAxis::new(day + 10 * MINUTE_MS, day + 70 * MINUTE_MS);
        assert_eq!(hour.range(), 10.0..70.0);
        assert_eq!(hour.label(30.0), strftime(day + 30 * MINUTE_MS, "%H:%M"));
        assert_eq!(hour.at_us(0), 10.0, "what began before is at the beginning");
        let week = TimeAxis::new(day, day + 168 * HOUR_MS);
        assert_eq!(week.range(), 0.0..168.0);
        assert!(week.label(24.0).starts_with("11-23 "));
    }
}
