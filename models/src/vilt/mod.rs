//! ViLT: answers to questions about pictures.
//!
//! Follows transformers' `ViltForQuestionAnswering` and `ViltProcessor` (in its Pillow form).

pub mod config;
pub mod model;
pub mod preprocess;

pub use model::{Answer, Vqa};
