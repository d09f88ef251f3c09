//! `cuInit`, `cuDriver*`, `cuGetError*`, `cuDevice*`.

use std::ffi::{CStr, c_char};

use super::{gpu, initialised, put};
use crate::status::Status;

/// The device's UUID, which says what it is.
pub(super) const UUID: [u8; 16] = *b"software driver!";

#[unsafe(no_mangle)]
extern "C" fn cuInit(flags: u32) -> Status {
    if flags != 0 {
        return Status::INVALID_VALUE;
    }
    let mut gpu = gpu();
    if gpu.settings.devices == 0 {
        return Status::NO_DEVICE;
    }
    gpu.initialised = true;
    Status::SUCCESS
}

#[unsafe(no_mangle)]
extern "C" fn cuDriverGetVersion(version: Option<&mut i32>) -> Status {
    put(version, gpu().settings.driver).into()
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorName(status: Status, name: Option<&mut *const c_char>) -> Status {
    text(status.name(), name)
}

#[unsafe(no_mangle)]
extern "C" fn cuGetErrorString(status: Status, string: Option<&mut *const c_char>) -> Status {
    text(status.text(), string)
}

fn text(text: Option<&'static CStr>, place: Option<&mut *const c_char>) -> Status {
    match text {
        Some(text) => put(place, text.as_ptr()).into(),
        None => Status::INVALID_VALUE,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetCount(count: Option<&mut i32>) -> Status {
    initialised(|gpu| put(count, gpu.settings.devices))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGet(device: Option<&mut i32>, ordinal: i32) -> Status {
    on(ordinal, |_| put(device, ordinal))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceTotalMem_v2(bytes: Option<&mut usize>, device: i32) -> Status {
    on(device, |gpu| put(bytes, usize::try_from(gpu.settings.memory).map_err(|_| Status::INVALID_VALUE)?))
}

/// # Safety
/// `name` has room for `length` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuDeviceGetName(name: *mut c_char, length: i32, device: i32) -> Status {
    on(device, |gpu| {
        let text = gpu.settings.name.as_bytes();
        let room =
            usize::try_from(length).ok().filter(|room| *room > 0 && !name.is_null()).ok_or(Status::INVALID_VALUE)?;
        let taken = text.len().min(room - 1);
        // SAFETY: `taken` and a zero fit into `length`, for which the caller has room.
        unsafe {
            name.copy_from_nonoverlapping(text.as_ptr().cast(), taken);
            name.add(taken).write(0);
        }
        Ok(())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid_v2(uuid: Option<&mut [u8; 16]>, device: i32) -> Status {
    on(device, |_| put(uuid, UUID))
}

#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetUuid(uuid: Option<&mut [u8; 16]>, device: i32) -> Status {
    cuDeviceGetUuid_v2(uuid, device)
}

/// Attributes by their numbers in `cuda.h`; like a device of compute capability 8.0. One that is not here is 0.
#[unsafe(no_mangle)]
extern "C" fn cuDeviceGetAttribute(value: Option<&mut i32>, attribute: i32, device: i32) -> Status {
    on(device, |gpu| {
        let attribute = match attribute {
            1..=3 => 1024,   // threads of a block, in all, x and y
            4 => 64,         // z
            5 => i32::MAX,   // blocks of a grid, x
            6 | 7 => 65_535, // y and z
            8 => 48 << 10,   // shared memory of a block
            10 => 32,        // threads of a warp
            16 => 108,       // multiprocessors
            39 => 2048,      // threads of a multiprocessor
            75 => gpu.settings.compute / 10,
            76 => gpu.settings.compute % 10,
            78 => 1,         // stream priorities
            81 => 164 << 10, // shared memory of a multiprocessor
            97 => 163 << 10, // shared memory of a block that asks for more
            31 | 41 => 1,    // concurrent kernels, unified addresses
            115 => i32::from(gpu.settings.pools),
            _ => 0,
        };
        put(value, attribute)
    })
}

/// For functions of the only device.
pub(super) fn on(device: i32, call: impl FnOnce(&mut crate::model::Gpu) -> Result<(), Status>) -> Status {
    initialised(|gpu| if device == 0 { call(gpu) } else { Err(Status::INVALID_DEVICE) })
}
