//! CLIP: how well a text fits a picture.
//!
//! Follows transformers' `CLIPModel` and `CLIPProcessor` (in its Pillow form). The towers are OWLv2's, too.

pub mod config;
pub mod encoder;
mod footprint;
pub mod model;
pub mod preprocess;
pub mod text;
pub mod vision;

pub use footprint::{breakdown, footprint};
pub(crate) use footprint::{text_numbers, vision_numbers};
pub use model::{Clip, Score};
