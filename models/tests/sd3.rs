//! Directories of a Stable Diffusion 3 that cannot be loaded are refused with the file and the value; other spellings load.

#[path = "common/spoilt.rs"]
mod spoilt;

use std::fs;

use candle_core::{DType, Device};
use gpusched_models::{
    Error, Kind, Unobserved, scan,
    sd3::{self, Canvas, Pipeline, Request},
};
use serde_json::{Value, json};
use spoilt::Model;

trait Load {
    fn load(&self) -> Result<Pipeline, Error>;
}

impl Load for Model {
    fn load(&self) -> Result<Pipeline, Error> {
        Pipeline::load(&self.dir(), &Device::Cpu, DType::F32, &Unobserved)
    }
}

#[test]
fn values_that_are_not_implemented_are_named() {
    let (first, second) = ("text_encoder/config.json", "text_encoder_2/config.json");
    let (transformer, vae) = ("transformer/config.json", "vae/config.json");
    let (scheduler, tokenizer) = ("scheduler/scheduler_config.json", "tokenizer/tokenizer_config.json");
    let cases = [
        ("model_index.json", "_class_name", json!("StableDiffusionPipeline")),
        (first, "model_type", json!("clip")),
        (first, "hidden_act", json!("relu")),
        (second, "num_attention_heads", json!(3)),
        (second, "max_position_embeddings", json!(0)),
        (transformer, "patch_size", json!(0)),
        (transformer, "sample_size", json!(0)),
        (transformer, "in_channels", json!(32)),
        (transformer, "out_channels", json!(8)),
        (transformer, "pooled_projection_dim", json!(13)),
        (transformer, "joint_attention_dim", json!(19)),
        (transformer, "caption_projection_dim", json!(1_usize << 60)),
        (transformer, "num_attention_heads", json!(4)),
        (transformer, "qk_norm", json!("layer_norm")),
        (vae, "scaling_factor", json!(0)),
        (vae, "use_quant_conv", json!(true)),
        (vae, "norm_num_groups", json!(5)),
        (scheduler, "use_dynamic_shifting", json!(true)),
        (scheduler, "use_karras_sigmas", json!(true)),
        (tokenizer, "model_max_length", json!(17)),
        (tokenizer, "model_max_length", json!(1)),
        (tokenizer, "padding_side", json!("left")),
        ("tokenizer_2/tokenizer_config.json", "pad_token", json!("<nowhere>")),
        ("tokenizer_2/tokenizer_config.json", "pad_token", Value::Null),
    ];
    for (file, key, value) in cases {
        let model = Model::copy("sd3");
        model.set(file, &format!("/{key}"), value.clone());
        match model.load().map(drop) {
            Err(Error::Config { path, reason }) => {
                // What the vocabulary lacks is said of the vocabulary.
                assert!(path == model.path(file) || reason.contains("has no number"), "{key} {value}: {reason}");
                let words = [key, "groups", "special token", "the width of the attention"];
                assert!(words.iter().any(|word| reason.contains(word)), "{key} {value}: {reason}");
            }
            other => panic!("{key} {value}: {other:?}"),
        }
    }
}

#[test]
fn missing_and_damaged_files_are_named() {
    for file in [
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder_2/config.json",
        "tokenizer/tokenizer.json",
        "tokenizer_2/merges.txt",
        "transformer/config.json",
        "vae/config.json",
    ] {
        let model = Model::copy("sd3");
        fs::remove_file(model.path(file)).unwrap();
        match model.load().map(drop) {
            Err(Error::Missing { path, .. }) => assert_eq!(path, model.path(file)),
            other => panic!("{file}: {other:?}"),
        }
    }
    for part in ["text_encoder", "text_encoder_2", "transformer", "vae"] {
        let model = Model::copy("sd3");
        let stem = if part.starts_with("text") { "model" } else { "diffusion_pytorch_model" };
        let file = model.path(&format!("{part}/{stem}.safetensors"));
        let whole = fs::read(&file).unwrap();
        for length in [0, 8, 100, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..length]).unwrap();
            let refused = model.load().map(drop);
            assert!(
                matches!(refused, Err(Error::Weights { .. } | Error::Missing { .. })),
                "{part} {length}: {refused:?}"
            );
        }
        fs::remove_file(&file).unwrap();
        assert!(matches!(model.load(), Err(Error::Missing { .. })), "{part}");
    }
    // Sizes that the configuration allows and the files do not have.
    let model = Model::copy("sd3");
    model.set("transformer/config.json", "/pos_embed_max_size", json!(9));
    assert!(matches!(model.load(), Err(Error::Weights { reason, .. }) if reason.contains("pos_embed")));
}

#[test]
fn a_damaged_vocabulary_is_refused() {
    let merges = fs::read_to_string(Model::copy("sd3").path("tokenizer_2/merges.txt")).unwrap();
    for (file, text) in [
        ("vocab.json", "{".to_owned()),
        ("vocab.json", "{}".to_owned()),
        ("vocab.json", r#"{"<|startoftext|>": "first", "<|endoftext|>": 1, "!": 2}"#.to_owned()),
        ("merges.txt", format!("{merges}single\n")),
        ("merges.txt", format!("{merges}nowhere in\n")),
    ] {
        let model = Model::copy("sd3");
        fs::write(model.path(&format!("tokenizer_2/{file}")), &text).unwrap();
        let refused = model.load().map(drop);
        assert!(
            matches!(refused, Err(Error::Config { .. } | Error::Tokenizer { .. })),
            "{file} {text:.40}: {refused:?}"
        );
    }
}

#[test]
fn a_token_past_the_table_is_refused_before_it_is_looked_up() {
    let model = Model::copy("sd3");
    let vocabulary = "tokenizer_2/vocab.json";
    let mut changed = model.json(vocabulary);
    changed["q</w>"] = json!(4_000_000);
    fs::write(model.path(vocabulary), changed.to_string()).unwrap();
    let pipeline = model.load().unwrap();
    let canvas = Canvas::Whole { width: 16, height: 16 };
    let request = Request { prompt: "q", canvas, steps: 1, guidance: 1.0, seed: 1 };
    assert!(matches!(pipeline.generate(&request, &Unobserved), Err(Error::Tokenizer { .. })));
}

#[test]
fn it_is_listed_with_what_it_takes() {
    let model = Model::copy("sd3");
    let found = scan(&[model.models.path().to_owned()]).unwrap();
    assert_eq!(found.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect::<Vec<_>>(), [("copy", Kind::Sd3)]);
    assert_eq!(found[0].stored_type().unwrap(), DType::F32);
    let breakdown = sd3::breakdown(&model.dir()).unwrap();
    let names: Vec<_> = breakdown.parts.iter().map(|part| part.name).collect();
    assert_eq!(names, ["text encoder", "second text encoder", "transformer", "autoencoder"]);
    let numbers: u64 = breakdown.parts.iter().map(|part| part.parameters).sum();
    // But for the headers that is all there is in the files, four bytes to a number.
    assert!(4 * numbers < found[0].bytes && found[0].bytes < 5 * numbers, "{numbers} of {}", found[0].bytes);
    let defaults = sd3::defaults(&model.dir()).unwrap();
    assert_eq!((defaults.side, defaults.multiple, defaults.longest, defaults.text_tokens), (32, 8, 64, 16));
}

/// Published directories write special tokens as objects, too.
#[test]
fn special_tokens_may_be_objects() {
    let model = Model::copy("sd3");
    let token = json!({"__type": "AddedToken", "content": "<|endoftext|>", "normalized": true, "special": true});
    for key in ["/eos_token", "/unk_token"] {
        model.set("tokenizer_2/tokenizer_config.json", key, token.clone());
    }
    model.set("tokenizer_2/tokenizer_config.json", "/bos_token", Value::Null);
    let ids = |model: &Model| model.load().unwrap().words().encode("! a red circle").unwrap()[1].ids.clone();
    assert_eq!(ids(&model), ids(&Model::copy("sd3")));
}
