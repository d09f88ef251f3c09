//! Stable Diffusion 3 and 3.5: pictures from text, and regions of pictures made anew.
//!
//! Follows diffusers' `StableDiffusion3Pipeline` and `StableDiffusion3InpaintPipeline` and their components:
//! two `CLIPTextModelWithProjection`, `SD3Transformer2DModel`, `AutoencoderKL` and `FlowMatchEulerDiscreteScheduler`. The
//! transformer is our own and not candle-transformers', which has the names of the original release, not those of
//! the directories that diffusers writes, and no place where a run could be parked.

mod blocks;
pub mod config;
mod files;
mod footprint;
pub mod pipeline;
pub mod prompt;
pub mod region;
pub mod schedule;
pub mod text;
pub mod transformer;
pub mod vae;

pub(crate) use files::{CLASSES, TRANSFORMER, parts};
pub use files::{Defaults, defaults};
pub use footprint::{breakdown, footprint};
pub use pipeline::{Canvas, Pipeline, Request};
pub use region::Region;
