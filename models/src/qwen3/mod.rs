//! Qwen3: a text that answers a question.
//!
//! Follows transformers' `Qwen3ForCausalLM`, its chat template with thinking disabled, and `generate` without sampling:
//! the likeliest token each time. Text is said as it becomes certain, and work can be interrupted at each layer.

pub mod config;
mod footprint;
pub(crate) mod layers;
pub mod model;

pub use config::Config;
pub use footprint::{breakdown, footprint};
pub use model::{Answer, Context, Qwen3, Request};
