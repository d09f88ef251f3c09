//! Weights on the lanes of a class: once between them, or each its own.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use candle_core::Tensor;
use gpusched_engine::device::Stream;
use gpusched_engine::{Command, DeviceSpec, Event, GateKind, PartitionSpec, Product, Setup};
use gpusched_shared::JobId;

use crate::rig::{LIGHT, MIB, Rig, open, place, setup, vqa};
use crate::soft::Turn;

const LANES: u32 = 4;
const CAPS: [u64; 2] = [256 * MIB, 512 * MIB];

fn with_sharing(share_weights: bool, lanes: u32) -> Setup {
    let setup = setup(GateKind::Block, lanes, CAPS);
    Setup { device: DeviceSpec { share_weights, ..setup.device.clone() }, ..setup }
}

/// What it takes to have a model on all lanes.
#[derive(Debug, Default)]
struct Cost {
    /// What the weights take when the first lane has them, and when all have.
    bytes: [u64; 2],
    /// What the class was told to keep for them, each time it was told.
    told: Vec<u64>,
    /// How much longer each lane's first stage took than its second, in virtual nanoseconds.
    load_ns: Vec<u64>,
}

fn cost(turn: &Turn, share_weights: bool) -> Cost {
    let mut rig = Rig::new(&with_sharing(share_weights, LANES));
    let told = RefCell::new(Vec::new());
    let mut cost = Cost::default();
    for lane in 1..=LANES as usize {
        let mut ns = || {
            let begun = turn.now();
            let job = rig.begin(lane, vqa());
            let ended = rig.until(|event| {
                if let Event::Loaded { bytes, .. } = event {
                    told.borrow_mut().push(*bytes);
                }
                matches!(event, Event::Finished(..))
            });
            assert!(matches!(&ended, Event::Finished(j, Ok(Product::Answers(_)), _) if *j == job), "{ended:?}");
            rig.release();
            turn.now() - begun
        };
        let (first, second) = (ns(), ns());
        cost.load_ns.push(first - second);
        let memory = rig.memory(LIGHT);
        assert_eq!(memory.live_bytes, memory.weights_bytes, "nothing but weights is left of a stage");
        if lane == 1 {
            cost.bytes[0] = memory.weights_bytes;
        }
        cost.bytes[1] = memory.weights_bytes;
    }
    cost.told = told.into_inner();
    cost
}

#[test]
fn the_lanes_of_a_class_have_the_weights_once_or_each_its_own() {
    let turn = Turn::take();
    let [own, shared] = [false, true].map(|share_weights| cost(&turn, share_weights));
    for (name, cost) in [("each its own", &own), ("shared", &shared)] {
        let all: u64 = cost.load_ns.iter().sum();
        println!("{LANES} lanes, {name}: {} bytes of weights, {all} virtual ns to load them", cost.bytes[1]);
    }
    let (lanes, one) = (u64::from(LANES), own.bytes[0]);
    assert!(one > 0 && shared.bytes == [one; 2], "{shared:?} {own:?}");
    assert_eq!(own.bytes[1], lanes * one);
    // Either way the class keeps from the first on what all of its lanes will have.
    assert_eq!((&shared.told, &own.told), (&vec![one], &vec![lanes * one; LANES as usize]));
    assert!(own.load_ns.iter().all(|ns| *ns > 0), "{own:?}");
    let (first, others) = shared.load_ns.split_first().expect("some");
    assert!(*first > 0 && others.iter().all(|ns| *ns == 0), "{:?}", shared.load_ns);
}

#[test]
fn each_lane_computes_on_its_own_stream() {
    let turn = Turn::take();
    let mut rig = Rig::new(&with_sharing(true, LANES));
    let mut streams = BTreeSet::new();
    for lane in 1..=LANES as usize {
        turn.forget();
        rig.run(lane, vqa());
        let done: BTreeSet<_> = turn.trace().iter().map(|done| done.stream).collect();
        assert_eq!(done.len(), 1, "lane {lane}: {done:?}");
        streams.extend(done);
    }
    assert_eq!(streams.len(), LANES as usize, "{streams:?}");
}

#[test]
fn all_lanes_answer_the_same() {
    let turn = Turn::take();
    turn.set("NUMBERS", "1");
    let answers = |share_weights| {
        let mut rig = Rig::new(&with_sharing(share_weights, 2));
        [1, 2].map(|lane| rig.run(lane, vqa()).0)
    };
    let ([first, second], [own, _]) = (answers(true), answers(false));
    let Product::Answers(scores) = &first else { panic!("{first:?}") };
    assert!(scores[0].score > scores[1].score, "it knows something: {scores:?}");
    assert_eq!((&second, &own), (&first, &first));
}

/// A tensor of a lane's, another lane's over the same memory, and work on both lanes that has to be done with it.
fn in_use_by(lanes: [&Arc<dyn Stream>; 2]) -> [Tensor; 2] {
    let first = Tensor::from_vec(vec![1_f32; 4096], 4096, &place(lanes[0])).expect("there is room");
    lanes[0].synchronize().expect("well");
    let second = lanes[1].share(&first).expect("it is a whole tensor");
    for tensor in [&first, &second].into_iter().cycle().take(20) {
        drop(tensor.relu().expect("there is room"));
    }
    [first, second]
}

#[test]
fn shared_memory_is_free_after_the_last_use_by_any_lane() {
    let turn = Turn::take();
    turn.kernels_take(1_000_000);
    let opened = open(&with_sharing(true, 2));
    let lanes = [&opened.streams[1], &opened.streams[2]];
    for last in 0..2 {
        let [first, second] = in_use_by(lanes);
        let begun = turn.now();
        let (early, late) = if last == 0 { (second, first) } else { (first, second) };
        drop(early);
        drop(late);
        // Freeing waits for nobody but on the device, where it comes after the other lane's work.
        assert_eq!(turn.now(), begun);
        lanes[last].synchronize().expect("nothing was freed under the other lane");
        assert!(turn.now() - begun >= 20_000_000, "{}", turn.now() - begun);
        opened.pools[LIGHT].flush();
        assert_eq!(opened.pools[LIGHT].held_bytes(), 0);
    }
}

#[test]
fn what_one_lane_drops_another_goes_on_with() {
    let _turn = Turn::take();
    let opened = open(&with_sharing(true, 2));
    let lanes = [&opened.streams[1], &opened.streams[2]];
    let [first, second] = in_use_by(lanes);
    drop(first);
    opened.pools[LIGHT].flush();
    assert!(opened.pools[LIGHT].held_bytes() > 0);
    let third = lanes[0].share(&second).expect("it is a whole tensor");
    drop(second);
    assert_eq!(third.to_vec1::<f32>().expect("well"), [1.0; 4096]);
    let half = third.narrow(0, 2048, 2048).expect("half of it");
    assert!(lanes[1].share(&half).is_err(), "a part of a tensor is nobody's to free");
    drop((half, third));
    opened.pools[LIGHT].flush();
    assert_eq!(opened.pools[LIGHT].held_bytes(), 0);
}

/// The engine's owner sees to it that no model is unloaded that a stage uses. It would come to no harm.
#[test]
fn a_model_can_be_unloaded_while_a_lane_uses_it() {
    let _turn = Turn::take();
    let setup = with_sharing(true, 2);
    let partitions = setup.partitions.iter().map(|class| PartitionSpec { gate: GateKind::Block, ..class.clone() });
    let mut rig = Rig::new(&Setup { partitions: partitions.collect(), ..setup });
    for user in [1, 2] {
        rig.run(1, vqa());
        rig.run(2, vqa());
        let weights = rig.memory(LIGHT).weights_bytes;
        // It parks as soon as it has its model.
        rig.tell(Command::Gate { class: LIGHT, closed: true });
        let job = rig.begin(user, vqa());
        rig.until(|event| matches!(event, Event::Parked { .. }));
        rig.tell(Command::Unload { class: LIGHT, model: "vilt-tiny".to_owned() });
        rig.until(|event| matches!(event, Event::Unloaded { .. }));
        rig.release();
        let held = rig.memory(LIGHT);
        assert_eq!((held.weights_bytes, held.live_bytes >= weights), (0, true), "{held:?}");
        rig.tell(Command::Gate { class: LIGHT, closed: false });
        let (result, _) = rig.end(job);
        assert!(matches!(result, Ok(Product::Answers(_))), "{result:?}");
        assert_eq!(rig.memory(LIGHT).live_bytes, 0, "it had the weights alone in the end");
    }
}

#[test]
fn what_is_unloaded_is_free_and_can_be_loaded_again() {
    let _turn = Turn::take();
    for share_weights in [false, true] {
        let mut rig = Rig::new(&with_sharing(share_weights, 2));
        for _ in 0..2 {
            rig.run(1, vqa());
            rig.run(2, vqa());
            rig.tell(Command::Unload { class: LIGHT, model: "vilt-tiny".to_owned() });
            rig.until(|event| matches!(event, Event::Unloaded { .. }));
            rig.release();
            assert_eq!(rig.memory(LIGHT).live_bytes, 0, "shared: {share_weights}");
            rig.tell(Command::Flush { class: LIGHT, job: JobId(7) });
            let flushed = rig.next();
            assert!(matches!(&flushed, Event::Flushed { after, .. } if after.resident_bytes == 0), "{flushed:?}");
            rig.release();
        }
    }
}
