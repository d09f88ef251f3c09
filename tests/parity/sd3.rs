//! Stable Diffusion 3 against diffusers. `models/fixtures/make_sd3.py` made the inputs and outputs.

use gpusched_models::{
    Error, Unobserved,
    clip::config::TextConfig,
    flux2::scheduler::SchedulerConfig,
    sd3::{
        config::TransformerConfig,
        schedule::sigmas,
        text::{Tower, encode},
        transformer::Transformer,
        vae::{Vae, VaeConfig},
    },
};

use crate::{Io, Stage, fixture, weights};

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
        let got = transformer.forward(&part("latents"), &part("text"), &part("pooled"), sigma, &Unobserved).unwrap();
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
    let text = encode(&towers, [&first, &second], 32, &Unobserved).unwrap();
    let mut stage = Stage::new("SD3 prompts, by two encoders");
    stage.compare(&text.tokens, &io.get("tokens"));
    stage.compare(&text.pooled, &io.get("pooled"));
    for (ids, width) in [([&first[..], &second[1..]], 32), ([&first, &second], 19), ([&[40], &second[..1]], 32)] {
        assert!(matches!(encode(&towers, ids, width, &Unobserved), Err(Error::Input(_))));
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
        let tensor = |values: &[f32]| candle_core::Tensor::new(values, &candle_core::Device::Cpu).unwrap();
        stage.compare(&tensor(&sigmas(&config, steps.parse().unwrap())), &tensor(&want));
    }
}

#[test]
fn latents_that_do_not_fit_are_refused() {
    let (io, transformer) = (Io::of("sd3-transformer"), transformer("sd3-transformer"));
    let part = |part: &str| io.get(&format!("square.{part}"));
    let (latents, text, pooled) = (part("latents"), part("text"), part("pooled"));
    for size in [3, 0] {
        let odd = latents.narrow(2, 0, size).unwrap();
        let refused = transformer.forward(&odd, &text, &pooled, 1.0, &Unobserved);
        assert!(matches!(refused, Err(Error::Input(_))), "{size}");
    }
    let large = latents.repeat((1, 1, 2, 1)).unwrap();
    assert!(matches!(transformer.forward(&large, &text, &pooled, 1.0, &Unobserved), Err(Error::Input(_))));
}
