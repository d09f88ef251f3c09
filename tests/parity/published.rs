//! The published sizes are built with the published tensors: names and shapes, without their weights.

use super::*;

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
