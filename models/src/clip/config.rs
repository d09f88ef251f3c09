//! The JSON files of a CLIP directory, with transformers' defaults for missing keys; and those of models built of the
//! same two towers.

use std::path::Path;

use serde::Deserialize;

use crate::{
    error::{Error, Result},
    loader::read_json,
    processor::{MAX_EDGE, Scaling, ScalingKeys, read_processor},
};

/// Bound on every size that a file gives: far above any real model, low enough that no product of sizes overflows.
const MAX_SIZE: usize = 1 << 20;
/// Bound on a text's tokens: attention holds their square.
const MAX_TOKENS: usize = 1024;
/// Bound on the length of a picture's side, in patches: attention holds its square's square.
const MAX_SIDE: usize = 128;

/// A model with these towers: what it leaves to be understood, and what it calls things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `CLIPModel`.
    Clip,
    /// `Owlv2ForObjectDetection`.
    Owlv2,
}

impl Family {
    fn model_type(self) -> &'static str {
        match self {
            Self::Clip => "clip",
            Self::Owlv2 => "owlv2",
        }
    }

    /// Tokens of a text, length of a picture and length of a patch, where the files do not say.
    fn lengths(self) -> (usize, usize, usize) {
        match self {
            Self::Clip => (77, 224, 32),
            Self::Owlv2 => (16, 768, 16),
        }
    }

    /// The norm before the layers of the vision tower: CLIP's name for it has always been misspelt.
    fn pre_norm(self) -> &'static str {
        match self {
            Self::Clip => "pre_layrnorm",
            Self::Owlv2 => "pre_layernorm",
        }
    }
}

/// What follows the first product of a feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x * sigmoid(1.702 x)`.
    QuickGelu,
    /// With the error function.
    Gelu,
}

/// The layers of a tower.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct EncoderConfig {
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub hidden_act: Activation,
    pub layer_norm_eps: f64,
}

/// Which token's hidden state stands for a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The first that is this one.
    Token(u32),
    /// The first of the highest number, as before configurations said the end token's right one (they said 2), and as
    /// OWLv2 has it.
    Highest,
}

/// `text_config`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct TextConfig {
    pub encoder: EncoderConfig,
    pub vocab_size: usize,
    pub max_position_embeddings: usize,
    /// By `eos_token_id`.
    pub end: End,
}

/// `vision_config`.
#[derive(Debug, Clone, Copy, PartialEq)]
#[expect(missing_docs, reason = "the names and meanings are transformers'")]
pub struct VisionConfig {
    pub encoder: EncoderConfig,
    pub image_size: usize,
    pub patch_size: usize,
    /// Name of the norm before the layers.
    pub pre_norm: &'static str,
}

impl TextConfig {
    /// Reads `path`, the `config.json` of a `CLIPTextModelWithProjection`, with the size of the space that texts are
    /// projected into, and refuses what is not implemented here.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read_alone(path: &Path) -> Result<(Self, usize)> {
        let file: TextFile = read_json(path)?;
        if let Some(given) = file.model_type.filter(|given| given != "clip_text_model") {
            return Err(Error::config(path, format!("model_type is {given:?}; only \"clip_text_model\" is supported")));
        }
        let (positions, ..) = Family::Clip.lengths();
        let projection_dim = size(path, "projection_dim", file.projection_dim, 512)?;
        Ok((file.text.text(path, Family::Clip, positions)?, projection_dim))
    }
}

impl VisionConfig {
    /// Patches along a side of the picture.
    #[must_use]
    pub fn side(&self) -> usize {
        self.image_size / self.patch_size
    }
}

/// `config.json`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TowersConfig {
    /// The text tower.
    pub text: TextConfig,
    /// The vision tower.
    pub vision: VisionConfig,
    /// Size of the space in which texts and pictures are compared.
    pub projection_dim: usize,
}

impl TowersConfig {
    /// Reads `path` and refuses what is not implemented here.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(path: &Path, family: Family) -> Result<Self> {
        let file: File = read_json(path)?;
        if file.model_type.as_deref().is_some_and(|given| given != family.model_type()) {
            let (given, only) = (file.model_type.unwrap_or_default(), family.model_type());
            return Err(Error::config(path, format!("model_type is {given:?}; only {only:?} is supported")));
        }
        // What stands in the older sections counts, and where they leave something open, the default.
        let text = file.text_config_dict.or(file.text_config).unwrap_or_default();
        let vision = file.vision_config_dict.or(file.vision_config).unwrap_or_default();
        let (positions, image, patch) = family.lengths();
        let text = text.text(path, family, positions)?;
        if let Some(channels) = vision.num_channels.filter(|&channels| channels != 3) {
            return Err(Error::config(path, format!("num_channels is {channels}; only 3 is supported")));
        }
        let vision = VisionConfig {
            encoder: vision.encoder(path, (768, 3072, 12))?,
            image_size: size(path, "image_size", vision.image_size, image)?,
            patch_size: size(path, "patch_size", vision.patch_size, patch)?,
            pre_norm: family.pre_norm(),
        };
        if !(1..=MAX_SIDE).contains(&vision.side()) || vision.image_size > MAX_EDGE as usize {
            let (image, patch) = (vision.image_size, vision.patch_size);
            let reason = format!("image_size is {image} and patch_size {patch}; 1 to {MAX_SIDE} patches of at most");
            return Err(Error::config(path, format!("{reason} {MAX_EDGE} pixels together are supported")));
        }
        Ok(Self { text, vision, projection_dim: size(path, "projection_dim", file.projection_dim, 512)? })
    }
}

#[derive(Deserialize)]
struct File {
    model_type: Option<String>,
    text_config: Option<Section>,
    vision_config: Option<Section>,
    text_config_dict: Option<Section>,
    vision_config_dict: Option<Section>,
    projection_dim: Option<usize>,
}

/// Of a text tower alone.
#[derive(Deserialize)]
struct TextFile {
    model_type: Option<String>,
    projection_dim: Option<usize>,
    #[serde(flatten)]
    text: Section,
}

/// Either tower's section: each has its own defaults.
#[derive(Default, Deserialize)]
struct Section {
    vocab_size: Option<usize>,
    max_position_embeddings: Option<usize>,
    eos_token_id: Option<u32>,
    hidden_size: Option<usize>,
    intermediate_size: Option<usize>,
    num_hidden_layers: Option<usize>,
    num_attention_heads: Option<usize>,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    num_channels: Option<usize>,
    image_size: Option<usize>,
    patch_size: Option<usize>,
}

impl Section {
    fn text(&self, path: &Path, family: Family, positions: usize) -> Result<TextConfig> {
        let tokens = self.max_position_embeddings.unwrap_or(positions);
        if !(1..=MAX_TOKENS).contains(&tokens) {
            let reason = format!("max_position_embeddings is {tokens}; 1 to {MAX_TOKENS} is supported");
            return Err(Error::config(path, reason));
        }
        Ok(TextConfig {
            encoder: self.encoder(path, (512, 2048, 8))?,
            vocab_size: size(path, "vocab_size", self.vocab_size, 49_408)?,
            max_position_embeddings: tokens,
            end: match (family, self.eos_token_id.unwrap_or(49_407)) {
                (Family::Clip, 2) | (Family::Owlv2, _) => End::Highest,
                (Family::Clip, token) => End::Token(token),
            },
        })
    }

    fn encoder(&self, path: &Path, (width, inner, heads): (usize, usize, usize)) -> Result<EncoderConfig> {
        let config = EncoderConfig {
            hidden_size: size(path, "hidden_size", self.hidden_size, width)?,
            intermediate_size: size(path, "intermediate_size", self.intermediate_size, inner)?,
            num_hidden_layers: self.num_hidden_layers.unwrap_or(12),
            num_attention_heads: size(path, "num_attention_heads", self.num_attention_heads, heads)?,
            hidden_act: match self.hidden_act.as_deref() {
                None | Some("quick_gelu") => Activation::QuickGelu,
                Some("gelu") => Activation::Gelu,
                Some(other) => {
                    let reason = format!("hidden_act is {other:?}; only \"quick_gelu\" and \"gelu\" are supported");
                    return Err(Error::config(path, reason));
                }
            },
            layer_norm_eps: self.layer_norm_eps.unwrap_or(1e-5),
        };
        let (width, heads) = (config.hidden_size, config.num_attention_heads);
        if width % heads != 0 {
            let reason = format!("hidden_size is {width}, not a multiple of num_attention_heads, {heads}");
            return Err(Error::config(path, reason));
        }
        if config.num_hidden_layers > MAX_SIZE {
            let reason = format!("num_hidden_layers is {}; up to {MAX_SIZE} is supported", config.num_hidden_layers);
            return Err(Error::config(path, reason));
        }
        Ok(config)
    }
}

fn size(path: &Path, key: &str, given: Option<usize>, default: usize) -> Result<usize> {
    let value = given.unwrap_or(default);
    if (1..=MAX_SIZE).contains(&value) {
        return Ok(value);
    }
    Err(Error::config(path, format!("{key} is {value}; 1 to {MAX_SIZE} is supported")))
}

/// `preprocessor_config.json` of a `CLIPImageProcessor`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProcessorConfig {
    /// To what a picture is resized.
    pub resize: Resize,
    /// Side of the square that is cut out of its middle, in pixels: the model's picture.
    pub crop: u32,
    /// What becomes of its values.
    pub scaling: Scaling,
}

/// To what a picture is resized, in pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resize {
    /// The shorter side to this, the longer in proportion.
    Shortest(u32),
    /// Height and width to these.
    To(u32, u32),
}

impl ProcessorConfig {
    /// Reads the configuration in `dir` for a model that looks at squares of `image_size` pixels a side, and refuses what
    /// [`prepare`](super::preprocess::prepare) does not implement.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] or [`Error::Config`].
    pub fn read(dir: &Path, image_size: usize) -> Result<Self> {
        let (path, file): (_, ProcessorFile) = read_processor(dir)?;
        let refuse = |reason: String| Err(Error::config(&path, reason));
        if let Some(resample) = file.resample.filter(|&resample| resample != 3) {
            return refuse(format!("resample is {resample}; only 3 (bicubic) is supported"));
        }
        if file.do_resize == Some(false) {
            return refuse("do_resize is false; only true is supported".to_owned());
        }
        let resize = match file.size {
            None => Resize::Shortest(224),
            Some(Lengths::Edge(edge)) => Resize::Shortest(edge),
            Some(Lengths::Named(Named { shortest_edge: Some(edge), longest_edge: None, .. })) => Resize::Shortest(edge),
            Some(Lengths::Named(Named { shortest_edge: None, height: Some(height), width: Some(width), .. })) => {
                Resize::To(height, width)
            }
            Some(Lengths::Named(_)) => {
                return refuse("size names neither a shortest_edge alone nor height and width".to_owned());
            }
        };
        let crop = match file.crop_size {
            _ if file.do_center_crop == Some(false) => None,
            None => Some((224, 224)),
            Some(Lengths::Edge(edge)) => Some((edge, edge)),
            Some(Lengths::Named(Named { height: Some(height), width: Some(width), .. })) => Some((height, width)),
            Some(Lengths::Named(_)) => return refuse("crop_size names no height and width".to_owned()),
        };
        let (shorter, longer) = match resize {
            Resize::Shortest(edge) => (edge, edge),
            Resize::To(height, width) => (height.min(width), height.max(width)),
        };
        if shorter == 0 || longer > MAX_EDGE {
            return refuse(format!("size is {shorter} to {longer}; 1 to {MAX_EDGE} is supported"));
        }
        let seen = match (crop, resize) {
            (Some(crop), _) => crop,
            (None, Resize::To(height, width)) => (height, width),
            (None, Resize::Shortest(_)) => {
                return refuse("do_center_crop is false, and size gives no height and width".to_owned());
            }
        };
        let side = image_size as u32;
        if seen != (side, side) || shorter < side {
            let (height, width) = seen;
            return refuse(format!(
                "size and crop_size make pictures of {width} x {height} pixels from a shorter side of {shorter}; \
                 the model looks at {side} x {side}"
            ));
        }
        Ok(Self { resize, crop: side, scaling: file.scaling.scaling(&path)? })
    }
}

#[derive(Deserialize)]
struct ProcessorFile {
    size: Option<Lengths>,
    crop_size: Option<Lengths>,
    resample: Option<u32>,
    do_resize: Option<bool>,
    do_center_crop: Option<bool>,
    #[serde(flatten)]
    scaling: ScalingKeys,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Lengths {
    /// As older processors wrote it.
    Edge(u32),
    Named(Named),
}

#[derive(Deserialize)]
struct Named {
    shortest_edge: Option<u32>,
    longest_edge: Option<u32>,
    height: Option<u32>,
    width: Option<u32>,
}
