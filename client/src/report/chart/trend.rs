//! How often pictures pass their checks, group of jobs by group of jobs.

use gpusched_shared::TrendPoint;
use plotters::prelude::{ChartBuilder, Circle};
use plotters::series::LineSeries;
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::super::ReportError;
use super::{GRID, NARROW, PASSED, PASSED_FIRST, svg, text_style};

const HEIGHT: u32 = 200;

/// The chart, of at least one point.
pub(in super::super) fn chart(points: &[TrendPoint]) -> Result<String, ReportError> {
    let jobs: u64 = points.iter().map(|point| point.success.jobs).sum();
    let label = format!("how often the pictures of {jobs} jobs passed, at first and in the end");
    svg("trend", "small", &label, (NARROW, HEIGHT), |area| {
        // One point has a middle to stand in.
        let last = points.len() as f64;
        let mut chart = ChartBuilder::on(area)
            .margin_top(10)
            .margin_right(14)
            .x_label_area_size(12)
            .y_label_area_size(44)
            .build_cartesian_2d(0.5..last + 0.5, 0.0..1.0)?;
        chart
            .configure_mesh()
            .x_labels(0)
            .y_labels(5)
            .y_label_formatter(&|rate| format!("{:.0} %", rate * 100.0))
            .y_label_style(text_style(area, HPos::Center))
            .axis_style(GRID)
            .bold_line_style(GRID)
            .light_line_style(GRID.mix(0.0))
            .draw()?;
        let rates = |rate: fn(&TrendPoint) -> Option<f64>| -> Vec<(f64, f64)> {
            let at = |(n, point): (usize, &TrendPoint)| Some((n as f64 + 1.0, rate(point)?));
            points.iter().enumerate().filter_map(at).collect()
        };
        let lines =
            [(rates(|point| point.success.first_rate()), PASSED_FIRST), (rates(|point| point.success.rate()), PASSED)];
        for (rates, color) in lines {
            chart.draw_series(LineSeries::new(rates.clone(), color.stroke_width(2)))?;
            chart.draw_series(rates.into_iter().map(|at| Circle::new(at, 3, color.filled())))?;
        }
        Ok(())
    })
}
