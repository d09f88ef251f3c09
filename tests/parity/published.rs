//! The published sizes are built with the published tensors: names and shapes, without their weights.

use super::*;

fn recorded<T>(build: impl FnOnce(VarBuilder<'static>) -> candle_core::Result<T>) -> BTreeMap<String, Vec<usize>> {
    Census::of(build).unwrap().tensors().clone()
}

/// The tensors listed in a fixture's directory.
pub(super) fn published(directory: &str) -> BTreeMap<String, Vec<usize>> {
    listed(&fixture(directory).join("tensors.txt"))
}

/// Names and shapes in a list of tensors.
pub(crate) fn listed(path: &Path) -> BTreeMap<String, Vec<usize>> {
    std::fs::read_to_string(path)
        .unwrap()
        .lines()
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
    assert_eq!(recorded(|vb| Transformer::new(&transformer, vb)), published("klein-4b/transformer"));

    let vae = VaeConfig::read(&config("vae")).unwrap();
    let mut expected = published("klein-4b/vae");
    // A counter of training steps, of no use in inference.
    assert!(expected.remove("bn.num_batches_tracked").is_some());
    assert_eq!(recorded(|vb| Vae::new(&vae, vb)), expected);

    let text = TextEncoder::config(&config("text_encoder")).unwrap();
    assert_eq!(text.taps(), [9, 18, 27]);
    let mut expected = published("klein-4b/text_encoder");
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

/// What is known of the published models without their files is what their files' lists say.
#[test]
fn klein_4b_is_known_by_name() {
    let known = Published::find("flux2-klein-4b").unwrap();
    let counts = known.counts().unwrap();
    let numbers = |tensors: &BTreeMap<String, Vec<usize>>| -> u64 {
        tensors.values().map(|shape| shape.iter().map(|&side| side as u64).product::<u64>()).sum()
    };

    assert_eq!(*counts.transformer.tensors(), published("klein-4b/transformer"));
    let mut vae = published("klein-4b/vae");
    assert!(vae.remove("bn.num_batches_tracked").is_some());
    assert_eq!(*counts.vae.tensors(), vae);
    let whole = published("klein-4b/text_encoder");
    for (name, shape) in counts.text_encoder.tensors() {
        assert_eq!(whole.get(name), Some(shape), "{name}");
    }

    let [text, transformer, autoencoder] = known.breakdown().unwrap().parts.try_into().unwrap();
    assert_eq!((transformer.parameters, transformer.unread), (numbers(&published("klein-4b/transformer")), 0));
    assert_eq!((autoencoder.parameters, autoencoder.unread), (numbers(&vae), 0));
    // The head is the embeddings over again, and counts once.
    let head = numbers(&BTreeMap::from([("lm_head.weight".to_owned(), whole["lm_head.weight"].clone())]));
    assert_eq!(text.parameters + text.unread, numbers(&whole) - head);
}

/// What a configuration says is what the headers of the weight files say, for every model that is here.
#[test]
fn configurations_agree_with_files() {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights/flux2-klein-tiny");
    for dir in [fixture("klein"), weights] {
        let config = |part: &str| dir.join(part).join("config.json");
        let text = TextEncoder::config(&config("text_encoder")).unwrap();
        let transformer = TransformerConfig::read(&config("transformer")).unwrap();
        let vae = VaeConfig::read(&config("vae")).unwrap();
        let counted = [
            Census::of(|vb| TextEncoder::new(&text, vb)).unwrap().parameters(),
            Census::of(|vb| Transformer::new(&transformer, vb)).unwrap().parameters(),
            Census::of(|vb| Vae::new(&vae, vb)).unwrap().parameters(),
        ];
        let parts = gpusched_models::flux2::breakdown(&dir).unwrap().parts;
        assert_eq!(parts.iter().map(|part| part.parameters).collect::<Vec<_>>(), counted, "{}", dir.display());
    }
}
