//! From a prompt and reference pictures to a picture (`Flux2KleinPipeline`).

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use super::{
    config::{PipelineConfig, TransformerConfig, VaeConfig},
    files::TransformerFiles,
    reference,
    scheduler::{self, SchedulerConfig},
    text_encoder::TextEncoder,
    transformer::{Reference, Transformer},
    vae::Vae,
};
use crate::{
    catalog::KLEIN_PARTS,
    error::{Error, Result},
    loader::{Progress, WeightFiles},
    noise::standard_normal,
    picture::Picture,
    tokenizer::ChatTokenizer,
    yield_point::{Site, YieldPoint},
};

/// Text tokens that the published models were trained with at most.
pub(super) const MAX_TEXT_TOKENS: usize = 512;
/// Largest picture made, in pixels; the published models are made for up to four megapixels.
pub const MAX_PIXELS: u64 = 2048 * 2048;
/// Most reference pictures in a request.
pub const MAX_REFERENCES: usize = 10;
/// Most steps in a request: as many noise levels as the models were trained on.
pub const MAX_STEPS: u32 = 1000;

/// A loaded model. Generating does not change it: threads may share one.
pub struct Pipeline {
    tokenizer: ChatTokenizer,
    text_encoder: TextEncoder,
    transformer: Transformer,
    vae: Vae,
    schedule: SchedulerConfig,
    defaults: Defaults,
    channels: usize,
    device: Device,
    dtype: DType,
}

/// A picture to make.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// What it shows.
    pub prompt: &'a str,
    /// Pictures to go by.
    pub references: &'a [Picture],
    /// Width in pixels; a multiple of [`Defaults::multiple`].
    pub width: u32,
    /// Height in pixels; likewise.
    pub height: u32,
    /// Euler steps from noise to picture.
    pub steps: u32,
    /// How far to go beyond the empty prompt's prediction; 1 or less does without, and halves the work.
    pub guidance: f64,
    /// Seed of the starting noise.
    pub seed: u64,
}

/// A look at what a picture is about to become.
pub struct Preview<'a> {
    /// After how many steps; never if that is not fewer than the request's.
    pub after: u32,
    /// Is given the latents of the picture that the last prediction leads to, as [`Pipeline::sample`] returns those of the
    /// picture made. Its error ends the making.
    pub show: &'a dyn Fn(&Tensor) -> Result<()>,
}

/// A picture made.
#[derive(Debug, Clone)]
pub struct Generated {
    /// The picture.
    pub picture: Picture,
    /// Tokens of the prompt that did not fit and had no effect.
    pub truncated_tokens: u32,
}

/// What a model's configuration says about requests to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Width and height that the model was made for, in pixels.
    pub side: u32,
    /// Both sides of a picture are multiples of this many pixels.
    pub multiple: u32,
    /// Most text tokens, the chat template's included.
    pub text_tokens: u32,
    /// Distilled to few steps; guidance has no effect.
    pub distilled: bool,
}

/// The defaults of the model in `dir`, without loading it.
///
/// # Errors
///
/// As [`Pipeline::load`], as far as they concern configurations and tokenizer.
pub fn defaults(dir: &Path) -> Result<Defaults> {
    let text = TextEncoder::config(&dir.join("text_encoder/config.json"))?;
    let tokenizer = ChatTokenizer::load(&dir.join("tokenizer"), text.vocab_size, MAX_TEXT_TOKENS)?;
    let index = PipelineConfig::read(&dir.join("model_index.json"))?;
    Ok(Defaults::of(&index, &VaeConfig::read(&dir.join("vae/config.json"))?, &tokenizer))
}

impl Defaults {
    fn of(index: &PipelineConfig, vae: &VaeConfig, tokenizer: &ChatTokenizer) -> Self {
        Self {
            side: vae.sample_side(),
            multiple: 2 * vae.scale(),
            text_tokens: tokenizer.length() as u32,
            distilled: index.is_distilled,
        }
    }
}

impl Pipeline {
    /// Loads the model in `dir` onto `device`, to compute in `dtype`, whatever type the files store. Matrices of a
    /// transformer in a GGUF file stay as they are stored, if they are quantised.
    ///
    /// candle computes in `F32` and `F16` everywhere, in `BF16` on accelerators only.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`], [`Error::Weights`] or [`Error::Tokenizer`] if a file cannot be used,
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn load(dir: &Path, device: &Device, dtype: DType, observer: &dyn YieldPoint) -> Result<Self> {
        let [text_dir, transformer_dir, vae_dir] = KLEIN_PARTS.map(|part| dir.join(part));
        let index = PipelineConfig::read(&dir.join("model_index.json"))?;
        let schedule = SchedulerConfig::read(&dir.join("scheduler/scheduler_config.json"))?;
        let text_config = TextEncoder::config(&text_dir.join("config.json"))?;
        let transformer_path = transformer_dir.join("config.json");
        let transformer_config = TransformerConfig::read(&transformer_path)?;
        let vae_config = VaeConfig::read(&vae_dir.join("config.json"))?;
        for (key, value, fits) in [
            ("joint_attention_dim", transformer_config.joint_attention_dim, 3 * text_config.hidden_size),
            ("in_channels", transformer_config.in_channels, 4 * vae_config.latent_channels),
        ] {
            if value != fits {
                let reason = format!("{key} is {value}; the other components make {fits}");
                return Err(Error::config(&transformer_path, reason));
            }
        }
        let tokenizer = ChatTokenizer::load(&dir.join("tokenizer"), text_config.vocab_size, MAX_TEXT_TOKENS)?;

        let text_files = WeightFiles::find(&text_dir)?;
        let transformer_files = TransformerFiles::find(&transformer_dir)?;
        let vae_files = WeightFiles::find(&vae_dir)?;
        let files = text_files.count() + transformer_files.count() + vae_files.count();
        let progress = Progress::new(observer, files);
        let used = |name: &str| TextEncoder::uses(&text_config, name);
        let weights = text_files.load(device, dtype, &used, &progress)?;
        let text_encoder = text_files.check(TextEncoder::new(&text_config, weights))?;
        let transformer = transformer_files.load(&transformer_config, device, dtype, &progress)?;
        let weights = vae_files.load(device, dtype, &|_| true, &progress)?;
        let vae = vae_files.check(Vae::new(&vae_config, weights))?;
        progress.finish()?;

        Ok(Self {
            defaults: Defaults::of(&index, &vae_config, &tokenizer),
            channels: transformer_config.in_channels,
            tokenizer,
            text_encoder,
            transformer,
            vae,
            schedule,
            device: device.clone(),
            dtype,
        })
    }

    /// What the configuration says about requests.
    #[must_use]
    pub fn defaults(&self) -> Defaults {
        self.defaults
    }

    /// Makes a picture.
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
        let picture = self.picture(&latents, observer)?;
        Ok(Generated { picture, truncated_tokens })
    }

    /// The diffusion part of [`Self::generate`], from given `noise` instead of the seed's.
    ///
    /// Noise and the latents returned are `f32` of (1, C, H/m, W/m), where C is the transformer's `in_channels` and m
    /// is [`Defaults::multiple`]. Also returned is the number of tokens of the prompt that did not fit.
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
        let (rows, columns) = self.grid(request)?;
        let prompt = self.tokenizer.encode(request.prompt)?;
        let guided = request.guidance > 1.0 && !self.defaults.distilled;
        // With guidance both predictions are made in one batch.
        let text = if guided {
            self.text_encoder.forward(&[&prompt, &self.tokenizer.encode("")?], observer)?
        } else {
            self.text_encoder.forward(&[&prompt], observer)?
        };
        let references = request.references.iter().map(|p| self.reference(p, observer)).collect::<Result<Vec<_>>>()?;
        let context = self.transformer.context(&text, rows, columns, &references)?;

        let on_grid = |tokens: &Tensor| tokens.transpose(1, 2)?.reshape((1, self.channels, rows, columns));
        let mut latents = noise.to_dtype(DType::F32)?.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        let sigmas = scheduler::sigmas(&self.schedule, request.steps, rows * columns);
        for (done, pair) in (0..).zip(sigmas.windows(2)) {
            observer.reach(Site::Step { done, total: request.steps })?;
            let (sigma, next) = (pair[0], pair[1]);
            let input = latents.to_dtype(self.dtype)?;
            let input = if guided { Tensor::cat(&[&input, &input], 0)? } else { input };
            // klein is guided by two predictions; a guidance embedding it leaves unused, as the library does.
            let velocity = self.transformer.forward(&input, &context, sigma, None, observer)?.to_dtype(DType::F32)?;
            let velocity = if guided {
                let (with, without) = (velocity.narrow(0, 0, 1)?, velocity.narrow(0, 1, 1)?);
                (&without + ((with - &without)? * request.guidance)?)?
            } else {
                velocity
            };
            if let Some(preview) = preview.as_ref().filter(|preview| preview.after == done + 1 && next > 0.0) {
                (preview.show)(&on_grid(&scheduler::step(&latents, &velocity, sigma, 0.0)?)?)?;
            }
            latents = scheduler::step(&latents, &velocity, sigma, next)?;
        }
        observer.reach(Site::Step { done: request.steps, total: request.steps })?;
        Ok((on_grid(&latents)?, prompt.truncated))
    }

    /// Latents of [`Self::sample`] to pixels, `f32` of (3, H, W) in 0..1.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn decode(&self, latents: &Tensor, observer: &dyn YieldPoint) -> Result<Tensor> {
        let latents = self.vae.unpatchify(&latents.to_dtype(self.dtype)?)?;
        let pixels = self.vae.decode(&latents, observer)?.squeeze(0)?.to_dtype(DType::F32)?;
        Ok(((pixels / 2.0)? + 0.5)?.clamp(0f32, 1f32)?)
    }

    /// Latents of [`Self::sample`] to a picture.
    ///
    /// # Errors
    ///
    /// [`Error::Interrupted`], [`Error::Device`].
    pub fn picture(&self, latents: &Tensor, observer: &dyn YieldPoint) -> Result<Picture> {
        to_picture(&self.decode(latents, observer)?)
    }

    /// The pipeline's tokenizer.
    #[must_use]
    pub fn tokenizer(&self) -> &ChatTokenizer {
        &self.tokenizer
    }

    /// Rows and columns of latent tokens of the picture asked for.
    fn grid(&self, request: &Request<'_>) -> Result<(usize, usize)> {
        let &Request { width, height, steps, .. } = request;
        let multiple = self.defaults.multiple;
        let refuse = |reason: String| Err(Error::Input(reason));
        let pixels = u64::from(width) * u64::from(height);
        if pixels == 0 || width % multiple != 0 || height % multiple != 0 || pixels > MAX_PIXELS {
            return refuse(format!(
                "a picture of {width} x {height} pixels cannot be made; both sides must be multiples of {multiple}, \
                 such as {side} x {side}, and the area at most {MAX_PIXELS} pixels",
                side = self.defaults.side
            ));
        }
        if !(1..=MAX_STEPS).contains(&steps) {
            return refuse(format!("{steps} steps cannot be made; 1 to {MAX_STEPS} can"));
        }
        if !request.guidance.is_finite() {
            return refuse(format!("a guidance of {} has no meaning", request.guidance));
        }
        if request.references.len() > MAX_REFERENCES {
            let count = request.references.len();
            return refuse(format!("{count} reference pictures are too many; {MAX_REFERENCES} can be used"));
        }
        Ok(((height / multiple) as usize, (width / multiple) as usize))
    }

    fn reference(&self, picture: &Picture, observer: &dyn YieldPoint) -> Result<Reference> {
        let prepared = reference::prepare(picture, self.defaults.multiple)?;
        let pixels = reference::pixels(&prepared, &self.device, self.dtype)?;
        let patches = self.vae.patchify(&self.vae.encode(&pixels, observer)?)?;
        let (_, _, rows, columns) = patches.dims4()?;
        let tokens = patches.flatten_from(2)?.transpose(1, 2)?.contiguous()?;
        Ok(Reference { tokens, rows, columns })
    }
}

/// Pixels (3, H, W) in 0..1 to 8 bits.
pub(crate) fn to_picture(pixels: &Tensor) -> Result<Picture> {
    let (_, height, width) = pixels.dims3()?;
    let values: Vec<f32> = pixels.permute((1, 2, 0))?.flatten_all()?.to_vec1()?;
    if values.iter().any(|v| v.is_nan()) {
        // A cast would paint it black.
        return Err(Error::Device(candle_core::Error::msg("the model computed values that are not numbers")));
    }
    let rgb = values.iter().map(|v| (v * 255.0).round() as u8).collect();
    Picture::new(width as u32, height as u32, rgb)
}
