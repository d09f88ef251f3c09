//! Examples of edits.

use gpusched_shared::{
    Area, DetectSpec, EditSpec, Found, JobId, JobSpec, Outcome, Response, StageRole, StageView, Task, Usage,
};

/// An edit of which only the instruction and the seed are given.
pub(crate) fn asked() -> JobSpec {
    let edit = EditSpec { seed: Some(7), ..EditSpec::new("make the circle blue") };
    JobSpec::new(Task::Edit(Box::new(edit)))
}

/// Its first stage, which has ended.
pub(crate) fn stages() -> Response {
    let spec = JobSpec {
        model: Some("owl".to_owned()),
        ..JobSpec::new(Task::Detect(DetectSpec { query: "circle".to_owned(), threshold: Some(0.25) }))
    };
    let area = Area { left: 8.0, top: 16.0, right: 40.0, bottom: 48.0 };
    let usage = Usage { parked_us: 0, yields: 0, longest_gap_us: 3000, peak_bytes: 1 << 20 };
    Response::Stages(vec![StageView {
        id: JobId(8),
        role: StageRole::Detect,
        round: 1,
        class: "light".to_owned(),
        spec,
        outcome: Some(Outcome::Found(vec![Found { area, score: 0.75 }])),
        wait_us: 200,
        run_us: 15_000,
        usage,
    }])
}
