//! The model (`ViltForQuestionAnswering`).

use std::{path::Path, sync::Arc};

use candle_core::{D, DType, Device, Module, Result as Built, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, VarBuilder, conv2d, linear, linear_b, ops::softmax};

use super::{
    config::{ProcessorConfig, ViltConfig},
    preprocess::{Pixels, prepare},
};
use crate::{
    attention::{attend, heads_first, split_heads},
    error::{Error, Result},
    loader::{Progress, WeightFiles},
    norm::LayerNorm,
    parts::{Parts, Share},
    picture::Picture,
    tokenizer::Words,
    yield_point::{Site, YieldPoint},
};

/// PyTorch's epsilon for a `LayerNorm` that is given none, as in the classifier.
const CLASSIFIER_EPS: f64 = 1e-5;

/// A loaded model. Answering does not change it: threads may share one.
pub struct Vqa {
    config: ViltConfig,
    words: Arc<Words>,
    processor: ProcessorConfig,
    /// What it was built of.
    parts: Parts,
    labels: Vec<String>,
    text: TextEmbeddings,
    patches: PatchEmbeddings,
    /// What tells text from picture, one row each.
    modality: Tensor,
    layers: Vec<Layer>,
    norm: LayerNorm,
    pooler: Linear,
    classifier: Classifier,
    device: Device,
    dtype: DType,
}

/// A possible answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The answer.
    pub label: String,
    /// Softmax over all of the model's answers: all scores together make 1.
    ///
    /// ViLT was trained with a sigmoid for each answer, so that several may be right. The order is the same; the
    /// softmax says how the answers compare, which is what a list of the best is read for.
    pub score: f32,
}

impl Vqa {
    /// Loads the model in `dir` onto `device`, to compute in `dtype`, whatever type the files store.
    ///
    /// candle computes in `F32` and `F16` everywhere, in `BF16` on accelerators only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`], [`Error::Weights`] or [`Error::Tokenizer`] if a file cannot be used,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn load(dir: &Path, device: &Device, dtype: DType, observer: &dyn YieldPoint) -> Result<Self> {
        let config = ViltConfig::read(&dir.join("config.json"))?;
        let processor = ProcessorConfig::read(dir)?;
        let words = Arc::new(Words::load(dir, config.vocab_size)?);
        let files = WeightFiles::find(dir)?;
        let progress = Progress::new(observer, files.count());
        let weights = files.load(device, dtype, &|_| true, &progress)?;
        let built = Parts::of(weights, |vb| Self::build(&config, &words, &processor, vb));
        let (model, parts) = files.check(built)?;
        progress.finish()?;
        Ok(Self { parts, ..model })
    }

    /// The same model for `device`, of what `share` makes of each of its tensors. Nothing is read.
    ///
    /// # Errors
    ///
    /// [`Error::Device`], also for those of `share`.
    pub fn again(&self, device: &Device, share: Share<'_>) -> Result<Self> {
        let build = |vb: VarBuilder<'_>| Self::build(&self.config, &self.words, &self.processor, vb);
        let (model, parts) = self.parts.again((self.dtype, device), share, build)?;
        Ok(Self { parts, ..model })
    }

    fn build(config: &ViltConfig, words: &Arc<Words>, processor: &ProcessorConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let (width, labels) = (config.hidden_size, config.labels());
        let vilt = vb.pp("vilt");
        let embeddings = vilt.pp("embeddings");
        let layers = vilt.pp("encoder.layer");
        Ok(Self {
            config: config.clone(),
            words: Arc::clone(words),
            processor: processor.clone(),
            parts: Parts::default(),
            text: TextEmbeddings::new(config, embeddings.pp("text_embeddings"))?,
            patches: PatchEmbeddings::new(config, &embeddings)?,
            modality: embeddings.pp("token_type_embeddings").get((config.modality_type_vocab_size, width), "weight")?,
            layers: (0..config.num_hidden_layers).map(|i| Layer::new(config, layers.pp(i))).collect::<Built<_>>()?,
            norm: LayerNorm::new(width, config.layer_norm_eps, vilt.pp("layernorm"))?,
            pooler: linear(width, width, vilt.pp("pooler.dense"))?,
            classifier: Classifier::new(width, labels.len(), vb.pp("classifier"))?,
            labels,
            device: vb.device().clone(),
            dtype: vb.dtype(),
        })
    }

    /// The `top` most likely answers to `question` about `picture`, the likeliest first.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the question is too long or the picture too narrow, [`Error::Interrupted`],
    /// [`Error::Device`].
    pub fn answer(
        &self,
        picture: &Picture,
        question: &str,
        top: usize,
        observer: &dyn YieldPoint,
    ) -> Result<Vec<Answer>> {
        let ids = self.words.encode(question)?;
        let pixels = prepare(picture, &self.processor, &self.device, self.dtype)?;
        let logits = self.logits(&ids, &pixels, observer)?.to_dtype(DType::F32)?;
        let scores: Vec<f32> = softmax(&logits, D::Minus1)?.flatten_all()?.to_vec1()?;
        if scores.iter().any(|s| s.is_nan()) {
            return Err(Error::Device(candle_core::Error::msg("the model computed values that are not numbers")));
        }
        let mut answers: Vec<_> =
            self.labels.iter().cloned().zip(scores).map(|(label, score)| Answer { label, score }).collect();
        answers.sort_by(|a, b| b.score.total_cmp(&a.score));
        answers.truncate(top);
        Ok(answers)
    }

    /// Logits of all answers, (1, answers), for a question's token ids and a prepared picture.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if there are no tokens, too many or unknown ones, [`Error::Interrupted`], [`Error::Device`].
    pub fn logits(&self, ids: &[u32], pixels: &Pixels, observer: &dyn YieldPoint) -> Result<Tensor> {
        self.text.check(ids)?;
        let text = self.text.forward(ids)?.broadcast_add(&self.modality.narrow(0, 0, 1)?)?;
        let image = self.patches.forward(pixels)?.broadcast_add(&self.modality.narrow(0, 1, 1)?)?;
        let mut hidden = Tensor::cat(&[text, image], 1)?;
        for layer in &self.layers {
            observer.reach(Site::Block)?;
            hidden = layer.forward(&hidden)?;
        }
        // The first token of the text stands for the whole.
        let first = self.norm.forward(&hidden.narrow(1, 0, 1)?.contiguous()?)?.squeeze(1)?;
        Ok(self.classifier.forward(&self.pooler.forward(&first)?.tanh()?)?)
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

struct TextEmbeddings {
    words: Tensor,
    positions: Tensor,
    /// The first row: a question is a single sentence.
    kind: Tensor,
    norm: LayerNorm,
}

impl TextEmbeddings {
    fn new(config: &ViltConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let width = config.hidden_size;
        let table = |name: &str, rows: usize| vb.pp(name).get((rows, width), "weight");
        Ok(Self {
            words: table("word_embeddings", config.vocab_size)?,
            positions: table("position_embeddings", config.max_position_embeddings)?,
            kind: table("token_type_embeddings", config.type_vocab_size)?.narrow(0, 0, 1)?,
            norm: LayerNorm::new(width, config.layer_norm_eps, vb.pp("LayerNorm"))?,
        })
    }

    fn check(&self, ids: &[u32]) -> Result<()> {
        let (most, known) = (self.positions.dim(0)?, self.words.dim(0)?);
        if ids.is_empty() || ids.len() > most {
            return Err(Error::Input(format!("the question makes {} tokens; the model reads 1 to {most}", ids.len())));
        }
        match ids.iter().find(|&&id| id as usize >= known) {
            Some(id) => Err(Error::Input(format!("token {id} is none of the {known} the model knows"))),
            None => Ok(()),
        }
    }

    /// (1, T, D)
    fn forward(&self, ids: &[u32]) -> Built<Tensor> {
        let ids_tensor = Tensor::new(ids, self.words.device())?;
        let words = self.words.index_select(&ids_tensor, 0)?.broadcast_add(&self.kind)?;
        let embedded = (words + self.positions.narrow(0, 0, ids.len())?)?;
        self.norm.forward(&embedded.unsqueeze(0)?)
    }
}

struct PatchEmbeddings {
    projection: Conv2d,
    class: Tensor,
    class_position: Tensor,
    /// (side, side * D): rows of the grid for which the model was trained.
    positions: Tensor,
    side: usize,
    patch: usize,
}

impl PatchEmbeddings {
    fn new(config: &ViltConfig, vb: &VarBuilder<'_>) -> Built<Self> {
        let (width, patch) = (config.hidden_size, config.patch_size);
        let side = config.image_size / patch;
        let positions = vb.get((1, side * side + 1, width), "position_embeddings")?;
        let stride = Conv2dConfig { stride: patch, ..Conv2dConfig::default() };
        Ok(Self {
            projection: conv2d(3, width, patch, stride, vb.pp("patch_embeddings.projection"))?,
            class: vb.get((1, 1, width), "cls_token")?,
            class_position: positions.narrow(1, 0, 1)?,
            positions: positions.narrow(1, 1, side * side)?.reshape((side, side * width))?,
            side,
            patch,
        })
    }

    /// (1, 1 + rows * columns, D): the class token and the patches that are of the picture, in natural order.
    ///
    /// The library shuffles the patches and carries padding along behind a mask. Neither can change the answer:
    /// positions are in the embeddings, and attention does not depend on the order.
    fn forward(&self, pixels: &Pixels) -> Result<Tensor> {
        let (_, _, height, width) = pixels.values.dims4()?;
        if height < self.patch || width < self.patch {
            return Err(Error::Input(format!("a picture of {width} x {height} pixels is smaller than a patch")));
        }
        let projected = self.projection.forward(&pixels.values)?;
        let (_, size, rows, columns) = projected.dims4()?;
        let (rows, columns) =
            (valid_patches(rows, height, pixels.valid.0), valid_patches(columns, width, pixels.valid.1));
        if rows == 0 || columns == 0 {
            return Err(Error::Input("no part of the picture is left after padding".to_owned()));
        }
        let patches = projected.narrow(2, 0, rows)?.narrow(3, 0, columns)?;
        let patches = patches.reshape((1, size, rows * columns))?.transpose(1, 2)?;
        let patches = (patches + self.positions(rows, columns, size)?)?;
        let class = (&self.class + &self.class_position)?;
        Ok(Tensor::cat(&[class, patches], 1)?)
    }

    /// Position embeddings for a grid of `rows` x `columns`, (1, rows * columns, D): resized bilinearly, corners on
    /// corners, first along the rows' axis, then along the columns'.
    fn positions(&self, rows: usize, columns: usize, size: usize) -> Built<Tensor> {
        let device = self.positions.device();
        let matrix = |to: usize| {
            Tensor::from_vec(stretch(self.side, to), (to, self.side), device)?.to_dtype(self.positions.dtype())
        };
        let stretched = matrix(rows)?.matmul(&self.positions)?.reshape((rows, self.side, size))?;
        let matrix = matrix(columns)?.unsqueeze(0)?.expand((rows, columns, self.side))?.contiguous()?;
        matrix.matmul(&stretched)?.reshape((1, rows * columns, size))
    }
}

/// How many of `patches` patches along a side of `length` pixels are of the picture, whose first `valid` pixels are:
/// the library samples its mask at the nearest pixel below each patch's start.
fn valid_patches(patches: usize, length: usize, valid: usize) -> usize {
    (0..patches).take_while(|i| i * length / patches < valid).count()
}

/// Weights of linear interpolation from `from` points to `to` points with the ends kept, row by row.
fn stretch(from: usize, to: usize) -> Vec<f32> {
    let mut weights = vec![0.0; from * to];
    for (i, row) in weights.chunks_mut(from).enumerate() {
        let at = if to > 1 { i as f64 * (from - 1) as f64 / (to - 1) as f64 } else { 0.0 };
        let below = (at as usize).min(from - 1);
        let share = (at - below as f64) as f32;
        row[below] = 1.0 - share;
        if below + 1 < from {
            row[below + 1] = share;
        }
    }
    weights
}

/// `ViltLayer`.
struct Layer {
    norm_before: LayerNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    attention_out: Linear,
    norm_after: LayerNorm,
    inner: Linear,
    output: Linear,
    head_dim: usize,
}

impl Layer {
    fn new(config: &ViltConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let (width, inner, eps) = (config.hidden_size, config.intermediate_size, config.layer_norm_eps);
        let attention = vb.pp("attention.attention");
        let projection = |name: &str| linear_b(width, width, config.qkv_bias, attention.pp(name));
        Ok(Self {
            norm_before: LayerNorm::new(width, eps, vb.pp("layernorm_before"))?,
            query: projection("query")?,
            key: projection("key")?,
            value: projection("value")?,
            attention_out: linear(width, width, vb.pp("attention.output.dense"))?,
            norm_after: LayerNorm::new(width, eps, vb.pp("layernorm_after"))?,
            inner: linear(width, inner, vb.pp("intermediate.dense"))?,
            output: linear(inner, width, vb.pp("output.dense"))?,
            head_dim: width / config.num_attention_heads,
        })
    }

    fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        let normed = self.norm_before.forward(xs)?;
        let heads = |layer: &Linear| heads_first(&split_heads(&layer.forward(&normed)?, self.head_dim)?);
        let (query, key, value) = (heads(&self.query)?, heads(&self.key)?, heads(&self.value)?);
        let mixed = attend(&query, &key, &value, None, (self.head_dim as f64).powf(-0.5))?;
        let xs = (xs + self.attention_out.forward(&mixed)?)?;
        let inner = self.inner.forward(&self.norm_after.forward(&xs)?)?.gelu_erf()?;
        &xs + self.output.forward(&inner)?
    }
}

struct Classifier {
    first: Linear,
    norm: LayerNorm,
    second: Linear,
}

impl Classifier {
    fn new(width: usize, labels: usize, vb: VarBuilder<'_>) -> Built<Self> {
        Ok(Self {
            first: linear(width, 2 * width, vb.pp(0))?,
            norm: LayerNorm::new(2 * width, CLASSIFIER_EPS, vb.pp(1))?,
            second: linear(2 * width, labels, vb.pp(3))?,
        })
    }

    fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        self.second.forward(&self.norm.forward(&self.first.forward(xs)?)?.gelu_erf()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretching_keeps_the_ends() {
        assert_eq!(stretch(3, 3), [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]);
        assert_eq!(stretch(2, 3), [1.0, 0.0, 0.5, 0.5, 0.0, 1.0]);
        assert_eq!(stretch(3, 1), [1.0, 0.0, 0.0]);
        assert_eq!(stretch(1, 2), [1.0, 1.0]);
    }

    #[test]
    fn partly_padded_patches() {
        assert_eq!(valid_patches(4, 32, 32), 4);
        assert_eq!(valid_patches(4, 32, 16), 2);
        assert_eq!(valid_patches(4, 32, 17), 3);
        assert_eq!(valid_patches(4, 35, 8), 1);
    }
}
