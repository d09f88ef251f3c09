//! The shipped weights do what their cards say, on small samples; `models/training/evaluate.py` scores them in full.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use gpusched_daemon::demo::checker::{COLORS, Kind, find, shows};
use gpusched_models::{Picture, Unobserved, flux2, vilt};
use image::RgbImage;
use serde::Deserialize;

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models")
}

#[derive(Deserialize)]
struct Row {
    question: String,
    answer: String,
    image: u32,
}

/// easy-VQA's official test split, every 25th picture.
#[test]
fn vilt_answers_easy_vqa() {
    let folder = models().join("fixtures/easy-vqa");
    let text = std::fs::read_to_string(folder.join("questions.json")).expect("the sample's questions");
    let rows: Vec<Row> = serde_json::from_str(&text).expect("a list of questions");
    let sheet = image::open(folder.join("images.png")).expect("the sample's pictures").to_rgb8();
    let model = vilt::Vqa::load(&models().join("weights/vilt-tiny"), &Device::Cpu, DType::F32, &Unobserved);
    let model = model.expect("the shipped ViLT loads");
    let right = rows.iter().filter(|row| {
        let one = image::imageops::crop_imm(&sheet, 64 * row.image, 0, 64, 64).to_image();
        let picture = Picture::new(64, 64, one.into_raw()).expect("64 x 64");
        let answers = model.answer(&picture, &row.question, 1, &Unobserved).expect("an answer");
        answers[0].label == row.answer
    });
    let (right, all) = (right.count(), rows.len());
    println!("easy-VQA sample: {right} of {all}");
    assert!(all > 300 && right * 100 >= all * 95, "{right} of {all} right, at least 95 % are promised");
}

/// Every colour with every kind once, judged by the pixel checker.
#[test]
fn flux2_draws_what_it_is_asked_for() {
    let folder = models().join("weights/flux2-klein-tiny");
    let pipeline = flux2::Pipeline::load(&folder, &Device::Cpu, DType::F32, &Unobserved);
    let pipeline = pipeline.expect("the shipped FLUX.2 loads");
    let mut right = 0;
    for (seed, (color, _)) in (1..).zip(COLORS) {
        for kind in Kind::ALL {
            let prompt = format!("a {color} {kind}");
            let (width, height, steps, guidance) = (64, 64, 20, 3.0);
            let request = flux2::Request { prompt: &prompt, references: &[], width, height, steps, guidance, seed };
            let made = pipeline.generate(&request, &Unobserved).expect("a picture").picture;
            let picture = RgbImage::from_raw(width, height, made.rgb().to_vec()).expect("64 x 64");
            right += usize::from(shows(&find(&picture), &[(color, kind)]));
        }
    }
    let all = COLORS.len() * Kind::ALL.len();
    println!("single shapes: {right} of {all}");
    assert!(right * 2 >= all, "{right} of {all} right, at least half are promised");
}
