//! Stable Diffusion 3 and 3.5: pictures from text, and regions of pictures made anew.
//!
//! So far what it reads of a prompt, its transformer, its autoencoder and its schedule. The transformer is our own and not candle-transformers', which has the names of the original release, not those of
//! the directories that diffusers writes, and no place where a run could be parked.

mod blocks;
pub mod config;
pub mod schedule;
pub mod text;
pub mod transformer;
pub mod vae;
