//! Edits, and what they are made of.

use gpusched_shared::{
    AnalyzeSpec, Area, BlobRef, DetectSpec, EditSpec, Found, ImageSpec, InpaintSpec, JobId, JobSpec, Outcome, Point,
    ScoreSpec, SegmentSpec, Size, StageRole, StageView, Task, Usage,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    ".{0,20}"
}

/// Not NaN, which no comparison finds equal to itself.
fn number() -> impl Strategy<Value = f32> {
    -1e9f32..1e9
}

fn area() -> impl Strategy<Value = Area> {
    [number(), number(), number(), number()].prop_map(|[left, top, right, bottom]| Area { left, top, right, bottom })
}

/// A task about a region, a text or a score.
pub(crate) fn region_task(image: impl Strategy<Value = ImageSpec> + 'static) -> impl Strategy<Value = Task> {
    let point = (number(), number(), any::<bool>()).prop_map(|(x, y, inside)| Point { x, y, inside });
    prop_oneof![
        (text(), of(number())).prop_map(|(query, threshold)| Task::Detect(DetectSpec { query, threshold })),
        (of(area()), vec(point, 0..4)).prop_map(|(area, points)| Task::Segment(SegmentSpec { area, points })),
        (image, any::<Option<u32>>()).prop_map(|(image, grow)| Task::Inpaint(InpaintSpec { image, grow })),
        edit().prop_map(|edit| Task::Edit(Box::new(edit))),
        (text(), any::<Option<u32>>())
            .prop_map(|(prompt, max_tokens)| Task::Analyze(AnalyzeSpec { prompt, max_tokens })),
        text().prop_map(|text| Task::Score(ScoreSpec { text })),
    ]
}

fn edit() -> impl Strategy<Value = EditSpec> {
    let texts = (text(), of(text()), of(text()), of(text()), of(text()));
    let numbers = (any::<(Option<u64>, Option<u32>, Option<u32>)>(), of(number()), of(number()));
    (texts, numbers).prop_map(|((instruction, target, prompt, detector, segmenter), numbers)| {
        let ((seed, steps, grow), guidance, threshold) = numbers;
        EditSpec { instruction, target, prompt, seed, steps, guidance, threshold, grow, detector, segmenter }
    })
}

/// What comes of such a task.
pub(crate) fn region_outcome(
    blob: impl Strategy<Value = BlobRef> + 'static,
    size: impl Strategy<Value = Size> + 'static,
) -> impl Strategy<Value = Outcome> {
    let found = (area(), number()).prop_map(|(area, score)| Found { area, score });
    prop_oneof![
        vec(found, 0..4).prop_map(Outcome::Found),
        (blob, size, any::<u64>(), number()).prop_map(|(blob, size, inside, score)| Outcome::Mask {
            blob,
            size,
            inside,
            score
        }),
        (text(), any::<(u32, bool, u32)>()).prop_map(|(text, (tokens, complete, truncated_tokens))| Outcome::Text {
            text,
            tokens,
            complete,
            truncated_tokens
        }),
        number().prop_map(Outcome::Score),
    ]
}

/// A stage of a job.
pub(crate) fn stage(
    spec: impl Strategy<Value = JobSpec> + 'static,
    outcome: impl Strategy<Value = Outcome> + 'static,
) -> impl Strategy<Value = StageView> {
    let role = prop_oneof![Just(StageRole::Detect), Just(StageRole::Segment), Just(StageRole::Inpaint)];
    (any::<(u64, u8, u64, u64, u64)>(), role, text(), spec, of(outcome)).prop_map(
        |((id, round, wait_us, run_us, peak_bytes), role, class, spec, outcome)| StageView {
            id: JobId(id),
            role,
            round,
            class,
            spec,
            outcome,
            wait_us,
            run_us,
            usage: Usage { peak_bytes, ..Usage::default() },
        },
    )
}
