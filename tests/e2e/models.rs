//! `gpuctl models`: what models take, and whether that fits, with a daemon and without one.

use std::fs;

use candle_core::quantized::GgmlDType;
use serde_json::Value;

use crate::harness::daemon::{Daemon, Ended, Home, Setup, gpuschedd_command};
use crate::harness::programs::models;

#[path = "../../models/tests/common/mod.rs"]
mod quantised;

fn document(ended: Ended) -> Value {
    let [document] = ended.documents().try_into().expect("one document");
    document
}

/// The options that name the models that daemons of tests have.
fn directory() -> String {
    format!("--models={}", models().display())
}

#[test]
fn a_plan_is_what_admission_asks_for() {
    let daemon = Daemon::start();
    for (size, steps) in [("64", "2"), ("128x64", "2")] {
        let job = ["route", "txt2img", "x", "--model=flux2-klein-tiny", "--steps", steps, "--size", size, "--json"];
        let route = document(daemon.gpuctl(&job).expect(0));
        let plan = ["models", &directory(), "--plan=flux2-klein-tiny", "--size", size, "--json"];
        let plan = document(daemon.gpuctl(&plan).expect(0));
        for bytes in ["weights_bytes", "run_bytes"] {
            assert!(route[bytes].as_u64().is_some_and(|bytes| bytes > 0), "{route}");
            assert_eq!(plan[bytes], route[bytes], "{plan} but {route}");
        }
    }
}

#[test]
fn a_plan_is_held_against_the_partitions_of_the_daemon() {
    let daemon = Daemon::start();
    let status = document(daemon.gpuctl(&["status", "--json"]).expect(0));
    let caps = |classes: &Value, cap: fn(&Value) -> &Value| -> Vec<u64> {
        classes.as_array().expect("an array").iter().map(|class| cap(class).as_u64().expect("bytes")).collect()
    };
    let plan = |more: &[&str]| {
        let directory = directory();
        let args = [&["models", directory.as_str(), "--plan", "flux2-klein-tiny"], more].concat();
        daemon.gpuctl(&args).expect(0)
    };
    let asked = document(plan(&["--json"]));
    assert_eq!(
        caps(&asked["partitions"], |partition| &partition["cap_bytes"]),
        caps(&status["classes"], |class| &class["partition"]["cap_bytes"])
    );
    assert_eq!(asked["partitions"][0]["class"], "heavy");
    assert_eq!((&asked["partitions"][0]["fits"], &asked["remedies"]), (&Value::Bool(true), &Value::Array(Vec::new())));
    let ended = plan(&[]);
    assert!(ended.text().contains("partition of class heavy: fits, "), "{}", ended.text());
    assert_eq!(ended.stderr, "");

    // Held against a number instead, the daemon is not asked.
    let ended = plan(&["--cap", "1MB"]);
    let said = ended.text();
    assert!(said.contains("partition: does not fit, ") && !said.contains("class heavy"), "{said}");
    assert!(said.contains("what would help") && said.contains("a partition of "), "{said}");
}

#[test]
fn published_models_need_neither_files_nor_a_daemon() {
    let home = Home::new(&Setup::default());
    let config = format!("--config={}", home.file("gpusched.toml").display());
    let ended = home.gpuctl(&["models", &config, "--plan", "flux2-klein-9b", "--size", "1024"]).expect(0);
    let text = ended.text();
    assert!(text.contains("the published configuration of black-forest-labs/FLUX.2-klein-9B"), "{text}");
    assert!(text.contains("--cap SIZE says so"), "{text}");
    assert!(ended.stderr.contains("what the daemon's partitions are is not known: "), "{}", ended.stderr);

    let fits = |cap: &str| {
        let args = ["models", &config, "--plan=flux2-klein-9b", "--dtype=bf16", "--cap", cap, "--json"];
        document(home.gpuctl(&args).expect(0))["partitions"][0]["fits"].clone()
    };
    assert_eq!((fits("34GB"), fits("24GB")), (Value::Bool(true), Value::Bool(false)));
}

#[test]
fn a_name_that_is_not_known_gets_those_that_are() {
    let home = Home::new(&Setup::default());
    let config = format!("--config={}", home.file("gpusched.toml").display());
    let ended = home.gpuctl(&["models", &config, "--plan=flux9", "--cap=1GB"]).expect(1);
    for known in ["\"flux9\"", "flux2-klein-tiny, owlv2-tiny", "flux2-klein-9b"] {
        assert!(ended.stderr.contains(known), "{}", ended.stderr);
    }
    let ended = home.gpuctl(&["models", &config, "--plan=flux2-klein-tiny", "--dtype=q4_k", "--cap=1GB"]).expect(2);
    assert!(ended.stderr.contains("bf16"), "{}", ended.stderr);

    // A model whose header is cut off is not passed over in silence.
    let damaged = home.file("models/damaged");
    fs::create_dir(&damaged).expect("a directory");
    for entry in fs::read_dir(models().join("vilt-tiny")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("readable");
        let end = if path.extension().is_some_and(|e| e == "safetensors") { 100 } else { bytes.len() };
        fs::write(damaged.join(path.file_name().expect("a name")), &bytes[..end]).expect("written");
    }
    let ended = home.gpuctl(&["models", &config, "--plan=damaged", "--cap=1GB"]).expect(1);
    assert!(ended.stderr.contains("model.safetensors"), "{}", ended.stderr);
}

#[test]
fn models_are_listed() {
    let ended = Ended::of(gpuschedd_command(&["models", &directory()])).expect(0);
    let text = ended.text();
    assert!(text.starts_with("clip-tiny "), "{text}");
    assert!(text.contains("flux2-klein-4b       not here; published as black-forest-labs/FLUX.2-klein-4B"), "{text}");
    let listed = document(Ended::of(gpuschedd_command(&["models", &directory(), "--json"])).expect(0));
    assert_eq!(listed[5]["model"], "vilt-tiny");
    assert_eq!(listed[6]["published"], "black-forest-labs/FLUX.2-klein-4B");
}

#[test]
fn a_model_with_a_quantised_transformer_makes_pictures_in_the_memory_that_is_planned() {
    let home = Home::new(&Setup::default());
    let (name, directory) = ("flux2-klein-q8", home.file("models"));
    quantised::quantise(&models().join("flux2-klein-tiny"), &directory.join(name), GgmlDType::Q8_0);
    let daemon = home.start();
    let model = format!("--model={name}");
    let picture = daemon.home().file("out.png");
    let out = picture.to_str().expect("text");
    daemon
        .gpuctl(&["submit", "txt2img", "a red circle", &model, "--size=64", "--steps=2", "--seed=1", "-o", out])
        .expect(0);
    assert!(fs::read(&picture).expect("a picture").starts_with(b"\x89PNG"));

    let directory = format!("--models={}", directory.display());
    let plan = |more: &[&str]| daemon.gpuctl(&[&["models", &directory, "--size=64", "--plan", name], more].concat());
    let text = plan(&[]).expect(0);
    assert!(text.text().contains("parameters stay quantised, at 8.5 bits each"), "{}", text.text());
    let planned = document(plan(&["--json"]).expect(0));
    let route = document(daemon.gpuctl(&["route", "txt2img", "x", &model, "--size=64", "--json"]).expect(0));
    // What has run was measured meanwhile, so that only the weights are still as declared, or below.
    let weights = |of: &Value| of["weights_bytes"].as_u64().expect("bytes");
    assert!(weights(&route) > 0 && weights(&route) <= weights(&planned), "{route} but {planned}");
    let refused = plan(&["--quant=q4_k"]).expect(1);
    assert!(refused.stderr.contains("is installed, and counted as its files are"), "{}", refused.stderr);
}
