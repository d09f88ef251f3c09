//! cuBLAS, as far as candle calls it: each call is a kernel of the function's name. It computes nothing.

#![allow(clippy::too_many_arguments, reason = "the library's own signatures")]

use std::ffi::c_void;

use super::{DEFAULT_STREAM, gpu};
use crate::model::Gpu;
use crate::model::library::Library;
use crate::model::memory::PLAIN;
use crate::status::Status;

/// What a handle takes of the device for itself, in bytes.
const WORKSPACE_BYTES: u64 = 8 << 20;

/// `cublasStatus_t`.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Answer(i32);

impl From<Result<(), Status>> for Answer {
    fn from(result: Result<(), Status>) -> Self {
        Self(match result {
            Ok(()) => 0,
            Err(Status::NOT_INITIALIZED | Status::INVALID_CONTEXT) => 1,
            Err(Status::OUT_OF_MEMORY) => 3,
            Err(Status::INVALID_VALUE | Status::INVALID_HANDLE) => 7,
            Err(_) => 13,
        })
    }
}

#[unsafe(no_mangle)]
extern "C" fn cublasCreate_v2(handle: Option<&mut usize>) -> Answer {
    let mut gpu = gpu();
    let created = gpu.alive().and_then(|()| {
        let workspace = gpu.take(WORKSPACE_BYTES, PLAIN, None)?;
        let library = Library { stream: DEFAULT_STREAM, workspace: Some(workspace), state: 0 };
        super::put(handle, gpu.libraries.insert(library))
    });
    created.into()
}

#[unsafe(no_mangle)]
extern "C" fn cublasDestroy_v2(handle: usize) -> Answer {
    let mut gpu = gpu();
    let destroyed =
        gpu.libraries.remove(handle).ok_or(Status::NOT_INITIALIZED).and_then(|library| match library.workspace {
            Some(workspace) => gpu.free(workspace, DEFAULT_STREAM),
            None => Ok(()),
        });
    destroyed.into()
}

#[unsafe(no_mangle)]
extern "C" fn cublasSetStream_v2(handle: usize, on: usize) -> Answer {
    super::random::set_stream(handle, on).into()
}

/// A product as a kernel: what it reads and writes must be there, as far as can be told from where that begins.
fn product(handle: usize, name: &str, places: [*const c_void; 3]) -> Answer {
    fn submit(gpu: &mut Gpu, handle: usize, name: &str, places: [*const c_void; 3]) -> Result<(), Status> {
        let on = gpu.libraries.get(handle).ok_or(Status::NOT_INITIALIZED)?.stream;
        gpu.launch(on, name, &places.map(|place| place as u64)).map(|_| ())
    }
    submit(&mut gpu(), handle, name, places).into()
}

type Place = *const c_void;

#[unsafe(no_mangle)]
extern "C" fn cublasGemmEx(
    handle: usize,
    _op_a: i32,
    _op_b: i32,
    _m: i32,
    _n: i32,
    _k: i32,
    _alpha: Place,
    a: Place,
    _type_a: i32,
    _lda: i32,
    b: Place,
    _type_b: i32,
    _ldb: i32,
    _beta: Place,
    c: Place,
    _type_c: i32,
    _ldc: i32,
    _compute: i32,
    _algorithm: i32,
) -> Answer {
    product(handle, "cublasGemmEx", [a, b, c])
}

#[unsafe(no_mangle)]
extern "C" fn cublasGemmStridedBatchedEx(
    handle: usize,
    _op_a: i32,
    _op_b: i32,
    _m: i32,
    _n: i32,
    _k: i32,
    _alpha: Place,
    a: Place,
    _type_a: i32,
    _lda: i32,
    _stride_a: i64,
    b: Place,
    _type_b: i32,
    _ldb: i32,
    _stride_b: i64,
    _beta: Place,
    c: Place,
    _type_c: i32,
    _ldc: i32,
    _stride_c: i64,
    _batch: i32,
    _compute: i32,
    _algorithm: i32,
) -> Answer {
    product(handle, "cublasGemmStridedBatchedEx", [a, b, c])
}
