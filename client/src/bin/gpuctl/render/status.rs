//! The daemon in words.

use gpusched_client::StatusView;

use super::units::{bytes, span};
use super::{clean, table};

/// Everything about the daemon.
pub(crate) fn full(status: &StatusView) -> String {
    let draining = if status.draining { ", stopping: takes no new jobs" } else { "" };
    let head = format!("gpuschedd {}, up {}{draining}", clean(&status.version), span(status.uptime_ms));
    let classes = status.classes.iter().map(|class| {
        vec![clean(&class.name), class.queued.to_string(), class.running.to_string(), class.finished.to_string()]
    });
    let lanes = status.lanes.iter().map(|lane| {
        let job = match lane.job {
            None => "idle".to_owned(),
            // The daemon hides the jobs of others behind 0, which is no job's number.
            Some(job) if job.0 == 0 => "someone else's".to_owned(),
            Some(job) => format!("job {job}"),
        };
        vec![format!("{}/{}", clean(&lane.class), lane.index), job]
    });
    let models = status.models.iter().map(|model| {
        let resident = if model.resident { "yes" } else { "no" };
        vec![clean(&model.name), clean(&model.kind), bytes(model.bytes), resident.to_owned()]
    });
    [
        head,
        table(&["CLASS", "QUEUED", "RUNNING", "FINISHED"], classes.collect()),
        table(&["LANE", "JOB"], lanes.collect()),
        table(&["MODEL", "KIND", "SIZE", "IN MEMORY"], models.collect()),
    ]
    .join("\n\n")
}

#[cfg(test)]
mod tests {
    use gpusched_client::JobId;
    use gpusched_client::shared::{ClassView, LaneView, ModelView};

    use super::*;

    #[test]
    fn the_daemon_fits_on_a_screen() {
        let lane = |index, job| LaneView { class: "batch".to_owned(), index, job };
        let status = StatusView {
            version: "0.1.0".to_owned(),
            uptime_ms: 7_500_000,
            draining: false,
            classes: vec![ClassView { name: "batch".to_owned(), queued: 3, running: 2, finished: 40 }],
            lanes: vec![lane(0, Some(JobId(7))), lane(1, Some(JobId(0))), lane(2, None)],
            models: vec![ModelView {
                name: "flux".to_owned(),
                kind: "flux2-klein".to_owned(),
                bytes: 7_800_000_000,
                resident: true,
            }],
        };
        let expected = "\
gpuschedd 0.1.0, up 2 h 5 min

CLASS  QUEUED  RUNNING  FINISHED
batch  3       2        40

LANE     JOB
batch/0  job 7
batch/1  someone else's
batch/2  idle

MODEL  KIND         SIZE    IN MEMORY
flux   flux2-klein  7.8 GB  yes";
        assert_eq!(full(&status), expected);
    }
}
