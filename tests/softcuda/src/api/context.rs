//! `cuDevicePrimaryCtx*`, `cuCtx*`: the primary context, and none but it.

use super::device::on;
use super::{CONTEXT, CURRENT, initialised, put, synchronise, within};
use crate::model::Gpu;
use crate::model::streams::{GREATEST, LEAST};
use crate::status::Status;

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRetain(context: Option<&mut usize>, device: i32) -> Status {
    on(device, |gpu| {
        gpu.alive()?;
        if gpu.retained == 0 && gpu.room() < crate::model::memory::CONTEXT_BYTES {
            return Err(Status::OUT_OF_MEMORY);
        }
        put(context, CONTEXT)?;
        gpu.retained += 1;
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDevicePrimaryCtxRelease_v2(device: i32) -> Status {
    on(device, |gpu| {
        gpu.retained = gpu.retained.checked_sub(1).ok_or(Status::INVALID_CONTEXT)?;
        if gpu.retained == 0 {
            gpu.end_context();
        }
        Ok(())
    })
}

/// The primary context is released, not destroyed, and there is no other.
#[unsafe(no_mangle)]
extern "C" fn cuCtxDestroy_v2(_context: usize) -> Status {
    initialised(|_| Err(Status::INVALID_CONTEXT))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetCurrent(context: Option<&mut usize>) -> Status {
    initialised(|_| put(context, CURRENT.get()))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetCurrent(context: usize) -> Status {
    initialised(|_| {
        if context != 0 && context != CONTEXT {
            return Err(Status::INVALID_CONTEXT);
        }
        CURRENT.set(context);
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetDevice(device: Option<&mut i32>) -> Status {
    within(|_| put(device, 0))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSetFlags(_flags: u32) -> Status {
    within(|_| Ok(()))
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxGetStreamPriorityRange(least: Option<&mut i32>, greatest: Option<&mut i32>) -> Status {
    within(|_| {
        if let Some(least) = least {
            *least = LEAST;
        }
        if let Some(greatest) = greatest {
            *greatest = GREATEST;
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuCtxSynchronize() -> Status {
    match within(|_| Ok(())) {
        Status::SUCCESS => synchronise(Gpu::idle),
        failed => failed,
    }
}
