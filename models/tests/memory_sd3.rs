//! What a picture by a Stable Diffusion 3 takes in memory, against what is said beforehand, in full and in half precision.
//!
//! One test only: what is counted is the whole process.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

#[path = "common/counting.rs"]
mod counting;
#[path = "common/spoilt.rs"]
mod spoilt;

use std::{collections::HashMap, path::Path};

use candle_core::{DType, Device, Tensor};
use counting::{live, peak};
use gpusched_models::{
    Census, Picture, Unobserved,
    clip::config::TextConfig,
    sd3::{
        self, Canvas, Pipeline, Region, Request,
        config::TransformerConfig,
        text::Tower,
        transformer::Transformer,
        vae::{Vae, VaeConfig},
    },
};
use serde_json::json;
use spoilt::Model;

/// Estimates may be this many times what is measured.
const LOOSE: u64 = 4;

/// A model with more width than the fixture's, and without what training would give it.
fn wide() -> Model {
    let model = Model::copy("sd3");
    for (file, key, value) in [
        ("text_encoder/config.json", "hidden_size", json!(96)),
        ("text_encoder/config.json", "intermediate_size", json!(384)),
        ("text_encoder_2/config.json", "hidden_size", json!(128)),
        ("text_encoder_2/config.json", "intermediate_size", json!(512)),
        ("transformer/config.json", "joint_attention_dim", json!(256)),
        ("transformer/config.json", "attention_head_dim", json!(32)),
        ("transformer/config.json", "num_attention_heads", json!(4)),
        ("transformer/config.json", "caption_projection_dim", json!(128)),
        ("transformer/config.json", "pos_embed_max_size", json!(32)),
        ("transformer/config.json", "sample_size", json!(32)),
        ("vae/config.json", "block_out_channels", json!([16, 32, 32])),
    ] {
        model.set(file, &format!("/{key}"), value);
    }
    let config = |part: &str| model.path(part).join("config.json");
    for part in ["text_encoder", "text_encoder_2"] {
        let read = TextConfig::read_alone(&config(part)).unwrap();
        write(&Census::of(|vb| Tower::new(&read, &vb)).unwrap(), &model.path(part).join("model.safetensors"));
    }
    let weights = |part: &str| model.path(part).join("diffusion_pytorch_model.safetensors");
    let read = TransformerConfig::read(&config("transformer")).unwrap();
    write(&Census::of(|vb| Transformer::new(&read, vb)).unwrap(), &weights("transformer"));
    let read = VaeConfig::read(&config("vae")).unwrap();
    write(&Census::of(|vb| Vae::new(&read, &vb)).unwrap(), &weights("vae"));
    model
}

fn write(census: &Census, path: &Path) {
    let constant = |shape: &Vec<usize>| Tensor::full(0.01f32, shape.clone(), &Device::Cpu).unwrap();
    let tensors: HashMap<_, _> = census.tensors().iter().map(|(name, shape)| (name, constant(shape))).collect();
    candle_core::safetensors::save(&tensors, path).unwrap();
}

#[test]
fn a_picture_takes_what_is_said_beforehand() {
    // On one thread: what each keeps for itself depends on which of them happened to be needed.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(compare);
}

fn compare() {
    let model = wide();
    let footprint = sd3::footprint(&model.dir()).unwrap();
    for dtype in [DType::F32, DType::F16] {
        let number = dtype.size_in_bytes() as u64;
        let before = live();
        let pipeline = Pipeline::load(&model.dir(), &Device::Cpu, dtype, &Unobserved).unwrap();
        // Tokenizers make tables when they are first used.
        pipeline.words().encode("a red circle").unwrap();
        let weights = live() - before;
        let said = footprint.parameters * number + footprint.tables_bytes;
        println!("{dtype:?}: weights {weights}, said {said}");
        assert!(weights <= said && said <= 2 * weights, "{dtype:?}: weights {weights}, said {said}");

        // With the first picture, which is not looked at, the thread makes what it keeps.
        for (count, (side, whole)) in (0..).zip([(128, true), (64, true), (128, true), (64, false), (128, false)]) {
            let picture = Picture::new(side, side, vec![90; (side * side * 3) as usize]).unwrap();
            let mask: Vec<bool> = (0..side * side).map(|i| i % side < side / 2).collect();
            let canvas = if whole {
                Canvas::Whole { width: side, height: side }
            } else {
                Canvas::Part(Region::new(&picture, &mask))
            };
            let request = Request { prompt: "a red circle", canvas, steps: 1, guidance: 3.0, seed: 1 };
            let (made, measured) = peak(|| pipeline.generate(&request, &Unobserved));
            made.unwrap();
            if count == 0 {
                continue;
            }
            let pixels = u64::from(side) * u64::from(side);
            let said = (footprint.run_numbers + footprint.run_numbers_per_pixel * pixels) * number;
            println!("{dtype:?}, {side} x {side}, whole {whole}: measured {measured}, said {said}");
            assert!(measured <= said && said <= LOOSE * measured, "{dtype:?} {side}: {measured}, said {said}");
        }
    }
}
