//! Questions answered in words, by a Qwen3 of random weights: what it says is nothing, but it is the same as transformers says.

use std::fs;
use std::path::{Path, PathBuf};

use gpusched_client::shared::view::Activity;
use gpusched_client::shared::{AnalyzeSpec, JobSpec, Task};
use gpusched_client::{FailureKind, Outcome, Update};
use serde_json::Value;

use crate::harness::daemon::{Daemon, Home, Setup};
use crate::harness::{assert_well, outcome};

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/fixtures/qwen3")
}

/// A daemon with the model, of which nothing is there to say when a text ends where `endless`.
fn daemon(endless: bool) -> Daemon {
    let home = Home::new(&Setup::default());
    let model = home.file("models/qwen3");
    fs::create_dir(&model).expect("a directory");
    for file in fs::read_dir(fixture()).expect("the fixture") {
        let file = file.expect("a file");
        fs::copy(file.path(), model.join(file.file_name())).expect("copied");
    }
    if endless {
        fs::remove_file(model.join("generation_config.json")).expect("removed");
        // As many positions as the longest answer has.
        let path = model.join("config.json");
        let mut config: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
        config["max_position_embeddings"] = 100_000.into();
        fs::write(&path, config.to_string()).expect("written");
    }
    home.start()
}

/// What transformers says.
fn said(case: &str) -> (String, String, u64, bool) {
    let notes: Value = serde_json::from_slice(&fs::read(fixture().join("io.json")).expect("read")).expect("JSON");
    let case = &notes["cases"][case];
    let text = |key: &str| case[key].as_str().expect("a text").to_owned();
    (text("prompt"), text("text"), case["most"].as_u64().expect("a number"), case["complete"] == true)
}

fn analyze(prompt: &str, max_tokens: u32) -> JobSpec {
    JobSpec::new(Task::Analyze(AnalyzeSpec { prompt: prompt.to_owned(), max_tokens: Some(max_tokens) }))
}

#[test]
fn a_question_is_answered_as_the_reference_does() {
    let daemon = daemon(false);
    let (prompt, text, most, complete) = said("short");
    assert!(complete);
    let most = most.to_string();
    let ended = daemon.gpuctl(&["submit", "analyze", &prompt, "--max-tokens", &most, "--model", "qwen3"]).expect(0);
    assert_eq!(ended.text(), format!("{text}\n"));
    assert!(!ended.stderr.contains("cut short"), "{}", ended.stderr);

    let (prompt, text, most, complete) = said("wide");
    assert!(!complete);
    let most = most.to_string();
    let ended = daemon.gpuctl(&["submit", "analyze", &prompt, "--max-tokens", &most]).expect(0);
    assert_eq!(ended.text(), format!("{text}\n"));
    assert!(ended.stderr.contains(&format!("cut short after {most} tokens")), "{}", ended.stderr);

    let documents =
        daemon.gpuctl(&["submit", "analyze", &prompt, "--max-tokens", &most, "--json"]).expect(0).documents();
    let pieces: Vec<_> = documents.iter().filter_map(|said| said["update"]["writing"]["text"].as_str()).collect();
    assert!(pieces.iter().all(|piece| text.starts_with(piece)), "{pieces:?}");
    let result = &documents.last().expect("a result")["result"];
    assert_eq!(result["class"], "light");
    assert_eq!(result["state"]["done"]["text"]["text"], text.as_str());
    assert_eq!(result["state"]["done"]["text"]["tokens"].to_string(), most);

    let too_long = analyze(&"blue ".repeat(1000), 1);
    let client = daemon.client();
    let job = client.submit(too_long, Vec::new(), true).expect("accepted");
    let view = client.wait(job).expect("waited for");
    let Outcome::Failed { kind: FailureKind::Input, message } = outcome(&view) else { panic!("{view:?}") };
    assert!(message.contains("the model reads 599: ask less"), "{message}");
    assert_well(&daemon);
}

#[test]
fn a_text_is_heard_while_it_grows_and_stopped_in_the_middle() {
    let daemon = daemon(true);
    let client = daemon.client();
    let job = client.submit(analyze("a red circle", 4096), Vec::new(), true).expect("accepted");
    let mut heard = String::new();
    let mut lengths = 0;
    for update in client.watch(job).expect("watched") {
        match update.expect("an update") {
            Update::Writing { text, tokens } => {
                assert!(text.starts_with(&heard) && tokens > 0 && tokens <= 4096, "{heard:?} {text:?}");
                lengths += 1;
                heard = text;
                if lengths == 3 {
                    break;
                }
            }
            Update::Running { activity: Activity::Working { of, .. }, .. } => assert_eq!(of, 4096),
            Update::Done(view) => panic!("it was to be heard before: {view:?}"),
            Update::Queued { .. }
            | Update::Running { .. }
            | Update::BackingOff { .. }
            | Update::Reflecting { .. }
            | Update::Editing { .. } => {}
        }
    }
    assert_eq!(lengths, 3);
    client.cancel(job).expect("cancelled");
    let view = client.wait(job).expect("waited for");
    assert_eq!((outcome(&view), view.class.as_str()), (&Outcome::Cancelled, "light"));
    assert_well(&daemon);
}
