//! Stable Diffusion 3 against diffusers. `models/fixtures/make_sd3.py` made the inputs and outputs.

use candle_core::{DType, Tensor};
use gpusched_models::{
    Error, Unobserved,
    clip::config::TextConfig,
    flux2::scheduler::SchedulerConfig,
    sd3::{
        Canvas, Pipeline, Region, Request,
        config::TransformerConfig,
        schedule::sigmas,
        text::{Text, Tower, encode},
        transformer::Transformer,
        vae::{Vae, VaeConfig},
    },
};

use crate::{CPU, Io, Stage, fixture, weights};

fn transformer(dir: &str) -> Transformer {
    let config = TransformerConfig::read(&fixture(dir).join("config.json")).unwrap();
    Transformer::new(&config, weights(&fixture(dir))).unwrap()
}

fn compare(name: &'static str, dir: &str) {
    let (io, transformer) = (Io::of(dir), transformer(dir));
    let mut stage = Stage::new(name);
    for (case, sigma) in io.notes["sigmas"].as_object().unwrap() {
        let part = |part: &str| io.get(&format!("{case}.{part}"));
        let sigma = sigma.as_f64().unwrap() as f32;
        let text = Text { tokens: part("text"), pooled: part("pooled"), alike: 1 };
        let got = transformer.forward(&part("latents"), &text, sigma, &Unobserved).unwrap();
        stage.compare(&got, &part("out"));
    }
}

#[test]
fn transformer_of_3_0() {
    compare("SD3 transformer", "sd3-transformer");
}

#[test]
fn transformer_of_3_5() {
    compare("SD3.5 transformer, with dual attention", "sd3-5-transformer");
}

#[test]
fn prompts() {
    let (io, dir) = (Io::of("sd3-text"), fixture("sd3-text"));
    let towers = ["text_encoder", "text_encoder_2"].map(|name| {
        let config = TextConfig::read_alone(&dir.join(name).join("config.json")).unwrap();
        Tower::new(&config, &weights(&dir.join(name))).unwrap()
    });
    let (first, second) = (io.ids("text_encoder.ids"), io.ids("text_encoder_2.ids"));
    let text = encode(&towers, [&first, &second], None, 32, &Unobserved).unwrap();
    let mut stage = Stage::new("SD3 prompts, by two encoders");
    // The last token stands for all that are in the third encoder's place.
    let tokens = text.tokens.dim(1).unwrap();
    let last = text.tokens.narrow(1, tokens - 1, 1).unwrap().repeat((1, text.alike, 1)).unwrap();
    let all = Tensor::cat(&[text.tokens.narrow(1, 0, tokens - 1).unwrap(), last], 1).unwrap();
    stage.compare(&all, &io.get("tokens"));
    stage.compare(&text.pooled, &io.get("pooled"));
    for (ids, width) in [([&first[..], &second[1..]], 32), ([&first, &second], 19), ([&[40], &second[..1]], 32)] {
        assert!(matches!(encode(&towers, ids, None, width, &Unobserved), Err(Error::Input(_))));
    }
}

#[test]
fn autoencoder() {
    let (io, dir) = (Io::of("sd3-vae"), fixture("sd3-vae"));
    let vae = Vae::new(&VaeConfig::read(&dir.join("config.json")).unwrap(), &weights(&dir)).unwrap();
    let mut stage = Stage::new("SD3 autoencoder");
    stage.compare(&vae.encode(&io.get("pixels"), &Unobserved).unwrap(), &io.get("latents"));
    stage.compare(&vae.decode(&io.get("latents"), &Unobserved).unwrap(), &io.get("decoded"));
}

#[test]
fn noise_levels() {
    let (io, dir) = (Io::of("sd3-vae"), fixture("sd3-vae"));
    let config = SchedulerConfig::read(&dir.join("scheduler_config.json")).unwrap();
    let mut stage = Stage::new("SD3 noise levels");
    for (steps, want) in io.notes["sigmas"].as_object().unwrap() {
        let want: Vec<f32> = serde_json::from_value(want.clone()).unwrap();
        let tensor = |values: &[f32]| Tensor::new(values, &CPU).unwrap();
        stage.compare(&tensor(&sigmas(&config, steps.parse().unwrap())), &tensor(&want));
    }
}

#[test]
fn latents_that_do_not_fit_are_refused() {
    let (io, transformer) = (Io::of("sd3-transformer"), transformer("sd3-transformer"));
    let part = |part: &str| io.get(&format!("square.{part}"));
    let (latents, text) = (part("latents"), Text { tokens: part("text"), pooled: part("pooled"), alike: 1 });
    for size in [3, 0] {
        let odd = latents.narrow(2, 0, size).unwrap();
        let refused = transformer.forward(&odd, &text, 1.0, &Unobserved);
        assert!(matches!(refused, Err(Error::Input(_))), "{size}");
    }
    let large = latents.repeat((1, 1, 2, 1)).unwrap();
    assert!(matches!(transformer.forward(&large, &text, 1.0, &Unobserved), Err(Error::Input(_))));
}

/// Text tokens of which the last counts as often as there are of it, against all of them one by one.
#[test]
fn tokens_that_are_alike_are_computed_once() {
    let (io, mut stage) = (Io::of("sd3-5-transformer"), Stage::new("SD3.5 transformer, one token for many"));
    let transformer = transformer("sd3-5-transformer");
    let part = |part: &str| io.get(&format!("wide.{part}"));
    let (tokens, pooled) = (part("text"), part("pooled"));
    let last = tokens.narrow(1, tokens.dim(1).unwrap() - 1, 1).unwrap().repeat((1, 99, 1)).unwrap();
    let each = Text { tokens: Tensor::cat(&[&tokens, &last], 1).unwrap(), pooled: pooled.clone(), alike: 1 };
    let once = Text { tokens, pooled, alike: 100 };
    let of = |text| transformer.forward(&part("latents"), text, 0.5, &Unobserved).unwrap();
    stage.compare(&of(&once), &of(&each));
}

fn pipeline() -> Pipeline {
    Pipeline::load(&fixture("sd3"), &CPU, DType::F32, &Unobserved).unwrap()
}

#[test]
fn tokens() {
    let (io, pipeline) = (Io::of("sd3"), pipeline());
    for case in io.notes["prompts"].as_array().unwrap() {
        let prompt = case["prompt"].as_str().unwrap();
        let encoded = pipeline.words().encode(prompt).unwrap();
        let ids = encoded.each_ref().map(|encoded| encoded.ids.clone());
        assert_eq!(serde_json::json!(ids), case["ids"], "{prompt}");
        let truncated = encoded.iter().map(|encoded| encoded.truncated).max().unwrap();
        assert_eq!(u64::from(truncated), case["truncated"], "{prompt}");
    }
}

/// Pictures from text, and pictures of which a part is made anew, by the whole pipeline.
fn pictures(pipeline: &Pipeline, name: &str, names: [&'static str; 2]) {
    let io = Io::of(name);
    let (mut whole, mut part) = (Stage::new(names[0]), Stage::new(names[1]));
    for (name, case) in io.notes["pipeline"].as_object().unwrap() {
        let number = |key: &str| case[key].as_u64().unwrap() as u32;
        let get = |part: &str| io.get(&format!("{name}.{part}"));
        let given = case.get("strength").map(|strength| {
            let mask: Vec<u8> = get("mask").flatten_all().unwrap().to_vec1().unwrap();
            let mask: Vec<bool> = mask.into_iter().map(|bit| bit == 1).collect();
            (io.picture(&format!("{name}.picture")), mask, strength.as_f64().unwrap())
        });
        let canvas = match &given {
            Some((picture, mask, strength)) => {
                Canvas::Part(Region { picture, mask, grow: number("grow"), strength: *strength })
            }
            None => Canvas::Whole { width: number("width"), height: number("height") },
        };
        let (prompt, steps) = (case["prompt"].as_str().unwrap(), number("steps"));
        let request = Request { prompt, canvas, steps, guidance: case["guidance"].as_f64().unwrap(), seed: 0 };
        let (latents, truncated) = pipeline.sample(&request, &get("noise"), &Unobserved).unwrap();
        assert_eq!(truncated > 0, name == "cut" || name == "guided", "{name}");
        let stage = if given.is_some() { &mut part } else { &mut whole };
        stage.compare(&latents, &get("latents"));
        stage.compare(&pipeline.decode(&latents, &Unobserved).unwrap(), &get("image"));
    }
}

#[test]
fn pictures_and_parts_of_pictures() {
    pictures(&pipeline(), "sd3", ["SD3 pictures from text", "SD3 parts of pictures made anew"]);
}
