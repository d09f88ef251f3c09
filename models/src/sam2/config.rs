//! `config.json` of a SAM2 directory, with transformers' defaults for missing keys.

use std::path::Path;

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    loader::read_json,
};

/// Bound on every size that the file gives: far above any real model, low enough that no product of sizes overflows.
const MAX_SIZE: usize = 1 << 16;
/// Bound on the side of the picture that the model sees, in pixels.
const MAX_EDGE: usize = 4096;
/// Bound on the side of the grid of patches.
const MAX_GRID: usize = 1024;
/// Bound on numbers of layers, stages and masks.
const MAX_COUNT: usize = 256;
/// Levels of features that the mask decoder reads: the picture's embedding, and two of higher resolution.
const LEVELS: usize = 3;
/// Kinds of points: outside and inside what is looked for, and a box's two corners.
pub(super) const POINT_KINDS: usize = 4;

/// `config.json` of a `Sam2Model`, or of a `Sam2VideoModel`, whose parts for single pictures are the same.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct Sam2Config {
    pub(super) model_type: String,
    #[serde(rename = "vision_config")]
    pub vision: VisionConfig,
    #[serde(rename = "prompt_encoder_config")]
    pub prompt: PromptConfig,
    #[serde(rename = "mask_decoder_config")]
    pub decoder: DecoderConfig,
}

/// Backbone and neck.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct VisionConfig {
    #[serde(rename = "backbone_config")]
    pub backbone: HieraConfig,
    pub(super) backbone_channel_list: Vec<usize>,
    pub(super) backbone_feature_sizes: Vec<[usize; 2]>,
    pub(super) fpn_kernel_size: usize,
    pub(super) fpn_stride: usize,
    pub(super) fpn_padding: usize,
    pub(super) num_feature_levels: usize,
    pub fpn_hidden_size: usize,
    pub fpn_top_down_levels: Vec<usize>,
}

/// The backbone.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct HieraConfig {
    pub(super) model_type: String,
    pub(super) hidden_act: String,
    pub(super) num_channels: usize,
    pub(super) image_size: Pair,
    pub(super) patch_kernel_size: Pair,
    pub(super) patch_stride: Pair,
    pub(super) patch_padding: Pair,
    pub(super) query_stride: Pair,
    pub(super) num_query_pool_stages: usize,
    pub hidden_size: usize,
    pub window_positional_embedding_background_size: [usize; 2],
    pub blocks_per_stage: Vec<usize>,
    pub embed_dim_per_stage: Vec<usize>,
    pub num_attention_heads_per_stage: Vec<usize>,
    pub window_size_per_stage: Vec<usize>,
    pub global_attention_blocks: Vec<usize>,
    pub mlp_ratio: f64,
    pub layer_norm_eps: f64,
}

/// The encoder of boxes and points.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct PromptConfig {
    pub(super) num_point_embeddings: usize,
    pub hidden_size: usize,
    pub image_size: usize,
    pub patch_size: usize,
}

/// The mask decoder.
#[derive(Debug, Clone, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct DecoderConfig {
    pub hidden_size: usize,
    pub mlp_dim: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub attention_downsample_rate: usize,
    pub num_multimask_outputs: usize,
    pub iou_head_depth: usize,
    pub iou_head_hidden_dim: usize,
    pub dynamic_multimask_via_stability: bool,
    pub dynamic_multimask_stability_delta: f32,
    pub dynamic_multimask_stability_thresh: f32,
}

/// A size that is written as one number or as two, for rows and columns.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(untagged)]
pub(super) enum Pair {
    Both(usize),
    Each([usize; 2]),
}

impl Pair {
    /// The number, if it is the same for both.
    fn square(self) -> Option<usize> {
        match self {
            Self::Both(size) => Some(size),
            Self::Each([rows, columns]) => (rows == columns).then_some(rows),
        }
    }
}

/// The convolution that makes patches of a picture: its kernel, stride and padding, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patch {
    /// Side of the kernel.
    pub kernel: usize,
    /// From one patch to the next.
    pub stride: usize,
    /// Around the picture.
    pub padding: usize,
}

/// What a block of the backbone is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlockShape {
    /// Side of the grid that comes in.
    pub side: usize,
    /// Numbers of a patch as it comes in.
    pub width_before: usize,
    /// And as it goes out. Where they differ a stage begins, and the grid's sides are halved.
    pub width: usize,
    /// Heads of its attention.
    pub heads: usize,
    /// Side of the windows within which patches attend to each other; `None` if all do.
    pub window: Option<usize>,
    /// Inner width of its feed-forward network.
    pub inner: usize,
    /// Whether it is the last of its stage.
    pub last: bool,
}

impl Sam2Config {
    /// Reads `path` and refuses what [`Sam2`](super::Sam2) does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path) -> Result<Self> {
        let config: Self = read_json(path)?;
        config.check().map_err(|reason| Error::config(path, reason))?;
        Ok(config)
    }

    /// Side of the picture that the model sees, in pixels.
    #[must_use]
    pub fn side(&self) -> usize {
        self.prompt.image_size
    }

    fn check(&self) -> Check {
        if !["sam2", "sam2_video"].contains(&self.model_type.as_str()) {
            return refuse("model_type", &self.model_type, "sam2 or sam2_video");
        }
        self.prompt.check()?;
        let backbone = &self.vision.backbone;
        backbone.check(self.side())?;
        self.vision.check()?;
        self.decoder.check()?;
        let (width, embedding) = (self.vision.fpn_hidden_size, self.side() / self.prompt.patch_size);
        if self.prompt.hidden_size != width || self.decoder.hidden_size != width {
            let widths = format!("{} and {}", self.prompt.hidden_size, self.decoder.hidden_size);
            return refuse("hidden_size of prompt encoder and mask decoder", &widths, "fpn_hidden_size twice");
        }
        if embedding * 4 != backbone.grid() {
            return refuse("patch_size", self.prompt.patch_size, "four patches of the backbone");
        }
        Ok(())
    }
}

/// Nothing, or what is wrong.
type Check = std::result::Result<(), String>;

fn refuse(key: &str, value: impl std::fmt::Debug, supported: &str) -> Check {
    Err(format!("{key} is {value:?}; only {supported} is supported"))
}

fn sized(sizes: &[(&str, usize)], most: usize) -> Check {
    match sizes.iter().find(|(_, size)| !(1..=most).contains(size)) {
        Some((key, size)) => Err(format!("{key} is {size}; 1 to {most} is supported")),
        None => Ok(()),
    }
}

impl VisionConfig {
    fn check(&self) -> Check {
        sized(&[("fpn_hidden_size", self.fpn_hidden_size)], MAX_SIZE)?;
        for (key, value, supported) in [
            ("fpn_kernel_size", self.fpn_kernel_size, 1),
            ("fpn_stride", self.fpn_stride, 1),
            ("fpn_padding", self.fpn_padding, 0),
            ("num_feature_levels", self.num_feature_levels, LEVELS),
        ] {
            if value != supported {
                return refuse(key, value, &supported.to_string());
            }
        }
        let widths: Vec<usize> = self.backbone.embed_dim_per_stage.iter().rev().copied().collect();
        if self.backbone_channel_list != widths {
            return refuse(
                "backbone_channel_list",
                &self.backbone_channel_list,
                "embed_dim_per_stage, from last to first,",
            );
        }
        let grid = self.backbone.grid();
        let sizes: Vec<[usize; 2]> = (0..LEVELS).map(|level| [grid >> level; 2]).collect();
        if self.backbone_feature_sizes != sizes {
            return refuse("backbone_feature_sizes", &self.backbone_feature_sizes, &format!("{sizes:?}"));
        }
        Ok(())
    }
}

impl HieraConfig {
    /// The convolution that makes patches.
    #[must_use]
    pub fn patch(&self) -> Patch {
        let size = |pair: Pair| pair.square().unwrap_or(0);
        Patch {
            kernel: size(self.patch_kernel_size),
            stride: size(self.patch_stride),
            padding: size(self.patch_padding),
        }
    }

    /// Patches in a row, and rows of them.
    #[must_use]
    pub fn grid(&self) -> usize {
        let Patch { kernel, stride, padding } = self.patch();
        let side = self.image_size.square().unwrap_or(0);
        (side + 2 * padding).saturating_sub(kernel) / stride.max(1) + 1
    }

    /// The blocks, in the order in which they run.
    #[must_use]
    pub fn blocks(&self) -> Vec<BlockShape> {
        let mut blocks = Vec::new();
        for (stage, &count) in self.blocks_per_stage.iter().enumerate() {
            for i in 0..count {
                let global = self.global_attention_blocks.contains(&blocks.len());
                // The first block of a stage makes its grid and width of those of the stage before.
                let before = if i == 0 { stage.saturating_sub(1) } else { stage };
                let width = self.embed_dim_per_stage[stage];
                blocks.push(BlockShape {
                    side: self.grid() >> before,
                    width_before: self.embed_dim_per_stage[before],
                    width,
                    heads: self.num_attention_heads_per_stage[stage],
                    window: (!global).then_some(self.window_size_per_stage[before]),
                    inner: (width as f64 * self.mlp_ratio) as usize,
                    last: i + 1 == count,
                });
            }
        }
        blocks
    }

    fn check(&self, side: usize) -> Check {
        if self.model_type != "sam2_hiera_det_model" {
            return refuse("model_type of the backbone", &self.model_type, "sam2_hiera_det_model");
        }
        if self.hidden_act != "gelu" {
            return refuse("hidden_act", &self.hidden_act, "gelu");
        }
        if self.num_channels != 3 {
            return refuse("num_channels", self.num_channels, "3");
        }
        if self.image_size.square() != Some(side) {
            return refuse("image_size of the backbone", self.image_size, "the prompt encoder's");
        }
        for (key, pair) in [
            ("patch_kernel_size", self.patch_kernel_size),
            ("patch_stride", self.patch_stride),
            ("patch_padding", self.patch_padding),
        ] {
            if pair.square().is_none_or(|size| size > MAX_EDGE) {
                return refuse(key, pair, &format!("a square of up to {MAX_EDGE}"));
            }
        }
        let Patch { kernel, stride, .. } = self.patch();
        let [rows, columns] = self.window_positional_embedding_background_size;
        let background = "window_positional_embedding_background_size";
        sized(&[("patch_kernel_size", kernel), ("patch_stride", stride)], MAX_EDGE)?;
        sized(&[("the grid of patches", self.grid()), (background, rows), (background, columns)], MAX_GRID)?;
        self.check_stages()
    }

    fn check_stages(&self) -> Check {
        let stages = self.blocks_per_stage.len();
        if !(LEVELS..=8).contains(&stages) {
            return refuse("the length of blocks_per_stage", stages, "3 to 8");
        }
        for (key, list, most) in [
            ("blocks_per_stage", &self.blocks_per_stage, MAX_COUNT),
            ("embed_dim_per_stage", &self.embed_dim_per_stage, MAX_SIZE),
            ("num_attention_heads_per_stage", &self.num_attention_heads_per_stage, MAX_SIZE),
            ("window_size_per_stage", &self.window_size_per_stage, MAX_GRID),
        ] {
            if list.len() != stages {
                return refuse(&format!("the length of {key}"), list.len(), "that of blocks_per_stage");
            }
            sized(&list.iter().map(|&size| (key, size)).collect::<Vec<_>>(), most)?;
        }
        if self.query_stride.square() != Some(2) {
            return refuse("query_stride", self.query_stride, "2");
        }
        if self.num_query_pool_stages + 1 != stages {
            return refuse("num_query_pool_stages", self.num_query_pool_stages, "one less than there are stages");
        }
        let (grid, window) = (self.grid(), self.window_size_per_stage[0]);
        if grid % (1 << (stages - 1)) != 0 || grid % window != 0 {
            return refuse(
                "the grid of patches",
                grid,
                "a multiple of the first window that can be halved at each stage",
            );
        }
        if self.hidden_size != self.embed_dim_per_stage[0] {
            return refuse("hidden_size", self.hidden_size, "the first of embed_dim_per_stage");
        }
        if self.embed_dim_per_stage.windows(2).any(|pair| pair[0] == pair[1]) {
            // The library would halve the grid in a block's attention, but not beside it.
            return refuse("embed_dim_per_stage", &self.embed_dim_per_stage, "a change from each stage to the next");
        }
        if !(0.0..=64.0).contains(&self.mlp_ratio) {
            return refuse("mlp_ratio", self.mlp_ratio, "0 to 64");
        }
        for block in self.blocks() {
            if block.width % block.heads != 0 {
                let (width, heads) = (block.width, block.heads);
                return Err(format!("embed_dim_per_stage has {width}, not a multiple of its {heads} heads"));
            }
            if block.width != block.width_before && block.window.is_some_and(|window| window % 2 != 0) {
                return refuse(
                    "window_size_per_stage",
                    &self.window_size_per_stage,
                    "even sizes before a further stage",
                );
            }
            sized(&[("mlp_ratio times embed_dim_per_stage", block.inner)], MAX_SIZE)?;
        }
        Ok(())
    }
}

impl PromptConfig {
    fn check(&self) -> Check {
        sized(&[("image_size", self.image_size), ("patch_size", self.patch_size)], MAX_EDGE)?;
        if self.num_point_embeddings != POINT_KINDS {
            return refuse("num_point_embeddings", self.num_point_embeddings, &POINT_KINDS.to_string());
        }
        if !self.image_size.is_multiple_of(self.patch_size) {
            return refuse("patch_size", self.patch_size, "a divisor of image_size");
        }
        Ok(())
    }
}

impl DecoderConfig {
    fn check(&self) -> Check {
        let (width, heads) = (self.hidden_size, self.num_attention_heads);
        let (rate, depth) = (self.attention_downsample_rate, self.iou_head_depth);
        sized(&[("hidden_size", width), ("num_attention_heads", heads), ("mlp_dim", self.mlp_dim)], MAX_SIZE)?;
        sized(&[("attention_downsample_rate", rate), ("iou_head_hidden_dim", self.iou_head_hidden_dim)], MAX_SIZE)?;
        sized(&[("num_hidden_layers", self.num_hidden_layers), ("iou_head_depth", depth)], MAX_COUNT)?;
        sized(&[("num_multimask_outputs", self.num_multimask_outputs)], MAX_COUNT)?;
        // Masks are made with an eighth of the width; each half of it encodes a coordinate.
        if width % 8 != 0 {
            return refuse("hidden_size", width, "a multiple of 8");
        }
        if width % rate != 0 || width % heads != 0 || (width / rate) % heads != 0 {
            return refuse(
                "num_attention_heads",
                heads,
                "a divisor of hidden_size, also after attention_downsample_rate,",
            );
        }
        let (delta, thresh) = (self.dynamic_multimask_stability_delta, self.dynamic_multimask_stability_thresh);
        if !delta.is_finite() || !thresh.is_finite() {
            return refuse("dynamic_multimask_stability_delta or _thresh", (delta, thresh), "a finite number");
        }
        Ok(())
    }
}
