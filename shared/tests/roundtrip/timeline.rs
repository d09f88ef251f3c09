//! What ran when, and what memory was in use.

use gpusched_shared::{
    About, AttemptEnd, Cursor, JobId, LaneSpan, MemoryEvent, MemorySample, Parked, StageRole, TaskKind, TimelinePage,
    TimelineView, Track,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;

use super::text;

pub(super) fn track() -> impl Strategy<Value = Track> {
    select(vec![Track::Lanes, Track::Memory])
}

pub(super) fn cursor() -> impl Strategy<Value = Cursor> {
    any::<(u64, u64, u32)>().prop_map(|(unix_ms, id, attempt)| Cursor { unix_ms, id, attempt })
}

fn about() -> impl Strategy<Value = About> {
    let roles = select(vec![StageRole::Whole, StageRole::Image, StageRole::Check, StageRole::Glance]);
    let kinds = select(vec![TaskKind::Txt2Img, TaskKind::Img2Img, TaskKind::Vqa]);
    (any::<(u64, u32, u8, u64)>(), roles, kinds, text()).prop_map(
        |((job, attempt, round, peak_bytes), role, kind, model)| About {
            job: JobId(job),
            attempt,
            role,
            round,
            kind,
            model,
            peak_bytes,
        },
    )
}

fn span() -> impl Strategy<Value = LaneSpan> {
    let ends = of(select(vec![
        AttemptEnd::Done,
        AttemptEnd::Failed,
        AttemptEnd::Stopped,
        AttemptEnd::OutOfMemory,
        AttemptEnd::EngineLost,
    ]));
    let parked = vec(any::<(u64, u64)>().prop_map(|(from_us, until_us)| Parked { from_us, until_us }), 0..4);
    (text(), any::<(u64, Option<u64>)>(), ends, parked, of(about())).prop_map(
        |(lane, (started_unix_ms, ended_unix_ms), end, parked, about)| LaneSpan {
            lane,
            started_unix_ms,
            ended_unix_ms,
            end,
            parked,
            about,
        },
    )
}

fn sample() -> impl Strategy<Value = MemorySample> {
    (text(), select(MemoryEvent::ALL.to_vec()), any::<(u64, u64, u64, u64, u64)>()).prop_map(
        |(class, event, (unix_ms, used_bytes, reserved_bytes, cap_bytes, resident_bytes))| MemorySample {
            unix_ms,
            class,
            event,
            used_bytes,
            reserved_bytes,
            cap_bytes,
            resident_bytes,
        },
    )
}

pub(super) fn timeline() -> impl Strategy<Value = TimelineView> {
    let page = prop_oneof![
        vec(span(), 0..4).prop_map(TimelinePage::Lanes),
        vec(sample(), 0..4).prop_map(TimelinePage::Memory),
    ];
    (text(), page, of(cursor())).prop_map(|(policy, page, next)| TimelineView { policy, page, next })
}
