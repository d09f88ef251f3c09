//! Faults on purpose, with real models.

use gpusched_engine::Faults;
use gpusched_shared::{FailureKind, JobId, JobSpec, OutOfMemory};

use crate::rig::{HEAVY, PLENTY, Rig, img2img, txt2img, vqa};

/// How each of these stages runs out of memory.
fn out_of_memory(rig: &mut Rig, stages: &[(usize, JobSpec)]) -> Vec<OutOfMemory> {
    let ends = (1..).map(JobId).zip(stages).map(|(job, (lane, spec))| {
        rig.begin_attempt(job, 1, *lane, spec.clone(), PLENTY);
        let (result, usage) = rig.end(job);
        let failure = result.expect_err("something is to go wrong");
        let FailureKind::OutOfMemory(out_of_memory) = failure.kind else { panic!("{failure}") };
        assert!(usage.peak_bytes > 0);
        out_of_memory
    });
    ends.collect()
}

/// Stages of each kind, several so that various yield points are drawn.
fn stages() -> Vec<(usize, JobSpec)> {
    let round = [(0, txt2img(32, 2)), (1, img2img(32, 1)), (2, vqa())];
    (0..4).flat_map(|_| round.clone()).collect()
}

#[test]
fn a_squeezed_stage_runs_out_of_memory_by_what_is_counted() {
    let mut rig = Rig::with(PLENTY, Faults { squeeze_percent: 100, ..Faults::default() });
    for found in out_of_memory(&mut rig, &stages()) {
        assert!(found.cap_bytes < PLENTY && found.used_bytes > found.cap_bytes, "{found}");
        assert!(found.requested_bytes > 0, "{found}");
    }
    // It was the stages', not the partition's: the models are still there.
    assert!(rig.memory(HEAVY).weights_bytes > 0);
}

#[test]
fn an_injected_fault_has_the_numbers_of_its_moment() {
    let mut rig = Rig::with(PLENTY, Faults { oom_percent: 100, ..Faults::default() });
    for found in out_of_memory(&mut rig, &stages()) {
        assert_eq!(found.cap_bytes, PLENTY);
        assert!(found.used_bytes < PLENTY && found.requested_bytes > 0, "{found}");
    }
}

#[test]
fn another_attempt_may_be_luckier() {
    let faults = Faults { seed: 3, squeeze_percent: 50, ..Faults::default() };
    let mut rig = Rig::with(PLENTY, faults);
    let mut good = Vec::new();
    for attempt in 1..=12 {
        rig.begin_attempt(JobId(1), attempt, 0, txt2img(32, 1), PLENTY);
        good.push(rig.end(JobId(1)).0.is_ok());
    }
    assert!(good.contains(&true) && good.contains(&false), "{good:?}");
}
