//! The shipped weights do what their cards say, on small samples; `models/training/evaluate.py` scores them in full.

use std::path::{Path, PathBuf};

use candle_core::{DType, Device};
use gpusched_daemon::demo::checker::{COLORS, Kind, find, shows};
use gpusched_models::{Picture, Unobserved, flux2, owlv2, vilt};
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

/// A shape whose box is `bounds`, with the geometry of `models/training/world.py`, on a white ground.
fn drawn(rgb: [u8; 3], kind: Kind, bounds: owlv2::Bounds) -> Picture {
    let owlv2::Bounds { left, top, right, bottom } = bounds;
    let (x, y, half_width, half_height) =
        ((left + right) / 2.0, (top + bottom) / 2.0, (right - left) / 2.0, (bottom - top) / 2.0);
    let outside = |dx: f32, dy: f32| match kind {
        Kind::Circle => dx.hypot(dy) - half_width,
        Kind::Square => (dx.abs() - half_width).max(dy.abs() - half_height),
        Kind::Triangle => {
            let sides = dx.abs() * 2.0 * half_height - (dy + half_height) * half_width;
            (sides / (2.0 * half_height).hypot(half_width)).max(dy - half_height)
        }
    };
    let pixels = RgbImage::from_fn(64, 64, |column, row| {
        let share = (0.5 - outside(column as f32 + 0.5 - x, row as f32 + 0.5 - y)).clamp(0.0, 1.0);
        image::Rgb(rgb.map(|value| (255.0 - share * (255.0 - f32::from(value))).round() as u8))
    });
    Picture::new(64, 64, pixels.into_raw()).expect("64 x 64")
}

/// Every colour with every kind once, each in another place.
#[test]
fn owlv2_finds_what_it_is_asked_for() {
    let model = owlv2::Owlv2::load(&models().join("weights/owlv2-tiny"), &Device::Cpu, DType::F32, &Unobserved);
    let model = model.expect("the tiny OWLv2 loads");
    let names: Vec<String> =
        COLORS.iter().flat_map(|(color, _)| Kind::ALL.map(|kind| format!("a {color} {kind}"))).collect();
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    let request = owlv2::Request { texts: &texts, threshold: 0.5, overlap: Some(0.5) };
    let (mut found_all, mut besides) = (0, 0);
    for (label, (rgb, kind)) in COLORS.iter().flat_map(|&(_, rgb)| Kind::ALL.map(|kind| (rgb, kind))).enumerate() {
        let (x, y) = (16.0 + 32.0 * (label % 5) as f32 / 4.0, 16.0 + 32.0 * (label % 7) as f32 / 6.0);
        let (half_width, half_height) = match kind {
            Kind::Circle => (11.0, 11.0),
            Kind::Square => (9.75, 9.75),
            Kind::Triangle => (12.1, 10.45),
        };
        let bounds = owlv2::Bounds {
            left: x - half_width,
            top: y - half_height,
            right: x + half_width,
            bottom: y + half_height,
        };
        let found = model.detect(&drawn(rgb, kind, bounds), &request, &Unobserved).expect("detections");
        let right = |one: &&owlv2::Detection| one.label == label && one.bounds.overlap(&bounds) >= 0.5;
        let hits = found.iter().filter(right).count();
        found_all += usize::from(hits > 0);
        besides += found.len() - hits;
    }
    println!("shapes found: {found_all} of {}, and {besides} besides", names.len());
    assert!(found_all * 20 >= names.len() * 19, "{found_all} of {} found, at least 95 % are promised", names.len());
    assert!(besides * 10 <= names.len(), "{besides} found that are not there");
}
