//! What finding masks takes in memory, against what is said beforehand, in full and in half precision.
//!
//! One test only: what is counted is the whole process.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

#[path = "common/counting.rs"]
mod counting;

use std::{collections::HashMap, fs, path::Path};

use candle_core::{DType, Device, Tensor};
use counting::{live, peak};
use gpusched_models::{
    Census, Picture, Unobserved,
    sam2::{self, Area, Prompt, Sam2, config::Sam2Config, preprocess::ProcessorConfig},
};
use serde_json::{Value, json};

/// Estimates may be this many times what is measured.
const LOOSE: u64 = 4;
/// Side of the picture that the model sees: a quarter of the published.
const SIDE: u32 = 256;

/// A model with the published one's blocks and windows, at a quarter of its widths and without what training would give it.
fn write(dir: &Path) {
    let published = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sam2-hiera-tiny/config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(published).unwrap()).unwrap();
    let backbone = &mut config["vision_config"]["backbone_config"];
    backbone["image_size"] = json!([SIDE, SIDE]);
    backbone["hidden_size"] = json!(24);
    backbone["embed_dim_per_stage"] = json!([24, 48, 96, 192]);
    config["vision_config"]["backbone_channel_list"] = json!([192, 96, 48, 24]);
    config["vision_config"]["backbone_feature_sizes"] = json!([[64, 64], [32, 32], [16, 16]]);
    config["vision_config"]["fpn_hidden_size"] = json!(64);
    config["prompt_encoder_config"]["hidden_size"] = json!(64);
    config["prompt_encoder_config"]["image_size"] = json!(SIDE);
    config["mask_decoder_config"]["hidden_size"] = json!(64);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    let processor = json!({"size": {"height": SIDE, "width": SIDE}});
    fs::write(dir.join("preprocessor_config.json"), processor.to_string()).unwrap();
    let config = Sam2Config::read(&dir.join("config.json")).unwrap();
    let census = Census::of(|vb| Sam2::new(config, ProcessorConfig::default(), &vb)).unwrap();
    let constant = |shape: &Vec<usize>| Tensor::full(0.01f32, shape.clone(), &Device::Cpu).unwrap();
    let tensors: HashMap<_, _> = census.tensors().iter().map(|(name, shape)| (name, constant(shape))).collect();
    candle_core::safetensors::save(&tensors, dir.join("model.safetensors")).unwrap();
}

#[test]
fn masks_take_what_is_said_beforehand() {
    // On one thread: what each keeps for itself depends on which of them happened to be needed.
    let pool = rayon::ThreadPoolBuilder::new().num_threads(1).build().unwrap();
    pool.install(compare);
}

fn compare() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let footprint = sam2::footprint(dir.path()).unwrap();
    let area = Area { left: 10.0, top: 10.0, right: 90.0, bottom: 80.0 };
    for dtype in [DType::F32, DType::F16] {
        let number = dtype.size_in_bytes() as u64;
        let before = live();
        let model = Sam2::load(dir.path(), &Device::Cpu, dtype, &Unobserved).unwrap();
        let weights = live() - before;
        let said = footprint.parameters * number + footprint.tables_bytes;
        println!("{dtype:?}: weights {weights}, said {said}");
        assert!(weights <= said && said <= 2 * weights, "{dtype:?}: weights {weights}, said {said}");

        // With the first picture, which is not looked at, the thread makes what it keeps.
        for (count, side) in (0..).zip([100, 100, 400]) {
            let picture = Picture::new(side, side, vec![90; (side * side * 3) as usize]).unwrap();
            let (made, measured) = peak(|| model.segment(&picture, &[Prompt::area(area)], &Unobserved));
            made.unwrap();
            if count == 0 {
                continue;
            }
            let pixels = u64::from(side) * u64::from(side);
            let said = (footprint.run_numbers + footprint.run_numbers_per_pixel * pixels) * number;
            println!("{dtype:?}, {side} x {side}: measured {measured}, said {said}");
            assert!(measured <= said && said <= LOOSE * measured, "{dtype:?} {side}: {measured}, said {said}");
        }
    }
}
