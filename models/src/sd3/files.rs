//! The files of a Stable Diffusion 3 directory: what its configurations say, held against each other.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::{config::TransformerConfig, prompt::Words, vae::VaeConfig};
use crate::{
    clip::config::TextConfig,
    error::{Error, Result},
    flux2::scheduler::SchedulerConfig,
    loader::read_json,
};

/// Classes of diffusers' pipelines that are made of these parts.
pub(crate) const CLASSES: [&str; 3] =
    ["StableDiffusion3Pipeline", "StableDiffusion3Img2ImgPipeline", "StableDiffusion3InpaintPipeline"];

/// Directories of the parts that hold weights.
pub(crate) const TOWERS: [&str; 2] = ["text_encoder", "text_encoder_2"];
pub(crate) const THIRD: &str = "text_encoder_3";
pub(crate) const TRANSFORMER: &str = "transformer";
pub(crate) const VAE: &str = "vae";

/// Directories of the parts of the pipeline in `dir` that hold weights.
pub(crate) fn parts(dir: &Path) -> Vec<PathBuf> {
    let third = Some(THIRD).filter(|third| dir.join(third).exists());
    TOWERS.into_iter().chain(third).chain([TRANSFORMER, VAE]).map(|part| dir.join(part)).collect()
}

/// What a model's configuration says about requests to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Defaults {
    /// Width and height that the model was made for, in pixels.
    pub side: u32,
    /// Both sides of a picture are multiples of this many pixels.
    pub multiple: u32,
    /// And not longer than this.
    pub longest: u32,
    /// Text tokens that each of the first two encoders reads of a prompt at most.
    pub text_tokens: u32,
    /// Whether the model makes parts of pictures anew and no others: it is told which part, and what is around it.
    pub only_parts: bool,
}

impl Defaults {
    /// Steps where none are asked for, as diffusers has them.
    pub const STEPS: u32 = 28;
    /// Likewise guidance.
    pub const GUIDANCE: f64 = 7.0;
}

/// What a directory's configurations say.
pub(super) struct Configs {
    pub(super) towers: [(TextConfig, usize); 2],
    pub(super) transformer: TransformerConfig,
    pub(super) vae: VaeConfig,
    pub(super) schedule: SchedulerConfig,
    pub(super) defaults: Defaults,
    dir: PathBuf,
}

#[derive(Deserialize)]
struct PipelineClass {
    #[serde(rename = "_class_name")]
    class_name: String,
}

impl Configs {
    /// Reads those in `dir`, with the tokenizers, and refuses parts that do not fit each other.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`], [`Error::Config`] or [`Error::Tokenizer`].
    pub(super) fn read(dir: &Path) -> Result<(Self, Words)> {
        let index = dir.join("model_index.json");
        let PipelineClass { class_name } = read_json(&index)?;
        if !CLASSES.contains(&class_name.as_str()) {
            let reason = format!("_class_name is {class_name:?}; only {} are supported", CLASSES.join(", "));
            return Err(Error::config(&index, reason));
        }
        if dir.join(THIRD).exists() {
            let reason = "the third text encoder is not read yet; the model works without it: take the directory away";
            return Err(Error::config(&dir.join(THIRD), reason));
        }
        let [first, second] = TOWERS.map(|tower| TextConfig::read_alone(&dir.join(tower).join("config.json")));
        let towers = [first?, second?];
        let transformer_path = dir.join(TRANSFORMER).join("config.json");
        let transformer = TransformerConfig::read(&transformer_path)?;
        let vae = VaeConfig::read(&dir.join(VAE).join("config.json"))?;
        let channels = vae.blocks.latent_channels;
        // Those of the noised latents, or of them, of the mask and of what is around it.
        let told = 2 * channels + 1;
        let only_parts = transformer.in_channels == told;
        for (key, value, fits) in [
            ("in_channels", transformer.in_channels, if only_parts { told } else { channels }),
            ("out_channels", transformer.out_channels(), channels),
            ("pooled_projection_dim", transformer.pooled_projection_dim, towers[0].1 + towers[1].1),
        ] {
            if value != fits {
                let reason = format!("{key} is {value}; the other components make {fits}");
                return Err(Error::config(&transformer_path, reason));
            }
        }
        let wide = towers[0].0.encoder.hidden_size + towers[1].0.encoder.hidden_size;
        if transformer.joint_attention_dim < wide {
            let reason = format!(
                "joint_attention_dim is {}; the text encoders are {wide} wide together",
                transformer.joint_attention_dim
            );
            return Err(Error::config(&transformer_path, reason));
        }
        let schedule_path = dir.join("scheduler/scheduler_config.json");
        let schedule = SchedulerConfig::read(&schedule_path)?;
        if schedule.use_dynamic_shifting {
            return Err(Error::config(&schedule_path, "use_dynamic_shifting is true; only false is supported"));
        }
        let words = Words::load(dir, &[&towers[0].0, &towers[1].0])?;
        let pixels = |latents: usize| u32::try_from(latents).unwrap_or(u32::MAX).saturating_mul(vae.blocks.scale());
        let defaults = Defaults {
            side: pixels(transformer.sample_size),
            multiple: pixels(transformer.patch_size),
            longest: pixels(transformer.patch_size.saturating_mul(transformer.pos_embed_max_size)),
            text_tokens: words.length() as u32,
            only_parts,
        };
        Ok((Self { towers, transformer, vae, schedule, defaults, dir: dir.to_owned() }, words))
    }

    /// Pixels along each side of one latent.
    pub(super) fn cell(&self) -> u32 {
        self.vae.blocks.scale()
    }

    /// The directory of a part.
    pub(super) fn part(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The defaults of the model in `dir`, without loading it.
///
/// # Errors
///
/// As [`Pipeline::load`](super::Pipeline::load), as far as they concern configurations and tokenizers.
pub fn defaults(dir: &Path) -> Result<Defaults> {
    Ok(Configs::read(dir)?.0.defaults)
}
