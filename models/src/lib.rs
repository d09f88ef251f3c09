//! FLUX.2 klein, Stable Diffusion 3, ViLT, CLIP, OWLv2, SAM2 and Qwen3 in candle, loading Hugging Face directories unchanged.
//!
//! [`flux2::Pipeline`] makes pictures from text and reference pictures, [`sd3::Pipeline`] from text, and parts of pictures anew, [`vilt::Vqa`] answers questions about
//! pictures, [`clip::Clip`] says how well texts fit a picture, [`owlv2::Owlv2`] where in it is what they name,
//! [`sam2::Sam2`] which pixels a box or points are about; [`qwen3::Qwen3`] answers questions in words. Every size is read
//! from the directory's JSON files; a value that asks for something not implemented is an [`Error::Config`], never a
//! silently different result. A FLUX.2 transformer may be quantised, in a GGUF file. Long work calls a [`YieldPoint`] at
//! short intervals and can be stopped there. [`catalog::scan`] finds the models in a set of directories.

pub mod attention;
mod byte_pairs;
pub mod catalog;
pub mod census;
pub mod clip;
pub mod error;
pub mod flux2;
pub mod footprint;
pub mod gguf;
pub mod linear;
pub mod loader;
pub mod noise;
pub mod norm;
pub mod owlv2;
pub mod parts;
pub mod picture;
pub mod processor;
pub mod quantised;
pub mod qwen3;
pub mod resample;
pub mod sam2;
pub mod sd3;
mod sinusoid;
pub mod tokenizer;
pub mod vilt;
pub mod yield_point;

pub use catalog::{Entry, Kind, scan};
pub use census::Census;
pub use error::{Error, Result};
pub use footprint::{Breakdown, Footprint, Part, Quantised};
pub use picture::Picture;
pub use yield_point::{Interrupted, Site, Unobserved, YieldPoint};
