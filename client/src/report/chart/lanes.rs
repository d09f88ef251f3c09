//! What ran on which lane, and when.

use plotters::element::Text;
use plotters::prelude::{RGBColor, Rectangle};
use plotters::style::Color;
use plotters::style::text_anchor::HPos;

use super::super::lanes::{Lane, lanes};
use super::super::record::Record;
use super::super::{ReportError, words};
use super::axis::TimeAxis;
use super::{HEAVY_PARKED, both, colors, svg, text_style};

/// Pixels that a lane is high.
const ROW: u32 = 30;
/// Pixels for the axis and above the lanes.
const REST: u32 = 36;

/// A mark on a lane, in microseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Mark {
    from_us: u64,
    until_us: u64,
    color: RGBColor,
    /// Whether an attempt ends with it.
    is_last: bool,
}

/// The chart. Parked work is lighter; what ran meanwhile that others make way for is a stripe inside it, and stands on its own lane.
pub(in super::super) fn chart(record: &Record) -> Result<String, ReportError> {
    let lanes = lanes(record);
    let axis = TimeAxis::new(record.since_unix_ms, record.until_unix_ms);
    let label = format!("{} and what ran on them", words::count(lanes.len() as u64, "lane", "lanes"));
    let longest = lanes.iter().map(|lane| lane.name().chars().count()).max().unwrap_or(0);
    let left = u32::try_from(longest.min(16)).unwrap_or(0) * 7 + 16;
    both(|width, class| {
        let rows = u32::try_from(lanes.len()).unwrap_or(1).max(1);
        svg("timeline of lanes", class, &label, (width, rows * ROW + REST), |area| {
            let mut chart = axis.plane(area, left, f64::from(rows)..0.0, None)?;
            let range = axis.range();
            let pixel_us = (record.until_unix_ms.saturating_sub(record.since_unix_ms)).max(1000) * 1000
                / u64::from(width.saturating_sub(left + 24).max(1));
            let unit = (range.end - range.start) / f64::from(width.saturating_sub(left + 24).max(1));
            for (row, lane) in (0u32..).zip(&lanes) {
                let (top, bottom) = (f64::from(row) + 0.15, f64::from(row) + 0.85);
                let rectangle = |mark: &Mark, (top, bottom)| {
                    let from = axis.at_us(mark.from_us);
                    // What is shorter than a pixel is a pixel; what follows at once is told apart by one.
                    let until = axis.at_us(mark.until_us).max(from + unit);
                    let until = if mark.is_last && until - from > 4.0 * unit { until - unit } else { until };
                    Rectangle::new([(from, top), (until, bottom)], mark.color.filled())
                };
                let bars = merged(marks(lane, record), pixel_us);
                chart.draw_series(bars.iter().map(|mark| rectangle(mark, (top, bottom))))?;
                let stripes = merged(inside(lane, &lanes, record), pixel_us);
                let middle = (f64::from(row) + 0.38, f64::from(row) + 0.62);
                chart.draw_series(stripes.iter().map(|mark| rectangle(mark, middle)))?;
                let name: String = lane.name().chars().take(16).collect();
                let at = (range.start - 6.0 * unit, f64::from(row) + 0.5);
                chart.draw_series([Text::new(name, at, text_style(area, HPos::Right))])?;
            }
            Ok(())
        })
    })
}

/// A lane's marks in order: runs, and what was parked of them.
fn marks(lane: &Lane<'_>, record: &Record) -> Vec<Mark> {
    let place = record.classes.iter().position(|class| class.name == lane.class);
    let color = place.and_then(|place| colors(&record.classes).get(place).copied()).unwrap_or(super::LIGHT);
    let mut marks = Vec::new();
    for stay in &lane.stays {
        let mut from_us = stay.from_us;
        for &(parked_us, until_us) in &stay.parked_us {
            marks.push(Mark { from_us, until_us: parked_us, color, is_last: false });
            let is_last = until_us == stay.until_us;
            marks.push(Mark { from_us: parked_us, until_us, color: HEAVY_PARKED, is_last });
            from_us = until_us;
        }
        // An attempt that was over at once is still one; nothing after its last stay at the gate is nothing.
        if from_us < stay.until_us || stay.parked_us.is_empty() {
            marks.push(Mark { from_us, until_us: stay.until_us, color, is_last: true });
        }
    }
    marks
}

/// What ran within the attempts of a lane that makes way: the time, together, of all lanes that it makes way for.
fn inside(lane: &Lane<'_>, lanes: &[Lane<'_>], record: &Record) -> Vec<Mark> {
    let makes_way = |name: &str| record.classes.iter().any(|class| class.name == name && class.makes_way);
    if !makes_way(lane.class) {
        return Vec::new();
    }
    let lighter = lanes.iter().filter(|other| !makes_way(other.class)).flat_map(|other| &other.stays);
    let mut lighter: Vec<_> = lighter.map(|stay| (stay.from_us, stay.until_us)).collect();
    lighter.sort_unstable();
    lighter.dedup_by(|next, last| {
        let overlap = next.0 <= last.1;
        last.1 = if overlap { last.1.max(next.1) } else { last.1 };
        overlap
    });
    let mut marks = Vec::new();
    let mut begin = 0;
    for stay in &lane.stays {
        // Both are in order and without overlaps: what is over before this stay is over before all later ones.
        begin += lighter[begin..].iter().take_while(|(_, until_us)| *until_us <= stay.from_us).count();
        let here = lighter[begin..].iter().take_while(|(from_us, _)| *from_us < stay.until_us);
        marks.extend(here.map(|&(from_us, until_us)| Mark {
            from_us: from_us.max(stay.from_us),
            until_us: until_us.min(stay.until_us),
            color: super::LIGHT,
            is_last: false,
        }));
    }
    marks
}

/// Marks that would be drawn over each other become one: those shorter than a pixel and closer than that to their neighbour, if it is of
/// the same colour or as short. So there are hardly more than pixels, however much ran.
fn merged(marks: Vec<Mark>, pixel_us: u64) -> Vec<Mark> {
    let is_short = |mark: &Mark| mark.until_us - mark.from_us < pixel_us;
    let mut merged: Vec<Mark> = Vec::new();
    for mark in marks {
        match merged.last_mut() {
            Some(last)
                if mark.from_us.saturating_sub(last.until_us) < pixel_us
                    && is_short(&mark)
                    && (last.color == mark.color || is_short(last)) =>
            {
                last.until_us = last.until_us.max(mark.until_us);
                last.is_last = mark.is_last;
            }
            _ => merged.push(mark),
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::super::{HEAVY, LIGHT};
    use super::*;

    fn mark(from_us: u64, until_us: u64, color: RGBColor) -> Mark {
        Mark { from_us, until_us, color, is_last: true }
    }

    #[test]
    fn marks_of_their_own_stay_and_crowds_become_one() {
        let apart =
            vec![mark(0, 100, HEAVY), mark(100, 200, HEAVY_PARKED), mark(200, 300, HEAVY), mark(350, 351, LIGHT)];
        assert_eq!(merged(apart.clone(), 10), apart);
        let touching = vec![mark(0, 100, HEAVY), mark(100, 200, HEAVY)];
        assert_eq!(merged(touching.clone(), 10), touching, "two jobs one after the other are two");
        let crowd: Vec<_> = (0..100_000).map(|n| mark(n * 2, n * 2 + 1, LIGHT)).collect();
        assert_eq!(merged(crowd, 10), [mark(0, 199_999, LIGHT)]);
        let mixed: Vec<_> =
            (0..10_000).map(|n| mark(n, n + 1, if n % 2 == 0 { HEAVY } else { HEAVY_PARKED })).collect();
        assert!(merged(mixed, 100).len() <= 200);
    }
}
