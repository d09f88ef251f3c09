//! A record lane by lane: what each had when, without overlaps.
//!
//! Clocks are set and daemons die, so what is on record may overlap or have no end. Here it does not: an attempt that has no end
//! lasts until the next one on its lane, or until now, and one that would reach into the next is cut.

use std::collections::BTreeMap;

use gpusched_shared::LaneSpan;

use super::record::Record;

/// A lane and what it ran, the oldest first.
#[derive(Debug, Clone)]
pub struct Lane<'a> {
    /// Its class.
    pub class: &'a str,
    /// Its number within the class, from 0.
    pub index: u32,
    /// What it ran.
    pub stays: Vec<Stay<'a>>,
}

/// An attempt on its lane. Times are in microseconds since the Unix epoch.
#[derive(Debug, Clone)]
pub struct Stay<'a> {
    /// When it began.
    pub from_us: u64,
    /// When it ended, not before it began nor after the next one did.
    pub until_us: u64,
    /// When it was parked, within these, in order and without overlaps.
    pub parked_us: Vec<(u64, u64)>,
    /// What is on record.
    pub span: &'a LaneSpan,
}

impl Lane<'_> {
    /// `heavy-0`
    pub fn name(&self) -> String {
        format!("{}-{}", self.class, self.index)
    }
}

/// The lanes of a record, class by class in the order of the configuration, lanes that were idle included.
pub fn lanes(record: &Record) -> Vec<Lane<'_>> {
    let order = |class: &str| record.classes.iter().position(|known| known.name == class).unwrap_or(usize::MAX);
    let mut lanes: BTreeMap<(usize, &str, u32), Vec<&LaneSpan>> = BTreeMap::new();
    for (place, class) in record.classes.iter().enumerate() {
        lanes.extend((0..class.lanes).map(|index| ((place, class.name.as_str(), index), Vec::new())));
    }
    for span in &record.spans {
        if let Some((class, index)) = span.place() {
            lanes.entry((order(class), class, index)).or_default().push(span);
        }
    }
    let lane = |((_, class, index), spans)| Lane { class, index, stays: stays(spans, record.until_unix_ms) };
    lanes.into_iter().map(lane).collect()
}

fn stays(mut spans: Vec<&LaneSpan>, now_unix_ms: u64) -> Vec<Stay<'_>> {
    spans.sort_by_key(|span| span.started_unix_ms);
    let starts: Vec<u64> = spans.iter().skip(1).map(|span| span.started_unix_ms).collect();
    let ends = starts.into_iter().map(Some).chain([None]);
    let stay = |(span, next): (_, Option<u64>)| {
        let span: &LaneSpan = span;
        let open_end = next.unwrap_or_else(|| now_unix_ms.max(span.started_unix_ms));
        let until = span.ended_unix_ms.unwrap_or(open_end).max(span.started_unix_ms);
        let until = next.map_or(until, |next| until.min(next));
        let (from_us, until_us) = (span.started_unix_ms.saturating_mul(1000), until.saturating_mul(1000));
        Stay { from_us, until_us, parked_us: parked(span, from_us, until_us), span }
    };
    spans.into_iter().zip(ends).map(stay).collect()
}

fn parked(span: &LaneSpan, from_us: u64, until_us: u64) -> Vec<(u64, u64)> {
    let mut parked: Vec<(u64, u64)> = Vec::new();
    for stay in &span.parked {
        let least = parked.last().map_or(from_us, |last| last.1);
        let begin = from_us.saturating_add(stay.from_us).clamp(least, until_us.max(least));
        let end = from_us.saturating_add(stay.until_us).clamp(begin, until_us.max(begin));
        if end > begin {
            parked.push((begin, end));
        }
    }
    parked
}

#[cfg(test)]
mod tests {
    use gpusched_shared::Parked;

    use super::super::record::ClassInfo;
    use super::*;

    fn span(lane: &str, started_unix_ms: u64, ended_unix_ms: Option<u64>, parked: &[(u64, u64)]) -> LaneSpan {
        let parked = parked.iter().map(|&(from_us, until_us)| Parked { from_us, until_us }).collect();
        LaneSpan { lane: lane.to_owned(), started_unix_ms, ended_unix_ms, end: None, parked, about: None }
    }

    #[test]
    fn stays_on_a_lane_never_overlap() {
        let class = |name: &str, lanes| ClassInfo { name: name.to_owned(), lanes, cap_bytes: 1, makes_way: false };
        let record = Record {
            until_unix_ms: 90,
            classes: vec![class("heavy", 1), class("light", 2)],
            spans: vec![
                span("heavy-0", 10, Some(30), &[(5_000, 9_000), (8_000, 12_000), (19_000, 99_000)]),
                span("heavy-0", 20, None, &[]),
                span("light-1", 40, None, &[]),
                span("heavy-0", 60, Some(50), &[]),
                span("old-0", 70, Some(80), &[]),
                span("nonsense", 70, Some(80), &[]),
            ],
            ..Record::default()
        };
        let lanes = lanes(&record);
        let names: Vec<_> = lanes.iter().map(Lane::name).collect();
        assert_eq!(names, ["heavy-0", "light-0", "light-1", "old-0"]);
        let times =
            |lane: usize| lanes[lane].stays.iter().map(|s| (s.from_us / 1000, s.until_us / 1000)).collect::<Vec<_>>();
        assert_eq!(times(0), [(10, 20), (20, 60), (60, 60)]);
        assert_eq!((times(1), times(2)), (vec![], vec![(40, 90)]));
        assert_eq!(lanes[0].stays[0].parked_us, [(15_000, 19_000), (19_000, 20_000)]);
    }
}
