//! Stages park while the gate of their class is closed.

use gpusched_engine::{Command, Event, Product};
use gpusched_shared::view::Activity;

use crate::rig::{HEAVY, LIGHT, PLENTY, Rig, VILT, txt2img, vqa};

const STEPS: u32 = 3;

fn steps_taken(event: &Event, steps: u32) -> bool {
    matches!(event, Event::Progress(_, Activity::Working { done, .. }) if *done == steps)
}

fn png(product: Product) -> Vec<u8> {
    let Product::Image { png, .. } = product else { panic!("{product:?}") };
    png
}

#[test]
fn a_parked_picture_comes_out_the_same() {
    let mut rig = Rig::new();
    let (alone, usage) = rig.run(0, txt2img(64, STEPS));
    assert_eq!((usage.parked_us, usage.yields), (0, 0));
    assert!(usage.longest_gap_us > 0 && usage.peak_bytes > 0, "{usage:?}");

    let job = rig.begin(0, txt2img(64, STEPS), PLENTY);
    for steps in [0, 2] {
        rig.until(|event| steps_taken(event, steps));
        rig.gate(true);
        let parked = rig.next();
        assert!(matches!(parked, Event::Parked { job: j, after_us: Some(_) } if j == job), "{parked:?}");
        // Light work has the machine to itself, and what the stage has made so far stays where it is.
        let held = rig.memory(HEAVY);
        assert!(held.live_bytes > held.weights_bytes);
        let (_, usage) = rig.run(2, vqa());
        assert_eq!((usage.parked_us, usage.yields), (0, 0));
        assert_eq!(rig.memory(HEAVY), held);
        rig.gate(false);
        assert_eq!(rig.next(), Event::Resumed(job));
    }
    let (parked, usage) = rig.end(job);
    assert_eq!(png(parked.unwrap()), png(alone));
    assert_eq!(usage.yields, 2);
    assert!(usage.parked_us > 0 && usage.longest_gap_us > 0, "{usage:?}");
}

#[test]
fn a_gate_that_was_closed_before_says_nothing_of_speed() {
    let mut rig = Rig::new();
    rig.gate(true);
    rig.gate(true);
    let job = rig.begin(0, txt2img(64, 1), PLENTY);
    assert_eq!(rig.next(), Event::Started(job));
    // While it loads.
    assert!(matches!(rig.next(), Event::Progress(_, Activity::Loading { done: 0, .. })));
    assert_eq!(rig.next(), Event::Parked { job, after_us: None });
    rig.gate(false);
    assert_eq!(rig.next(), Event::Resumed(job));
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Loading { done: 1, .. })));
    // Closed while it loads.
    rig.gate(true);
    assert_eq!(rig.next(), Event::Parked { job, after_us: None });
    rig.gate(false);
    let (result, usage) = rig.end_after_resuming(job);
    assert!(result.is_ok());
    assert_eq!(usage.yields, 2);

    // With its model in memory: before it computes.
    rig.gate(true);
    let job = rig.begin(0, txt2img(64, 1), PLENTY);
    assert_eq!(rig.next(), Event::Started(job));
    assert_eq!(rig.next(), Event::Parked { job, after_us: None });
    rig.gate(false);
    assert_eq!(rig.end_after_resuming(job).1.yields, 1);
}

#[test]
fn a_parked_stage_can_be_stopped_and_its_lane_goes_on() {
    let mut rig = Rig::new();
    let job = rig.begin(0, txt2img(64, STEPS), PLENTY);
    rig.until(|event| steps_taken(event, 1));
    rig.gate(true);
    assert!(matches!(rig.next(), Event::Parked { .. }));
    // Let it fall asleep: it says nothing until it is told something.
    rig.release();
    rig.tell(Command::Stop(job));
    let ended = rig.next();
    assert!(matches!(ended, Event::Interrupted(j, usage) if j == job && usage.yields == 1), "{ended:?}");
    rig.gate(false);
    assert!(matches!(rig.run(0, txt2img(64, 1)).0, Product::Image { .. }));
}

#[test]
fn a_gate_closed_in_vain_is_missed_once() {
    let mut rig = Rig::new();
    let job = rig.begin(0, txt2img(64, STEPS), PLENTY);
    rig.until(|event| steps_taken(event, 1));
    // The stage stands still until the next event is asked for, and has not looked at the gate yet.
    rig.gate(true);
    rig.gate(false);
    rig.gate(false);
    // By the housekeeper, which may come to it at any time before this.
    rig.tell(Command::Unload { class: LIGHT, model: VILT.to_owned() });
    let (mut missed, mut unloaded, mut finished) = (0, false, false);
    while !(unloaded && finished) {
        let event = rig.next();
        assert!(!matches!(event, Event::Parked { .. } | Event::Interrupted(..)), "{event:?}");
        missed += u32::from(event == Event::Missed { class: HEAVY });
        unloaded |= matches!(event, Event::Unloaded { .. });
        if let Event::Finished(ended, result, usage) = event {
            assert_eq!((ended, result.is_ok(), usage.yields, usage.parked_us), (job, true, 0, 0));
            finished = true;
        }
    }
    assert_eq!(missed, 1);
}

#[test]
fn a_stage_that_is_loading_misses_nothing() {
    let mut rig = Rig::new();
    let job = rig.begin(0, txt2img(64, 1), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Loading { done: 1, .. })));
    rig.gate(true);
    rig.gate(false);
    let ended = rig.until(|event| {
        assert!(!matches!(event, Event::Missed { .. } | Event::Parked { .. }), "{event:?}");
        matches!(event, Event::Finished(..))
    });
    assert!(matches!(ended, Event::Finished(j, Ok(_), _) if j == job), "{ended:?}");
}

#[test]
fn all_lanes_of_the_class_park() {
    let mut rig = Rig::new();
    rig.run(0, txt2img(64, 1));
    rig.gate(true);
    let jobs = [0, 1].map(|lane| rig.begin(lane, txt2img(64, 1), PLENTY));
    let parked = |event: &Event| matches!(event, Event::Parked { .. });
    rig.until(parked);
    rig.until(parked);
    rig.gate(false);
    let mut finished = Vec::new();
    while finished.len() < jobs.len() {
        let event = rig.next();
        assert!(!matches!(event, Event::Parked { .. } | Event::Interrupted(..)), "{event:?}");
        if let Event::Finished(job, result, usage) = event {
            assert_eq!((result.is_ok(), usage.yields), (true, 1));
            finished.push(job);
        }
    }
    finished.sort();
    assert_eq!(finished, jobs);
}

#[test]
fn commands_that_make_no_sense_are_refused() {
    let rig = Rig::new();
    let refused = |command| rig.engine().command(command, Vec::new()).unwrap_err().message;
    assert_eq!(refused(Command::Gate { class: LIGHT, closed: true }), "class 1 has no gate");
    assert_eq!(refused(Command::Gate { class: 7, closed: true }), "there is no class 7");
    assert_eq!(refused(Command::Unload { class: 7, model: VILT.to_owned() }), "there is no class 7");
}
