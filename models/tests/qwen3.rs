//! Directories of a Qwen3 that cannot be loaded are refused with the file and the value.

#[path = "common/spoilt.rs"]
mod spoilt;

use std::fs;

use candle_core::{DType, Device};
use gpusched_models::{
    Error, Unobserved,
    qwen3::{self, Qwen3, Request},
};
use serde_json::json;
use spoilt::Model;

trait Load {
    fn load(&self) -> Result<Qwen3, Error>;
}

impl Load for Model {
    fn load(&self) -> Result<Qwen3, Error> {
        Qwen3::load(&self.dir(), &Device::Cpu, DType::F32, &Unobserved)
    }
}

#[test]
fn values_that_are_not_implemented_are_named() {
    let (config, generation) = ("config.json", "generation_config.json");
    for (file, key, value) in [
        (config, "model_type", json!("qwen2")),
        (config, "hidden_act", json!("gelu")),
        (config, "use_sliding_window", json!(true)),
        (config, "rope_parameters", json!({"rope_type": "yarn"})),
        (config, "num_hidden_layers", json!(0)),
        (config, "num_key_value_heads", json!(3)),
        (config, "head_dim", json!(5)),
        (config, "max_position_embeddings", json!(0)),
        (config, "vocab_size", json!(1_usize << 60)),
        (generation, "repetition_penalty", json!(1.05)),
        (generation, "num_beams", json!(4)),
        (generation, "no_repeat_ngram_size", json!(2)),
        (generation, "suppress_tokens", json!([3])),
        (generation, "eos_token_id", json!("<|im_end|>")),
        (generation, "eos_token_id", json!(-1)),
    ] {
        let model = Model::copy("qwen3");
        model.set(file, &format!("/{key}"), value.clone());
        match model.load().map(drop) {
            Err(Error::Config { path, reason }) => {
                assert_eq!(path, model.path(file));
                let named = if key == "rope_parameters" { "rope_type" } else { key };
                assert!(reason.contains(named), "{key}: {reason}");
            }
            other => panic!("{key} = {value}: {other:?}"),
        }
        assert!(qwen3::footprint(&model.dir()).is_err(), "{key} = {value}");
    }
}

#[test]
fn what_changes_nothing_loads_and_says_when_answers_end() {
    let model = Model::copy("qwen3");
    for (key, value) in [
        ("repetition_penalty", json!(1)),
        ("num_beams", json!(1.0)),
        ("suppress_tokens", json!(null)),
        ("temperature", json!(0.1)),
        ("eos_token_id", json!(262)),
    ] {
        model.set("generation_config.json", &format!("/{key}"), value);
    }
    let ask = |model: &Model| {
        let request = Request { question: "a red circle", max_tokens: 20 };
        model.load().unwrap().answer(&request, &mut |_, _| {}, &Unobserved).unwrap()
    };
    let answer = ask(&model);
    assert!(answer.complete && answer.tokens < 20, "{answer:?}");
    // Without the file the configuration says it, and there nothing does.
    fs::remove_file(model.path("generation_config.json")).unwrap();
    let longer = ask(&model);
    assert!(!longer.complete && longer.tokens == 20, "{longer:?}");
    model.set("config.json", "/eos_token_id", json!([1, 262]));
    assert_eq!(ask(&model), answer);
}

#[test]
fn a_tied_head_is_not_read() {
    let tied = qwen3::breakdown(&Model::copy("qwen3").dir()).unwrap().parts[0];
    let own = qwen3::breakdown(&Model::copy("qwen3-untied").dir()).unwrap().parts[0];
    assert_eq!((tied.unread, own.unread), (0, 0));
    // The other has a head of its own, biases, and half of the layers.
    let model = Model::copy("qwen3-untied");
    model.set("config.json", "/tie_word_embeddings", json!(true));
    let without = qwen3::breakdown(&model.dir()).unwrap().parts[0];
    assert_eq!((without.unread, without.parameters), (315 * 16, own.parameters - 315 * 16));
    model.load().unwrap();
}
