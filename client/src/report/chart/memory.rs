//! What a partition held over time: in use, promised, and at most; where it was flushed, and where it was not enough.

use gpusched_shared::{MemoryEvent, MemorySample};
use plotters::prelude::{Circle, Cross, PathElement, RGBColor, TriangleMarker};
use plotters::series::{AreaSeries, LineSeries};
use plotters::style::Color;

use super::super::record::{ClassInfo, Record};
use super::super::{ReportError, words};
use super::axis::TimeAxis;
use super::{CAP, FLUSH, OOM, RESERVED, both, svg};

const HEIGHT: u32 = 200;
const LEFT: u32 = 58;

/// The chart of a class, unless nothing is known of its memory.
pub(in super::super) fn chart(
    record: &Record,
    class: &ClassInfo,
    color: RGBColor,
) -> Result<Option<String>, ReportError> {
    let samples: Vec<&MemorySample> = record.memory.iter().filter(|sample| sample.class == class.name).collect();
    if samples.is_empty() {
        return Ok(None);
    }
    let axis = TimeAxis::new(record.since_unix_ms, record.until_unix_ms);
    let top = top(&samples, class.cap_bytes);
    let label = format!("memory of class {} over time", class.name);
    both(|width, kind| {
        svg("memory over time", kind, &label, (width, HEIGHT), |area| {
            let format = |bytes: &f64| words::bytes(*bytes);
            let mut chart = axis.plane(area, LEFT, 0.0..top, Some(&format))?;
            let used = steps(&samples, &axis, width, |sample| sample.used_bytes);
            chart.draw_series(AreaSeries::new(used, 0.0, color.mix(0.35)).border_style(color.stroke_width(1)))?;
            let reserved = steps(&samples, &axis, width, |sample| sample.reserved_bytes);
            chart.draw_series(LineSeries::new(reserved, RESERVED.stroke_width(1)))?;
            if class.cap_bytes as f64 <= top {
                let (cap, range) = (class.cap_bytes as f64, axis.range());
                chart.draw_series([PathElement::new([(range.start, cap), (range.end, cap)], CAP.stroke_width(1))])?;
            }
            let at = |sample: &&MemorySample| (axis.at_ms(sample.unix_ms), (sample.used_bytes as f64).min(top));
            let flushed = spread(&samples, &axis, width, MemoryEvent::Flushed);
            chart.draw_series(flushed.iter().map(|sample| TriangleMarker::new(at(sample), 5, FLUSH.filled())))?;
            let short = spread(&samples, &axis, width, MemoryEvent::OutOfMemory);
            chart.draw_series(short.iter().map(|sample| Cross::new(at(sample), 5, OOM.stroke_width(2))))?;
            chart.draw_series(short.iter().map(|sample| Circle::new(at(sample), 7, OOM.stroke_width(2))))?;
            Ok(())
        })
    })
    .map(Some)
}

/// As high as the chart is: the cap, unless what is used would hardly be seen below it.
pub(in super::super) fn top(samples: &[&MemorySample], cap_bytes: u64) -> f64 {
    let most = samples.iter().map(|sample| sample.used_bytes.max(sample.reserved_bytes)).max().unwrap_or(0);
    let (most, cap) = (most as f64 * 1.15, cap_bytes as f64 * 1.05);
    if most < cap / 4.0 && most > 0.0 { most } else { most.max(cap).max(1.0) }
}

/// What holds from each sample to the next, to the end of the axis. Of the samples of one pixel the lowest, the highest and the last are
/// drawn.
fn steps(samples: &[&MemorySample], axis: &TimeAxis, width: u32, of: fn(&MemorySample) -> u64) -> Vec<(f64, f64)> {
    let range = axis.range();
    let unit = (range.end - range.start) / f64::from(width);
    let mut points: Vec<(f64, f64)> = Vec::new();
    let mut last: Option<f64> = None;
    let mut rest = samples;
    while let Some(first) = rest.first() {
        let at = axis.at_ms(first.unix_ms);
        let count = rest.iter().take_while(|sample| axis.at_ms(sample.unix_ms) < at + unit).count().max(1);
        let (now, later) = rest.split_at(count);
        let values = || now.iter().map(|sample| of(sample) as f64);
        let end = values().next_back().unwrap_or(0.0);
        points.extend(last.map(|last| (at, last)));
        if count > 2 {
            points.push((at, values().fold(f64::MAX, f64::min)));
            points.push((at, values().fold(0.0, f64::max)));
        }
        points.push((at, end));
        (last, rest) = (Some(end), later);
    }
    points.extend(last.map(|last| (range.end, last)));
    points
}

/// The samples of an event, no two of them closer than the marks for them are wide.
fn spread<'a>(samples: &[&'a MemorySample], axis: &TimeAxis, width: u32, event: MemoryEvent) -> Vec<&'a MemorySample> {
    let range = axis.range();
    let apart = 6.0 * (range.end - range.start) / f64::from(width);
    let mut kept: Vec<&MemorySample> = Vec::new();
    for &sample in samples.iter().filter(|sample| sample.event == event) {
        if kept.last().is_none_or(|last| axis.at_ms(sample.unix_ms) - axis.at_ms(last.unix_ms) >= apart) {
            kept.push(sample);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(unix_ms: u64, used_bytes: u64) -> MemorySample {
        MemorySample {
            unix_ms,
            class: "heavy".to_owned(),
            event: MemoryEvent::Flushed,
            used_bytes,
            reserved_bytes: 0,
            cap_bytes: 100,
            resident_bytes: 0,
        }
    }

    #[test]
    fn what_holds_holds_until_the_next_sample() {
        let axis = TimeAxis::new(0, 10_000);
        let samples = [sample(1000, 5), sample(4000, 2)];
        let samples: Vec<_> = samples.iter().collect();
        let points = steps(&samples, &axis, 1000, |sample| sample.used_bytes);
        assert_eq!(points, [(1.0, 5.0), (4.0, 5.0), (4.0, 2.0), (10.0, 2.0)]);
    }

    #[test]
    fn peaks_stay_and_there_are_no_more_points_than_pixels_can_show() {
        let samples: Vec<_> = (0..100_000).map(|n| sample(n / 10, if n == 55_555 { 99 } else { n % 7 })).collect();
        let samples: Vec<_> = samples.iter().collect();
        let axis = TimeAxis::new(0, 10_000);
        let points = steps(&samples, &axis, 300, |sample| sample.used_bytes);
        assert!(points.len() <= 4 * 301 + 1, "{}", points.len());
        assert!(points.iter().any(|(_, used)| *used == 99.0));
        assert!(spread(&samples, &axis, 300, MemoryEvent::Flushed).len() <= 51);
    }

    #[test]
    fn the_cap_is_in_the_picture_unless_that_hides_the_rest() {
        let tops = [(0, 100), (50, 100), (1, 1000)].map(|(used, cap)| {
            let sample = sample(0, used);
            top(&[&sample], cap).round()
        });
        assert_eq!(tops, [105.0, 105.0, 1.0]);
        assert_eq!(top(&[], 0), 1.0, "a chart has a height");
    }
}
