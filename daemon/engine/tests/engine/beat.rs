//! What lanes are seen to do.

use gpusched_engine::{Event, Phase};
use gpusched_shared::Activity;

use crate::rig::{HEAVY, PLENTY, Rig, txt2img};

fn phases(rig: &Rig) -> Vec<Phase> {
    rig.engine().beat().lanes.iter().map(|lane| lane.phase).collect()
}

#[test]
fn a_lane_is_seen_to_load_to_run_to_park_and_to_be_idle() {
    use Phase::{Idle, Loading, Parked, Running};
    let mut rig = Rig::new();
    assert_eq!(phases(&rig), [Idle, Idle, Idle]);
    let job = rig.begin(0, txt2img(32, 2), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Loading { .. })));
    assert_eq!(phases(&rig), [Loading, Idle, Idle]);
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Working { .. })));
    assert_eq!(phases(&rig), [Running, Idle, Idle]);
    rig.gate(true);
    rig.until(|event| matches!(event, Event::Parked { .. }));
    assert_eq!(phases(&rig), [Parked, Idle, Idle]);
    rig.gate(false);
    assert_eq!(rig.next(), Event::Resumed(job));
    assert_eq!(phases(&rig), [Running, Idle, Idle]);
    assert!(rig.end(job).0.is_ok());
    assert_eq!(phases(&rig), [Idle, Idle, Idle]);
    let beat = rig.engine().beat();
    assert!(beat.memory[HEAVY].weights_bytes > 0, "{beat:?}");
}
