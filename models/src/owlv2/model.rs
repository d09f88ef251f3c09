//! The model (`Owlv2ForObjectDetection`).

use std::path::Path;

use candle_core::{D, DType, Device, Module, Result as Built, Tensor};
use candle_nn::{Linear, VarBuilder, linear, linear_no_bias, ops::sigmoid};

use super::{
    config::{self, ProcessorConfig},
    preprocess::prepare,
    select::{Detection, detections, suppress},
};
use crate::{
    clip::{
        config::TowersConfig,
        model::{NO_NUMBERS, check_count, unit},
        text::TextTower,
        vision::VisionTower,
    },
    error::{Error, Result},
    loader::{Progress, WeightFiles},
    norm::LayerNorm,
    picture::Picture,
    tokenizer::Words,
    yield_point::YieldPoint,
};

/// What the library adds to lengths before it divides by them.
const LENGTH_EPS: f64 = 1e-6;

/// Weights that detection does not need: those that compare whole pictures with texts.
const UNREAD: [&str; 2] = ["owlv2.visual_projection.", "owlv2.logit_scale"];

/// A loaded model. Detecting does not change it: threads may share one.
pub struct Owlv2 {
    words: Words,
    processor: ProcessorConfig,
    network: Network,
    device: Device,
    dtype: DType,
}

/// What to look for, and how sure to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Request<'a> {
    /// The texts, for instance "a red circle"; at most [`MAX_TEXTS`](crate::clip::model::MAX_TEXTS).
    pub texts: &'a [&'a str],
    /// Only what has a higher score than this counts as found, from 0 to 1.
    pub threshold: f32,
    /// Of two boxes for the same text that share more than this, from 0 to 1, only the surer counts. Each patch that sees
    /// a thing says where it is; the library leaves it at that, and so does `None`.
    pub overlap: Option<f32>,
}

/// What the model says of each patch, row by row from the top left.
#[derive(Debug, Clone)]
pub struct Predictions {
    /// For each text, (P, Q).
    pub logits: Tensor,
    /// Middle, width and height, in parts of the square that the picture was made, (P, 4).
    pub boxes: Tensor,
    /// Whether there is anything at all, whatever the texts, (P,).
    pub objectness: Tensor,
}

impl Owlv2 {
    /// Loads the model in `dir` onto `device`, to compute in `dtype`, whatever type the files store.
    ///
    /// candle computes in `F32` and `F16` everywhere, in `BF16` on accelerators only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`], [`Error::Weights`] or [`Error::Tokenizer`] if a file cannot be used,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn load(dir: &Path, device: &Device, dtype: DType, observer: &dyn YieldPoint) -> Result<Self> {
        let config = config::read(&dir.join("config.json"))?;
        let processor = ProcessorConfig::read(dir, config.vision.image_size)?;
        let words = Words::load(dir, config.text.vocab_size)?;
        let files = WeightFiles::find(dir)?;
        let progress = Progress::new(observer, files.count());
        let weights = files.load(device, dtype, &Network::uses, &progress)?;
        let network = files.check(Network::new(&config, &weights))?;
        progress.finish()?;
        Ok(Self { words, processor, network, device: device.clone(), dtype })
    }

    /// What is found of `request` in `picture`, the surest first.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if there are no texts or too many, one is too long, the picture too large or a bound none from
    /// 0 to 1; [`Error::Tokenizer`] if the tokenizer is none for this model, [`Error::Interrupted`], [`Error::Device`].
    pub fn detect(
        &self,
        picture: &Picture,
        request: &Request<'_>,
        observer: &dyn YieldPoint,
    ) -> Result<Vec<Detection>> {
        check_count(request.texts.len())?;
        for (name, bound) in [("threshold", Some(request.threshold)), ("overlap", request.overlap)] {
            if let Some(bound) = bound.filter(|bound| !(0.0..=1.0).contains(bound)) {
                return Err(Error::Input(format!("{name} is {bound}; it has to be from 0 to 1")));
            }
        }
        let ids = request.texts.iter().map(|text| self.words.encode(text)).collect::<Result<Vec<_>>>()?;
        let pixels = prepare(picture, &self.processor, &self.device, self.dtype)?;
        let Predictions { logits, boxes, .. } = self.predict(&ids, &pixels, observer)?;
        let (logits, boxes) = (logits.to_vec2::<f32>()?, boxes.to_vec2::<f32>()?);
        if logits.iter().chain(&boxes).flatten().any(|value| value.is_nan()) {
            return Err(Error::Device(candle_core::Error::msg(NO_NUMBERS)));
        }
        let square = picture.width().max(picture.height()) as f32;
        let found = detections(&logits, &boxes, square, request.threshold);
        Ok(match request.overlap {
            Some(most) => suppress(found, most),
            None => found,
        })
    }

    /// What the model says of each patch, in f32, for the token ids of texts and what [`prepare`] makes of a picture.
    ///
    /// # Errors
    ///
    /// As [`TextTower::forward`] and [`VisionTower::forward`].
    pub fn predict(&self, texts: &[Vec<u32>], pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Predictions> {
        let queries = self.network.queries(texts, observer)?;
        let features = self.network.features(pixels, observer)?;
        Ok(self.network.heads(&features, &queries)?)
    }

    /// The texts' vectors, (Q, D), each of length 1.
    ///
    /// # Errors
    ///
    /// As [`TextTower::forward`].
    pub fn queries(&self, texts: &[Vec<u32>], observer: &dyn YieldPoint) -> Result<Tensor> {
        self.network.queries(texts, observer)
    }

    /// The vectors of all patches, (P, D), from which everything is predicted.
    ///
    /// # Errors
    ///
    /// As [`VisionTower::forward`].
    pub fn features(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        self.network.features(pixels, observer)
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

/// The weights of an OWLv2, as far as detection needs them.
pub struct Network {
    text: TextTower,
    text_projection: Linear,
    vision: VisionTower,
    norm: LayerNorm,
    class: ClassHead,
    bounds: BoxHead,
    objectness: BoxHead,
    /// What boxes are said relative to, as logits: a patch's lower right corner and size, (P, 4).
    bias: Tensor,
}

impl Network {
    /// Whether the weight of this name is needed.
    #[must_use]
    pub fn uses(name: &str) -> bool {
        !UNREAD.iter().any(|unread| name.starts_with(unread))
    }

    /// Reads the weights.
    ///
    /// # Errors
    ///
    /// If a weight is missing or of another shape.
    pub fn new(config: &TowersConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let TowersConfig { text, vision, projection_dim } = config;
        let (towers, width) = (vb.pp("owlv2"), vision.encoder.hidden_size);
        let side = vision.side();
        Ok(Self {
            text: TextTower::new(text, &towers.pp("text_model"))?,
            text_projection: linear_no_bias(text.encoder.hidden_size, *projection_dim, towers.pp("text_projection"))?,
            vision: VisionTower::new(vision, &towers.pp("vision_model"))?,
            norm: LayerNorm::new(width, vision.encoder.layer_norm_eps, vb.pp("layer_norm"))?,
            class: ClassHead::new(width, text.encoder.hidden_size, &vb.pp("class_head"))?,
            bounds: BoxHead::new(width, 4, &vb.pp("box_head"))?,
            objectness: BoxHead::new(width, 1, &vb.pp("objectness_head"))?,
            bias: Tensor::from_vec(bias(side), (side * side, 4), vb.device())?,
        })
    }

    fn queries(&self, texts: &[Vec<u32>], observer: &dyn YieldPoint) -> Result<Tensor> {
        for ids in texts {
            if ids.first() == Some(&0) {
                // The library takes such a text for one that is not there, and finds nothing of it.
                return Err(Error::Input("a text begins with token 0, which stands for no text".to_owned()));
            }
            self.text.check(ids)?;
        }
        let query = |ids: &Vec<u32>| Ok(unit(&self.text_projection.forward(&self.text.forward(ids, observer)?)?)?);
        let queries = texts.iter().map(query).collect::<Result<Vec<_>>>()?;
        Ok(Tensor::cat(&queries, 0)?)
    }

    fn features(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let hidden = self.vision.post_norm(&self.vision.forward(pixels, observer)?)?;
        // Each patch in the light of the whole.
        let whole = hidden.narrow(1, 0, 1)?;
        let patches = hidden.narrow(1, 1, hidden.dim(1)? - 1)?.broadcast_mul(&whole)?;
        Ok(self.norm.forward(&patches)?.squeeze(0)?)
    }

    fn heads(&self, features: &Tensor, queries: &Tensor) -> Built<Predictions> {
        let boxes = sigmoid(&(self.bounds.forward(features)?.to_dtype(DType::F32)? + &self.bias)?)?;
        let objectness = self.objectness.forward(features)?.to_dtype(DType::F32)?.squeeze(1)?;
        Ok(Predictions { logits: self.class.forward(features, queries)?, boxes, objectness })
    }
}

/// `Owlv2ClassPredictionHead`.
struct ClassHead {
    embed: Linear,
    shift: Linear,
    scale: Linear,
}

impl ClassHead {
    fn new(width: usize, texts: usize, vb: &VarBuilder<'_>) -> Built<Self> {
        Ok(Self {
            embed: linear(width, texts, vb.pp("dense0"))?,
            shift: linear(width, 1, vb.pp("logit_shift"))?,
            scale: linear(width, 1, vb.pp("logit_scale"))?,
        })
    }

    /// (P, Q), from (P, D) and queries of length 1, (Q, E).
    fn forward(&self, features: &Tensor, queries: &Tensor) -> Built<Tensor> {
        let embedded = nearly_unit(&self.embed.forward(features)?.to_dtype(DType::F32)?)?;
        let cosines = embedded.matmul(&nearly_unit(queries)?.t()?)?;
        let shift = self.shift.forward(features)?.to_dtype(DType::F32)?;
        let scale = (self.scale.forward(features)?.to_dtype(DType::F32)?.elu(1.0)? + 1.0)?;
        cosines.broadcast_add(&shift)?.broadcast_mul(&scale)
    }
}

fn nearly_unit(xs: &Tensor) -> Built<Tensor> {
    xs.broadcast_div(&(xs.sqr()?.sum_keepdim(D::Minus1)?.sqrt()? + LENGTH_EPS)?)
}

/// `Owlv2BoxPredictionHead`.
struct BoxHead {
    layers: [Linear; 3],
}

impl BoxHead {
    fn new(width: usize, outputs: usize, vb: &VarBuilder<'_>) -> Built<Self> {
        let layer = |name: &str, outputs: usize| linear(width, outputs, vb.pp(name));
        Ok(Self { layers: [layer("dense0", width)?, layer("dense1", width)?, layer("dense2", outputs)?] })
    }

    fn forward(&self, features: &Tensor) -> Built<Tensor> {
        let [first, second, last] = &self.layers;
        last.forward(&second.forward(&first.forward(features)?.gelu_erf()?)?.gelu_erf()?)
    }
}

/// For each patch of a grid, its lower right corner and its size, as the logits of parts of the whole.
fn bias(side: usize) -> Vec<f32> {
    let logit = |part: f32| (part + 1e-4).ln() - (1e-4 - part).ln_1p();
    let corner = |i: usize| logit((i + 1) as f32 / side as f32);
    let size = logit(1.0 / side as f32);
    (0..side * side).flat_map(|i| [corner(i % side), corner(i / side), size, size]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_start_at_their_patches() {
        let parts: Vec<f32> = bias(4).into_iter().map(|logit| 1.0 / (1.0 + (-logit).exp())).collect();
        let patch = |i: usize| &parts[4 * i..4 * i + 4];
        let near = |patch: &[f32], expected: [f32; 4]| patch.iter().zip(expected).all(|(a, b)| (a - b).abs() < 2e-4);
        assert!(near(patch(0), [0.25, 0.25, 0.25, 0.25]), "{:?}", patch(0));
        assert!(near(patch(7), [1.0, 0.5, 0.25, 0.25]), "{:?}", patch(7));
    }

    #[test]
    fn whole_pictures_are_not_compared() {
        assert!(!Network::uses("owlv2.visual_projection.weight") && !Network::uses("owlv2.logit_scale"));
        assert!(Network::uses("owlv2.text_projection.weight") && Network::uses("class_head.logit_scale.bias"));
    }
}
