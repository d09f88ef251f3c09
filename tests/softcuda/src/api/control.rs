//! What a test asks of the driver beside CUDA. The crate's documentation says how.

use std::ffi::{CStr, c_char};
use std::slice;

use super::gpu;
use crate::status::Status;

/// Virtual nanoseconds since the driver was loaded.
#[unsafe(no_mangle)]
extern "C" fn softcuda_now() -> u64 {
    gpu().now
}

/// Lets virtual time pass for the host, in which the device works.
#[unsafe(no_mangle)]
extern "C" fn softcuda_advance(ns: u64) {
    gpu().advance(ns);
}

/// Sets what the environment could have set. Returns 0, or 1 and a line on standard error.
///
/// # Safety
/// Both are strings that end with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_set(name: *const c_char, value: *const c_char) -> i32 {
    // SAFETY: By this function's own condition.
    let (name, value) = unsafe { (CStr::from_ptr(name).to_string_lossy(), CStr::from_ptr(value).to_string_lossy()) };
    match gpu().settings.set(&name, &value) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("softcuda: {why}");
            1
        }
    }
}

/// Kernels whose name begins so take so many virtual nanoseconds. Short for `softcuda_set` of `SOFTCUDA_KERNELS`.
///
/// # Safety
/// `name` is a string that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_set_kernel_ns(name: *const c_char, ns: u64) -> i32 {
    // SAFETY: By this function's own condition.
    let name = unsafe { CStr::from_ptr(name) }.to_string_lossy();
    i32::from(gpu().settings.set("SOFTCUDA_KERNELS", &format!("{name}={ns}")).is_err())
}

/// Writes as much of the trace as there is room for, and returns how long all of it is, in bytes.
///
/// # Safety
/// `text` has room for `room` bytes, or is null and `room` 0.
#[unsafe(no_mangle)]
unsafe extern "C" fn softcuda_trace(text: *mut u8, room: usize) -> usize {
    let all = gpu().trace.text();
    if !text.is_null() {
        let taken = all.len().min(room);
        // SAFETY: By this function's own condition.
        unsafe { slice::from_raw_parts_mut(text, taken) }.copy_from_slice(&all.as_bytes()[..taken]);
    }
    all.len()
}

/// Forgets the trace so far.
#[unsafe(no_mangle)]
extern "C" fn softcuda_trace_clear() {
    gpu().trace.clear();
}

/// The number by which the trace calls a stream that has this handle, or 4294967295.
#[unsafe(no_mangle)]
extern "C" fn softcuda_stream(handle: usize) -> u32 {
    super::stream(&mut gpu(), handle).unwrap_or(u32::MAX)
}

/// The error after which nothing works any more, or 0.
#[unsafe(no_mangle)]
extern "C" fn softcuda_failed() -> Status {
    gpu().failed.unwrap_or(Status::SUCCESS)
}
