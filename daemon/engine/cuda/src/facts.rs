//! What there is: the driver, the device, and who else has memory on it.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::{CudaContext, result};
use nvml_wrapper::Nvml;
use nvml_wrapper::enums::device::UsedGpuMemory;
use serde::{Deserialize, Serialize};

use crate::check::{driver_version, pools, version_text};
use crate::errors::sentence;

/// What is known of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Facts {
    /// The version of this executable.
    pub version: String,
    /// The device's name.
    pub name: String,
    /// Its compute capability, such as `8.0`.
    pub compute: String,
    /// The version of CUDA that the driver knows, such as `13.0`.
    pub cuda: String,
    /// The driver's own version, if NVML says it.
    pub driver: Option<String>,
    /// What it has of memory, in bytes.
    pub total_bytes: u64,
    /// What of that is not in use by anybody, in bytes.
    pub free_bytes: u64,
    /// Who has memory on it, as far as NVML says.
    pub tenants: Vec<Tenant>,
}

/// A process that has memory on a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tenant {
    /// The process.
    pub pid: u32,
    /// What it has, in bytes; 0 where that is not said.
    pub bytes: u64,
}

/// The context of a device in this process.
///
/// # Errors
/// What is missing, in one sentence.
pub(crate) fn context(ordinal: u32) -> Result<Arc<CudaContext>, String> {
    let cannot = |e| format!("there is no GPU that CUDA can use: {}", sentence(e));
    result::init().map_err(cannot)?;
    let count = CudaContext::device_count().map_err(cannot)?;
    if i64::from(ordinal) >= i64::from(count) {
        return Err(format!("there is no GPU {ordinal}: CUDA sees {count}; see engine.cuda.device"));
    }
    let refused = |e| format!("GPU {ordinal} cannot be used: {}", sentence(e));
    CudaContext::new(ordinal as usize).map_err(refused)
}

/// What is known of a device that can do all that the engine needs.
///
/// # Errors
/// What is missing, in one sentence.
pub fn probe(ordinal: u32) -> Result<Facts, String> {
    let context = context(ordinal)?;
    pools(&context)?;
    let silent = |e| format!("GPU {ordinal} does not say what it is: {}", sentence(e));
    let name = context.name().map_err(silent)?;
    let (major, minor) = context.compute_capability().map_err(silent)?;
    let (free, total) = context.mem_get_info().map_err(silent)?;
    let cuda = version_text(driver_version().map_err(silent)?);
    let (driver, tenants) = nvml(ordinal);
    Ok(Facts {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        name,
        compute: format!("{major}.{minor}"),
        cuda,
        driver,
        total_bytes: total as u64,
        free_bytes: free as u64,
        tenants,
    })
}

/// The driver's version, and who else has memory. Without NVML, which is a library of its own, nothing of it is known, and
/// nothing depends on it.
fn nvml(ordinal: u32) -> (Option<String>, Vec<Tenant>) {
    let Ok(nvml) = Nvml::init() else { return (None, Vec::new()) };
    let driver = nvml.sys_driver_version().ok();
    let device = nvml.device_by_index(ordinal);
    let processes = device.and_then(|device| device.running_compute_processes()).unwrap_or_default();
    let own = std::process::id();
    let others = processes.into_iter().filter(|process| process.pid != own);
    let tenants = others.map(|process| Tenant {
        pid: process.pid,
        bytes: match process.used_gpu_memory {
            UsedGpuMemory::Used(bytes) => bytes,
            UsedGpuMemory::Unavailable => 0,
        },
    });
    (driver, tenants.collect())
}
