//! CLIP and OWLv2. `models/fixtures/make_clip_fixtures.py` made the inputs and outputs.

use gpusched_models::{
    Kind,
    clip::{
        self, Clip,
        config::{End, Family, TowersConfig},
        model::{MAX_TEXTS, Towers},
        preprocess as clip_pixels,
    },
    owlv2::{self, Owlv2, model::Network, preprocess as owl_pixels},
};

use super::{behaviour::Observer, *};

fn clip(name: &str) -> Clip {
    Clip::load(&fixture(name), &CPU, DType::F32, &Unobserved).unwrap()
}

fn owlv2() -> Owlv2 {
    Owlv2::load(&fixture("owlv2"), &CPU, DType::F32, &Unobserved).unwrap()
}

fn strings(values: &Value) -> Vec<&str> {
    values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect()
}

fn texts(name: &str, of_tower: &'static str, of_model: &'static str) {
    let (mut pooled, mut embeds) = (Stage::new(of_tower), Stage::new(of_model));
    let (io, model) = (Io::of(name), clip(name));
    let config = TowersConfig::read(&fixture(name).join("config.json"), Family::Clip).unwrap();
    let towers = Towers::new(&config, &weights(&fixture(name))).unwrap();
    for (i, text) in strings(&io.notes["texts"]).into_iter().enumerate() {
        let ids = model.words().encode(text).unwrap();
        assert_eq!(ids, io.ids(&format!("text{i}.ids")), "{text}");
        let row = |name: &str| io.get(name).narrow(0, i, 1).unwrap();
        pooled.compare(&towers.text.forward(&ids, &Unobserved).unwrap(), &row("text.pooled"));
        embeds.compare(&model.text(&ids, &Unobserved).unwrap(), &row("text.embeds"));
    }
}

/// One text has the end token in its middle, and counts up to there.
#[test]
fn clip_texts() {
    texts("clip", "CLIP, text tower", "CLIP, texts");
}

/// Where the configuration says a wrong end token, the highest is the end.
#[test]
fn clip_texts_of_an_old_file() {
    let config = TowersConfig::read(&fixture("clip-legacy-f16/config.json"), Family::Clip).unwrap();
    assert_eq!(config.text.end, End::Highest);
    texts("clip-legacy-f16", "CLIP, text tower, old f16 file", "CLIP, texts, old f16 file");
}

fn pictures(name: &str, stages: [&'static str; 5]) {
    let [mut pixels, mut hidden, mut embeds, mut cosines, mut logits] = stages.map(Stage::new);
    let (io, model) = (Io::of(name), clip(name));
    let config = TowersConfig::read(&fixture(name).join("config.json"), Family::Clip).unwrap();
    let towers = Towers::new(&config, &weights(&fixture(name))).unwrap();
    let texts = strings(&io.notes["texts"]);
    for i in 0..io.notes["cases"].as_u64().unwrap() {
        let want = |part: &str| io.get(&format!("case{i}.{part}"));
        let picture = io.picture(&format!("case{i}.picture"));
        let prepared = clip_pixels::prepare(&picture, model.processor(), &CPU, DType::F32).unwrap();
        pixels.compare(&prepared, &want("pixels"));
        hidden.compare(&towers.vision.forward(&prepared, &Unobserved).unwrap(), &want("hidden"));
        let unit = |xs: Tensor| xs.broadcast_div(&xs.sqr().unwrap().sum_all().unwrap().sqrt().unwrap()).unwrap();
        embeds.compare(&unit(model.picture(&prepared, &Unobserved).unwrap()), &want("embeds"));
        let scores = model.score(&picture, &texts, &Unobserved).unwrap();
        let row = |value: fn(&clip::Score) -> f32| {
            Tensor::new(scores.iter().map(value).collect::<Vec<_>>(), &CPU).unwrap().unsqueeze(0).unwrap()
        };
        cosines.compare(&row(|score| score.cosine), &want("cosines"));
        logits.compare(&row(|score| score.logit), &want("logits"));
    }
}

#[test]
fn clip_pictures() {
    let stages = ["CLIP, preprocessing", "CLIP, vision tower", "CLIP, pictures", "CLIP, cosines", "CLIP, logits"];
    pictures("clip", stages);
}

#[test]
fn clip_pictures_of_an_old_file() {
    let stages = [
        "CLIP, preprocessing, old f16 file",
        "CLIP, vision tower, old f16 file",
        "CLIP, pictures, old f16 file",
        "CLIP, cosines, old f16 file",
        "CLIP, logits, old f16 file",
    ];
    pictures("clip-legacy-f16", stages);
}

#[test]
fn owlv2_predictions() {
    let (io, model) = (Io::of("owlv2"), owlv2());
    let mut pixels = Stage::new("OWLv2, preprocessing");
    let mut queries = Stage::new("OWLv2, texts");
    let mut features = Stage::new("OWLv2, patches");
    let mut logits = Stage::new("OWLv2, logits");
    let mut boxes = Stage::new("OWLv2, boxes");
    let mut objectness = Stage::new("OWLv2, objectness");
    for (i, case) in io.notes["cases"].as_array().unwrap().iter().enumerate() {
        let want = |part: &str| io.get(&format!("case{i}.{part}"));
        let picture = io.picture(&format!("case{i}.picture"));
        let prepared = owl_pixels::prepare(&picture, model.processor(), &CPU, DType::F32).unwrap();
        pixels.compare(&prepared, &want("pixels"));
        let ids: Vec<_> = strings(&case["texts"]).iter().map(|text| model.words().encode(text).unwrap()).collect();
        queries.compare(&model.queries(&ids, &Unobserved).unwrap().unsqueeze(0).unwrap(), &want("queries"));
        features.compare(&model.features(&prepared, &Unobserved).unwrap().unsqueeze(0).unwrap(), &want("features"));
        let got = model.predict(&ids, &prepared, &Unobserved).unwrap();
        logits.compare(&got.logits.unsqueeze(0).unwrap(), &want("logits"));
        boxes.compare(&got.boxes.unsqueeze(0).unwrap(), &want("boxes"));
        objectness.compare(&got.objectness.unsqueeze(0).unwrap(), &want("objectness"));
    }
}

#[test]
fn owlv2_detections() {
    let (io, model) = (Io::of("owlv2"), owlv2());
    let (mut scores, mut boxes) = (Stage::new("OWLv2, scores of what is found"), Stage::new("OWLv2, boxes in pixels"));
    for (i, case) in io.notes["cases"].as_array().unwrap().iter().enumerate() {
        let picture = io.picture(&format!("case{i}.picture"));
        let texts = strings(&case["texts"]);
        let threshold = case["threshold"].as_f64().unwrap() as f32;
        let request = owlv2::Request { texts: &texts, threshold, overlap: None };
        let found = model.detect(&picture, &request, &Unobserved).unwrap();

        // The library leaves them in the order of patches.
        let want = |part: &str| io.get(&format!("case{i}.found.{part}"));
        let wanted: Vec<f32> = want("scores").to_vec1().unwrap();
        let mut order: Vec<usize> = (0..wanted.len()).collect();
        order.sort_by(|&a, &b| wanted[b].total_cmp(&wanted[a]));
        let order = Tensor::new(order.iter().map(|&at| at as u32).collect::<Vec<_>>(), &CPU).unwrap();
        let want = |part: &str| want(part).index_select(&order, 0).unwrap();

        let got = |values: Vec<f32>| Tensor::new(values, &CPU).unwrap();
        let labels: Vec<f32> = found.iter().map(|one| one.label as f32).collect();
        assert_eq!(labels, want("labels").to_vec1::<f32>().unwrap(), "case {i}");
        scores.compare(&got(found.iter().map(|one| one.score).collect()), &want("scores"));
        let corners = found.iter().flat_map(|one| {
            let owlv2::Bounds { left, top, right, bottom } = one.bounds;
            [left, top, right, bottom]
        });
        boxes.compare(&got(corners.collect()).reshape((found.len(), 4)).unwrap(), &want("boxes"));

        let once = model.detect(&picture, &owlv2::Request { overlap: Some(0.0), ..request }, &Unobserved).unwrap();
        assert!(once.len() <= found.len() && once[0] == found[0], "{once:?}");
        assert!(once.iter().all(|one| found.contains(one)));
        let none = owlv2::Request { threshold: 1.0, ..request };
        assert_eq!(model.detect(&picture, &none, &Unobserved).unwrap(), []);
    }
}

#[test]
fn interrupted_anywhere_they_unwind() {
    let (clip, owlv2) = (clip("clip"), owlv2());
    let picture = Picture::new(30, 40, vec![120; 3600]).unwrap();
    let score = |observer: &Observer| clip.score(&picture, &["a", "b"], observer).map(|scores| format!("{scores:?}"));
    let request = owlv2::Request { texts: &["a", "b"], threshold: 0.0, overlap: None };
    let detect = |observer: &Observer| owlv2.detect(&picture, &request, observer).map(|found| format!("{found:?}"));
    let text = [Site::TextEncoderBlock; 4];
    let vision = [Site::Block; 3];
    interrupt(score, &[&vision[..], &text].concat());
    interrupt(detect, &[&text[..], &vision].concat());
}

fn interrupt(work: impl Fn(&Observer) -> Result<String, Error>, sites: &[Site]) {
    let whole = Observer::default();
    let made = work(&whole).unwrap();
    assert_eq!(whole.sites(), sites);
    for at in 0..sites.len() {
        assert!(matches!(work(&Observer::interrupting(at)), Err(Error::Interrupted(_))), "site {at}");
    }
    assert_eq!(work(&Observer::default()).unwrap(), made);
}

#[test]
fn they_are_shared_by_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Clip>();
    shared::<Owlv2>();
}

#[test]
fn half_precision_stays_near() {
    let picture = Io::of("clip").picture("case1.picture");
    let texts = ["a red circle", "two blue squares"];
    let exact = clip("clip").score(&picture, &texts, &Unobserved).unwrap();
    let half = Clip::load(&fixture("clip"), &CPU, DType::F16, &Unobserved).unwrap();
    for (half, exact) in half.score(&picture, &texts, &Unobserved).unwrap().iter().zip(&exact) {
        assert!((half.cosine - exact.cosine).abs() < 0.01, "{half:?} {exact:?}");
    }
    let model = owlv2();
    let ids = [model.words().encode("a red circle").unwrap()];
    let boxes = |model: &Owlv2, dtype| {
        let pixels = owl_pixels::prepare(&picture, model.processor(), &CPU, dtype).unwrap();
        model.predict(&ids, &pixels, &Unobserved).unwrap().boxes
    };
    let half = Owlv2::load(&fixture("owlv2"), &CPU, DType::F16, &Unobserved).unwrap();
    let off = (boxes(&half, DType::F16) - boxes(&model, DType::F32)).unwrap().abs().unwrap();
    let off = off.max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(off < 0.02, "boxes differ by {off} of the square");
}

#[test]
fn impossible_requests_are_input_errors() {
    let (clip, owlv2) = (clip("clip"), owlv2());
    let picture = Picture::new(30, 40, vec![120; 3600]).unwrap();
    let large = Picture::new(2048, 2049, vec![0; 2048 * 2049 * 3]).unwrap();
    let many = vec!["a"; MAX_TEXTS + 1];
    let long = "q ".repeat(40);
    let said = |result: Result<String, Error>| match result {
        Err(Error::Input(reason)) => reason,
        other => panic!("{other:?}"),
    };
    let score = |picture: &Picture, texts: &[&str]| {
        said(clip.score(picture, texts, &Unobserved).map(|scores| format!("{scores:?}")))
    };
    let detect = |picture: &Picture, texts: &[&str], threshold, overlap| {
        let request = owlv2::Request { texts, threshold, overlap };
        said(owlv2.detect(picture, &request, &Unobserved).map(|found| format!("{found:?}")))
    };
    for (picture, texts, reason) in [
        (&picture, &[][..], "there are 0 texts"),
        (&picture, &many, "there are 65 texts; 1 to 64"),
        (&picture, &["a", &long], "42 tokens"),
        (&large, &["a"], "2048 x 2049 pixels"),
    ] {
        let (score, detect) = (score(picture, texts), detect(picture, texts, 0.5, None));
        assert!(score.contains(reason) && detect.contains(reason), "{score}; {detect}");
    }
    for bound in [-0.1, 1.5, f32::NAN, f32::INFINITY] {
        assert!(detect(&picture, &["a"], bound, None).contains("threshold"));
        assert!(detect(&picture, &["a"], 0.5, Some(bound)).contains("overlap"));
    }

    // What the callers of the stages can get wrong.
    let pixels = clip_pixels::prepare(&picture, clip.processor(), &CPU, DType::F32).unwrap();
    let end = *clip.words().encode("").unwrap().last().unwrap();
    for (ids, reason) in [(vec![], "0 tokens"), (vec![4_000_000, end], "4000000"), (vec![1], "end token")] {
        assert!(said(clip.text(&ids, &Unobserved).map(|t| t.to_string())).contains(reason), "{ids:?}");
    }
    let nothing = said(owlv2.predict(&[vec![0, end]], &pixels, &Unobserved).map(|p| p.logits.to_string()));
    assert!(nothing.contains("token 0"), "{nothing}");
    let pixels = pixels.narrow(2, 0, 8).unwrap();
    assert!(said(clip.picture(&pixels, &Unobserved).map(|t| t.to_string())).contains("24 x 24"));
}

#[test]
fn the_published_sizes_have_the_published_tensors() {
    let config = |name: &str| fixture("clip-published").join(name).join("config.json");
    let tensors = |name: &str| published::listed(&fixture("clip-published").join(name).join("tensors.txt"));

    let clip = TowersConfig::read(&config("clip-vit-base-patch32"), Family::Clip).unwrap();
    let built = Census::of(|vb| Towers::new(&clip, &vb)).unwrap();
    assert_eq!(*built.tensors(), tensors("clip-vit-base-patch32"));

    let owlv2 = owlv2::config::read(&config("owlv2-base-patch16")).unwrap();
    let mut expected = tensors("owlv2-base-patch16");
    expected.retain(|name, _| Network::uses(name));
    let built = Census::of(|vb| Network::new(&owlv2, &vb)).unwrap();
    assert_eq!(*built.tensors(), expected);
}

#[test]
fn footprints_count_what_the_files_hold() {
    for (name, kind) in [("clip", Kind::Clip), ("clip-legacy-f16", Kind::Clip), ("owlv2", Kind::Owlv2)] {
        let found = gpusched_models::scan(&[fixture("")]).unwrap();
        assert!(found.iter().any(|entry| entry.name == name && entry.kind == kind), "{name}");
        let config = fixture(name).join("config.json");
        let (breakdown, census) = if kind == Kind::Clip {
            let config = TowersConfig::read(&config, Family::Clip).unwrap();
            (clip::breakdown(&fixture(name)), Census::of(|vb| Towers::new(&config, &vb)))
        } else {
            let config = owlv2::config::read(&config).unwrap();
            (owlv2::breakdown(&fixture(name)), Census::of(|vb| Network::new(&config, &vb)))
        };
        let breakdown = breakdown.unwrap();
        assert_eq!(breakdown.footprint().parameters, census.unwrap().parameters(), "{name}");
        let whole = WeightFiles::find(&fixture(name)).unwrap().parameters(&|_| true).unwrap();
        assert_eq!(breakdown.parts.iter().map(|part| part.parameters + part.unread).sum::<u64>(), whole, "{name}");
    }
}
