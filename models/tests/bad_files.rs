//! Directories that cannot be loaded are refused with the file and the value, whatever is wrong with them.

#[path = "common/spoilt.rs"]
mod spoilt;

use std::fs;

use candle_core::{DType, Device};
use gpusched_models::{Error, Unobserved, flux2::Pipeline, vilt::Vqa};
use serde_json::{Value, json};
use spoilt::Model;

trait Load {
    fn load(&self) -> Result<(), Error>;
}

impl Load for Model {
    fn load(&self) -> Result<(), Error> {
        if self.path("model_index.json").exists() {
            Pipeline::load(&self.dir(), &Device::Cpu, DType::F32, &Unobserved).map(drop)
        } else {
            Vqa::load(&self.dir(), &Device::Cpu, DType::F32, &Unobserved).map(drop)
        }
    }
}

#[test]
fn values_that_are_not_implemented_are_named() {
    let text = "text_encoder/config.json";
    let transformer = "transformer/config.json";
    let vae = "vae/config.json";
    let scheduler = "scheduler/scheduler_config.json";
    let tokenizer = "tokenizer/tokenizer_config.json";
    let klein = [
        ("model_index.json", "_class_name", json!("FluxPipeline")),
        (text, "model_type", json!("mistral3")),
        (text, "hidden_act", json!("gelu")),
        (text, "use_sliding_window", json!(true)),
        (text, "layer_types", json!(["sliding_attention"])),
        (text, "rope_parameters", json!({"rope_type": "yarn"})),
        (text, "rope_scaling", json!({"type": "linear"})),
        (text, "num_key_value_heads", json!(3)),
        (text, "num_hidden_layers", json!(3)),
        (text, "hidden_size", json!(1_usize << 60)),
        (text, "head_dim", json!("many")),
        (transformer, "patch_size", json!(2)),
        (transformer, "out_channels", json!(3)),
        (transformer, "axes_dims_rope", json!([2, 2, 4])),
        (transformer, "axes_dims_rope", json!([usize::MAX - 1, usize::MAX - 1, 4, 4])),
        (transformer, "joint_attention_dim", json!(47)),
        (transformer, "in_channels", json!(20)),
        (transformer, "mlp_ratio", json!(1e300)),
        (transformer, "attention_head_dim", json!(0)),
        (vae, "act_fn", json!("relu")),
        (vae, "patch_size", json!([1, 1])),
        (vae, "down_block_types", json!(vec!["AttnDownEncoderBlock2D"; 3])),
        (vae, "norm_num_groups", json!(5)),
        (vae, "block_out_channels", json!([])),
        (vae, "sample_size", json!([])),
        (scheduler, "time_shift_type", json!("linear")),
        (scheduler, "shift_terminal", json!(0.1)),
        (scheduler, "use_karras_sigmas", json!(true)),
        (tokenizer, "padding_side", json!("left")),
        (tokenizer, "pad_token", json!("<nowhere>")),
        (tokenizer, "model_max_length", json!(0)),
    ];
    let vilt = [
        ("config.json", "hidden_act", json!("relu")),
        ("config.json", "max_image_length", json!(40)),
        ("config.json", "modality_type_vocab_size", json!(1)),
        ("config.json", "num_attention_heads", json!(5)),
        ("config.json", "num_attention_heads", json!(0)),
        ("config.json", "patch_size", json!(0)),
        ("config.json", "id2label", json!({"0": "yes", "2": "no"})),
        ("preprocessor_config.json", "resample", json!(2)),
        ("preprocessor_config.json", "size", json!({"shortest_edge": 0})),
        ("preprocessor_config.json", "size_divisor", json!(0)),
        ("preprocessor_config.json", "image_std", json!([1.0, 0.0, 1.0])),
    ];
    let of = |model, cases: &[(&'static str, &'static str, Value)]| {
        cases.iter().cloned().map(move |case| (model, case)).collect::<Vec<_>>()
    };
    for (name, (file, key, value)) in [of("klein", &klein), of("vilt", &vilt)].concat() {
        let model = Model::copy(name);
        model.set(file, &format!("/{key}"), value.clone());
        match model.load() {
            Err(Error::Config { path, reason }) => {
                assert_eq!(path, model.path(file), "{key} {value}: {reason}");
                let words = [key, "groups", "rope_type", "head_dim", "expected", "multiple", "did not match"];
                assert!(words.iter().any(|word| reason.contains(word)), "{key} {value}: {reason}");
            }
            other => panic!("{key} {value}: {other:?}"),
        }
    }
}

#[test]
fn older_and_wider_spellings_load() {
    let model = Model::copy("klein");
    model.set("text_encoder/config.json", "/rope_parameters", Value::Null);
    model.set("text_encoder/config.json", "/rope_theta", json!(5000));
    model.set("text_encoder/config.json", "/something_new", json!({"a": [1]}));
    model.set("vae/config.json", "/sample_size", json!([64, 64]));
    let template = fs::read_to_string(model.path("tokenizer/chat_template.jinja")).unwrap();
    fs::remove_file(model.path("tokenizer/chat_template.jinja")).unwrap();
    let named = json!([{"name": "tools", "template": "{{"}, {"name": "default", "template": template}]);
    model.set("tokenizer/tokenizer_config.json", "/chat_template", named);
    model.set("tokenizer/tokenizer_config.json", "/pad_token", json!({"content": "<|endoftext|>", "special": true}));
    model.set("tokenizer/tokenizer_config.json", "/model_max_length", json!(1e30));
    model.load().unwrap();

    let model = Model::copy("vilt");
    model.set("preprocessor_config.json", "/size", json!(24));
    model.load().unwrap();
    let processor = fs::read_to_string(model.path("preprocessor_config.json")).unwrap();
    fs::remove_file(model.path("preprocessor_config.json")).unwrap();
    fs::write(model.path("processor_config.json"), format!("{{\"image_processor\": {processor}}}")).unwrap();
    model.load().unwrap();
}

#[test]
fn missing_files_are_named() {
    for file in [
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "tokenizer/tokenizer.json",
        "transformer/config.json",
        "vae/config.json",
    ] {
        let model = Model::copy("klein");
        fs::remove_file(model.path(file)).unwrap();
        match model.load() {
            Err(Error::Missing { path, .. }) => assert_eq!(path, model.path(file)),
            other => panic!("{file}: {other:?}"),
        }
    }
    let model = Model::copy("klein");
    fs::remove_file(model.path("vae/diffusion_pytorch_model.safetensors")).unwrap();
    assert!(matches!(model.load(), Err(Error::Missing { .. })));
    let model = Model::copy("klein");
    fs::remove_file(model.path("tokenizer/chat_template.jinja")).unwrap();
    assert!(matches!(model.load(), Err(Error::Config { reason, .. }) if reason.contains("chat_template")));
}

#[test]
fn broken_templates_are_found_when_loading() {
    for template in ["{% if %}", "{{ raise_exception('no') }}", "{{ messages[0].nonsense() }}", ""] {
        let model = Model::copy("klein");
        fs::write(model.path("tokenizer/chat_template.jinja"), template).unwrap();
        let empty = template.is_empty();
        assert!(matches!(model.load(), Err(Error::Tokenizer { .. })) != empty, "{template}");
    }
}

#[test]
fn damaged_weights_are_refused() {
    let file = "model.safetensors";
    let whole = fs::read(Model::copy("vilt").path(file)).unwrap();
    let spoil = |bytes: &[u8]| {
        let model = Model::copy("vilt");
        fs::write(model.path(file), bytes).unwrap();
        match model.load() {
            Err(Error::Weights { reason, .. }) => reason,
            Err(Error::Missing { source, .. }) => source.to_string(),
            other => panic!("{other:?}"),
        }
    };
    for length in [0, 4, 8, 100, 2000, whole.len() / 2, whole.len() - 1] {
        spoil(&whole[..length]);
    }
    spoil(&[&u64::MAX.to_le_bytes()[..], &whole[8..]].concat());

    // The header is text: other names, types and places of tensors are written into it.
    let replaced = |from: &str, to: &str| {
        assert_eq!(from.len(), to.len());
        let at = whole.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = whole.clone();
        bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
        spoil(&bytes)
    };
    assert!(replaced("vilt.pooler.dense.bias", "vilt.pooler.dense.BIAS").contains("vilt.pooler.dense.bias"));
    replaced("\"F32\"", "\"F64\"");
    replaced("\"F32\"", "\"I32\"");
    replaced("\"data_offsets\":[0,", "\"data_offsets\":[9,");
}

#[test]
fn an_index_names_files_of_its_own_directory_only() {
    for name in ["../vae/diffusion_pytorch_model.safetensors", "/etc/passwd", ".", ""] {
        let model = Model::copy("klein");
        fs::remove_file(model.path("transformer/diffusion_pytorch_model.safetensors")).unwrap();
        let index = model.path("transformer/diffusion_pytorch_model.safetensors.index.json");
        fs::write(&index, json!({"weight_map": {"x": name}}).to_string()).unwrap();
        match model.load() {
            Err(Error::Config { path, reason }) => {
                assert_eq!(path, index);
                assert!(reason.contains("file name"), "{reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn a_token_past_the_table_is_refused_before_it_is_looked_up() {
    let model = Model::copy("vilt");
    let tokenizer = fs::read_to_string(model.path("tokenizer.json")).unwrap();
    let mut tokenizer: Value = serde_json::from_str(&tokenizer).unwrap();
    tokenizer["model"]["vocab"]["circle"] = json!(4_000_000);
    fs::write(model.path("tokenizer.json"), tokenizer.to_string()).unwrap();
    let vqa = Vqa::load(&model.dir(), &Device::Cpu, DType::F32, &Unobserved).unwrap();
    let picture = gpusched_models::Picture::new(24, 24, vec![0; 24 * 24 * 3]).unwrap();
    let refused = vqa.answer(&picture, "what circle", 1, &Unobserved);
    assert!(matches!(refused, Err(Error::Tokenizer { .. })), "{refused:?}");
}
