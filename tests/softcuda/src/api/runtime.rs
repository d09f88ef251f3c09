//! What of the CUDA runtime and of NVRTC a program must find in order to be linked. There is no compiler in here.

use std::ffi::{CStr, c_char, c_void};

use super::{gpu, stream};

/// `NVRTC_ERROR_INTERNAL_ERROR`.
const NO_COMPILER: i32 = 11;

/// `cudaErrorLaunchFailure`.
const LAUNCH_FAILURE: i32 = 719;

#[unsafe(no_mangle)]
extern "C" fn nvrtcGetErrorString(_status: i32) -> *const c_char {
    c"the software driver has no compiler".as_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn nvrtcCreateProgram(
    _program: *mut c_void,
    _source: *const c_char,
    _name: *const c_char,
    _headers: i32,
    _sources: *const *const c_char,
    _names: *const *const c_char,
) -> i32 {
    NO_COMPILER
}

/// How many in each direction.
#[repr(C)]
pub(crate) struct Dim3 {
    x: u32,
    y: u32,
    z: u32,
}

/// A kernel by its handle, as NVIDIA's compiler launches what is written `<<<...>>>` since CUDA 12.8. The stand-in compiler's handles are
/// names. Its launchers do not say what went wrong, and NVIDIA's only to who asks; here the next call of the driver does.
///
/// # Safety
/// `kernel` is a string that ends with a zero.
#[unsafe(no_mangle)]
unsafe extern "C" fn __cudaLaunchKernel(
    kernel: *const c_char,
    _grid: Dim3,
    _block: Dim3,
    _arguments: *mut *mut c_void,
    _shared_bytes: usize,
    on: usize,
) -> i32 {
    // SAFETY: By this function's own condition.
    let name = unsafe { CStr::from_ptr(kernel) }.to_string_lossy();
    let mut gpu = gpu();
    let launched = stream(&mut gpu, on).and_then(|on| gpu.launch(on, &name, &[], None));
    match launched {
        Ok(_) => 0,
        Err(status) => {
            gpu.failed.get_or_insert(status);
            LAUNCH_FAILURE
        }
    }
}

/// The same before 12.8, where a function of the host's stands for the kernel: of those, too, the stand-in has names.
///
/// # Safety
/// As of the other.
#[unsafe(no_mangle)]
unsafe extern "C" fn cudaLaunchKernel(
    function: *const c_char,
    grid: Dim3,
    block: Dim3,
    arguments: *mut *mut c_void,
    shared_bytes: usize,
    on: usize,
) -> i32 {
    // SAFETY: By this function's own condition.
    unsafe { __cudaLaunchKernel(function, grid, block, arguments, shared_bytes, on) }
}
