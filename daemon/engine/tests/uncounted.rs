//! Without the counting allocator everything works and all counts are 0.

use std::fs::File;
use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use gpusched_engine::{
    Command, Engine, Event, GateKind, LaneSpec, MemoryUse, PartitionSpec, Product, Setup, Sink, Stage,
};
use gpusched_shared::{JobId, JobSpec, Task, VqaSpec};

#[test]
fn nothing_is_counted_and_no_cap_kept() {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let sink: Sink = Arc::new(move |event| drop(sender.lock().unwrap().send(event)));
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/weights");
    let lane = LaneSpec { class: "light".to_owned(), class_index: 0, index: 0, threads: 1, nice: 0 };
    let partition = PartitionSpec { name: "light".to_owned(), cap_bytes: 0, gate: GateKind::None };
    let setup =
        Setup { lanes: vec![lane], partitions: vec![partition], models: vec![weights.clone()], ..Setup::default() };
    let engine = Engine::start(&setup, &sink).unwrap();
    let task = Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 1 });
    let spec = JobSpec { model: Some("vilt-tiny".to_owned()), ..JobSpec::new(task) };
    let files = vec![File::open(weights.join("flux2-klein-tiny/samples.png")).unwrap().into()];
    let stage = Stage { spec, pictures: 1, preview_after: None };
    engine
        .command(Command::Run { job: JobId(1), attempt: 1, lane: 0, stage, lease_bytes: 0, flush: false }, files)
        .unwrap();
    let ended = events.iter().find(|event| matches!(event, Event::Finished(..)));
    let Some(Event::Finished(_, result, usage)) = ended else { panic!("it did not end") };
    assert!(matches!(result, Ok(Product::Answers(_))), "{result:?}");
    assert_eq!(usage.peak_bytes, 0);
    assert!(usage.longest_gap_us > 0);
    assert_eq!(engine.memory(), [MemoryUse::default()]);
}
