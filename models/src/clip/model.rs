//! The model (`CLIPModel`).

use std::path::Path;

use candle_core::{D, DType, Device, Module, Result as Built, Tensor};
use candle_nn::{Linear, VarBuilder, linear_no_bias};

use super::{
    config::{Family, ProcessorConfig, TowersConfig},
    preprocess::prepare,
    text::TextTower,
    vision::VisionTower,
};
use crate::{
    error::{Error, Result},
    loader::{Progress, WeightFiles},
    picture::Picture,
    tokenizer::Words,
    yield_point::YieldPoint,
};

/// Texts that are compared with a picture at once, or looked for in one.
pub const MAX_TEXTS: usize = 64;

/// What is said if a device goes wrong without saying so.
pub(crate) const NO_NUMBERS: &str = "the model computed values that are not numbers";

/// A loaded model. Scoring does not change it: threads may share one.
pub struct Clip {
    words: Words,
    processor: ProcessorConfig,
    text: TextTower,
    text_projection: Linear,
    vision: VisionTower,
    vision_projection: Linear,
    /// What cosines are multiplied by.
    scale: f64,
    device: Device,
    dtype: DType,
}

/// How well a text fits a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// Cosine of the angle between the two, from -1 to 1. What is published as CLIP score is 100 times this.
    pub cosine: f32,
    /// The cosine times the model's scale. The softmax of the logits of several texts says how likely each is the one of
    /// them that belongs to the picture.
    pub logit: f32,
}

impl Clip {
    /// Loads the model in `dir` onto `device`, to compute in `dtype`, whatever type the files store.
    ///
    /// candle computes in `F32` and `F16` everywhere, in `BF16` on accelerators only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`], [`Error::Weights`] or [`Error::Tokenizer`] if a file cannot be used,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn load(dir: &Path, device: &Device, dtype: DType, observer: &dyn YieldPoint) -> Result<Self> {
        let config = TowersConfig::read(&dir.join("config.json"), Family::Clip)?;
        let processor = ProcessorConfig::read(dir, config.vision.image_size)?;
        let words = Words::load(dir, config.text.vocab_size)?;
        let files = WeightFiles::find(dir)?;
        let progress = Progress::new(observer, files.count());
        let weights = files.load(device, dtype, &|_| true, &progress)?;
        let model = files.check(Self::build(&config, words, processor, &weights))?;
        progress.finish()?;
        Ok(model)
    }

    fn build(config: &TowersConfig, words: Words, processor: ProcessorConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let Towers { text, text_projection, vision, vision_projection, scale } = Towers::new(config, vb)?;
        let (device, dtype) = (vb.device().clone(), vb.dtype());
        Ok(Self { words, processor, text, text_projection, vision, vision_projection, scale, device, dtype })
    }

    /// How well each of `texts` fits `picture`, in their order.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if there are no texts or more than [`MAX_TEXTS`], one is too long or the picture too large,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn score(&self, picture: &Picture, texts: &[&str], observer: &dyn YieldPoint) -> Result<Vec<Score>> {
        check_count(texts.len())?;
        // All that can be wrong with a request is found before anything is computed.
        let ids = texts.iter().map(|text| self.words.encode(text)).collect::<Result<Vec<_>>>()?;
        ids.iter().try_for_each(|ids| self.text.check(ids).map(drop))?;
        let seen = self.picture(&prepare(picture, &self.processor, &self.device, self.dtype)?, observer)?;
        ids.iter()
            .map(|ids| {
                let read = self.text(ids, observer)?;
                let cosine = (unit(&read)? * unit(&seen)?)?.sum_all()?.to_scalar::<f32>()?;
                if cosine.is_nan() {
                    return Err(Error::Device(candle_core::Error::msg(NO_NUMBERS)));
                }
                Ok(Score { cosine, logit: (f64::from(cosine) * self.scale) as f32 })
            })
            .collect()
    }

    /// A text's vector, (1, P), from its token ids. Its length says nothing.
    ///
    /// # Errors
    ///
    /// As [`TextTower::forward`].
    pub fn text(&self, ids: &[u32], observer: &dyn YieldPoint) -> Result<Tensor> {
        Ok(self.text_projection.forward(&self.text.forward(ids, observer)?)?)
    }

    /// A picture's vector, (1, P), from what [`prepare`] makes of it. Its length says nothing.
    ///
    /// # Errors
    ///
    /// As [`VisionTower::forward`].
    pub fn picture(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let hidden = self.vision.forward(pixels, observer)?;
        Ok(self.vision_projection.forward(&self.vision.whole(&hidden)?)?)
    }

    /// The tokenizer.
    #[must_use]
    pub fn words(&self) -> &Words {
        &self.words
    }

    /// The image processor's configuration.
    #[must_use]
    pub fn processor(&self) -> &ProcessorConfig {
        &self.processor
    }
}

/// The weights of a CLIP.
pub struct Towers {
    /// Texts to vectors.
    pub text: TextTower,
    /// Into the space in which texts and pictures are compared.
    pub text_projection: Linear,
    /// Pictures to vectors.
    pub vision: VisionTower,
    /// Likewise.
    pub vision_projection: Linear,
    scale: f64,
}

impl Towers {
    /// Reads them.
    ///
    /// # Errors
    ///
    /// If a weight is missing or of another shape.
    pub fn new(config: &TowersConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let TowersConfig { text, vision, projection_dim } = config;
        let scale = vb.get((), "logit_scale")?.to_dtype(DType::F32)?.to_scalar::<f32>()?;
        Ok(Self {
            text: TextTower::new(text, &vb.pp("text_model"))?,
            text_projection: linear_no_bias(text.encoder.hidden_size, *projection_dim, vb.pp("text_projection"))?,
            vision: VisionTower::new(vision, &vb.pp("vision_model"))?,
            vision_projection: linear_no_bias(vision.encoder.hidden_size, *projection_dim, vb.pp("visual_projection"))?,
            scale: f64::from(scale).exp(),
        })
    }
}

/// Refuses too many texts, and none.
pub(crate) fn check_count(texts: usize) -> Result<()> {
    if (1..=MAX_TEXTS).contains(&texts) {
        return Ok(());
    }
    Err(Error::Input(format!("there are {texts} texts; 1 to {MAX_TEXTS} can be given at once")))
}

/// `xs` in f32, brought to length 1 along its last axis.
pub(crate) fn unit(xs: &Tensor) -> Built<Tensor> {
    let xs = xs.to_dtype(DType::F32)?;
    xs.broadcast_div(&xs.sqr()?.sum_keepdim(D::Minus1)?.sqrt()?)
}
