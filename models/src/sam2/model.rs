//! The model for single pictures (`Sam2Model`).

use std::path::Path;

use candle_core::{DType, Device, Result as Built, Tensor};
use candle_nn::VarBuilder;

use super::{
    config::Sam2Config,
    decoder::{Decoded, Decoder, Features},
    hiera::Hiera,
    mask::{Mask, Small},
    neck::Neck,
    preprocess::{ProcessorConfig, prepare},
    prompt::{MAX_PROMPTS, Prompt, PromptEncoder, Waves},
};
use crate::{
    error::{Error, Result},
    loader::{Progress, WeightFiles},
    picture::Picture,
    yield_point::YieldPoint,
};

/// A loaded model. Segmenting does not change it: threads may share one.
pub struct Sam2 {
    config: Sam2Config,
    processor: ProcessorConfig,
    backbone: Hiera,
    neck: Neck,
    /// What stands for the memory of earlier frames, of which there are none, (1, 1, C).
    no_memory: Tensor,
    /// Where in the picture each part of its embedding is, (1, n * n, C).
    positions: Tensor,
    prompts: PromptEncoder,
    decoder: Decoder,
    device: Device,
    dtype: DType,
}

/// Whether a tensor of a checkpoint is needed for pictures and boxes or points: neither memory of a video nor masks as
/// prompts are.
pub(super) fn is_used(name: &str) -> bool {
    let parts =
        ["vision_encoder.", "prompt_encoder.", "mask_decoder.", "shared_image_embedding.", "no_memory_embedding"];
    parts.iter().any(|part| name.starts_with(part)) && !name.starts_with("prompt_encoder.mask_embed.")
}

impl Sam2 {
    /// Loads the model in `dir` onto `device`, to compute in `dtype`, whatever type the files store.
    ///
    /// candle computes in `F32` and `F16` everywhere, in `BF16` on accelerators only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`] or [`Error::Weights`] if a file cannot be used, [`Error::Interrupted`],
    /// [`Error::Device`].
    pub fn load(dir: &Path, device: &Device, dtype: DType, observer: &dyn YieldPoint) -> Result<Self> {
        let config = Sam2Config::read(&dir.join("config.json"))?;
        let processor = ProcessorConfig::read(dir, config.side())?;
        let files = WeightFiles::find(dir)?;
        let progress = Progress::new(observer, files.count());
        let weights = files.load(device, dtype, &is_used, &progress)?;
        let model = files.check(Self::new(config, processor, &weights))?;
        progress.finish()?;
        Ok(model)
    }

    /// Builds the model from the weights in `vb`.
    ///
    /// # Errors
    ///
    /// If one is missing or of another shape.
    pub fn new(config: Sam2Config, processor: ProcessorConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let (vision, width) = (vb.pp("vision_encoder"), config.vision.fpn_hidden_size);
        let waves = Waves::new(width, &vb.pp("shared_image_embedding"))?;
        let side = config.side() / config.prompt.patch_size;
        let middle = |i: usize| (i as f32 + 0.5) / side as f32;
        let places = (0..side * side).flat_map(|i| waves.at(middle(i % side), middle(i / side)));
        let positions = Tensor::from_vec(places.collect::<Vec<f32>>(), (1, side * side, width), vb.device())?;
        Ok(Self {
            backbone: Hiera::new(&config.vision.backbone, &vision.pp("backbone"))?,
            neck: Neck::new(&config.vision, &vision.pp("neck"))?,
            no_memory: vb.get((1, 1, width), "no_memory_embedding")?,
            positions: positions.to_dtype(vb.dtype())?,
            prompts: PromptEncoder::new(&config.prompt, &vb.pp("prompt_encoder"))?,
            decoder: Decoder::new(&config.decoder, &vb.pp("mask_decoder"))?,
            device: vb.device().clone(),
            dtype: vb.dtype(),
            config,
            processor,
        })
    }

    /// A mask for each prompt, in their order. The picture is looked at once.
    ///
    /// Of a prompt that is [ambiguous](Prompt::is_ambiguous) several masks are made, and the one with the best score is
    /// taken. Of others it is the single mask, or one of the several where the configuration has that give way.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if there are no prompts, too many, or one that cannot be asked of this picture,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn segment(&self, picture: &Picture, prompts: &[Prompt], observer: &dyn YieldPoint) -> Result<Vec<Mask>> {
        let (width, height) = (picture.width(), picture.height());
        if prompts.is_empty() || prompts.len() > MAX_PROMPTS {
            return Err(Error::Input(format!("there are {} prompts; 1 to {MAX_PROMPTS} are accepted", prompts.len())));
        }
        // Before the picture is looked at, which takes long.
        prompts.iter().try_for_each(|prompt| prompt.check(width, height))?;
        let features = self.look(&self.prepare(picture)?, observer)?;
        let mask = |prompt: &Prompt| {
            let decoded = self.decode(&features, &self.prompts.forward(prompt, width, height)?, observer)?;
            Ok(Small::choose(&decoded, prompt.is_ambiguous(), &self.config.decoder)?.enlarge(width, height))
        };
        prompts.iter().map(mask).collect()
    }

    /// The picture as the model sees it, (1, 3, side, side).
    ///
    /// # Errors
    ///
    /// [`Error::Device`].
    pub fn prepare(&self, picture: &Picture) -> Result<Tensor> {
        prepare(picture, &self.processor, &self.device, self.dtype)
    }

    /// What is seen of a prepared picture.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn look(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Features> {
        let stages = self.backbone.forward(pixels, observer)?;
        let levels = self.neck.forward(&stages)?;
        let embedding = levels[2].broadcast_add(&self.no_memory)?;
        Ok(self.decoder.features([&levels[0], &levels[1], &embedding])?)
    }

    /// All masks of a prompt, by its tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn decode(&self, features: &Features, prompt: &Tensor, observer: &dyn YieldPoint) -> Result<Decoded> {
        self.decoder.forward(features, &self.positions, prompt, self.prompts.no_mask(), observer)
    }

    /// The backbone.
    #[must_use]
    pub fn backbone(&self) -> &Hiera {
        &self.backbone
    }

    /// The neck.
    #[must_use]
    pub fn neck(&self) -> &Neck {
        &self.neck
    }

    /// The encoder of prompts.
    #[must_use]
    pub fn prompts(&self) -> &PromptEncoder {
        &self.prompts
    }

    /// Where in the picture each part of its embedding is, (1, n * n, C).
    #[must_use]
    pub fn positions(&self) -> &Tensor {
        &self.positions
    }
}
