//! All threads of a lane have its niceness. A program of its own, so that there are no lanes but those it looks at.

use std::path::Path;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use gpusched_engine::{Command, Engine, Event, GateKind, LaneSpec, PartitionSpec, Setup, Sink, Stage};
use gpusched_shared::{ImageSpec, JobId, JobSpec, Task};

#[test]
fn threads_of_a_lane_have_its_niceness() {
    let (sender, events) = channel();
    let sender = Mutex::new(sender);
    let sink: Sink = Arc::new(move |event| drop(sender.lock().unwrap().send(event)));
    let lane =
        |class: &str, class_index, nice| LaneSpec { class: class.to_owned(), class_index, index: 0, threads: 2, nice };
    let lanes = [lane("heavy", 0, 7), lane("light", 1, 3)];
    let partitions =
        ["heavy", "light"].map(|name| PartitionSpec { name: name.to_owned(), cap_bytes: 0, gate: GateKind::None });
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/weights");
    let setup = Setup { lanes: lanes.into(), partitions: partitions.into(), models: vec![models], ..Setup::default() };
    let engine = Engine::start(&setup, &sink).unwrap();
    // A lane that takes a stage, even one that it cannot do, has its threads.
    for (lane, job) in [(0, JobId(1)), (1, JobId(2))] {
        let stage = Stage { spec: JobSpec::new(Task::Txt2Img(ImageSpec::new("x"))), pictures: 0, preview_after: None };
        engine
            .command(Command::Run { job, attempt: 1, lane, stage, lease_bytes: 0, flush: false }, Vec::new())
            .unwrap();
        assert!(events.iter().any(|event| matches!(event, Event::Finished(..))));
    }
    let mut found: Vec<(String, String)> = Vec::new();
    for task in std::fs::read_dir("/proc/self/task").unwrap() {
        let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        let (name, fields) = stat.split_once('(').and_then(|(_, rest)| rest.rsplit_once(") ")).unwrap();
        if name.starts_with("heavy-") || name.starts_with("light-") {
            // The 19th field of all; the name was the second.
            found.push((name.to_owned(), fields.split(' ').nth(16).unwrap().to_owned()));
        }
    }
    found.sort();
    let expected = [
        ("heavy-0", "7"),
        ("heavy-0.0", "7"),
        ("heavy-0.1", "7"),
        ("light-0", "3"),
        ("light-0.0", "3"),
        ("light-0.1", "3"),
    ];
    assert_eq!(found, expected.map(|(name, nice)| (name.to_owned(), nice.to_owned())));
}
