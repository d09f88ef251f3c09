//! The models against what diffusers and transformers compute, and their behaviour as work that can be interrupted.
//!
//! `models/fixtures/make_fixtures.py` made the inputs and outputs. `cargo test -p gpusched-tests --test parity --
//! --nocapture` prints the largest relative error of each stage.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use candle_core::{DType, Device, Shape, Tensor};
use candle_nn::{Init, VarBuilder, var_builder::SimpleBackend};
use gpusched_models::{
    Error, Interrupted, Picture, Site, Unobserved, YieldPoint,
    flux2::{
        Pipeline, Request,
        config::{TextEncoderConfig, TransformerConfig, VaeConfig},
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
    let config = TextEncoderConfig::read(&dir.join("config.json")).unwrap();
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
    let config = TextEncoderConfig::read(&dir.join("config.json")).unwrap();
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

/// Hands out tensors that take no memory and notes what was asked for.
struct Recorder(Arc<Mutex<BTreeMap<String, Vec<usize>>>>);

impl SimpleBackend for Recorder {
    fn get(&self, shape: Shape, name: &str, _: Init, dtype: DType, device: &Device) -> candle_core::Result<Tensor> {
        self.0.lock().unwrap().insert(name.to_owned(), shape.dims().to_vec());
        Tensor::zeros((), dtype, device)?.broadcast_as(shape)
    }

    fn get_unchecked(&self, name: &str, _: DType, _: &Device) -> candle_core::Result<Tensor> {
        Err(candle_core::Error::msg(format!("{name} is asked for without a shape")))
    }

    fn contains_tensor(&self, _: &str) -> bool {
        true
    }
}

fn recorded<T>(build: impl FnOnce(VarBuilder<'_>) -> candle_core::Result<T>) -> BTreeMap<String, Vec<usize>> {
    let seen = Arc::new(Mutex::new(BTreeMap::new()));
    build(VarBuilder::from_backend(Box::new(Recorder(seen.clone())), DType::F32, CPU)).unwrap();
    let seen = seen.lock().unwrap();
    seen.clone()
}

fn published(part: &str) -> BTreeMap<String, Vec<usize>> {
    let text = std::fs::read_to_string(fixture("klein-4b").join(part).join("tensors.txt")).unwrap();
    text.lines()
        .map(|line| {
            let mut words = line.split(' ');
            (words.next().unwrap().to_owned(), words.map(|n| n.parse().unwrap()).collect())
        })
        .collect()
}

#[test]
fn klein_4b_has_the_published_tensors() {
    let config = |part: &str| fixture("klein-4b").join(part).join("config.json");

    let transformer = TransformerConfig::read(&config("transformer")).unwrap();
    assert_eq!(recorded(|vb| Transformer::new(&transformer, vb)), published("transformer"));

    let vae = VaeConfig::read(&config("vae")).unwrap();
    let mut expected = published("vae");
    // A counter of training steps, of no use in inference.
    assert!(expected.remove("bn.num_batches_tracked").is_some());
    assert_eq!(recorded(|vb| Vae::new(&vae, vb)), expected);

    let text = TextEncoderConfig::read(&config("text_encoder")).unwrap();
    assert_eq!(text.taps(), [9, 18, 27]);
    let mut expected = published("text_encoder");
    let whole = expected.len();
    // The last hidden state that the transformer reads comes after layer 27 of 36. What lies behind it, and the
    // language model's head, is never computed and therefore not read from disk.
    expected.retain(|name, _| {
        let layer = name.strip_prefix("model.layers.").and_then(|rest| rest.split('.').next());
        let behind = layer.is_some_and(|layer| layer.parse::<usize>().unwrap() >= 27);
        let used = !behind && name != "model.norm.weight" && name != "lm_head.weight";
        assert_eq!(TextEncoder::uses(&text, name), used, "{name}");
        used
    });
    assert_eq!(whole - expected.len(), 9 * 11 + 2);
    assert_eq!(recorded(|vb| TextEncoder::new(&text, vb)), expected);
}

/// Notes every site, and interrupts at the one numbered `at`.
#[derive(Default)]
struct Observer {
    sites: RefCell<Vec<Site>>,
    at: Cell<Option<usize>>,
}

impl Observer {
    fn interrupting(at: usize) -> Self {
        Self { at: Cell::new(Some(at)), ..Self::default() }
    }
}

impl YieldPoint for Observer {
    fn reach(&self, site: Site) -> Result<(), Interrupted> {
        let number = self.sites.borrow().len();
        assert!(self.at.get().is_none_or(|at| number <= at), "work went on after its interruption");
        self.sites.borrow_mut().push(site);
        if self.at.get() == Some(number) { Err(Interrupted) } else { Ok(()) }
    }
}

fn small_request(references: &[Picture]) -> Request<'_> {
    Request { prompt: "a red circle", references, width: 16, height: 24, steps: 2, guidance: 3.0, seed: 9 }
}

#[test]
fn interrupted_anywhere_the_pipeline_unwinds_and_stays_usable() {
    let pipeline = klein();
    let references = [Picture::new(64, 64, vec![90; 64 * 64 * 3]).unwrap()];
    let request = small_request(&references);
    let whole = Observer::default();
    let picture = pipeline.generate(&request, &whole).unwrap().picture;
    let sites = whole.sites.into_inner();
    for at in 0..sites.len() {
        let observer = Observer::interrupting(at);
        assert!(matches!(pipeline.generate(&request, &observer), Err(Error::Interrupted(_))), "site {at}");
        assert_eq!(observer.sites.into_inner(), sites[..=at]);
    }
    assert_eq!(pipeline.generate(&request, &Unobserved).unwrap().picture, picture);

    for kind in [Site::TextEncoderBlock, Site::Block, Site::VaeStage] {
        assert!(sites.contains(&kind), "{kind:?} is never reached");
    }
    let steps: Vec<Site> = sites.into_iter().filter(|site| matches!(site, Site::Step { .. })).collect();
    assert_eq!(steps, (0..=2).map(|done| Site::Step { done, total: 2 }).collect::<Vec<_>>());
}

#[test]
fn interrupted_anywhere_loading_unwinds() {
    let load = |observer: &Observer| Pipeline::load(&fixture("klein"), &CPU, DType::F32, observer).map(drop);
    let whole = Observer::default();
    load(&whole).unwrap();
    let sites = whole.sites.into_inner();
    assert_eq!(sites, (0..=3).map(|done| Site::WeightFile { done, total: 3 }).collect::<Vec<_>>());
    for at in 0..sites.len() {
        assert!(matches!(load(&Observer::interrupting(at)), Err(Error::Interrupted(_))), "site {at}");
    }
}

#[test]
fn interrupted_anywhere_vilt_unwinds() {
    let model = vilt("vilt");
    let picture = Picture::new(30, 40, vec![120; 3600]).unwrap();
    let answer = |observer: &Observer| model.answer(&picture, "how many?", 2, observer);
    let whole = Observer::default();
    let answers = answer(&whole).unwrap();
    let sites = whole.sites.into_inner();
    assert_eq!(sites, [Site::Block; 2]);
    for at in 0..sites.len() {
        assert!(matches!(answer(&Observer::interrupting(at)), Err(Error::Interrupted(_))), "site {at}");
    }
    assert_eq!(answer(&Observer::default()).unwrap(), answers);
}

#[test]
fn the_seed_decides_the_picture() {
    let pipeline = klein();
    let request = small_request(&[]);
    let first = pipeline.generate(&request, &Unobserved).unwrap().picture;
    assert_eq!(pipeline.generate(&request, &Unobserved).unwrap().picture, first);
    assert_ne!(pipeline.generate(&Request { seed: 10, ..request }, &Unobserved).unwrap().picture, first);
}

#[test]
fn half_precision_stays_near() {
    let references = [Picture::new(64, 64, vec![90; 64 * 64 * 3]).unwrap()];
    let request = small_request(&references);
    let exact = klein().generate(&request, &Unobserved).unwrap().picture;
    let picture = Picture::new(30, 40, vec![120; 3600]).unwrap();
    let answer = vilt("vilt").answer(&picture, "how many?", 1, &Unobserved).unwrap();
    // Not bf16: candle has no matrix product in it on the CPU.
    let pipeline = Pipeline::load(&fixture("klein"), &CPU, DType::F16, &Unobserved).unwrap();
    let half = pipeline.generate(&request, &Unobserved).unwrap().picture;
    let differences = half.rgb().iter().zip(exact.rgb()).map(|(a, b)| f64::from(a.abs_diff(*b)));
    let mean = differences.sum::<f64>() / exact.rgb().len() as f64;
    assert!(mean < 1.0, "pixels differ by {mean} of 255 on average");
    let vqa = Vqa::load(&fixture("vilt"), &CPU, DType::F16, &Unobserved).unwrap();
    let half = vqa.answer(&picture, "how many?", 1, &Unobserved).unwrap();
    assert!((half[0].score - answer[0].score).abs() < 0.01, "{half:?} {answer:?}");
}

#[test]
fn models_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Pipeline>();
    shared::<Vqa>();
}

#[test]
fn impossible_requests_are_input_errors() {
    let pipeline = klein();
    let request = small_request(&[]);
    assert_eq!((pipeline.defaults().side, pipeline.defaults().multiple, pipeline.defaults().text_tokens), (64, 8, 40));
    let narrow = [Picture::new(640, 64, vec![0; 640 * 64 * 3]).unwrap()];
    for (impossible, reason) in [
        (Request { width: 20, ..request }, "multiples of 8"),
        (Request { height: 0, ..request }, "multiples of 8"),
        (Request { width: 8192, height: 8192, ..request }, "area"),
        (Request { steps: 0, ..request }, "steps"),
        (Request { guidance: f64::NAN, ..request }, "guidance"),
        (Request { references: &narrow, ..request }, "narrow"),
    ] {
        match pipeline.generate(&impossible, &Unobserved) {
            Err(Error::Input(text)) => assert!(text.contains(reason), "{text}"),
            other => panic!("{other:?}"),
        }
    }
    let long = Request { prompt: &"small ".repeat(100), ..request };
    assert!(pipeline.generate(&long, &Unobserved).unwrap().truncated_tokens > 50);
}
