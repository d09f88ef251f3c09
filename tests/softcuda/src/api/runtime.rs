//! What of the CUDA runtime and of NVRTC a program must find in order to be linked. There is no compiler in here.

use std::ffi::{c_char, c_void};

/// `NVRTC_ERROR_INTERNAL_ERROR`.
const NO_COMPILER: i32 = 11;

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
