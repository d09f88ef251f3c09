//! ViLT: answers to questions about pictures.
//!
//! Follows transformers' `ViltForQuestionAnswering` and `ViltProcessor` (in its Pillow form).

pub mod config;
mod footprint;
pub mod model;
pub mod preprocess;

pub use footprint::{breakdown, footprint};
pub use model::{Answer, Vqa};
