//! The daemon in words.

use std::time::Duration;

use gpusched_client::StatusView;
use gpusched_client::shared::{Bytes, ClassView, LaneView, ModelView, PreemptionView};

use super::units::span;
use super::{clean, job_or_hidden, table};

/// Everything about the daemon.
pub(crate) fn full(status: &StatusView) -> String {
    let draining = if status.draining { ", draining: takes no new jobs" } else { "" };
    let uptime = span(Duration::from_millis(status.uptime_ms));
    let mut parts = vec![
        format!("gpuschedd {}, up {uptime}{draining}", clean(&status.version)),
        classes(&status.classes),
        partitions(&status.classes),
        lanes(&status.lanes),
        models(&status.models),
    ];
    let sampled: Vec<_> = status.preemption.iter().filter(|view| view.parked > 0).collect();
    if !sampled.is_empty() {
        parts.push(preemption(&sampled));
    }
    parts.join("\n\n")
}

fn classes(classes: &[ClassView]) -> String {
    let rows = classes.iter().map(|class| {
        let state = if class.paused { "paused" } else { "open" };
        let counts = [u64::from(class.queued), u64::from(class.running), class.finished];
        let cells = [clean(&class.name), state.to_owned()].into_iter();
        cells.chain(counts.map(|count| count.to_string())).collect()
    });
    table(&["CLASS", "STATE", "QUEUED", "RUNNING", "FINISHED"], rows.collect())
}

/// Memory has a table of its own: with the queues beside it a line would not fit on a screen.
fn partitions(classes: &[ClassView]) -> String {
    let rows = classes.iter().map(|class| {
        let memory = &class.partition;
        let bytes = [memory.cap_bytes, memory.weights_bytes, memory.leased_bytes, memory.live_bytes, memory.peak_bytes];
        std::iter::once(clean(&class.name)).chain(bytes.map(|count| Bytes(count).to_string())).collect()
    });
    table(&["PARTITION", "CAP", "WEIGHTS", "LEASED", "LIVE", "PEAK"], rows.collect())
}

fn lanes(lanes: &[LaneView]) -> String {
    let rows = lanes.iter().map(|lane| {
        let job = lane.job.map_or_else(|| "idle".to_owned(), job_or_hidden);
        vec![format!("{}/{}", clean(&lane.class), lane.index), job]
    });
    table(&["LANE", "JOB"], rows.collect())
}

fn models(models: &[ModelView]) -> String {
    let rows = models.iter().map(|model| {
        let resident = if model.resident.is_empty() { "-".to_owned() } else { clean(&model.resident.join(", ")) };
        vec![clean(&model.name), clean(&model.kind), Bytes(model.bytes).to_string(), resident]
    });
    table(&["MODEL", "KIND", "SIZE", "IN MEMORY OF"], rows.collect())
}

/// How long lighter work waited for each class to make way.
fn preemption(views: &[&PreemptionView]) -> String {
    let rows = views.iter().map(|view| {
        let times = [view.p50_us, view.p99_us, view.max_us, view.longest_gap_us];
        let times = times.map(|us| span(Duration::from_micros(us)));
        let counts = [view.parked, view.missed, view.refused].map(|count| count.to_string());
        std::iter::once(clean(&view.class)).chain(times).chain(counts).collect()
    });
    let header = ["MADE WAY", "P50", "P99", "MAX", "LONGEST GAP", "TIMES", "MISSED", "REFUSED"];
    table(&header, rows.collect())
}

#[cfg(test)]
mod tests {
    use gpusched_client::JobId;
    use gpusched_client::shared::PartitionView;

    use super::*;

    fn status() -> StatusView {
        let lane = |index, job| LaneView { class: "batch".to_owned(), index, job };
        let model = |name: &str, resident: &[&str]| ModelView {
            name: name.to_owned(),
            kind: "flux2-klein".to_owned(),
            bytes: 7_800_000_000,
            resident: resident.iter().map(|&class| class.to_owned()).collect(),
        };
        StatusView {
            version: "0.1.0".to_owned(),
            uptime_ms: 7_500_000,
            draining: false,
            classes: vec![ClassView {
                name: "batch".to_owned(),
                queued: 3,
                running: 2,
                finished: 40,
                paused: true,
                partition: PartitionView {
                    cap_bytes: 34 << 30,
                    weights_bytes: 8 << 30,
                    leased_bytes: 512 << 20,
                    live_bytes: 9 << 30,
                    peak_bytes: 11 << 30,
                },
            }],
            lanes: vec![lane(0, Some(JobId(7))), lane(1, Some(JobId(0))), lane(2, None)],
            models: vec![model("flux", &["batch", "night"]), model("other", &[])],
            preemption: vec![PreemptionView {
                class: "batch".to_owned(),
                parked: 120,
                p50_us: 900,
                p99_us: 4100,
                max_us: 5250,
                missed: 6,
                refused: 2,
                longest_gap_us: 4800,
            }],
        }
    }

    #[test]
    fn the_daemon_fits_on_a_screen() {
        let expected = "\
gpuschedd 0.1.0, up 2 h 5 min

CLASS  STATE   QUEUED  RUNNING  FINISHED
batch  paused  3       2        40

PARTITION  CAP       WEIGHTS  LEASED   LIVE     PEAK
batch      34.0 GiB  8.0 GiB  512 MiB  9.0 GiB  11.0 GiB

LANE     JOB
batch/0  job 7
batch/1  someone else's
batch/2  idle

MODEL  KIND         SIZE     IN MEMORY OF
flux   flux2-klein  7.3 GiB  batch, night
other  flux2-klein  7.3 GiB  -

MADE WAY  P50     P99     MAX     LONGEST GAP  TIMES  MISSED  REFUSED
batch     900 µs  4.1 ms  5.2 ms  4.8 ms       120    6       2";
        assert_eq!(full(&status()), expected);
    }

    #[test]
    fn without_samples_there_is_nothing_to_say_of_preemption() {
        let mut status = status();
        (status.preemption[0].parked, status.draining) = (0, true);
        let text = full(&status);
        assert!(text.starts_with("gpuschedd 0.1.0, up 2 h 5 min, draining: takes no new jobs\n"), "{text}");
        assert!(text.ends_with("other  flux2-klein  7.3 GiB  -"), "{text}");
    }
}
