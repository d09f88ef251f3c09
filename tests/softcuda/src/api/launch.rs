//! `cuModule*`, `cuFunc*`, `cuLaunchKernel`.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, c_char, c_void};
use std::fs;
use std::os::unix::ffi::OsStrExt;

use super::{DEFAULT_STREAM, put, stream, within};
use crate::model::Gpu;
use crate::model::launch::{Argument, Module, kernels};
use crate::model::memory::PLAIN;
use crate::native::Call;
use crate::status::Status;

/// What a module takes of the device, in bytes.
const MODULE_BYTES: u64 = 256 << 10;

/// Modules are PTX.
///
/// # Safety
/// `image` is a string that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoadData(module: Option<&mut usize>, image: *const c_char) -> Status {
    within(|gpu| {
        if image.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: By this function's own condition.
        load(gpu, module, &unsafe { CStr::from_ptr(image) }.to_string_lossy())
    })
}

/// # Safety
/// `path` is a string that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleLoad(module: Option<&mut usize>, path: *const c_char) -> Status {
    within(|gpu| {
        if path.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: By this function's own condition.
        let path = OsStr::from_bytes(unsafe { CStr::from_ptr(path) }.to_bytes());
        load(gpu, module, &fs::read_to_string(path).map_err(|_| Status::FILE_NOT_FOUND)?)
    })
}

fn load(gpu: &mut Gpu, module: Option<&mut usize>, ptx: &str) -> Result<(), Status> {
    let kernels = kernels(ptx)?;
    let code = gpu.take(MODULE_BYTES, PLAIN, None)?;
    put(module, gpu.modules.insert(Module { code, kernels, functions: BTreeMap::new() }))
}

#[unsafe(no_mangle)]
extern "C" fn cuModuleUnload(module: usize) -> Status {
    within(|gpu| {
        let module = gpu.modules.remove(module).ok_or(Status::INVALID_HANDLE)?;
        for function in module.functions.values() {
            gpu.functions.remove(*function);
        }
        gpu.free(module.code, DEFAULT_STREAM)
    })
}

/// # Safety
/// `name` is a string that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuModuleGetFunction(function: Option<&mut usize>, module: usize, name: *const c_char) -> Status {
    within(|gpu| {
        if name.is_null() {
            return Err(Status::INVALID_VALUE);
        }
        // SAFETY: By this function's own condition.
        let name = unsafe { CStr::from_ptr(name) }.to_str().map_err(|_| Status::NOT_FOUND)?;
        let module = gpu.modules.get_mut(module).ok_or(Status::INVALID_HANDLE)?;
        let handle = match module.functions.get(name) {
            Some(handle) => *handle,
            None => {
                let kernel = module.kernels.get(name).ok_or(Status::NOT_FOUND)?;
                let handle = gpu.functions.insert(kernel.clone());
                module.functions.insert(name.to_owned(), handle);
                handle
            }
        };
        put(function, handle)
    })
}

/// Attributes are taken, and change nothing.
#[unsafe(no_mangle)]
extern "C" fn cuFuncSetAttribute(function: usize, _attribute: i32, _value: i32) -> Status {
    within(|gpu| gpu.functions.get(function).map(|_| ()).ok_or(Status::INVALID_HANDLE))
}

/// Like a kernel that may have 1024 threads (attribute 0) and needs nothing.
#[unsafe(no_mangle)]
extern "C" fn cuFuncGetAttribute(value: Option<&mut i32>, attribute: i32, function: usize) -> Status {
    within(|gpu| {
        gpu.functions.get(function).ok_or(Status::INVALID_HANDLE)?;
        put(value, if attribute == 0 { 1024 } else { 0 })
    })
}

/// # Safety
/// `arguments` has a pointer to each of the kernel's arguments.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: usize,
    grid_x: u32,
    grid_y: u32,
    grid_z: u32,
    block_x: u32,
    block_y: u32,
    block_z: u32,
    _shared_bytes: u32,
    on: usize,
    arguments: *const *const u8,
    extra: *const c_void,
) -> Status {
    within(|gpu| {
        let on = stream(gpu, on)?;
        let kernel = gpu.functions.get(function).ok_or(Status::INVALID_HANDLE)?.clone();
        let threads = [block_x, block_y, block_z].iter().try_fold(1_u32, |all, n| all.checked_mul(*n));
        let grid =
            grid_x > 0 && grid_x <= i32::MAX as u32 && (1..=65_535).contains(&grid_y) && (1..=65_535).contains(&grid_z);
        if !grid || !threads.is_some_and(|threads| (1..=1024).contains(&threads)) || block_z > 64 {
            return Err(Status::INVALID_VALUE);
        }
        if !extra.is_null() || (arguments.is_null() && !kernel.arguments.is_empty()) {
            return Err(Status::INVALID_VALUE);
        }
        let bits = |(at, argument): (usize, &Argument)| {
            let mut bits = [0; 8];
            // SAFETY: By this function's own condition, and an argument is as long as its kernel says.
            unsafe { (*arguments.add(at)).copy_to_nonoverlapping(bits.as_mut_ptr(), argument.bytes()) };
            u64::from_le_bytes(bits)
        };
        let bits: Vec<u64> = kernel.arguments.iter().enumerate().map(bits).collect();
        let pointers = kernel.arguments.iter().zip(&bits).filter(|(argument, _)| **argument == Argument::Pointer);
        let addresses: Vec<u64> = pointers.map(|(_, address)| *address).collect();
        // SAFETY: A kernel of candle's, by its name; the driver sees to it that memory that is used stays, and runs one at a time.
        let effect = gpu.settings.numbers.then(|| unsafe { Call::new(bits, grid_x) }.effect(&kernel.name)).flatten();
        gpu.launch(on, &kernel.name, &addresses, effect).map(|_| ())
    })
}
