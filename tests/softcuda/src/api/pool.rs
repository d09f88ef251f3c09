//! `cuMemPool*`, `cuDevice*MemPool`.

use super::device::on;
use super::{put, within};
use crate::model::memory::DEFAULT;
use crate::status::Status;

/// `CUmemPoolProps` as CUDA 13.0 has it.
#[repr(C)]
struct Properties {
    /// 1, pinned: memory that stays where it is.
    allocation: i32,
    handles: i32,
    /// 1, on a device.
    location: i32,
    device: i32,
    security: usize,
    /// In bytes; 0 is as much as the device has.
    max_size: usize,
    usage: u16,
    reserved: [u8; 54],
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolCreate(pool: Option<&mut usize>, properties: Option<&Properties>) -> Status {
    within(|gpu| {
        let properties = properties.ok_or(Status::INVALID_VALUE)?;
        let plain = properties.reserved == [0; 54] && properties.usage == 0 && properties.security == 0;
        if (properties.allocation, properties.location, properties.device) != (1, 1, 0) || !plain {
            return Err(Status::INVALID_VALUE);
        }
        if !gpu.settings.pools || properties.handles != 0 {
            return Err(Status::NOT_SUPPORTED);
        }
        put(pool, gpu.memory.create_pool(Some(properties.max_size as u64).filter(|cap| *cap > 0)))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolDestroy(pool: usize) -> Status {
    within(|gpu| gpu.memory.destroy_pool(pool))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemPoolTrimTo(pool: usize, keep: usize) -> Status {
    within(|gpu| {
        gpu.memory.pool(pool)?.release(keep as u64);
        Ok(())
    })
}

/// An attribute's value: 32 bits for the switches, 64 for the numbers of bytes.
#[repr(C)]
union Value {
    switch: i32,
    bytes: u64,
}

/// # Safety
/// `value` has the attribute's type.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemPoolGetAttribute(pool: usize, attribute: i32, value: Option<&mut Value>) -> Status {
    within(|gpu| {
        let pool = gpu.memory.pool(pool)?;
        let value = value.ok_or(Status::INVALID_VALUE)?;
        match attribute {
            // What another stream freed is reused when it is seen to be free; only the third of these can be switched off.
            1 | 2 => value.switch = 1,
            3 => value.switch = i32::from(pool.internal_dependencies),
            4 => value.bytes = pool.threshold,
            5 => value.bytes = pool.reserved().current,
            6 => value.bytes = pool.reserved().high,
            7 => value.bytes = pool.used().current,
            8 => value.bytes = pool.used().high,
            _ => return Err(Status::INVALID_VALUE),
        }
        Ok(())
    })
}

/// # Safety
/// `value` has the attribute's type.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemPoolSetAttribute(pool: usize, attribute: i32, value: Option<&Value>) -> Status {
    within(|gpu| {
        let pool = gpu.memory.pool(pool)?;
        let value = value.ok_or(Status::INVALID_VALUE)?;
        // SAFETY: By the function's own condition.
        match attribute {
            1 | 2 => {}
            3 => pool.internal_dependencies = unsafe { value.switch } != 0,
            4 => pool.threshold = unsafe { value.bytes },
            6 if unsafe { value.bytes } == 0 => pool.reset_reserved_high(),
            8 if unsafe { value.bytes } == 0 => pool.reset_used_high(),
            _ => return Err(Status::INVALID_VALUE),
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetDefaultMemPool(pool: Option<&mut usize>, device: i32) -> Status {
    on(device, |gpu| put(pool, gpu.memory.default))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetMemPool(pool: Option<&mut usize>, device: i32) -> Status {
    on(device, |gpu| put(pool, gpu.memory.handle(gpu.memory.current).unwrap_or(gpu.memory.default)))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceSetMemPool(device: i32, pool: usize) -> Status {
    on(device, |gpu| {
        gpu.memory.current = gpu.memory.handles.get(pool).copied().ok_or(Status::INVALID_VALUE)?;
        debug_assert!(gpu.memory.current >= DEFAULT);
        Ok(())
    })
}
