//! What has to be so for lanes and partitions to be kept apart, looked at before there is any work. Each refusal is one sentence
//! that says what is missing.

use candle_core::cuda_backend::cudarc::driver::sys::{CUresult, cuDriverGetVersion};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream, DriverError};
use candle_core::{DType, Device, Tensor};
use gpusched_shared::Bytes;

use crate::errors::sentence;
use crate::interpose;
use crate::pool::Pool;
use crate::route;

/// The first version of CUDA whose pools have a cap, as the driver counts.
const POOLS_WITH_CAPS: i32 = 12_020;

/// What is asked for beyond a cap.
const BEYOND_BYTES: u64 = 64 << 20;

/// The driver's version of CUDA, as `13.0`.
pub(crate) fn version_text(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

/// The version of CUDA that the driver knows, as it counts.
pub(crate) fn driver_version() -> Result<i32, DriverError> {
    let mut version = 0;
    // SAFETY: It writes one number.
    unsafe { cuDriverGetVersion(&raw mut version) }.result()?;
    Ok(version)
}

/// What is free on the device, in bytes; 0 if it does not say.
pub(crate) fn free_bytes(context: &CudaContext) -> u64 {
    context.mem_get_info().map_or(0, |(free, _)| free as u64)
}

/// The driver knows of pools with caps, and the device can have them.
pub(crate) fn pools(context: &CudaContext) -> Result<(), String> {
    let version = driver_version().map_err(|e| format!("the driver does not say its version: {}", sentence(e)))?;
    if version < POOLS_WITH_CAPS {
        let (has, needs) = (version_text(version), version_text(POOLS_WITH_CAPS));
        return Err(format!(
            "NVIDIA's driver is too old: it knows CUDA {has}, and memory pools with a cap came with {needs}"
        ));
    }
    if !context.has_async_alloc() {
        return Err("this GPU's driver has no memory pools, without which classes could not be kept apart".to_owned());
    }
    Ok(())
}

/// What a lane allocates comes from its class's pool.
pub(crate) fn is_routed(lane: &str, device: &Device, stream: &CudaStream, pool: &Pool) -> Result<(), String> {
    let handle = stream.cu_stream() as usize;
    let before = route::seen(handle);
    let tried = Tensor::zeros(1, DType::F32, device).map_err(|e| format!("lane {lane} cannot allocate: {e}"))?;
    drop(tried);
    let expected = pool.raw.handle() as usize;
    match (before, route::seen(handle)) {
        (Some((_, before)), Some((pool, after))) if pool == expected && after == before + 1 => Ok(()),
        (before, after) => Err(format!(
            "lane {lane} does not draw on its class's memory ({before:?}, then {after:?}, through {} functions): this \
             executable was linked in a way that passes them by",
            interpose::count()
        )),
    }
}

/// The driver keeps a pool's cap.
pub(crate) fn cap_is_kept(class: &str, pool: &Pool, stream: &CudaStream) -> Result<(), String> {
    match pool.raw.try_out(pool.cap_bytes + BEYOND_BYTES, stream) {
        Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => Ok(()),
        Ok(()) => Err(format!(
            "the driver does not keep the cap of class {class}: it gave {} more than {}",
            Bytes(BEYOND_BYTES),
            Bytes(pool.cap_bytes)
        )),
        Err(e) => Err(format!("the cap of class {class} cannot be tried: {}", sentence(e))),
    }
}

/// Takes all of a pool's cap from the device. It stays taken.
pub(crate) fn reserve(class: &str, pool: &Pool, stream: &CudaStream) -> Result<(), String> {
    let wanted = Bytes(pool.cap_bytes);
    match pool.raw.try_out(pool.cap_bytes, stream) {
        Ok(()) => match pool.figures() {
            Ok(figures) if figures.reserved >= pool.cap_bytes => Ok(()),
            Ok(figures) => {
                Err(format!("class {class} was to keep {wanted}, and the driver keeps {}", Bytes(figures.reserved)))
            }
            Err(e) => Err(format!("class {class}'s memory cannot be looked at: {}", sentence(e))),
        },
        Err(DriverError(CUresult::CUDA_ERROR_OUT_OF_MEMORY)) => {
            let free = free_bytes(stream.context());
            Err(format!(
                "class {class} cannot reserve {wanted}, for the GPU has only {} free; make its partition smaller, or set \
                 engine.cuda.reserve = false",
                Bytes(free)
            ))
        }
        Err(e) => Err(format!("class {class} cannot reserve {wanted}: {}", sentence(e))),
    }
}
