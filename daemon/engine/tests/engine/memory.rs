//! Partitions count what their lanes and models hold, and keep their cap.

use gpusched_engine::{Command, Event, Product, Stage};
use gpusched_shared::{FailureKind, JobId};

use crate::rig::{HEAVY, LIGHT, MODEL_TABLES, PLENTY, Rig, img2img, txt2img, vqa};

#[test]
fn a_stage_over_its_lease_in_a_full_partition_runs_out_of_memory() {
    let cap_bytes = 1000;
    let mut rig = Rig::with_cap(cap_bytes);
    let job = rig.begin(0, txt2img(64, 4), 50_000);
    let (result, usage) = rig.end(job);
    let failure = result.unwrap_err();
    let FailureKind::OutOfMemory(out) = &failure.kind else { panic!("{failure:?}") };
    assert_eq!((out.partition.as_str(), out.cap_bytes), ("heavy", cap_bytes));
    assert!(out.requested_bytes > 50_000 && out.requested_bytes <= usage.peak_bytes, "{out:?} {usage:?}");
    assert!(out.used_bytes > cap_bytes && out.used_bytes > out.requested_bytes, "{out:?}");
    assert!(failure.message.starts_with("out of memory: needs "), "{failure}");
    // Nothing of it is left, and the lane takes a stage that keeps its promise.
    let memory = rig.memory(HEAVY);
    assert!(memory.live_bytes - memory.weights_bytes < MODEL_TABLES, "{memory:?}");
    assert!(matches!(rig.run(0, txt2img(64, 1)).0, Product::Image { .. }));
}

#[test]
fn a_peak_between_two_yield_points_does_not_go_unnoticed() {
    let mut rig = Rig::new();
    // Of a picture: that peak is the same in every run, while others depend on how threads overlap.
    let (_, usage) = rig.run(0, img2img(64, 1));
    let weights = rig.memory(HEAVY).weights_bytes;
    // Room for all but the highest peak, which is over by the next yield point.
    let lease = usage.peak_bytes - usage.peak_bytes / 16;
    let mut rig = Rig::with_cap(weights + lease);
    let job = rig.begin(0, img2img(64, 1), lease);
    let (result, usage) = rig.end(job);
    let failure = result.unwrap_err();
    let FailureKind::OutOfMemory(out) = &failure.kind else { panic!("{failure:?}") };
    assert!(out.requested_bytes > lease && out.requested_bytes <= usage.peak_bytes, "{out:?} {usage:?}");
    assert!(out.used_bytes > out.cap_bytes, "{out:?}");
}

#[test]
fn a_stage_over_its_lease_goes_on_while_there_is_room() {
    let mut rig = Rig::new();
    let job = rig.begin(0, txt2img(64, 1), 0);
    assert!(rig.end(job).0.is_ok());
}

#[test]
fn memory_comes_back_after_each_stage() {
    let mut rig = Rig::new();
    let mut peaks = Vec::new();
    for side in [128, 32, 32] {
        let (product, usage) = rig.run(0, txt2img(side, 2));
        drop(product);
        let memory = rig.memory(HEAVY);
        assert!(memory.live_bytes - memory.weights_bytes < MODEL_TABLES, "{memory:?}");
        assert!(memory.peak_bytes >= memory.weights_bytes + usage.peak_bytes, "{memory:?} {usage:?}");
        peaks.push(usage.peak_bytes);
    }
    assert!(peaks[0] > 2 * peaks[1], "each stage has a peak of its own: {peaks:?}");
    // A stage that is stopped leaves nothing behind, either.
    let job = rig.begin(0, txt2img(64, 4), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(..)));
    rig.tell(Command::Stop(job));
    let ended = rig.next();
    assert!(matches!(ended, Event::Interrupted(..)), "{ended:?}");
    let memory = rig.memory(HEAVY);
    assert!(memory.live_bytes - memory.weights_bytes < MODEL_TABLES, "{memory:?}");
}

#[test]
fn partitions_count_apart() {
    let mut rig = Rig::new();
    rig.run(2, vqa());
    let (heavy, light) = (rig.memory(HEAVY), rig.memory(LIGHT));
    assert!(heavy.weights_bytes == 0 && heavy.peak_bytes < MODEL_TABLES, "{heavy:?}");
    assert!(light.weights_bytes > 1 << 20, "{light:?}");
}

#[test]
fn a_flush_comes_before_the_stage_and_says_what_it_did() {
    let mut rig = Rig::new();
    rig.run(0, txt2img(32, 1));
    let job = JobId(100);
    let stage = Stage { spec: txt2img(32, 1), pictures: 0, preview_after: None };
    rig.tell(Command::Run { job, attempt: 1, lane: 0, stage, lease_bytes: PLENTY, flush: true });
    assert_eq!(rig.next(), Event::Started(job));
    let Event::Flushed { class: HEAVY, job: for_job, before, after } = rig.next() else { panic!("no flush") };
    assert_eq!(for_job, job);
    let weights = rig.memory(HEAVY).weights_bytes;
    // What else this process does meanwhile moves the second number, so no more can be said of it than that it is one.
    assert!(before.live_bytes >= weights && after.live_bytes >= weights);
    assert!(before.resident_bytes > weights && after.resident_bytes > weights);
    assert!(rig.end(job).0.is_ok());
}

#[test]
fn a_flush_may_be_asked_for() {
    let mut rig = Rig::new();
    rig.tell(Command::Flush { class: LIGHT, job: JobId(7) });
    assert!(matches!(rig.next(), Event::Flushed { class: LIGHT, job: JobId(7), .. }));
    let refused = rig.engine().command(Command::Flush { class: 9, job: JobId(7) }, Vec::new()).unwrap_err();
    assert_eq!(refused.message, "there is no class 9");
}
