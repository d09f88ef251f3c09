//! Linear layers without bias, whose weights may stay quantised in memory.

use std::fmt::Display;

use candle_core::{DType, Device, Result, Tensor, quantized::QTensor};
use candle_nn::{Module, VarBuilder, linear_no_bias};

use crate::quantised::QuantisedFile;

/// Numbers of a quantised matrix that are brought into another type at once: its rows are taken in bands of so many.
pub(crate) const MAX_BAND: usize = 1 << 26;

/// `x W^T`.
pub struct Linear(Weight);

enum Weight {
    Dense(candle_nn::Linear),
    /// The rows, in bands.
    Quantised(Vec<QTensor>),
}

impl Linear {
    /// The product with (B, T, `input`) or (B, `input`): (B, T, `output`) or (B, `output`).
    ///
    /// A quantised weight is brought into the input's type for as long as the product takes, which makes it the product
    /// with the very numbers that the file stands for. candle also multiplies blocks directly, but rounds the input to 8
    /// bits for it, and keeps what it needs for that where no partition sees it: on a CPU a second copy of the weights,
    /// on a GPU a workspace that all streams share. Next to a product with hundreds of tokens the conversion is small.
    ///
    /// # Errors
    ///
    /// If the shape does not fit, or the device fails.
    pub fn forward(&self, xs: &Tensor) -> Result<Tensor> {
        match &self.0 {
            Weight::Dense(layer) => layer.forward(xs),
            Weight::Quantised(bands) => {
                let product = |band: &QTensor| candle_nn::Linear::new(converted(band, xs)?, None).forward(xs);
                let mut parts = bands.iter().map(product).collect::<Result<Vec<_>>>()?;
                if parts.len() == 1 { Ok(parts.swap_remove(0)) } else { Tensor::cat(&parts, parts[0].rank() - 1) }
            }
        }
    }

    pub(crate) fn quantised(bands: Vec<QTensor>) -> Self {
        Self(Weight::Quantised(bands))
    }

    pub(crate) fn dense(weight: Tensor) -> Self {
        Self(Weight::Dense(candle_nn::Linear::new(weight, None)))
    }
}

fn converted(band: &QTensor, like: &Tensor) -> Result<Tensor> {
    if like.dtype() == DType::F16 {
        band.dequantize_f16(like.device())
    } else {
        band.dequantize(like.device())?.to_dtype(like.dtype())
    }
}

/// Weights below a name: tensors, or a file of which matrices stay quantised.
#[derive(Clone)]
pub struct Weights<'a>(Source<'a>);

#[derive(Clone)]
enum Source<'a> {
    Dense(VarBuilder<'a>),
    Quantised { file: &'a QuantisedFile<'a>, below: String },
}

impl<'a> From<VarBuilder<'a>> for Weights<'a> {
    fn from(vb: VarBuilder<'a>) -> Self {
        Self(Source::Dense(vb))
    }
}

impl<'a> From<&'a QuantisedFile<'a>> for Weights<'a> {
    fn from(file: &'a QuantisedFile<'a>) -> Self {
        Self(Source::Quantised { file, below: String::new() })
    }
}

impl Weights<'_> {
    /// Those below `name` as well.
    #[must_use]
    pub fn pp(&self, name: impl Display) -> Self {
        Self(match &self.0 {
            Source::Dense(vb) => Source::Dense(vb.pp(name.to_string())),
            Source::Quantised { file, below } => Source::Quantised { file, below: format!("{below}{name}.") },
        })
    }

    /// Where layers compute.
    #[must_use]
    pub fn device(&self) -> &Device {
        match &self.0 {
            Source::Dense(vb) => vb.device(),
            Source::Quantised { file, .. } => file.device(),
        }
    }

    /// The type in which layers compute.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match &self.0 {
            Source::Dense(vb) => vb.dtype(),
            Source::Quantised { file, .. } => file.dtype(),
        }
    }

    /// The vector `weight`.
    ///
    /// # Errors
    ///
    /// If it is missing or of another shape.
    pub fn vector(&self, size: usize) -> Result<Tensor> {
        match &self.0 {
            Source::Dense(vb) => vb.get(size, "weight"),
            Source::Quantised { file, below } => file.vector(&format!("{below}weight"), size),
        }
    }

    /// The layer whose matrix is `weight`.
    ///
    /// # Errors
    ///
    /// If it is missing or of another shape.
    pub fn linear(&self, input: usize, output: usize) -> Result<Linear> {
        match &self.0 {
            Source::Dense(vb) => Ok(Linear(Weight::Dense(linear_no_bias(input, output, vb.clone())?))),
            Source::Quantised { file, below } => {
                let [layer] = file.layers(&format!("{below}weight"), input, [output])?;
                Ok(layer)
            }
        }
    }

    /// The layers whose matrices are `weight`, one above the other. Nothing is copied for it: taken apart by rows, each
    /// product comes out contiguous, where slices of a joint product would have to be copied for every token.
    ///
    /// # Errors
    ///
    /// If it is missing or of another shape.
    pub fn joint<const N: usize>(&self, input: usize, outputs: [usize; N]) -> Result<[Linear; N]> {
        match &self.0 {
            Source::Dense(vb) => {
                let joint = vb.get((outputs.iter().sum(), input), "weight")?;
                apart(outputs, |start, count| Ok(Linear::dense(joint.narrow(0, start, count)?)))
            }
            Source::Quantised { file, below } => file.layers(&format!("{below}weight"), input, outputs),
        }
    }
}

/// A layer for each count of rows, from the first row on.
pub(crate) fn apart<const N: usize>(
    counts: [usize; N],
    layer: impl Fn(usize, usize) -> Result<Linear>,
) -> Result<[Linear; N]> {
    let mut start = 0;
    let layers = counts.map(|count| {
        start += count;
        layer(start - count, count)
    });
    let layers: Vec<_> = layers.into_iter().collect::<Result<_>>()?;
    layers.try_into().map_err(|_| candle_core::Error::msg("as many layers as there are counts"))
}
