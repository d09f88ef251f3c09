//! What transformers takes for keys that a `config.json` does not have: the sizes of the smallest published model.

use super::config::{DecoderConfig, HieraConfig, POINT_KINDS, Pair, PromptConfig, Sam2Config, VisionConfig};

impl Default for Sam2Config {
    fn default() -> Self {
        Self {
            model_type: "sam2".to_owned(),
            vision: VisionConfig::default(),
            prompt: PromptConfig::default(),
            decoder: DecoderConfig::default(),
        }
    }
}

impl Default for VisionConfig {
    fn default() -> Self {
        Self {
            backbone: HieraConfig::default(),
            backbone_channel_list: vec![768, 384, 192, 96],
            backbone_feature_sizes: vec![[256; 2], [128; 2], [64; 2]],
            fpn_kernel_size: 1,
            fpn_stride: 1,
            fpn_padding: 0,
            num_feature_levels: 3,
            fpn_hidden_size: 256,
            fpn_top_down_levels: vec![2, 3],
        }
    }
}

impl Default for HieraConfig {
    fn default() -> Self {
        Self {
            model_type: "sam2_hiera_det_model".to_owned(),
            hidden_act: "gelu".to_owned(),
            num_channels: 3,
            image_size: Pair::Both(1024),
            patch_kernel_size: Pair::Both(7),
            patch_stride: Pair::Both(4),
            patch_padding: Pair::Both(3),
            query_stride: Pair::Both(2),
            num_query_pool_stages: 3,
            hidden_size: 96,
            window_positional_embedding_background_size: [7, 7],
            blocks_per_stage: vec![1, 2, 7, 2],
            embed_dim_per_stage: vec![96, 192, 384, 768],
            num_attention_heads_per_stage: vec![1, 2, 4, 8],
            window_size_per_stage: vec![8, 4, 14, 7],
            global_attention_blocks: vec![5, 7, 9],
            mlp_ratio: 4.0,
            layer_norm_eps: 1e-6,
        }
    }
}

impl Default for PromptConfig {
    fn default() -> Self {
        Self { num_point_embeddings: POINT_KINDS, hidden_size: 256, image_size: 1024, patch_size: 16 }
    }
}

impl Default for DecoderConfig {
    fn default() -> Self {
        Self {
            hidden_size: 256,
            mlp_dim: 2048,
            num_hidden_layers: 2,
            num_attention_heads: 8,
            attention_downsample_rate: 2,
            num_multimask_outputs: 3,
            iou_head_depth: 3,
            iou_head_hidden_dim: 256,
            dynamic_multimask_via_stability: true,
            dynamic_multimask_stability_delta: 0.05,
            dynamic_multimask_stability_thresh: 0.98,
        }
    }
}
