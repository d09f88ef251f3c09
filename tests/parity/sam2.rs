//! SAM2 against what transformers computes, and its behaviour as work that can be interrupted.
//!
//! `models/fixtures/make_sam2.py` made the inputs and outputs.

use gpusched_models::sam2::{
    Area, Point, Prompt, Sam2,
    config::Sam2Config,
    preprocess::ProcessorConfig,
    prompt::{MAX_PROMPTS, PromptEncoder},
};

use super::{behaviour::Observer, *};

fn sam2(dtype: DType) -> Sam2 {
    Sam2::load(&fixture("sam2"), &CPU, dtype, &Unobserved).unwrap()
}

/// A prompt of the fixture, and the number of its picture.
fn asked(case: &Value) -> (Prompt, u64) {
    let number = |value: &Value| value.as_f64().unwrap() as f32;
    let area = case["box"].as_array().map(|sides| {
        let [left, top, right, bottom] = [0, 1, 2, 3].map(|side: usize| number(&sides[side]));
        Area { left, top, right, bottom }
    });
    let point = |point: &Value| Point { x: number(&point["x"]), y: number(&point["y"]), inside: point["label"] == 1 };
    let points = case["points"].as_array().unwrap().iter().map(point).collect();
    (Prompt { area, points }, case["picture"].as_u64().unwrap())
}

fn prompts(io: &Io) -> Vec<(Prompt, u64)> {
    io.notes["prompts"].as_array().unwrap().iter().map(asked).collect()
}

/// Channels last, as the library has them first.
fn last(tensor: &Tensor) -> Tensor {
    tensor.permute((0, 2, 3, 1)).unwrap()
}

#[test]
fn sam2_sees_pictures() {
    let (io, model) = (Io::of("sam2"), sam2(DType::F32));
    let mut pixels = Stage::new("SAM2, preprocessing");
    for i in 0..2 {
        let prepared = model.prepare(&io.picture(&format!("picture{i}"))).unwrap();
        pixels.compare(&prepared, &io.get(&format!("picture{i}.pixels")));
    }
    drop(pixels);

    let pixels = io.get("picture0.pixels");
    let mut backbone = Stage::new("SAM2, backbone");
    let stages = model.backbone().forward(&pixels, &Unobserved).unwrap();
    assert_eq!(stages.len(), 4);
    for (i, stage) in stages.iter().enumerate() {
        backbone.compare(stage, &io.get(&format!("picture0.stage{i}")));
    }
    drop(backbone);
    let mut neck = Stage::new("SAM2, neck");
    for (i, level) in model.neck().forward(&stages).unwrap().iter().take(3).enumerate() {
        neck.compare(level, &last(&io.get(&format!("picture0.level{i}"))));
    }
    drop(neck);
    let mut seen = Stage::new("SAM2, what the decoder reads");
    let features = model.look(&pixels, &Unobserved).unwrap();
    for (i, feature) in [&features.finest, &features.fine, &features.embedding].into_iter().enumerate() {
        seen.compare(feature, &last(&io.get(&format!("picture0.seen{i}"))));
    }
    let positions = last(&io.get("positions")).flatten(1, 2).unwrap();
    seen.compare(model.positions(), &positions);
}

#[test]
fn sam2_reads_prompts() {
    let mut stage = Stage::new("SAM2, boxes and points");
    let (io, dir) = (Io::of("sam2"), fixture("sam2"));
    let config = Sam2Config::read(&dir.join("config.json")).unwrap();
    let encoder = PromptEncoder::new(&config.prompt, &weights(&dir).pp("prompt_encoder")).unwrap();
    for (i, (prompt, picture)) in prompts(&io).into_iter().enumerate() {
        let picture = io.picture(&format!("picture{picture}"));
        let tokens = encoder.forward(&prompt, picture.width(), picture.height()).unwrap();
        stage.compare(&tokens, &io.get(&format!("prompt{i}.sparse")));
    }
}

#[test]
fn sam2_makes_masks() {
    let (io, model) = (Io::of("sam2"), sam2(DType::F32));
    let mut masks = Stage::new("SAM2, masks of low resolution");
    let mut scores = Stage::new("SAM2, scores of all masks");
    let mut objects = Stage::new("SAM2, whether there is anything");
    let mut chosen = Stage::new("SAM2, score of the mask taken");
    let (mut bits, mut open) = (0, 0);
    for (i, (prompt, picture)) in prompts(&io).into_iter().enumerate() {
        let picture = io.picture(&format!("picture{picture}"));
        let features = model.look(&model.prepare(&picture).unwrap(), &Unobserved).unwrap();
        let tokens = model.prompts().forward(&prompt, picture.width(), picture.height()).unwrap();
        let decoded = model.decode(&features, &tokens, &Unobserved).unwrap();
        // The fixture has the masks that the library gives out: the single one, and the others.
        masks.compare(&decoded.masks, &io.get(&format!("prompt{i}.masks")));
        scores.compare(&decoded.scores, &io.get(&format!("prompt{i}.scores")));
        objects.compare(&decoded.object, &io.get(&format!("prompt{i}.object")));

        let [mask] = <[_; 1]>::try_from(model.segment(&picture, &[prompt], &Unobserved).unwrap()).unwrap();
        assert_eq!((mask.width, mask.height), (picture.width(), picture.height()));
        chosen.compare(&Tensor::new(&[mask.score], &CPU).unwrap(), &io.get(&format!("prompt{i}.score")));
        // 2 stands for a pixel so near the threshold that an error within the tolerance may turn it around.
        let want = io.ids(&format!("prompt{i}.bits"));
        assert_eq!(mask.bits.len(), want.len());
        for (at, (got, want)) in mask.bits.iter().zip(&want).enumerate() {
            assert!(*want == 2 || *got == (*want == 1), "prompt {i}, pixel {at}");
        }
        let count = |kind| want.iter().filter(|bit| **bit == kind).count();
        assert!(count(0) > 0 && count(1) > 0, "prompt {i} has a mask of nothing or of everything");
        bits += want.len();
        open += count(2);
    }
    println!(
        "| {:<46} | {:>5} | {open} of {bits} pixels open, the rest exact |",
        "SAM2, masks as large as the picture", 8
    );
    assert!(open * 100 < bits, "{open} of {bits}");
}

/// The model reads those of a checkpoint's tensors, and in those shapes, that it says it does.
#[test]
fn sam2_has_the_published_tensors() {
    for name in ["sam2", "sam2-hiera-tiny"] {
        let config = Sam2Config::read(&fixture(name).join("config.json")).unwrap();
        let asked = Census::of(|vb| Sam2::new(config, ProcessorConfig::default(), &vb)).unwrap();
        if name == "sam2" {
            let parts = gpusched_models::sam2::breakdown(&fixture(name)).unwrap().parts;
            assert_eq!(parts.iter().map(|part| part.parameters).sum::<u64>(), asked.parameters());
            assert_eq!(parts[0].parameters, asked.parameters_below("vision_encoder."));
            assert!(parts[1].unread > 0);
            continue;
        }
        let mut expected = published::published(name);
        let whole = expected.len();
        // Masks as prompts: three convolutions and two norms, with weight and bias each.
        expected.retain(|name, _| !name.starts_with("prompt_encoder.mask_embed."));
        assert_eq!(whole - expected.len(), 10);
        assert_eq!(*asked.tensors(), expected);
    }
}

#[test]
fn interrupted_anywhere_sam2_unwinds() {
    let (io, model) = (Io::of("sam2"), sam2(DType::F32));
    let picture = io.picture("picture0");
    let prompts: Vec<Prompt> = prompts(&io).into_iter().take(2).map(|(prompt, _)| prompt).collect();
    let segment = |observer: &Observer| model.segment(&picture, &prompts, observer);
    let whole = Observer::default();
    let masks = segment(&whole).unwrap();
    let sites = whole.sites();
    // Six blocks of the backbone, and for each prompt three layers and the last attention of the decoder.
    assert_eq!(sites, [Site::Block; 6 + 2 * 4]);
    for at in 0..sites.len() {
        assert!(matches!(segment(&Observer::interrupting(at)), Err(Error::Interrupted(_))), "site {at}");
    }
    assert_eq!(segment(&Observer::default()).unwrap(), masks);
    // Several prompts at once are the same as each by itself.
    for (prompt, mask) in prompts.iter().zip(&masks) {
        let alone = model.segment(&picture, std::slice::from_ref(prompt), &Unobserved).unwrap();
        assert_eq!(alone, std::slice::from_ref(mask));
    }
}

#[test]
fn sam2_in_half_precision_stays_near() {
    let io = Io::of("sam2");
    let picture = io.picture("picture0");
    let (prompt, _) = prompts(&io).remove(0);
    let of = |dtype| sam2(dtype).segment(&picture, std::slice::from_ref(&prompt), &Unobserved).unwrap().remove(0);
    let (exact, half) = (of(DType::F32), of(DType::F16));
    let different = exact.bits.iter().zip(&half.bits).filter(|(a, b)| a != b).count();
    assert!(different * 50 < exact.bits.len(), "{different} of {} pixels differ", exact.bits.len());
    assert!((exact.score - half.score).abs() < 0.02, "{} {}", exact.score, half.score);
}

#[test]
fn impossible_prompts_are_input_errors() {
    fn shared<T: Send + Sync>() {}
    shared::<Sam2>();

    let model = sam2(DType::F32);
    let picture = Picture::new(20, 10, vec![90; 20 * 10 * 3]).unwrap();
    let at = |x| Prompt::points(vec![Point { x, y: 1.0, inside: true }]);
    for (impossible, reason) in [
        (vec![], "0 prompts"),
        (vec![at(1.0); MAX_PROMPTS + 1], "17 prompts"),
        (vec![at(1.0), Prompt::default()], "needs a box"),
        (vec![at(1.0), at(21.0)], "outside"),
        (vec![at(f32::NAN)], "outside"),
    ] {
        // Nothing is computed for them.
        let refused = model.segment(&picture, &impossible, &Observer::interrupting(0));
        assert!(matches!(&refused, Err(Error::Input(text)) if text.contains(reason)), "{reason}: {refused:?}");
    }
}
