//! What there is to know of a model without loading it.

use crate::codec::{Decode, Encode};
use crate::spec::{Size, TaskKind};

/// A model, as the engine reports it.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
pub struct ModelInfo {
    /// Its name: that of its directory.
    pub name: String,
    /// Its architecture, for example `flux2-klein`.
    pub kind: String,
    /// What it can do.
    pub tasks: Vec<TaskKind>,
    /// Bytes of its weight files.
    pub bytes: u64,
    /// The picture size it makes where none is asked for.
    pub default_size: Size,
    /// Sides of a picture must be multiples of this.
    pub size_multiple: u32,
    /// The most pixels a picture may have.
    pub max_pixels: u64,
    /// Diffusion steps where none are asked for.
    pub default_steps: u32,
    /// Guidance where none is asked for, in thousandths.
    pub default_guidance_milli: u32,
    /// What it is expected to need until it has been measured.
    pub declared: Declared,
}

/// Bytes a model is expected to need.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Encode, Decode)]
pub struct Declared {
    /// Its weights in memory.
    pub weights_bytes: u64,
    /// Beside them while a job runs, whatever its size.
    pub run_bytes: u64,
    /// Beside them for each pixel of the picture to make and of the reference pictures.
    pub run_bytes_per_pixel: u64,
}
