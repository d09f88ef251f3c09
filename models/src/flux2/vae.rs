//! The autoencoder between pixels and latents (`AutoencoderKLFlux2`).

use candle_core::{Module as _, Result as Built, Tensor};
use candle_nn::{Conv2d, VarBuilder};

use super::{
    config::VaeConfig,
    vae_blocks::{Conv3x3, DownBlock, MidBlock, UpBlock, conv1x1, conv3x3, norm},
};
use crate::{
    error::Result,
    norm::GroupNorm,
    yield_point::{Site, YieldPoint},
};

/// Encoder, decoder and the statistics that bring patches of latents to unit scale.
pub struct Vae {
    encoder: Encoder,
    quant: Option<Conv2d>,
    post_quant: Option<Conv2d>,
    decoder: Decoder,
    /// Mean of each channel of a patch, (1, 4C, 1, 1).
    mean: Tensor,
    /// Its standard deviation, likewise.
    deviation: Tensor,
    latent_channels: usize,
}

impl Vae {
    /// Builds the autoencoder.
    ///
    /// # Errors
    ///
    /// If a tensor is missing or of another shape.
    pub fn new(config: &VaeConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let channels = config.latent_channels;
        let statistic = |name: &str| vb.pp("bn").get(4 * channels, name)?.reshape((1, 4 * channels, 1, 1));
        Ok(Self {
            encoder: Encoder::new(config, vb.pp("encoder"))?,
            quant: config
                .use_quant_conv
                .then(|| conv1x1(2 * channels, 2 * channels, vb.pp("quant_conv")))
                .transpose()?,
            post_quant: config
                .use_post_quant_conv
                .then(|| conv1x1(channels, channels, vb.pp("post_quant_conv")))
                .transpose()?,
            decoder: Decoder::new(config, vb.pp("decoder"))?,
            mean: statistic("running_mean")?,
            deviation: (statistic("running_var")? + config.batch_norm_eps)?.sqrt()?,
            latent_channels: channels,
        })
    }

    /// Pixels (B, 3, H, W) in −1..1 to latents (B, C, H/s, W/s): the mode of the posterior, so without chance.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`](crate::Error::Interrupted), [`Error::Device`](crate::Error::Device).
    pub fn encode(&self, pixels: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let mut moments = self.encoder.forward(pixels, observer)?;
        if let Some(quant) = &self.quant {
            moments = quant.forward(&moments)?;
        }
        Ok(moments.narrow(1, 0, self.latent_channels)?)
    }

    /// Latents (B, C, H/s, W/s) to pixels (B, 3, H, W), about −1..1.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`](crate::Error::Interrupted), [`Error::Device`](crate::Error::Device).
    pub fn decode(&self, latents: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        match &self.post_quant {
            Some(post_quant) => self.decoder.forward(&post_quant.forward(latents)?, observer),
            None => self.decoder.forward(latents, observer),
        }
    }

    /// Latents (B, C, H, W) to what the transformer works on: patches of 2 x 2, (B, 4C, H/2, W/2), at unit scale.
    ///
    /// Channel `4c + 2y + x` of a patch is channel `c` at its row `y` and column `x`.
    ///
    /// # Errors
    ///
    /// [`Error::Device`](crate::Error::Device) if a side is odd or the device fails.
    pub fn patchify(&self, latents: &Tensor) -> Result<Tensor> {
        let (batch, channels, rows, columns) = latents.dims4()?;
        let patches = latents
            .reshape(&[batch, channels, rows / 2, 2, columns / 2, 2][..])?
            .permute([0, 1, 3, 5, 2, 4])?
            .reshape((batch, 4 * channels, rows / 2, columns / 2))?;
        Ok(patches.broadcast_sub(&self.mean)?.broadcast_div(&self.deviation)?)
    }

    /// The inverse of [`Self::patchify`].
    ///
    /// # Errors
    ///
    /// [`Error::Device`](crate::Error::Device) if the channels are no patches or the device fails.
    pub fn unpatchify(&self, patches: &Tensor) -> Result<Tensor> {
        let (batch, channels, rows, columns) = patches.dims4()?;
        let latents = patches.broadcast_mul(&self.deviation)?.broadcast_add(&self.mean)?;
        let latents = latents.reshape(&[batch, channels / 4, 2, 2, rows, columns][..])?.permute([0, 1, 4, 2, 5, 3])?;
        Ok(latents.reshape((batch, channels / 4, 2 * rows, 2 * columns))?)
    }
}

/// diffusers' `Encoder`.
pub(crate) struct Encoder {
    conv_in: Conv3x3,
    down: Vec<DownBlock>,
    mid: MidBlock,
    norm_out: GroupNorm,
    conv_out: Conv3x3,
}

impl Encoder {
    pub(crate) fn new(config: &VaeConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let (channels, groups) = (&config.block_out_channels, config.norm_num_groups);
        let (first, last) = ends(channels)?;
        let blocks = vb.pp("down_blocks");
        let from = [first].into_iter().chain(channels.iter().copied());
        let down = from.zip(channels.iter().copied()).enumerate().map(|(i, step)| {
            DownBlock::new(step, groups, config.layers_per_block, i + 1 < channels.len(), blocks.pp(i))
        });
        Ok(Self {
            conv_in: conv3x3(config.in_channels, first, vb.pp("conv_in"))?,
            down: down.collect::<Built<_>>()?,
            mid: MidBlock::new(last, groups, config.mid_block_add_attention, vb.pp("mid_block"))?,
            norm_out: norm(groups, last, vb.pp("conv_norm_out"))?,
            conv_out: conv3x3(last, 2 * config.latent_channels, vb.pp("conv_out"))?,
        })
    }

    pub(crate) fn forward(&self, xs: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        observer.reach(Site::VaeStage)?;
        let mut xs = self.conv_in.forward(xs)?;
        for block in &self.down {
            xs = block.forward(&xs, observer)?;
        }
        let xs = self.mid.forward(&xs, observer)?;
        observer.reach(Site::VaeStage)?;
        Ok(self.conv_out.forward(&self.norm_out.forward(&xs)?.silu()?)?)
    }
}

/// diffusers' `Decoder`.
pub(crate) struct Decoder {
    conv_in: Conv3x3,
    mid: MidBlock,
    up: Vec<UpBlock>,
    norm_out: GroupNorm,
    conv_out: Conv3x3,
}

impl Decoder {
    pub(crate) fn new(config: &VaeConfig, vb: VarBuilder<'_>) -> Built<Self> {
        let (channels, groups) = (config.decoder_channels(), config.norm_num_groups);
        let (first, last) = ends(channels)?;
        let blocks = vb.pp("up_blocks");
        let from = [last].into_iter().chain(channels.iter().rev().copied());
        let up = from.zip(channels.iter().rev().copied()).enumerate().map(|(i, step)| {
            UpBlock::new(step, groups, config.layers_per_block + 1, i + 1 < channels.len(), blocks.pp(i))
        });
        Ok(Self {
            conv_in: conv3x3(config.latent_channels, last, vb.pp("conv_in"))?,
            mid: MidBlock::new(last, groups, config.mid_block_add_attention, vb.pp("mid_block"))?,
            up: up.collect::<Built<_>>()?,
            norm_out: norm(groups, first, vb.pp("conv_norm_out"))?,
            conv_out: conv3x3(first, config.out_channels, vb.pp("conv_out"))?,
        })
    }

    pub(crate) fn forward(&self, xs: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        observer.reach(Site::VaeStage)?;
        let mut xs = self.mid.forward(&self.conv_in.forward(xs)?, observer)?;
        for block in &self.up {
            xs = block.forward(&xs, observer)?;
        }
        observer.reach(Site::VaeStage)?;
        Ok(self.conv_out.forward(&self.norm_out.forward(&xs)?.silu()?)?)
    }
}

fn ends(channels: &[usize]) -> Built<(usize, usize)> {
    let ends = channels.first().zip(channels.last());
    ends.map(|(&first, &last)| (first, last)).ok_or_else(|| candle_core::Error::msg("block_out_channels is empty"))
}
