//! Partitions keep apart: what one class asks for beyond its cap is refused to it, and costs no other class anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use candle_core::{DType, Tensor};
use gpusched_engine::device::{Diagnosis, Stream};
use gpusched_engine::{Command, DeviceSpec, Event, GateKind, Setup};
use gpusched_shared::JobId;

use crate::rig::{HEAVY, LIGHT, MIB, Rig, open, place, setup, txt2img, vqa};
use crate::soft::Turn;

const CAPS: [u64; 2] = [256 * MIB, 64 * MIB];

fn bytes(lane: &Arc<dyn Stream>, count: u64) -> Result<Tensor, Diagnosis> {
    let count = usize::try_from(count).expect("it fits");
    Tensor::zeros(count, DType::U8, &place(lane)).map_err(|e| lane.diagnose(&e))
}

/// Numbers that look random, between 1 and `most`.
fn sizes(seed: u64, most: u64) -> impl Iterator<Item = u64> {
    (seed..).map(move |i| 1 + gpusched_shared::mix::mix(i) % most)
}

#[test]
fn who_hammers_its_cap_takes_nothing_from_the_other_class() {
    const ALLOCATIONS: usize = 10_000;
    let _turn = Turn::take();
    let opened = open(&setup(GateKind::Block, 4, CAPS));
    let (over, refused, given) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for lane in 1..=4 {
            let stream = &opened.streams[lane];
            let (over, refused, given) = (&over, &refused, &given);
            scope.spawn(move || {
                let mut held = Vec::new();
                for size in sizes(lane as u64 * 1_000_000, 8 * MIB) {
                    match bytes(stream, size) {
                        Ok(tensor) => held.push(tensor),
                        Err(Diagnosis::OutOfMemory(wanted)) => {
                            assert_eq!(wanted, size, "it is said what was refused");
                            refused.fetch_add(1, Ordering::Relaxed);
                            held.truncate(held.len() / 2);
                        }
                        Err(other @ (Diagnosis::Lost | Diagnosis::Well)) => panic!("{other:?}"),
                    }
                    given.fetch_add(1, Ordering::Relaxed);
                    if over.load(Ordering::Relaxed) && refused.load(Ordering::Relaxed) > 0 {
                        return;
                    }
                }
            });
        }
        // The heavy class holds up to half of its partition, so that it needs all that it was promised.
        let heavy = &opened.streams[HEAVY];
        let mut held = std::collections::VecDeque::new();
        let mut holds = 0;
        for size in sizes(7, 16 * MIB).take(ALLOCATIONS) {
            held.push_back((size, bytes(heavy, size).expect("the heavy class never runs out")));
            holds += size;
            while holds > CAPS[HEAVY] / 2 {
                let (size, _) = held.pop_front().expect("it holds something");
                holds -= size;
            }
        }
        over.store(true, Ordering::Relaxed);
    });
    let (refused, given) = (refused.into_inner(), given.into_inner());
    let peaks = [HEAVY, LIGHT].map(|class| opened.pools[class].peak_held_bytes());
    println!(
        "heavy: 0 of {ALLOCATIONS} allocations refused, {} MiB of {} at most; light: {refused} of {given} refused, {} MiB of {} at most",
        peaks[HEAVY] / MIB,
        CAPS[HEAVY] / MIB,
        peaks[LIGHT] / MIB,
        CAPS[LIGHT] / MIB
    );
    assert!(refused > 0, "the light class came to its cap");
    assert!(peaks[LIGHT] <= CAPS[LIGHT] && peaks[HEAVY] <= CAPS[HEAVY], "{peaks:?}");
    for pool in &opened.pools {
        pool.flush();
        assert_eq!(pool.held_bytes(), 0, "nothing is live and nothing is reserved");
    }
}

#[test]
fn what_is_reserved_survives_a_flush() {
    let _turn = Turn::take();
    let setup = setup(GateKind::Block, 1, CAPS);
    let device = DeviceSpec { reserve: true, ..setup.device.clone() };
    let opened = open(&Setup { device, ..setup });
    let held = || [HEAVY, LIGHT].map(|class| opened.pools[class].held_bytes());
    assert_eq!(held(), CAPS, "from the start");
    drop(bytes(&opened.streams[HEAVY], 100 * MIB).expect("there is room"));
    for pool in &opened.pools {
        pool.flush();
    }
    assert_eq!(held(), CAPS);
}

#[test]
fn what_a_flush_cannot_give_back_is_told() {
    let _turn = Turn::take();
    let mut rig = Rig::new(&setup(GateKind::Block, 1, [1 << 30, 1 << 30]));
    rig.run(HEAVY, txt2img(64, 1));
    rig.tell(Command::Flush { class: HEAVY, job: JobId(7) });
    let Event::Flushed { class: HEAVY, before, after, .. } = rig.next() else { panic!("no flush") };
    // The weights stay; around them the pool keeps more than they are.
    assert!(after.live_bytes > 0 && after.live_bytes <= before.live_bytes, "{before:?} {after:?}");
    assert!(
        after.resident_bytes >= after.live_bytes && after.resident_bytes <= before.resident_bytes,
        "{before:?} {after:?}"
    );
    rig.tell(Command::Unload { class: HEAVY, model: "flux2-klein-tiny".to_owned() });
    assert!(matches!(rig.next(), Event::Unloaded { .. }));
    rig.tell(Command::Flush { class: HEAVY, job: JobId(7) });
    let Event::Flushed { after, .. } = rig.next() else { panic!("no flush") };
    assert_eq!((after.live_bytes, after.resident_bytes), (0, 0), "with nothing live nothing is kept");
}

#[test]
fn classes_are_charged_for_what_they_have_on_the_device() {
    let _turn = Turn::take();
    let mut rig = Rig::new(&setup(GateKind::Block, 2, [1 << 30, 1 << 30]));
    let (_, usage) = rig.run(1, vqa());
    let light = rig.memory(LIGHT);
    assert_eq!(rig.memory(HEAVY).live_bytes, 0);
    // As stored, in half precision, and nothing beside the weights when the stage is over.
    let stored = std::fs::metadata(crate::rig::weights().join("vilt-tiny/model.safetensors")).expect("there").len();
    assert!(light.weights_bytes > stored * 9 / 10 && light.weights_bytes <= stored, "{light:?}, {stored} stored");
    assert_eq!(light.live_bytes, light.weights_bytes, "{light:?}");
    assert!(usage.peak_bytes > 0 && light.peak_bytes >= light.weights_bytes + usage.peak_bytes, "{light:?} {usage:?}");
}
