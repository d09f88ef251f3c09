//! How an NVIDIA GPU is used, as the file has it.

use std::path::PathBuf;

use gpusched_engine::DeviceSpec;
use serde::{Deserialize, Serialize};

use super::Size;

/// What the executable of an engine for NVIDIA GPUs is called.
pub const ENGINE_CUDA: &str = "gpusched-engine-cuda";

/// What the engine computes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackendChoice {
    /// An NVIDIA GPU where there is one that can be used, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU, or nothing.
    Cuda,
}

/// How an NVIDIA GPU is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CudaConfig {
    /// The engine's executable; without it the one beside `gpuschedd`, or in `libexec/gpusched` beside its directory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// Which GPU, from 0.
    pub device: u32,
    /// Blocks of a model that a class whose gate is `block` may have queued on the GPU beside the one being queued.
    pub blocks_ahead: u32,
    /// Kernels that a class whose gate is `kernel` may have queued on the GPU.
    pub kernels_ahead: u32,
    /// Whether partitions are taken from the GPU at the start, and kept.
    pub reserve: bool,
    /// Memory of the GPU that is kept out of the partitions, for what libraries take for themselves.
    pub overhead: Size,
    /// Whether the lanes of a class have a model's weights once, or each its own.
    pub share_weights: bool,
}

impl Default for CudaConfig {
    fn default() -> Self {
        let DeviceSpec { ordinal, blocks_ahead, kernels_ahead, reserve, overhead_bytes, share_weights } =
            DeviceSpec::default();
        let overhead = Size(overhead_bytes);
        Self { program: None, device: ordinal, blocks_ahead, kernels_ahead, reserve, overhead, share_weights }
    }
}

impl CudaConfig {
    /// The executable: the one that is named, or that came with this program; `None` if there is none.
    pub fn executable(&self) -> Option<PathBuf> {
        if let Some(named) = &self.program {
            return Some(named.clone());
        }
        let own = std::env::current_exe().ok()?;
        let beside = own.parent()?;
        let places = [beside.join(ENGINE_CUDA), beside.parent()?.join("libexec/gpusched").join(ENGINE_CUDA)];
        places.into_iter().find(|path| path.is_file())
    }

    /// What the engine is told.
    pub fn spec(&self) -> DeviceSpec {
        DeviceSpec {
            ordinal: self.device,
            blocks_ahead: self.blocks_ahead,
            kernels_ahead: self.kernels_ahead,
            reserve: self.reserve,
            overhead_bytes: self.overhead.0,
            share_weights: self.share_weights,
        }
    }

    /// For each key whether its value makes sense, and what would.
    pub(super) fn ranges(&self) -> [(bool, &'static str, &'static str); 4] {
        [
            (self.device < 64, "engine.cuda.device", "at most 63"),
            ((1..=256).contains(&self.blocks_ahead), "engine.cuda.blocks_ahead", "1 to 256"),
            ((1..=4096).contains(&self.kernels_ahead), "engine.cuda.kernels_ahead", "1 to 4096"),
            (self.overhead.0 >= 64 << 20, "engine.cuda.overhead", "at least 64MiB"),
        ]
    }
}
