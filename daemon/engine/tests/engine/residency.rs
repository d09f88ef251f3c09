//! Models come when they are needed and go when they are told to, in each partition by themselves.

use gpusched_engine::{Command, Event, Product};
use gpusched_shared::view::Activity;

use crate::rig::{FLUX, HEAVY, LIGHT, MODEL_TABLES, PLENTY, Rig, VILT, txt2img, vqa};

fn unload(class: usize, model: &str) -> Command {
    Command::Unload { class, model: model.to_owned() }
}

#[test]
fn a_model_is_loaded_once_and_again_after_it_was_unloaded() {
    let mut rig = Rig::new();
    for round in 0..2 {
        let job = rig.begin(2, vqa(), PLENTY);
        let loaded = rig.until(|event| matches!(event, Event::Loaded { .. }));
        let Event::Loaded { class: LIGHT, model, bytes } = loaded else { panic!("{loaded:?}") };
        assert_eq!((model.as_str(), bytes), (VILT, rig.memory(LIGHT).weights_bytes));
        assert!(matches!(rig.end(job).0, Ok(Product::Answers(_))));

        let job = rig.begin(2, vqa(), PLENTY);
        let ended = rig.until(|event| {
            assert!(!matches!(event, Event::Loaded { .. }), "it was there");
            matches!(event, Event::Finished(..))
        });
        assert!(matches!(ended, Event::Finished(j, Ok(_), _) if j == job), "{ended:?}");

        rig.tell(unload(LIGHT, VILT));
        assert_eq!(rig.next(), Event::Unloaded { class: LIGHT, model: VILT.to_owned() });
        let memory = rig.memory(LIGHT);
        assert!(memory.weights_bytes == 0 && memory.live_bytes < MODEL_TABLES, "round {round}: {memory:?}");
    }
}

#[test]
fn who_was_told_that_a_stage_loads_hears_that_it_computes() {
    let mut rig = Rig::new();
    // Cold: ViLT takes no steps, so nothing else tells.
    let job = rig.begin(2, vqa(), PLENTY);
    rig.until(|event| matches!(event, Event::Loaded { .. }));
    assert_eq!(rig.next(), Event::Progress(job, Activity::Starting));
    assert!(matches!(rig.next(), Event::Finished(..)));
    // Warm: it never loaded.
    let job = rig.begin(2, vqa(), PLENTY);
    assert_eq!(rig.next(), Event::Started(job));
    assert!(matches!(rig.next(), Event::Finished(..)));
}

#[test]
fn also_of_a_stage_that_waited_for_anothers_load() {
    let mut rig = Rig::new();
    let loads = rig.begin(0, txt2img(32, 1), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Loading { done: 1, .. })));
    rig.gate(true);
    assert_eq!(rig.next(), Event::Parked { job: loads, after_us: None });
    let waits = rig.begin(1, txt2img(32, 1), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(j, Activity::Loading { .. }) if *j == waits));
    rig.gate(false);
    let mut told = Vec::new();
    let mut ended = 0;
    while ended < 2 {
        let event = rig.next();
        if let Event::Progress(job, activity) = event
            && job == waits
        {
            told.push(activity);
        } else if let Event::Finished(_, result, _) = event {
            assert!(result.is_ok(), "{result:?}");
            ended += 1;
        }
    }
    let working = |done| Activity::Working { done, of: 1 };
    assert_eq!(told, [Activity::Starting, working(0), working(1)]);
}

#[test]
fn what_is_not_there_is_unloaded_at_once() {
    let mut rig = Rig::new();
    rig.tell(unload(HEAVY, VILT));
    assert_eq!(rig.next(), Event::Unloaded { class: HEAVY, model: VILT.to_owned() });
}

#[test]
fn a_load_keeps_no_other_class_waiting() {
    let mut rig = Rig::new();
    let heavy = rig.begin(0, txt2img(32, 1), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Loading { done: 1, .. })));
    rig.gate(true);
    assert_eq!(rig.next(), Event::Parked { job: heavy, after_us: None });
    assert!(rig.engine().command(unload(HEAVY, FLUX), Vec::new()).is_err(), "it is being loaded");

    // The same model, into the other partition.
    let light = rig.begin(2, txt2img(32, 1), PLENTY);
    let loaded = rig.until(|event| matches!(event, Event::Loaded { .. }));
    assert!(matches!(loaded, Event::Loaded { class: LIGHT, .. }), "{loaded:?}");
    assert!(rig.end(light).0.is_ok());
    let (part, whole) = (rig.memory(HEAVY).weights_bytes, rig.memory(LIGHT).weights_bytes);
    assert!(0 < part && part < whole, "{part} of {whole}");

    rig.gate(false);
    let loaded = rig.until(|event| matches!(event, Event::Loaded { .. }));
    assert!(matches!(loaded, Event::Loaded { class: HEAVY, .. }), "{loaded:?}");
    assert!(rig.end(heavy).0.is_ok());
    rig.tell(unload(LIGHT, FLUX));
    rig.until(|event| matches!(event, Event::Unloaded { class: LIGHT, .. }));
    assert_eq!(rig.memory(LIGHT).weights_bytes, 0);
    assert!(rig.memory(HEAVY).weights_bytes > part);
}

#[test]
fn a_lane_that_waits_for_anothers_load_can_be_stopped() {
    let mut rig = Rig::new();
    let first = rig.begin(0, txt2img(32, 1), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Loading { done: 1, .. })));
    rig.gate(true);
    assert_eq!(rig.next(), Event::Parked { job: first, after_us: None });
    let second = rig.begin(1, txt2img(32, 1), PLENTY);
    let parked = rig.until(|event| matches!(event, Event::Parked { .. }));
    assert_eq!(parked, Event::Parked { job: second, after_us: None });
    rig.tell(Command::Stop(second));
    let ended = rig.next();
    assert!(matches!(ended, Event::Interrupted(job, _) if job == second), "{ended:?}");
    // The loader, which was parked meanwhile, does not mind.
    rig.gate(false);
    assert!(rig.end(first).0.is_ok());
}

#[test]
fn a_load_that_is_stopped_leaves_nothing_and_the_next_one_starts_anew() {
    let mut rig = Rig::new();
    let job = rig.begin(0, txt2img(32, 1), PLENTY);
    rig.until(|event| matches!(event, Event::Progress(_, Activity::Loading { done: 2, .. })));
    assert!(rig.memory(HEAVY).weights_bytes > 0);
    rig.tell(Command::Stop(job));
    let ended = rig.next();
    assert!(matches!(ended, Event::Interrupted(..)), "{ended:?}");
    let memory = rig.memory(HEAVY);
    assert!(memory.weights_bytes == 0 && memory.live_bytes < MODEL_TABLES, "{memory:?}");
    assert!(matches!(rig.run(0, txt2img(32, 1)).0, Product::Image { .. }));
}
