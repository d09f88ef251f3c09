//! The daemon in words.

use std::time::Duration;

use gpusched_client::StatusView;
use gpusched_client::shared::{Bytes, ClassView, EngineView, LaneView, ModelView, PreemptionView, StorageView};

use super::units::span;
use super::{clean, job_or_hidden, table};

/// Everything about the daemon.
pub(crate) fn full(status: &StatusView) -> String {
    let draining = if status.draining { ", draining: takes no new jobs" } else { "" };
    let uptime = span(Duration::from_millis(status.uptime_ms));
    let mut parts = vec![
        format!(
            "gpuschedd {}, up {uptime}{draining}\n{}\n{}",
            clean(&status.version),
            engine(&status.engine),
            storage(&status.storage)
        ),
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

fn engine(engine: &EngineView) -> String {
    let state = match (engine.up, engine.pid) {
        (true, Some(pid)) => format!("up, process {pid}"),
        (true, None) => "up, in the daemon's own process".to_owned(),
        (false, _) => "down, is being started again".to_owned(),
    };
    let deaths = match engine.deaths {
        0 => String::new(),
        1 => ", has died once".to_owned(),
        n => format!(", has died {n} times"),
    };
    format!("engine {state}{deaths}")
}

fn storage(storage: &StorageView) -> String {
    let &StorageView { journal_bytes, blob_bytes, blob_quota_bytes, free_bytes, low_water_bytes } = storage;
    let full = if free_bytes < low_water_bytes { ", too little for new jobs" } else { "" };
    format!(
        "disk {} free{full} (least {}); journal {}, files {} of {}",
        Bytes(free_bytes),
        Bytes(low_water_bytes),
        Bytes(journal_bytes),
        Bytes(blob_bytes),
        Bytes(blob_quota_bytes)
    )
}

fn classes(classes: &[ClassView]) -> String {
    let rows = classes.iter().map(|class| {
        let state = if class.paused { "paused" } else { "open" };
        let counts = [
            u64::from(class.queued),
            u64::from(class.running),
            u64::from(class.backing_off),
            class.finished,
            class.out_of_memory,
        ];
        let cells = [clean(&class.name), state.to_owned()].into_iter();
        cells.chain(counts.map(|count| count.to_string())).collect()
    });
    table(&["CLASS", "STATE", "QUEUED", "RUNNING", "RETRYING", "FINISHED", "OUT OF MEMORY"], rows.collect())
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
                backing_off: 1,
                finished: 40,
                out_of_memory: 5,
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
            engine: EngineView { up: true, pid: Some(4711), deaths: 2 },
            storage: StorageView {
                journal_bytes: 3 << 20,
                blob_bytes: 120 << 20,
                blob_quota_bytes: 4 << 30,
                free_bytes: 90 << 30,
                low_water_bytes: 256 << 20,
            },
        }
    }

    #[test]
    fn the_daemon_fits_on_a_screen() {
        let expected = "\
gpuschedd 0.1.0, up 2 h 5 min
engine up, process 4711, has died 2 times
disk 90.0 GiB free (least 256 MiB); journal 3.0 MiB, files 120 MiB of 4.0 GiB

CLASS  STATE   QUEUED  RUNNING  RETRYING  FINISHED  OUT OF MEMORY
batch  paused  3       2        1         40        5

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
    fn trouble_is_said() {
        let mut status = status();
        status.engine = EngineView { up: false, pid: None, deaths: 1 };
        status.storage.free_bytes = 1 << 20;
        let text = full(&status);
        assert!(text.contains("\nengine down, is being started again, has died once\n"), "{text}");
        assert!(text.contains("\ndisk 1.0 MiB free, too little for new jobs (least 256 MiB); "), "{text}");
        status.engine = EngineView { up: true, pid: None, deaths: 0 };
        assert!(full(&status).contains("\nengine up, in the daemon's own process\n"));
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
