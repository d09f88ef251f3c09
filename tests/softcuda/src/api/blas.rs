//! cuBLAS, as far as candle calls it: each call is a kernel of the function's name.

#![allow(clippy::too_many_arguments, reason = "the library's own signatures")]

use std::ffi::c_void;

use super::{DEFAULT_STREAM, gpu};
use crate::model::Gpu;
use crate::model::library::Library;
use crate::model::memory::PLAIN;
use crate::native::Element;
use crate::native::product::{Matrix, Product};
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
    super::set_stream(handle, on).into()
}

/// A product as a kernel: what it reads and writes must be there, as far as can be told from where that begins.
fn submit(handle: usize, name: &str, product: Product) -> Answer {
    fn submit(gpu: &mut Gpu, handle: usize, name: &str, product: Product) -> Result<(), Status> {
        let on = gpu.libraries.get(handle).ok_or(Status::NOT_INITIALIZED)?.stream;
        // SAFETY: The driver sees to it that memory that is used stays, and runs one kernel at a time.
        let effect = gpu.settings.numbers.then(|| unsafe { product.effect() }).flatten();
        gpu.launch(on, name, &product.matrices.map(|matrix| matrix.address), effect).map(|_| ())
    }
    submit(&mut gpu(), handle, name, product).into()
}

/// # Safety
/// Both point to a number of the type that goes with the `cublasComputeType_t`.
unsafe fn factors(compute: i32, alpha: Place, beta: Place) -> [f64; 2] {
    let kind = match compute {
        64 | 65 => Element::F16,
        70 | 71 => Element::F64,
        _ => Element::F32,
    };
    // SAFETY: By this function's own condition.
    [alpha, beta].map(|factor| unsafe { kind.load(factor as u64) })
}

fn matrix(address: Place, kind: i32, op: i32, leading: i32, stride: i64) -> Matrix {
    Matrix { address: address as u64, kind: Element::numbered(kind), transposed: op != 0, leading, stride }
}

type Place = *const c_void;

/// # Safety
/// As the library's own.
#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGemmEx(
    handle: usize,
    op_a: i32,
    op_b: i32,
    m: i32,
    n: i32,
    k: i32,
    alpha: Place,
    a: Place,
    type_a: i32,
    lda: i32,
    b: Place,
    type_b: i32,
    ldb: i32,
    beta: Place,
    c: Place,
    type_c: i32,
    ldc: i32,
    compute: i32,
    _algorithm: i32,
) -> Answer {
    // SAFETY: By this function's own condition.
    let [alpha, beta] = unsafe { factors(compute, alpha, beta) };
    let matrices = [matrix(a, type_a, op_a, lda, 0), matrix(b, type_b, op_b, ldb, 0), matrix(c, type_c, 0, ldc, 0)];
    submit(handle, "cublasGemmEx", Product { sizes: [m, n, k], batch: 1, alpha, beta, matrices })
}

/// # Safety
/// As the library's own.
#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGemmStridedBatchedEx(
    handle: usize,
    op_a: i32,
    op_b: i32,
    m: i32,
    n: i32,
    k: i32,
    alpha: Place,
    a: Place,
    type_a: i32,
    lda: i32,
    stride_a: i64,
    b: Place,
    type_b: i32,
    ldb: i32,
    stride_b: i64,
    beta: Place,
    c: Place,
    type_c: i32,
    ldc: i32,
    stride_c: i64,
    batch: i32,
    compute: i32,
    _algorithm: i32,
) -> Answer {
    // SAFETY: By this function's own condition.
    let [alpha, beta] = unsafe { factors(compute, alpha, beta) };
    let matrices = [
        matrix(a, type_a, op_a, lda, stride_a),
        matrix(b, type_b, op_b, ldb, stride_b),
        matrix(c, type_c, 0, ldc, stride_c),
    ];
    submit(handle, "cublasGemmStridedBatchedEx", Product { sizes: [m, n, k], batch, alpha, beta, matrices })
}

/// # Safety
/// As the library's own.
#[unsafe(no_mangle)]
unsafe extern "C" fn cublasDgemmStridedBatched(
    handle: usize,
    op_a: i32,
    op_b: i32,
    m: i32,
    n: i32,
    k: i32,
    alpha: Place,
    a: Place,
    lda: i32,
    stride_a: i64,
    b: Place,
    ldb: i32,
    stride_b: i64,
    beta: Place,
    c: Place,
    ldc: i32,
    stride_c: i64,
    batch: i32,
) -> Answer {
    const F64: i32 = 1;
    // SAFETY: By this function's own condition; 70 is CUBLAS_COMPUTE_64F.
    let [alpha, beta] = unsafe { factors(70, alpha, beta) };
    let matrices =
        [matrix(a, F64, op_a, lda, stride_a), matrix(b, F64, op_b, ldb, stride_b), matrix(c, F64, 0, ldc, stride_c)];
    submit(handle, "cublasDgemmStridedBatched", Product { sizes: [m, n, k], batch, alpha, beta, matrices })
}
