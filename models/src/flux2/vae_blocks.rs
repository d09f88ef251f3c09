//! The building blocks of the VAE.

use candle_core::{Module, Result as Built, Tensor};
use candle_nn::{Conv2d, Conv2dConfig, Linear, VarBuilder, conv2d, linear};

use crate::{
    attention::attend,
    error::Result,
    norm::GroupNorm,
    yield_point::{Site, YieldPoint},
};

/// diffusers' fixed epsilon of the VAE's group norms.
const EPS: f64 = 1e-6;

/// Numbers of an unfolded picture held at once. On a GPU candle copies what a convolution reads of each position, nine times
/// the picture; of the largest ones that would be more than the whole transformer needs, so they are taken in bands.
const UNFOLDED: usize = 1 << 25;

/// A convolution of 3 x 3 that keeps the size.
pub(super) struct Conv3x3(Conv2d);

pub(super) fn conv3x3(from: usize, to: usize, vb: VarBuilder<'_>) -> Built<Conv3x3> {
    Ok(Conv3x3(conv2d(from, to, 3, Conv2dConfig { padding: 1, ..Conv2dConfig::default() }, vb)?))
}

impl Conv3x3 {
    pub(super) fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        self.in_bands(xs, UNFOLDED)
    }

    fn in_bands(&self, xs: &Tensor, unfolded: usize) -> Built<Tensor> {
        let (batch, channels, rows, columns) = xs.dims4()?;
        let band = (unfolded / (9 * batch * channels * columns).max(1)).max(1);
        if band >= rows {
            return self.0.forward(xs);
        }
        let bands = (0..rows).step_by(band).map(|start| {
            let end = rows.min(start + band);
            // A row of each neighbour comes with it, to be read; what comes out in its place is cut off.
            let (above, below) = (usize::from(start > 0), usize::from(end < rows));
            let read = xs.narrow(2, start - above, above + (end - start) + below)?;
            self.0.forward(&read)?.narrow(2, above, end - start)?.contiguous()
        });
        Tensor::cat(&bands.collect::<Built<Vec<_>>>()?, 2)
    }
}

pub(super) fn conv1x1(from: usize, to: usize, vb: VarBuilder<'_>) -> Built<Conv2d> {
    conv2d(from, to, 1, Conv2dConfig::default(), vb)
}

pub(super) fn norm(groups: usize, channels: usize, vb: VarBuilder<'_>) -> Built<GroupNorm> {
    GroupNorm::new(groups, channels, EPS, vb)
}

/// `ResnetBlock2D` without a time embedding.
pub(super) struct ResnetBlock {
    first_norm: GroupNorm,
    first: Conv3x3,
    second_norm: GroupNorm,
    second: Conv3x3,
    shortcut: Option<Conv2d>,
}

impl ResnetBlock {
    pub(super) fn new(from: usize, to: usize, groups: usize, vb: VarBuilder<'_>) -> Built<Self> {
        Ok(Self {
            first_norm: norm(groups, from, vb.pp("norm1"))?,
            first: conv3x3(from, to, vb.pp("conv1"))?,
            second_norm: norm(groups, to, vb.pp("norm2"))?,
            second: conv3x3(to, to, vb.pp("conv2"))?,
            shortcut: (from != to).then(|| conv1x1(from, to, vb.pp("conv_shortcut"))).transpose()?,
        })
    }

    pub(super) fn forward(&self, xs: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        observer.reach(Site::VaeStage)?;
        let inner = self.first.forward(&self.first_norm.forward(xs)?.silu()?)?;
        observer.reach(Site::VaeStage)?;
        let inner = self.second.forward(&self.second_norm.forward(&inner)?.silu()?)?;
        Ok(match &self.shortcut {
            Some(shortcut) => (shortcut.forward(xs)? + inner)?,
            None => (xs + inner)?,
        })
    }
}

/// `UNetMidBlock2D`: at the lowest resolution, all positions attend to each other with a single head.
pub(super) struct MidBlock {
    before: ResnetBlock,
    attention: Option<SpatialAttention>,
    after: ResnetBlock,
}

impl MidBlock {
    pub(super) fn new(channels: usize, groups: usize, attention: bool, vb: VarBuilder<'_>) -> Built<Self> {
        let resnets = vb.pp("resnets");
        Ok(Self {
            before: ResnetBlock::new(channels, channels, groups, resnets.pp(0))?,
            attention: attention.then(|| SpatialAttention::new(channels, groups, vb.pp("attentions.0"))).transpose()?,
            after: ResnetBlock::new(channels, channels, groups, resnets.pp(1))?,
        })
    }

    pub(super) fn forward(&self, xs: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let mut xs = self.before.forward(xs, observer)?;
        if let Some(attention) = &self.attention {
            observer.reach(Site::VaeStage)?;
            xs = attention.forward(&xs)?;
        }
        self.after.forward(&xs, observer)
    }
}

struct SpatialAttention {
    norm: GroupNorm,
    query: Linear,
    key: Linear,
    value: Linear,
    output: Linear,
}

impl SpatialAttention {
    fn new(channels: usize, groups: usize, vb: VarBuilder<'_>) -> Built<Self> {
        let layer = |name: &str| linear(channels, channels, vb.pp(name));
        Ok(Self {
            norm: norm(groups, channels, vb.pp("group_norm"))?,
            query: layer("to_q")?,
            key: layer("to_k")?,
            value: layer("to_v")?,
            output: layer("to_out.0")?,
        })
    }

    fn forward(&self, xs: &Tensor) -> Built<Tensor> {
        let (batch, channels, rows, columns) = xs.dims4()?;
        let tokens = self.norm.forward(xs)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let head = |layer: &Linear| layer.forward(&tokens)?.unsqueeze(1);
        let (query, key, value) = (head(&self.query)?, head(&self.key)?, head(&self.value)?);
        let mixed = attend(&query, &key, &value, None, (channels as f64).powf(-0.5))?;
        let mixed = self.output.forward(&mixed)?.transpose(1, 2)?.reshape((batch, channels, rows, columns))?;
        xs + mixed
    }
}

/// `DownEncoderBlock2D`.
pub(super) struct DownBlock {
    resnets: Vec<ResnetBlock>,
    downsample: Option<Conv2d>,
}

impl DownBlock {
    pub(super) fn new(
        (from, to): (usize, usize),
        groups: usize,
        layers: usize,
        halve: bool,
        vb: VarBuilder<'_>,
    ) -> Built<Self> {
        let stride = Conv2dConfig { stride: 2, ..Conv2dConfig::default() };
        Ok(Self {
            resnets: resnets((from, to), groups, layers, &vb)?,
            downsample: halve.then(|| conv2d(to, to, 3, stride, vb.pp("downsamplers.0.conv"))).transpose()?,
        })
    }

    pub(super) fn forward(&self, xs: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let xs = self.resnets.iter().try_fold(xs.clone(), |xs, resnet| resnet.forward(&xs, observer))?;
        let Some(conv) = &self.downsample else { return Ok(xs) };
        observer.reach(Site::VaeStage)?;
        // Padding only on the right and at the bottom.
        Ok(conv.forward(&xs.pad_with_zeros(2, 0, 1)?.pad_with_zeros(3, 0, 1)?)?)
    }
}

/// `UpDecoderBlock2D`.
pub(super) struct UpBlock {
    resnets: Vec<ResnetBlock>,
    upsample: Option<Conv3x3>,
}

impl UpBlock {
    pub(super) fn new(
        (from, to): (usize, usize),
        groups: usize,
        layers: usize,
        double: bool,
        vb: VarBuilder<'_>,
    ) -> Built<Self> {
        Ok(Self {
            resnets: resnets((from, to), groups, layers, &vb)?,
            upsample: double.then(|| conv3x3(to, to, vb.pp("upsamplers.0.conv"))).transpose()?,
        })
    }

    pub(super) fn forward(&self, xs: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let xs = self.resnets.iter().try_fold(xs.clone(), |xs, resnet| resnet.forward(&xs, observer))?;
        let Some(conv) = &self.upsample else { return Ok(xs) };
        observer.reach(Site::VaeStage)?;
        let (_, _, rows, columns) = xs.dims4()?;
        Ok(conv.forward(&xs.upsample_nearest2d(2 * rows, 2 * columns)?)?)
    }
}

/// `layers` resnets, the first of which changes the number of channels.
fn resnets((from, to): (usize, usize), groups: usize, layers: usize, vb: &VarBuilder<'_>) -> Built<Vec<ResnetBlock>> {
    let vb = vb.pp("resnets");
    (0..layers).map(|i| ResnetBlock::new(if i == 0 { from } else { to }, to, groups, vb.pp(i))).collect()
}

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device};

    use super::*;

    #[test]
    fn bands_change_nothing() {
        let draw = |seed, shape: &[usize]| {
            let values = crate::noise::standard_normal(seed, shape.iter().product());
            Tensor::from_vec(values, shape, &Device::Cpu).unwrap()
        };
        let tensors = [("weight", draw(1, &[4, 3, 3, 3])), ("bias", draw(2, &[4]))];
        let tensors = tensors.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect();
        let conv = conv3x3(3, 4, VarBuilder::from_tensors(tensors, DType::F32, &Device::Cpu)).unwrap();
        let xs = draw(3, &[2, 3, 7, 5]);
        let whole = conv.0.forward(&xs).unwrap();
        assert_eq!(whole.dims(), [2, 4, 7, 5]);
        let row = 9 * 2 * 3 * 5;
        for unfolded in [0, 1, row, 2 * row, 3 * row + 1, 6 * row, 7 * row] {
            let banded = conv.in_bands(&xs, unfolded).unwrap();
            assert!(banded.is_contiguous());
            let off = (banded - &whole).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
            assert!(off < 1e-5, "{unfolded}: {off}");
        }
    }
}
