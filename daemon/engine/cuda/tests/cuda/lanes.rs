//! Stages through lanes on the device: weights load, pictures and answers come out, lighter work has the device to itself while
//! heavier work is parked, memory that runs out is a typed end of a stage, and a device that is lost is known as that.

use gpusched_engine::{Command, Event, GateKind, Product};
use gpusched_shared::FailureKind;
use gpusched_shared::view::Activity;

use crate::rig::{HEAVY, LIGHT, MIB, Rig, setup, txt2img, vqa};
use crate::soft::Turn;

const CAPS: [u64; 2] = [1 << 30, 512 * MIB];

fn steps_taken(event: &Event, steps: u32) -> bool {
    matches!(event, Event::Progress(_, Activity::Working { done, .. }) if *done == steps)
}

#[test]
fn pictures_and_answers_come_out_of_lanes() {
    let turn = Turn::take();
    let mut rig = Rig::new(&setup(GateKind::Block, 2, CAPS));
    turn.forget();
    let (picture, usage) = rig.run(HEAVY, txt2img(64, 2));
    let Product::Image { png, size, .. } = picture else { panic!("{picture:?}") };
    assert!(png.starts_with(b"\x89PNG") && size.width == 64);
    assert!(usage.peak_bytes > 0 && rig.memory(HEAVY).weights_bytes > 0);
    let of_heavy = turn.trace().iter().filter(|done| done.is_kernel()).count();
    assert!(of_heavy > 100, "it computes there: {of_heavy} kernels");
    for lane in [1, 2] {
        let (answers, _) = rig.run(lane, vqa());
        assert!(matches!(answers, Product::Answers(answers) if answers.len() == 3));
    }
}

fn makes_way(gate: GateKind) {
    let turn = Turn::take();
    let mut rig = Rig::new(&setup(gate, 1, CAPS));
    // Both models are there.
    rig.run(HEAVY, txt2img(64, 1));
    rig.run(1, vqa());
    let job = rig.begin(HEAVY, txt2img(64, 3));
    rig.until(|event| steps_taken(event, 1));
    turn.forget();
    rig.tell(Command::Gate { class: HEAVY, closed: true });
    let parked = rig.until(|event| matches!(event, Event::Parked { .. }));
    assert!(matches!(parked, Event::Parked { job: j, after_us: Some(_) } if j == job), "{parked:?}");
    rig.release();
    let from = turn.now();
    let held = rig.memory(HEAVY);
    assert!(held.live_bytes > held.weights_bytes, "what it has made stays where it is");
    let (_, usage) = rig.run(1, vqa());
    assert_eq!((usage.parked_us, usage.yields), (0, 0));
    // Whoever is parked has nothing on the device, so all that it did meanwhile was the lighter lane's.
    let meanwhile: Vec<_> = turn.trace().into_iter().filter(|done| done.is_kernel() && done.begin >= from).collect();
    assert!(!meanwhile.is_empty());
    let lanes: std::collections::BTreeSet<_> = meanwhile.iter().map(|done| (done.stream, done.priority)).collect();
    assert_eq!(lanes.len(), 1, "{lanes:?}");
    assert!(lanes.iter().all(|(_, priority)| *priority < 0), "{lanes:?}");
    assert_eq!(rig.memory(HEAVY), held);
    rig.tell(Command::Gate { class: HEAVY, closed: false });
    assert_eq!(rig.next(), Event::Resumed(job));
    let (result, usage) = rig.end(job);
    assert!(matches!(result, Ok(Product::Image { .. })), "{result:?}");
    assert!(usage.yields == 1 && usage.parked_us > 0, "{usage:?}");
}

#[test]
fn heavier_work_makes_way_between_blocks() {
    makes_way(GateKind::Block);
}

#[test]
fn heavier_work_makes_way_between_kernels() {
    makes_way(GateKind::Kernel);
}

#[test]
fn a_stage_that_is_stopped_while_it_is_parked_leaves_nothing_behind() {
    let _turn = Turn::take();
    for gate in [GateKind::Block, GateKind::Kernel] {
        let mut rig = Rig::new(&setup(gate, 1, CAPS));
        rig.run(HEAVY, txt2img(64, 1));
        let idle = rig.memory(HEAVY);
        let job = rig.begin(HEAVY, txt2img(64, 3));
        rig.until(|event| steps_taken(event, 1));
        rig.tell(Command::Gate { class: HEAVY, closed: true });
        rig.until(|event| matches!(event, Event::Parked { .. }));
        rig.release();
        rig.tell(Command::Stop(job));
        rig.until(|event| matches!(event, Event::Interrupted(j, _) if *j == job));
        rig.release();
        assert_eq!(rig.memory(HEAVY).live_bytes, idle.live_bytes);
        rig.tell(Command::Gate { class: HEAVY, closed: false });
        rig.run(HEAVY, txt2img(64, 1));
    }
}

#[test]
fn memory_that_runs_out_is_told_in_numbers_and_the_next_attempt_goes_well() {
    let turn = Turn::take();
    let mut rig = Rig::new(&setup(GateKind::Block, 1, CAPS));
    let (_, usage) = rig.run(HEAVY, txt2img(64, 2));
    let idle = rig.memory(HEAVY);
    let job = rig.begin(HEAVY, txt2img(64, 2));
    rig.until(|event| steps_taken(event, 1));
    turn.set("OOM_AT", "1+");
    let (result, _) = rig.end(job);
    turn.set("OOM_AT", "");
    let failure = result.expect_err("it got no more");
    let FailureKind::OutOfMemory(out) = &failure.kind else { panic!("{failure:?}") };
    assert_eq!((out.partition.as_str(), out.cap_bytes), ("heavy", CAPS[HEAVY]));
    assert!(out.requested_bytes > 1 && out.requested_bytes <= 2 * usage.peak_bytes, "{out:?} {usage:?}");
    assert!(out.used_bytes > idle.weights_bytes, "{out:?}");
    assert!(failure.message.starts_with("out of memory: needs "), "{failure}");
    assert_eq!(rig.memory(HEAVY).live_bytes, idle.live_bytes, "nothing of it is left");
    rig.run(HEAVY, txt2img(64, 2));
}

#[test]
fn a_partition_that_is_too_small_refuses_by_itself() {
    let _turn = Turn::take();
    // The weights fit, and a picture of this size does not.
    let mut rig = Rig::new(&setup(GateKind::Block, 1, [24 * MIB, CAPS[LIGHT]]));
    let job = rig.begin(HEAVY, txt2img(512, 1));
    let (result, _) = rig.end(job);
    let failure = result.expect_err("it does not fit");
    let FailureKind::OutOfMemory(out) = &failure.kind else { panic!("{failure:?}") };
    assert_eq!((out.partition.as_str(), out.cap_bytes), ("heavy", 24 * MIB));
    // The other class has what it was promised, and a smaller picture fits.
    rig.run(1, vqa());
    rig.run(HEAVY, txt2img(32, 1));
}

#[test]
fn weights_that_do_not_fit_are_told_as_that() {
    let _turn = Turn::take();
    let mut rig = Rig::new(&setup(GateKind::Block, 1, [2 * MIB, CAPS[LIGHT]]));
    let job = rig.begin_leased(HEAVY, txt2img(32, 1), MIB);
    let failure = rig.end(job).0.expect_err("it does not fit");
    let FailureKind::OutOfMemory(out) = &failure.kind else { panic!("{failure:?}") };
    assert_eq!(out.requested_bytes, 0, "it is not the stage that needs more");
    assert!(failure.message.contains("the model's weights do not fit"), "{failure}");
    assert_eq!(rig.memory(HEAVY).live_bytes, 0);
}
