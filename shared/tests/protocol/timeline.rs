//! What ran when, and what memory was in use, for the examples.

use gpusched_shared::{
    About, AttemptEnd, Cursor, JobId, LaneSpan, MemoryEvent, MemorySample, Parked, StageRole, TaskKind, TimelinePage,
    TimelineView,
};

/// Someone else's that still runs, and an own one that made way twice.
pub(super) fn lanes() -> TimelineView {
    let foreign = LaneSpan {
        lane: "batch-0".to_owned(),
        started_unix_ms: 1_795_362_090_000,
        ended_unix_ms: None,
        end: None,
        parked: Vec::new(),
        about: None,
    };
    let about = About {
        job: JobId(7),
        attempt: 1,
        role: StageRole::Image,
        round: 2,
        kind: TaskKind::Txt2Img,
        model: "flux".to_owned(),
        peak_bytes: 52_428_800,
    };
    let own = LaneSpan {
        started_unix_ms: 1_795_362_071_000,
        ended_unix_ms: Some(1_795_362_074_500),
        end: Some(AttemptEnd::Done),
        parked: vec![Parked { from_us: 250_000, until_us: 331_000 }, Parked { from_us: 900_000, until_us: 1_400_000 }],
        about: Some(about),
        ..foreign.clone()
    };
    TimelineView { policy: "multi-queue".to_owned(), page: TimelinePage::Lanes(vec![foreign, own]), next: None }
}

/// After a flush.
pub(super) fn memory() -> TimelineView {
    let sample = MemorySample {
        unix_ms: 1_795_362_071_000,
        class: "batch".to_owned(),
        event: MemoryEvent::Flushed,
        used_bytes: 8 << 30,
        reserved_bytes: 10 << 30,
        cap_bytes: 34 << 30,
        resident_bytes: 9 << 30,
    };
    let next = Some(Cursor { unix_ms: sample.unix_ms, id: 12, attempt: 0 });
    TimelineView { policy: "multi-queue".to_owned(), page: TimelinePage::Memory(vec![sample]), next }
}
