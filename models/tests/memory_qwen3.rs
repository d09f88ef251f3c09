//! What an answer takes in memory, against what is said beforehand, in full and in half precision.
//!
//! One test only: what is counted is the whole process.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

#[path = "common/copying.rs"]
mod copying;
#[path = "common/counting.rs"]
mod counting;

use std::{collections::HashMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use counting::{live, peak};
use gpusched_models::{
    Unobserved,
    qwen3::{self, Qwen3, Request},
};
use serde_json::{Value, json};

/// Estimates may be this many times what is measured.
const LOOSE: u64 = 4;
/// Tokens that question and answer have together.
const POSITIONS: usize = 640;

/// The fixture's tokenizer, and a larger model without what training would give it.
fn write(dir: &Path) {
    copying::copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/qwen3"), dir);
    let path = dir.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for (key, value) in [
        ("hidden_size", 256),
        ("intermediate_size", 512),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 32),
        ("num_hidden_layers", 8),
        ("max_position_embeddings", POSITIONS),
    ] {
        config[key] = json!(value);
    }
    fs::write(&path, config.to_string()).unwrap();
    fs::remove_file(dir.join("generation_config.json")).unwrap();
    let mut tensors = HashMap::new();
    let mut add = |name: String, shape: &[usize]| {
        tensors.insert(name, Tensor::full(0.01f32, shape, &Device::Cpu).unwrap());
    };
    add("model.embed_tokens.weight".to_owned(), &[315, 256]);
    add("model.norm.weight".to_owned(), &[256]);
    for layer in 0..8 {
        for (name, shape) in [
            ("input_layernorm", &[256][..]),
            ("post_attention_layernorm", &[256]),
            ("self_attn.q_proj", &[256, 256]),
            ("self_attn.k_proj", &[128, 256]),
            ("self_attn.v_proj", &[128, 256]),
            ("self_attn.o_proj", &[256, 256]),
            ("self_attn.q_norm", &[32]),
            ("self_attn.k_norm", &[32]),
            ("mlp.gate_proj", &[512, 256]),
            ("mlp.up_proj", &[512, 256]),
            ("mlp.down_proj", &[256, 512]),
        ] {
            add(format!("model.layers.{layer}.{name}.weight"), shape);
        }
    }
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
}

#[test]
fn answers_take_what_is_said_beforehand() {
    // On one thread: what each keeps for itself depends on which of them happened to be needed.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(compare);
}

fn compare() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let footprint = qwen3::footprint(dir.path()).unwrap();
    for dtype in [DType::F32, DType::F16] {
        let number = dtype.size_in_bytes() as u64;
        let before = live();
        let model = Qwen3::load(dir.path(), &Device::Cpu, dtype, &Unobserved).unwrap();
        let weights = live() - before;
        let said = footprint.parameters * number + footprint.tables_bytes;
        println!("{dtype:?}: weights {weights}, said {said}");
        assert!(weights <= said && said <= 2 * weights, "{dtype:?}: weights {weights}, said {said}");

        let tokens = |words| model.chat().tokens(&"blue ".repeat(words)).unwrap().len();
        let most = (0..).take_while(|&words| tokens(words) < POSITIONS - 8).last().unwrap();
        let said = footprint.run_numbers * number;
        let mut shortest = 0;
        // With the first question, which is not looked at, the thread makes what it keeps.
        for (count, words) in (0..).zip([most, 1, most]) {
            let request = Request { question: &"blue ".repeat(words), max_tokens: 4 };
            let (made, measured) = peak(|| model.answer(&request, &mut |_, _| {}, &Unobserved));
            made.unwrap();
            println!("{dtype:?}, {words} words: measured {measured}, said {said}");
            match count {
                0 => {}
                1 => shortest = measured,
                _ => assert!(measured <= said && said <= LOOSE * measured, "{dtype:?}: {measured}, said {said}"),
            }
        }
        assert!(shortest <= said, "{dtype:?}: {shortest}, said {said}");
    }
}
