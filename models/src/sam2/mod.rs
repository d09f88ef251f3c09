//! SAM2: what in a picture a box or points are about.
//!
//! Follows transformers' `Sam2Model` and `Sam2Processor`, for single pictures. A checkpoint for videos
//! (`Sam2VideoModel`) has the same parts and loads, too; its memory of earlier frames is not read.

pub mod config;
pub mod decoder;
mod defaults;
mod footprint;
pub mod hiera;
mod layers;
pub mod mask;
pub mod model;
pub mod neck;
pub mod preprocess;
pub mod prompt;

pub use footprint::{breakdown, footprint};
pub use mask::Mask;
pub use model::Sam2;
pub use prompt::{Area, Point, Prompt};
