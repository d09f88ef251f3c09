//! FLUX.2 klein: pictures from text and reference pictures.
//!
//! Follows diffusers' `Flux2KleinPipeline` and its components: `Qwen3ForCausalLM` as text encoder,
//! `Flux2Transformer2DModel`, `AutoencoderKLFlux2` and `FlowMatchEulerDiscreteScheduler`.

mod blocks;
pub mod config;
pub mod files;
pub(crate) mod footprint;
mod names;
pub mod pipeline;
pub mod published;
pub mod reference;
pub mod rope;
pub mod scheduler;
pub mod text_encoder;
pub mod transformer;
pub mod vae;
mod vae_blocks;

pub use footprint::{breakdown, footprint};
pub use pipeline::{Defaults, Generated, Pipeline, Preview, Request, defaults};
