//! Directories of a SAM2 that cannot be loaded are refused with the file and the value.

#[path = "common/spoilt.rs"]
mod spoilt;

use std::fs;

use candle_core::{DType, Device, Tensor};
use gpusched_models::{Error, Kind, Unobserved, sam2::Sam2, scan};
use serde_json::json;
use spoilt::Model;

trait Load {
    fn load(&self) -> Result<(), Error>;
}

impl Load for Model {
    fn load(&self) -> Result<(), Error> {
        Sam2::load(&self.dir(), &Device::Cpu, DType::F32, &Unobserved).map(drop)
    }
}

#[test]
fn values_that_are_not_implemented_are_named() {
    let (config, processor) = ("config.json", "processor_config.json");
    let cases = [
        (config, "/model_type", json!("sam")),
        (config, "/vision_config/fpn_kernel_size", json!(3)),
        (config, "/vision_config/fpn_hidden_size", json!(32)),
        (config, "/vision_config/num_feature_levels", json!(4)),
        (config, "/vision_config/backbone_channel_list", json!([6, 12, 18, 24])),
        (config, "/vision_config/backbone_feature_sizes", json!([[16, 16], [8, 8], [8, 8]])),
        (config, "/vision_config/backbone_config/model_type", json!("timm_wrapper")),
        (config, "/vision_config/backbone_config/hidden_act", json!("relu")),
        (config, "/vision_config/backbone_config/num_channels", json!(1)),
        (config, "/vision_config/backbone_config/image_size", json!([64, 32])),
        (config, "/vision_config/backbone_config/patch_stride", json!([4, 2])),
        (config, "/vision_config/backbone_config/patch_stride", json!(0)),
        (config, "/vision_config/backbone_config/query_stride", json!([4, 4])),
        (config, "/vision_config/backbone_config/num_query_pool_stages", json!(2)),
        (config, "/vision_config/backbone_config/hidden_size", json!(7)),
        (config, "/vision_config/backbone_config/embed_dim_per_stage", json!([6, 12, 24])),
        (config, "/vision_config/backbone_config/num_attention_heads_per_stage", json!([1, 5, 3, 4])),
        (config, "/vision_config/backbone_config/window_size_per_stage", json!([4, 5, 2, 3])),
        (config, "/vision_config/backbone_config/window_size_per_stage", json!([0, 6, 2, 3])),
        (config, "/vision_config/backbone_config/blocks_per_stage", json!([1, 2])),
        (config, "/vision_config/backbone_config/mlp_ratio", json!(1e300)),
        (config, "/prompt_encoder_config/num_point_embeddings", json!(3)),
        (config, "/prompt_encoder_config/patch_size", json!(0)),
        (config, "/prompt_encoder_config/patch_size", json!(8)),
        (config, "/prompt_encoder_config/image_size", json!(1_usize << 60)),
        (config, "/mask_decoder_config/hidden_size", json!(30)),
        (config, "/mask_decoder_config/num_attention_heads", json!(5)),
        (config, "/mask_decoder_config/attention_downsample_rate", json!(0)),
        (config, "/mask_decoder_config/num_multimask_outputs", json!(0)),
        (config, "/mask_decoder_config/num_hidden_layers", json!(100_000)),
        (processor, "/target_size", json!(1024)),
        (processor, "/image_processor/size", json!({"height": 64, "width": 32})),
        (processor, "/image_processor/resample", json!(3)),
        (processor, "/image_processor/do_resize", json!(false)),
        (processor, "/image_processor/image_std", json!([1.0, 0.0, 1.0])),
    ];
    for (file, pointer, value) in cases {
        let model = Model::copy("sam2");
        model.set(file, pointer, value.clone());
        match model.load() {
            Err(Error::Config { path, reason }) => {
                assert_eq!(path, model.path(file), "{pointer} {value}: {reason}");
                let key = pointer.rsplit('/').next().unwrap();
                let words = [key, "embed_dim_per_stage", "expected", "did not match"];
                assert!(words.iter().any(|word| reason.contains(word)), "{pointer} {value}: {reason}");
            }
            other => panic!("{pointer} {value}: {other:?}"),
        }
    }
}

#[test]
fn missing_and_damaged_files_are_named() {
    for file in ["config.json", "model.safetensors"] {
        let model = Model::copy("sam2");
        fs::remove_file(model.path(file)).unwrap();
        assert!(matches!(model.load(), Err(Error::Missing { path, .. }) if path == model.path(file)), "{file}");
    }
    let model = Model::copy("sam2");
    fs::remove_file(model.path("processor_config.json")).unwrap();
    let missing = model.path("preprocessor_config.json");
    assert!(matches!(model.load(), Err(Error::Missing { path, .. }) if path == missing));

    let whole = fs::read(model.path("model.safetensors")).unwrap();
    for length in [0, 8, 100, whole.len() / 2, whole.len() - 1] {
        let model = Model::copy("sam2");
        fs::write(model.path("model.safetensors"), &whole[..length]).unwrap();
        assert!(matches!(model.load(), Err(Error::Weights { .. } | Error::Missing { .. })), "{length}");
    }
    // Sizes that the configuration allows and the files do not have.
    let model = Model::copy("sam2");
    model.set("config.json", "/mask_decoder_config/mlp_dim", json!(1 << 16));
    assert!(matches!(model.load(), Err(Error::Weights { reason, .. }) if reason.contains("mlp")));
}

#[test]
fn a_checkpoint_for_videos_loads_without_its_memory() {
    let model = Model::copy("sam2");
    model.set("config.json", "/model_type", json!("sam2_video"));
    model.set("config.json", "/architectures", json!(["Sam2VideoModel"]));
    model.set("config.json", "/memory_attention_hidden_size", json!(64));
    let file = model.path("model.safetensors");
    let mut tensors = candle_core::safetensors::load(&file, &Device::Cpu).unwrap();
    let before = gpusched_models::sam2::breakdown(&model.dir()).unwrap().parts[1].unread;
    let more = Tensor::zeros(1000, DType::F32, &Device::Cpu).unwrap();
    tensors.insert("memory_attention.layers.0.linear1.weight".to_owned(), more);
    candle_core::safetensors::save(&tensors, &file).unwrap();
    // As an older processor wrote it, beside what says only how prompts are padded.
    let processor = model.json("processor_config.json")["image_processor"].clone();
    fs::write(model.path("preprocessor_config.json"), processor.to_string()).unwrap();
    fs::write(model.path("processor_config.json"), r#"{"target_size": 64, "point_pad_value": -10}"#).unwrap();
    model.load().unwrap();

    let breakdown = gpusched_models::sam2::breakdown(&model.dir()).unwrap();
    assert_eq!(breakdown.parts[1].unread, before + 1000);
    let found = scan(&[model.models.path().to_owned()]).unwrap();
    assert_eq!(found.iter().map(|entry| (entry.name.as_str(), entry.kind)).collect::<Vec<_>>(), [("copy", Kind::Sam2)]);
}
