//! CLIP and OWLv2 directories that cannot be loaded are refused with the file and the value; older spellings load.

#![expect(clippy::unwrap_used, reason = "helpers of tests, which the exemption for tests does not cover")]

#[path = "common/spoilt.rs"]
mod spoilt;

use std::fs;

use candle_core::{DType, Device};
use gpusched_models::{Error, Kind, Picture, Unobserved, clip::Clip, owlv2, owlv2::Owlv2, scan};
use serde_json::{Value, json};
use spoilt::Model;

trait Load {
    fn load(&self) -> Result<(), Error>;
}

impl Load for Model {
    fn load(&self) -> Result<(), Error> {
        match scan(&[self.models.path().to_owned()]).unwrap().first().map(|entry| entry.kind) {
            Some(Kind::Clip) => Clip::load(&self.dir(), &Device::Cpu, DType::F32, &Unobserved).map(drop),
            _ => Owlv2::load(&self.dir(), &Device::Cpu, DType::F32, &Unobserved).map(drop),
        }
    }
}

#[test]
fn values_that_are_not_implemented_are_named() {
    let (config, processor) = ("config.json", "preprocessor_config.json");
    let both = [
        (config, "/model_type", json!("siglip")),
        (config, "/projection_dim", json!(0)),
        (config, "/text_config/hidden_act", json!("relu")),
        (config, "/text_config/num_attention_heads", json!(3)),
        (config, "/text_config/num_attention_heads", json!(0)),
        (config, "/text_config/max_position_embeddings", json!(100_000)),
        (config, "/text_config/vocab_size", json!(1_usize << 40)),
        (config, "/text_config/eos_token_id", json!([2, 3])),
        (config, "/vision_config/hidden_act", json!("gelu_new")),
        (config, "/vision_config/hidden_size", json!("many")),
        (config, "/vision_config/num_channels", json!(1)),
        (config, "/vision_config/num_hidden_layers", json!(1_usize << 40)),
        (config, "/vision_config/patch_size", json!(0)),
        (config, "/vision_config/patch_size", json!(1000)),
        (config, "/vision_config/image_size", json!([24, 32])),
        (config, "/vision_config/image_size", json!(100_000)),
        (processor, "/size", json!({"longest_edge": 24})),
        (processor, "/image_std", json!([1.0, 0.0, 1.0])),
        (processor, "/do_resize", json!(false)),
    ];
    let clip = [
        (processor, "/resample", json!(2)),
        (processor, "/size", json!({"shortest_edge": 0})),
        (processor, "/size", json!({"shortest_edge": 23})),
        (processor, "/size", json!({"shortest_edge": 100_000})),
        (processor, "/size", json!({"shortest_edge": 24, "longest_edge": 30})),
        (processor, "/crop_size", json!(20)),
        (processor, "/crop_size", json!({"height": 24, "width": 30})),
        (processor, "/crop_size", json!({"shortest_edge": 24})),
        (processor, "/do_center_crop", json!(false)),
    ];
    let owlv2 = [
        (config, "/projection_dim", json!(12)),
        (config, "/vision_config/patch_size", json!(32)),
        (processor, "/size", json!({"height": 24, "width": 24})),
        (processor, "/do_pad", json!(false)),
    ];
    for (name, (file, pointer, value)) in [("clip", both.to_vec()), ("owlv2", both.to_vec())]
        .into_iter()
        .chain([("clip", clip.to_vec()), ("owlv2", owlv2.to_vec())])
        .flat_map(|(name, cases)| cases.into_iter().map(move |case| (name, case)))
    {
        let model = Model::copy(name);
        model.set(file, pointer, value.clone());
        match model.load() {
            Err(Error::Config { path, reason }) => {
                assert_eq!(path, model.path(file), "{name} {pointer} {value}: {reason}");
                let key = pointer.rsplit_once('/').unwrap().1;
                let words = [key, "expected", "size is", "missing field", "did not match"];
                assert!(words.iter().any(|word| reason.contains(word)), "{name} {pointer} {value}: {reason}");
            }
            other => panic!("{name} {pointer} {value}: {other:?}"),
        }
    }
}

#[test]
fn older_and_wider_spellings_load() {
    let model = Model::copy("clip");
    for (size, crop) in [
        (json!(24), json!(24)),
        (json!({"shortest_edge": 24, "longest_edge": null}), json!({"height": 24, "width": 24})),
        (json!({"height": 24, "width": 24}), json!(24)),
    ] {
        model.set("preprocessor_config.json", "/size", size);
        model.set("preprocessor_config.json", "/crop_size", crop);
        model.load().unwrap();
    }
    model.set("preprocessor_config.json", "/size", json!({"height": 24, "width": 24}));
    model.set("preprocessor_config.json", "/do_center_crop", json!(false));
    model.load().unwrap();

    for name in ["clip", "owlv2"] {
        let model = Model::copy(name);
        model.set("config.json", "/text_config/something_new", json!({"a": [1]}));
        model.set("config.json", "/text_config_dict", Value::Null);
        let processor = fs::read_to_string(model.path("preprocessor_config.json")).unwrap();
        fs::remove_file(model.path("preprocessor_config.json")).unwrap();
        fs::write(model.path("processor_config.json"), format!("{{\"image_processor\": {processor}}}")).unwrap();
        model.load().unwrap();
    }
}

#[test]
fn missing_files_are_named() {
    for name in ["clip", "owlv2"] {
        for file in ["tokenizer.json", "preprocessor_config.json"] {
            let model = Model::copy(name);
            fs::remove_file(model.path(file)).unwrap();
            let said = match model.load() {
                Err(Error::Missing { path, .. }) => path,
                other => panic!("{name} {file}: {other:?}"),
            };
            // Of the two places of a processor's configuration, the later was looked at last.
            assert!(said == model.path(file) || said == model.path("processor_config.json"), "{}", said.display());
        }
    }
}

#[test]
fn damaged_weights_are_refused() {
    for (name, tensor, spoilt) in [
        ("clip", "visual_projection.weight", "visual_projection.WEIGHT"),
        ("clip", "vision_model.pre_layrnorm.bias", "vision_model.pre_layernorm.ias"),
        ("owlv2", "objectness_head.dense2.bias", "objectness_head.dense2.BIAS"),
    ] {
        let model = Model::copy(name);
        let whole = fs::read(model.path("model.safetensors")).unwrap();
        let spoil = |bytes: &[u8]| {
            fs::write(model.path("model.safetensors"), bytes).unwrap();
            match model.load() {
                Err(Error::Weights { reason, .. }) => reason,
                Err(Error::Missing { source, .. }) => source.to_string(),
                other => panic!("{name}: {other:?}"),
            }
        };
        for length in [0, 4, 8, 100, whole.len() / 2] {
            spoil(&whole[..length]);
        }
        let at = whole.windows(tensor.len()).position(|window| window == tensor.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + tensor.len()].copy_from_slice(spoilt.as_bytes());
        let reason = spoil(&bytes);
        assert!(reason.contains(tensor), "{reason}");
    }
}

#[test]
fn a_token_past_the_table_is_refused_before_it_is_looked_up() {
    for name in ["clip", "owlv2"] {
        let model = Model::copy(name);
        let tokenizer = fs::read_to_string(model.path("tokenizer.json")).unwrap();
        let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
        tokenizer["model"]["vocab"]["q</w>"] = json!(4_000_000);
        fs::write(model.path("tokenizer.json"), tokenizer.to_string()).unwrap();
        let picture = Picture::new(24, 24, vec![0; 24 * 24 * 3]).unwrap();
        let refused = if name == "clip" {
            let clip = Clip::load(&model.dir(), &Device::Cpu, DType::F32, &Unobserved).unwrap();
            clip.score(&picture, &["q"], &Unobserved).map(drop)
        } else {
            let request = owlv2::Request { texts: &["q"], threshold: 0.5, overlap: None };
            let owlv2 = Owlv2::load(&model.dir(), &Device::Cpu, DType::F32, &Unobserved).unwrap();
            owlv2.detect(&picture, &request, &Unobserved).map(drop)
        };
        assert!(matches!(refused, Err(Error::Tokenizer { .. })), "{refused:?}");
    }
}
