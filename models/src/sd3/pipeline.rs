//! From a prompt to a picture, or to a part of one (`StableDiffusion3Pipeline`, `StableDiffusion3InpaintPipeline`).

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::{
    files::{Configs, Defaults, TRANSFORMER, VAE},
    prompt::{Reader, TextFiles, Words},
    region::{Region, cells},
    schedule::sigmas,
    text::Text,
    transformer::Transformer,
    vae::Vae,
};
use crate::{
    error::{Error, Result},
    flux2::{
        Generated, Preview,
        pipeline::{MAX_PIXELS, MAX_STEPS, to_picture},
        reference::pixels,
        scheduler::{SchedulerConfig, step},
    },
    loader::{Progress, WeightFiles},
    noise::standard_normal,
    picture::Picture,
    yield_point::{Site, YieldPoint},
};

/// A loaded model. Generating does not change it: threads may share one.
pub struct Pipeline {
    reader: Reader,
    transformer: Transformer,
    vae: Vae,
    schedule: SchedulerConfig,
    defaults: Defaults,
    channels: usize,
    /// Pixels along each side of one latent.
    cell: u32,
    device: Device,
    dtype: DType,
}

/// A picture to make.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it shows.
    pub prompt: &'a str,
    /// Its size, or the picture of which it is a part.
    pub canvas: Canvas<'a>,
    /// Euler steps from noise to picture.
    pub steps: u32,
    /// How far to go beyond the empty prompt's prediction; 1 or less does without, and halves the work.
    pub guidance: f64,
    /// Seed of the starting noise.
    pub seed: u64,
}

/// What is made: both sides are multiples of [`Defaults::multiple`] and not longer than [`Defaults::longest`].
#[derive(Debug, Clone, Copy)]
pub enum Canvas<'a> {
    /// A picture of its own.
    Whole {
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// A part of a picture.
    Part(Region<'a>),
}

impl Canvas<'_> {
    /// Width and height, in pixels.
    #[must_use]
    pub fn size(&self) -> (u32, u32) {
        match self {
            Self::Whole { width, height } => (*width, *height),
            Self::Part(region) => (region.picture.width(), region.picture.height()),
        }
    }

    fn region(&self) -> Option<&Region<'_>> {
        match self {
            Self::Whole { .. } => None,
            Self::Part(region) => Some(region),
        }
    }
}

/// A region as latents.
struct Source {
    /// The picture that is there, (1, C, H, W).
    latents: Tensor,
    /// 1 where it is made anew and 0 elsewhere, (1, 1, H, W).
    anew: Tensor,
    /// What a model that makes parts only is told of it, (1, 1 + C, H, W): the same, and the picture without the region.
    told: Option<Tensor>,
}

impl Source {
    /// `latents` at noise level `sigma`, but for the picture that is there outside of the region.
    fn around(&self, latents: &Tensor, noise: &Tensor, sigma: f32) -> Result<Tensor> {
        let there = noised(&self.latents, noise, sigma)?;
        let kept = there.broadcast_mul(&self.anew.affine(-1.0, 1.0)?)?;
        Ok((kept + latents.broadcast_mul(&self.anew)?)?)
    }
}

/// What lies between a picture's latents and noise at level `sigma`.
fn noised(latents: &Tensor, noise: &Tensor, sigma: f32) -> Result<Tensor> {
    let sigma = f64::from(sigma);
    Ok(((noise * sigma)? + (latents * (1.0 - sigma))?)?)
}

impl Pipeline {
    /// Loads the model in `dir` onto `device`, to compute in `dtype`, whatever type the files store.
    ///
    /// candle computes in `F32` and `F16` everywhere, in `BF16` on accelerators only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`], [`Error::Weights`] or [`Error::Tokenizer`] if a file cannot be used,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn load(dir: &Path, device: &Device, dtype: DType, observer: &dyn YieldPoint) -> Result<Self> {
        let (configs, words) = Configs::read(dir)?;
        let text_files = TextFiles::find(&configs)?;
        let transformer_files = WeightFiles::find(&configs.part(TRANSFORMER))?;
        let vae_files = WeightFiles::find(&configs.part(VAE))?;
        let progress = Progress::new(observer, text_files.count() + transformer_files.count() + vae_files.count());
        let reader = Reader::load(&configs, words, &text_files, (device, dtype), &progress)?;
        let weights = transformer_files.load(device, dtype, &|_| true, &progress)?;
        let transformer = transformer_files.check(Transformer::new(&configs.transformer, weights))?;
        let weights = vae_files.load(device, dtype, &|_| true, &progress)?;
        let vae = vae_files.check(Vae::new(&configs.vae, &weights))?;
        progress.finish()?;
        Ok(Self {
            reader,
            transformer,
            vae,
            cell: configs.cell(),
            schedule: configs.schedule,
            defaults: configs.defaults,
            channels: configs.vae.blocks.latent_channels,
            device: device.clone(),
            dtype,
        })
    }

    /// What the configuration says about requests.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// The tokenizers.
    #[must_use]
    pub fn words(&self) -> &Words {
        &self.reader.words
    }

    /// Makes a picture. Of a region's picture all pixels outside of the grown mask stay exactly as they are.
    ///
    /// # Errors
    ///
    /// [`Error::Input`] if the request asks for something impossible, [`Error::Interrupted`], [`Error::Device`].
    pub fn generate(&self, request: &Request<'_>, observer: &dyn YieldPoint) -> Result<Generated> {
        self.generate_with_preview(request, None, observer)
    }

    /// Makes a picture, and shows on the way what it is about to become; it comes out the same.
    ///
    /// # Errors
    ///
    /// As [`Self::generate`], and whatever the preview returns.
    pub fn generate_with_preview(
        &self,
        request: &Request<'_>,
        preview: Option<Preview<'_>>,
        observer: &dyn YieldPoint,
    ) -> Result<Generated> {
        let (rows, columns) = self.grid(request)?;
        let noise = standard_normal(request.seed, self.channels * rows * columns);
        let noise = Tensor::from_vec(noise, (1, self.channels, rows, columns), &self.device)?;
        let (latents, truncated_tokens) = self.denoise(request, &noise, preview, observer)?;
        let picture = self.picture(request, &latents, observer)?;
        Ok(Generated { picture, truncated_tokens })
    }

    /// The diffusion part of [`Self::generate`], from given `noise` instead of the seed's.
    ///
    /// Noise and the latents returned are `f32` of (1, C, H/s, W/s), where C is the autoencoder's `latent_channels` and s how much
    /// smaller the autoencoder makes a side. Also returned is the number of tokens of the prompt that did not fit.
    ///
    /// # Errors
    ///
    /// As [`Self::generate`].
    pub fn sample(&self, request: &Request<'_>, noise: &Tensor, observer: &dyn YieldPoint) -> Result<(Tensor, u32)> {
        self.denoise(request, noise, None, observer)
    }

    fn denoise(
        &self,
        request: &Request<'_>,
        noise: &Tensor,
        preview: Option<Preview<'_>>,
        observer: &dyn YieldPoint,
    ) -> Result<(Tensor, u32)> {
        self.grid(request)?;
        let (text, truncated) = self.reader.read(request.prompt, observer)?;
        let guided = request.guidance > 1.0;
        // With guidance both predictions are made in one batch.
        let text = if guided { Text::batch(&[self.reader.read("", observer)?.0, text])? } else { text };
        let region = request.canvas.region();
        if self.defaults.only_parts && region.is_none() {
            let reason =
                "the model makes parts of pictures anew, and no pictures of its own; give it a picture and a mask";
            return Err(Error::Input(reason.to_owned()));
        }
        let source = region.map(|region| self.source(region, observer)).transpose()?;
        let skipped = region.map_or(0, |region| region.skipped(request.steps));
        let total = request.steps - skipped;

        let levels = &sigmas(&self.schedule, request.steps)[skipped as usize..];
        let noise = noise.to_dtype(DType::F32)?;
        let mut latents = match &source {
            Some(source) => noised(&source.latents, &noise, levels[0])?,
            None => noise.clone(),
        };
        let told = source.as_ref().and_then(|source| source.told.as_ref());
        // A model that is told what is around a region sees to that itself.
        let around = |latents: Tensor, sigma: f32| match &source {
            Some(source) if told.is_none() => source.around(&latents, &noise, sigma),
            Some(_) | None => Ok(latents),
        };
        for (done, pair) in (0..).zip(levels.windows(2)) {
            observer.reach(Site::Step { done, total })?;
            let (sigma, next) = (pair[0], pair[1]);
            let input = match told {
                Some(told) => Tensor::cat(&[&latents, told], 1)?,
                None => latents.clone(),
            };
            let velocity = self.velocity(&input, &text, sigma, guided.then_some(request.guidance), observer)?;
            if let Some(preview) = preview.as_ref().filter(|preview| preview.after == done + 1 && next > 0.0) {
                (preview.show)(&around(step(&latents, &velocity, sigma, 0.0)?, 0.0)?)?;
            }
            latents = around(step(&latents, &velocity, sigma, next)?, next)?;
        }
        observer.reach(Site::Step { done: total, total })?;
        Ok((latents, truncated))
    }

    /// The velocity of latents, with what the model is told beside them; with guidance `text` is the empty prompt and the prompt.
    fn velocity(
        &self,
        latents: &Tensor,
        text: &Text,
        sigma: f32,
        guidance: Option<f64>,
        observer: &dyn YieldPoint,
    ) -> Result<Tensor> {
        let input = latents.to_dtype(self.dtype)?;
        let Some(guidance) = guidance else {
            return Ok(self.transformer.forward(&input, text, sigma, observer)?.to_dtype(DType::F32)?);
        };
        let input = Tensor::cat(&[&input, &input], 0)?;
        let both = self.transformer.forward(&input, text, sigma, observer)?.to_dtype(DType::F32)?;
        let (without, with) = (both.narrow(0, 0, 1)?, both.narrow(0, 1, 1)?);
        Ok((&without + ((with - &without)? * guidance)?)?)
    }

    /// Latents of [`Self::sample`] to pixels, `f32` of (3, H, W) in 0..1.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn decode(&self, latents: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let pixels = self.vae.decode(&latents.to_dtype(self.dtype)?, observer)?.squeeze(0)?.to_dtype(DType::F32)?;
        Ok(((pixels / 2.0)? + 0.5)?.clamp(0f32, 1f32)?)
    }

    /// Latents of [`Self::sample`], or of a preview, to the picture asked for.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn picture(&self, request: &Request<'_>, latents: &Tensor, observer: &dyn YieldPoint) -> Result<Picture> {
        let made = to_picture(&self.decode(latents, observer)?)?;
        match request.canvas.region() {
            Some(region) => region.paste(&made),
            None => Ok(made),
        }
    }

    fn source(&self, region: &Region<'_>, observer: &dyn YieldPoint) -> Result<Source> {
        let picture = pixels(region.picture, &self.device, self.dtype)?;
        let latents = self.vae.encode(&picture, observer)?.to_dtype(DType::F32)?;
        let (_, _, rows, columns) = latents.dims4()?;
        let anew = cells(&region.grown(), region.picture.width() as usize, self.cell as usize);
        let anew: Vec<f32> = anew.into_iter().map(f32::from).collect();
        let anew = Tensor::from_vec(anew, (1, 1, rows, columns), &self.device)?;
        let told = self.defaults.only_parts.then(|| -> Result<Tensor> {
            let cell = self.cell as usize;
            let kept = anew.affine(-1.0, 1.0)?.upsample_nearest2d(rows * cell, columns * cell)?.to_dtype(self.dtype)?;
            let rest = self.vae.encode(&picture.broadcast_mul(&kept)?, observer)?.to_dtype(DType::F32)?;
            Ok(Tensor::cat(&[&anew, &rest], 1)?)
        });
        Ok(Source { latents, told: told.transpose()?, anew })
    }

    /// Rows and columns of latents of the picture asked for.
    fn grid(&self, request: &Request<'_>) -> Result<(usize, usize)> {
        let ((width, height), steps) = (request.canvas.size(), request.steps);
        let Defaults { side, multiple, longest, .. } = self.defaults;
        let refuse = |reason: String| Err(Error::Input(reason));
        let fits = |side: u32| (1..=longest).contains(&side) && side.is_multiple_of(multiple);
        if !fits(width) || !fits(height) || u64::from(width) * u64::from(height) > MAX_PIXELS {
            return refuse(format!(
                "a picture of {width} x {height} pixels cannot be made; both sides must be multiples of {multiple} and \
                 at most {longest}, such as {side} x {side}, and the area at most {MAX_PIXELS} pixels"
            ));
        }
        if !(1..=MAX_STEPS).contains(&steps) {
            return refuse(format!("{steps} steps cannot be made; 1 to {MAX_STEPS} can"));
        }
        if !request.guidance.is_finite() {
            return refuse(format!("a guidance of {} has no meaning", request.guidance));
        }
        if let Some(region) = request.canvas.region() {
            region.check()?;
        }
        Ok(((height / self.cell) as usize, (width / self.cell) as usize))
    }
}
