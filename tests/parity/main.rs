//! The models against what diffusers and transformers compute, and their behaviour as work that can be interrupted.
//!
//! `models/fixtures/make_fixtures.py` and `make_clip_fixtures.py` made the inputs and outputs. `cargo test -p gpusched-tests
//! --test parity -- --nocapture` prints the largest relative error of each stage.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

mod behaviour;
mod clip;
mod published;
mod qwen3;
mod sam2;
mod sd3;

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use gpusched_models::{
    Census, Error, Interrupted, Picture, Site, Unobserved, YieldPoint,
    flux2::{
        Pipeline, Request,
        config::{TransformerConfig, VaeConfig},
        published::Published,
        scheduler::{SchedulerConfig, sigmas},
        text_encoder::TextEncoder,
        transformer::{Reference, Transformer},
        vae::Vae,
    },
    loader::{Progress, WeightFiles},
    resample::{Filter, resize},
    tokenizer::Prompt,
    vilt::{
        Vqa,
        preprocess::{Pixels, prepare},
    },
};
use serde_json::Value;

/// Largest error tolerated, relative to the largest value of the expected tensor.
const TOLERANCE: f64 = 1e-4;
const CPU: Device = Device::Cpu;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/fixtures").join(name)
}

/// Inputs and expected outputs of a fixture.
struct Io {
    tensors: HashMap<String, Tensor>,
    notes: Value,
}

impl Io {
    fn of(name: &str) -> Self {
        let dir = fixture(name);
        let tensors = candle_core::safetensors::load(dir.join("io.safetensors"), &CPU).unwrap();
        let notes = serde_json::from_slice(&std::fs::read(dir.join("io.json")).unwrap()).unwrap();
        Self { tensors, notes }
    }

    fn get(&self, name: &str) -> Tensor {
        self.tensors.get(name).unwrap_or_else(|| panic!("{name} is not in the fixture")).clone()
    }

    fn ids(&self, name: &str) -> Vec<u32> {
        self.get(name).to_dtype(DType::U32).unwrap().flatten_all().unwrap().to_vec1().unwrap()
    }

    fn picture(&self, name: &str) -> Picture {
        let pixels = self.get(name);
        let (height, width, _) = pixels.dims3().unwrap();
        Picture::new(width as u32, height as u32, pixels.flatten_all().unwrap().to_vec1().unwrap()).unwrap()
    }
}

/// Prints and checks the largest relative error of one stage over all its cases.
struct Stage {
    name: &'static str,
    cases: usize,
    worst: f64,
}

impl Stage {
    fn new(name: &'static str) -> Self {
        Self { name, cases: 0, worst: 0.0 }
    }

    fn compare(&mut self, got: &Tensor, want: &Tensor) {
        assert_eq!(got.dims(), want.dims(), "{}", self.name);
        let values =
            |t: &Tensor| -> Vec<f64> { t.to_dtype(DType::F64).unwrap().flatten_all().unwrap().to_vec1().unwrap() };
        let (got, want) = (values(got), values(want));
        let largest = want.iter().fold(0.0f64, |m, w| m.max(w.abs()));
        let error =
            got.iter().zip(&want).fold(0.0f64, |m, (g, w)| if g.is_nan() { f64::NAN } else { m.max((g - w).abs()) });
        assert!(largest > 0.0 && error.is_finite(), "{}: error {error} of {largest}", self.name);
        self.worst = self.worst.max(error / largest);
        self.cases += 1;
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        println!("| {:<46} | {:>5} | {:.1e} |", self.name, self.cases, self.worst);
        if !std::thread::panicking() {
            assert!(self.worst <= TOLERANCE, "{}: relative error {:e}", self.name, self.worst);
        }
    }
}

fn weights(dir: &Path) -> VarBuilder<'static> {
    let files = WeightFiles::find(dir).unwrap();
    files.load(&CPU, DType::F32, &|_| true, &Progress::new(&Unobserved, files.count())).unwrap()
}

fn klein() -> Pipeline {
    Pipeline::load(&fixture("klein"), &CPU, DType::F32, &Unobserved).unwrap()
}

fn vilt(name: &str) -> Vqa {
    Vqa::load(&fixture(name), &CPU, DType::F32, &Unobserved).unwrap()
}

#[test]
fn chat_template_and_tokens() {
    let (io, pipeline) = (Io::of("klein"), klein());
    for (i, case) in io.notes["text"].as_array().unwrap().iter().enumerate() {
        let prompt = case["prompt"].as_str().unwrap();
        assert_eq!(pipeline.tokenizer().render(prompt).unwrap(), case["rendered"]);
        let encoded = pipeline.tokenizer().encode(prompt).unwrap();
        assert_eq!(encoded.ids, io.ids(&format!("text{i}.ids")), "{prompt}");
        assert_eq!(
            (encoded.used as u64, u64::from(encoded.truncated)),
            (case["used"].as_u64().unwrap(), case["truncated"].as_u64().unwrap())
        );
    }
}

#[test]
fn text_encoder() {
    let mut stage = Stage::new("text encoder, padded prompts");
    let (io, dir) = (Io::of("klein"), fixture("klein/text_encoder"));
    let config = TextEncoder::config(&dir.join("config.json")).unwrap();
    assert_eq!(config.taps(), [1, 2, 3]);
    let encoder = TextEncoder::new(&config, weights(&dir)).unwrap();
    let pipeline = klein();
    let prompts: Vec<Prompt> = io.notes["text"]
        .as_array()
        .unwrap()
        .iter()
        .map(|case| pipeline.tokenizer().encode(case["prompt"].as_str().unwrap()).unwrap())
        .collect();
    let got = encoder.forward(&prompts.iter().collect::<Vec<_>>(), &Unobserved).unwrap();
    stage.compare(&got, &io.get("text.hidden"));
    for (i, prompt) in prompts.iter().enumerate() {
        let alone = encoder.forward(&[prompt], &Unobserved).unwrap();
        stage.compare(&alone, &io.get("text.hidden").narrow(0, i, 1).unwrap());
    }
}

#[test]
fn text_encoder_with_biases_from_bf16() {
    let mut stage = Stage::new("text encoder, biases, bf16 file");
    let (io, dir) = (Io::of("text-encoder-bf16"), fixture("text-encoder-bf16"));
    let config = TextEncoder::config(&dir.join("config.json")).unwrap();
    assert_eq!((config.taps(), config.rope_base()), ([2, 4, 6], 5000.0));
    let encoder = TextEncoder::new(&config, weights(&dir)).unwrap();
    let used = io.notes["used"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap() as usize);
    let ids = io.ids("ids");
    let prompts: Vec<Prompt> =
        ids.chunks(11).zip(used).map(|(ids, used)| Prompt { ids: ids.to_vec(), used, truncated: 0 }).collect();
    let got = encoder.forward(&prompts.iter().collect::<Vec<_>>(), &Unobserved).unwrap();
    stage.compare(&got, &io.get("hidden"));

    let unknown = Prompt { ids: vec![50; 3], used: 3, truncated: 0 };
    assert!(matches!(encoder.forward(&[&unknown], &Unobserved), Err(Error::Input(_))));
}

#[test]
fn transformer() {
    transformer_cases("transformer, 0 to 2 references", "klein", "klein/transformer");
}

#[test]
fn transformer_with_guidance_from_shards() {
    let dir = "transformer-guidance-sharded";
    assert_eq!(WeightFiles::find(&fixture(dir)).unwrap().count(), 3);
    transformer_cases("transformer, embedded guidance, sharded file", dir, dir);
}

fn transformer_cases(name: &'static str, io: &str, dir: &str) {
    let mut stage = Stage::new(name);
    let (io, dir) = (Io::of(io), fixture(dir));
    let config = TransformerConfig::read(&dir.join("config.json")).unwrap();
    let transformer = Transformer::new(&config, weights(&dir)).unwrap();
    for (case, values) in io.notes["transformer"].as_object().unwrap() {
        let number = |value: &Value| value.as_u64().unwrap() as usize;
        let references: Vec<Reference> = values["references"]
            .as_array()
            .unwrap()
            .iter()
            .enumerate()
            .map(|(i, shape)| Reference {
                tokens: io.get(&format!("{case}.reference{i}")),
                rows: number(&shape[0]),
                columns: number(&shape[1]),
            })
            .collect();
        let text = io.get(&format!("{case}.text"));
        let context =
            transformer.context(&text, number(&values["rows"]), number(&values["columns"]), &references).unwrap();
        let sigma = values["sigma"].as_f64().unwrap() as f32;
        let guidance = values["guidance"].as_f64().map(|g| g as f32);
        assert_eq!(guidance.is_some(), config.guidance_embeds);
        let tokens = io.get(&format!("{case}.tokens"));
        let got = transformer.forward(&tokens, &context, sigma, guidance, &Unobserved).unwrap();
        stage.compare(&got, &io.get(&format!("{case}.out")));
    }
}

#[test]
fn vae() {
    let (io, dir) = (Io::of("klein"), fixture("klein/vae"));
    let config = VaeConfig::read(&dir.join("config.json")).unwrap();
    let vae = Vae::new(&config, weights(&dir)).unwrap();
    let mode = vae.encode(&io.get("vae.pixels"), &Unobserved).unwrap();
    Stage::new("VAE, encode").compare(&mode, &io.get("vae.mode"));
    let patches = vae.patchify(&mode).unwrap();
    Stage::new("VAE, patches at unit scale").compare(&patches, &io.get("vae.patches"));
    Stage::new("VAE, patches and back").compare(&vae.unpatchify(&patches).unwrap(), &mode);
    let decoded = vae.decode(&io.get("vae.latents"), &Unobserved).unwrap();
    Stage::new("VAE, decode").compare(&decoded, &io.get("vae.decoded"));
}

#[test]
fn schedule() {
    let mut stage = Stage::new("scheduler, noise levels");
    let io = Io::of("klein");
    let config = SchedulerConfig::read(&fixture("klein/scheduler/scheduler_config.json")).unwrap();
    for (name, want) in io.tensors.iter().filter(|(name, _)| name.starts_with("sigmas.")) {
        let (steps, tokens) = name["sigmas.".len()..].split_once('.').unwrap();
        let got = sigmas(&config, steps.parse().unwrap(), tokens.parse().unwrap());
        stage.compare(&Tensor::new(got, &CPU).unwrap(), want);
    }
    assert_eq!(stage.cases, 8);
}

#[test]
fn resizing_is_exact() {
    let mut stage = Stage::new("resizing, bicubic and Lanczos (exact)");
    let io = Io::of("klein");
    let source = io.picture("resize.source");
    for (name, want) in io.tensors.iter().filter(|(name, _)| name.starts_with("resize.") && !name.ends_with("source")) {
        let parts: Vec<_> = name.split('.').collect();
        let filter = if parts[1] == "bicubic" { Filter::Bicubic } else { Filter::Lanczos };
        let got = resize(&source, parts[2].parse().unwrap(), parts[3].parse().unwrap(), filter).unwrap();
        assert_eq!(got, io.picture(name), "{name}");
        let shape = (got.height() as usize, got.width() as usize, 3);
        stage.compare(&Tensor::from_slice(got.rgb(), shape, &CPU).unwrap(), want);
    }
}

#[test]
fn pipeline() {
    let (io, pipeline) = (Io::of("klein"), klein());
    let pictures = [io.picture("picture0"), io.picture("picture1")];
    let mut latents = Stage::new("pipeline, latents");
    let mut image = Stage::new("pipeline, picture");
    for (name, case) in io.notes["pipeline"].as_object().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let references: Vec<Picture> = case["references"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| pictures[i.as_u64().unwrap() as usize].clone())
            .collect();
        let request = Request {
            prompt: case["prompt"].as_str().unwrap(),
            references: &references,
            width: number("width"),
            height: number("height"),
            steps: number("steps"),
            guidance: case["guidance"].as_f64().unwrap(),
            seed: 0,
        };
        let (got, truncated) = pipeline.sample(&request, &io.get(&format!("{name}.noise")), &Unobserved).unwrap();
        assert_eq!(truncated, 0);
        latents.compare(&got, &io.get(&format!("{name}.latents")));
        image.compare(&pipeline.decode(&got, &Unobserved).unwrap(), &io.get(&format!("{name}.image")));
    }
}

#[test]
fn vilt_from_pictures() {
    let (io, model) = (Io::of("vilt"), vilt("vilt"));
    let mut pixels = Stage::new("ViLT, preprocessing");
    let mut logits = Stage::new("ViLT, logits");
    for (i, question) in io.notes["cases"].as_array().unwrap().iter().enumerate() {
        let question = question.as_str().unwrap();
        let ids = model.words().encode(question).unwrap();
        assert_eq!(ids, io.ids(&format!("case{i}.ids")), "{question}");
        let picture = io.picture(&format!("case{i}.picture"));
        let prepared = prepare(&picture, model.processor(), &CPU, DType::F32).unwrap();
        pixels.compare(&prepared.values, &io.get(&format!("case{i}.pixels")));
        let got = model.logits(&ids, &prepared, &Unobserved).unwrap();
        logits.compare(&got, &io.get(&format!("case{i}.logits")));

        let want: Vec<f32> = io.get(&format!("case{i}.logits")).flatten_all().unwrap().to_vec1().unwrap();
        let best = want.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        let answers = model.answer(&picture, question, 3, &Unobserved).unwrap();
        assert_eq!(answers.len(), 3);
        assert_eq!(answers[0].label, ["yes", "no", "red", "circle", "2", "left", "blue"][best]);
        assert!(answers.is_sorted_by(|a, b| a.score >= b.score));
        let all = model.answer(&picture, question, usize::MAX, &Unobserved).unwrap();
        assert!((all.iter().map(|a| a.score).sum::<f32>() - 1.0).abs() < 1e-5);
    }
    let long = "red ".repeat(15);
    assert!(matches!(model.answer(&io.picture("case0.picture"), &long, 1, &Unobserved), Err(Error::Input(_))));
}

#[test]
fn vilt_padded_batch() {
    let mut stage = Stage::new("ViLT, padded and masked batch");
    let (io, model) = (Io::of("vilt"), vilt("vilt"));
    let (ids, tokens, valid) = (io.ids("batch.ids"), io.ids("batch.tokens"), io.ids("batch.valid"));
    let longest = ids.len() / tokens.len();
    for (i, &count) in tokens.iter().enumerate() {
        let ids = &ids[i * longest..i * longest + count as usize];
        let valid = (valid[2 * i] as usize, valid[2 * i + 1] as usize);
        let pixels = Pixels { values: io.get("batch.pixels").narrow(0, i, 1).unwrap(), valid };
        let got = model.logits(ids, &pixels, &Unobserved).unwrap();
        stage.compare(&got, &io.get("batch.logits").narrow(0, i, 1).unwrap());
    }
}

#[test]
fn vilt_from_f16() {
    let mut stage = Stage::new("ViLT, logits, f16 file");
    let (io, model) = (Io::of("vilt-f16"), vilt("vilt-f16"));
    let pixels = prepare(&io.picture("case0.picture"), model.processor(), &CPU, DType::F32).unwrap();
    let got = model.logits(&io.ids("case0.ids"), &pixels, &Unobserved).unwrap();
    stage.compare(&got, &io.get("case0.logits"));
}
