//! The functions of CUDA that this crate defines, in front of the driver's, the runtime's and cuBLAS's. candle calls them by their
//! names, and the linker finds these first; each does what is said in [`route`], [`rein`] and [`blocks`], and calls the library's
//! own.
//!
//! That takes candle to be linked with the libraries, not to load them by name; `cudarc` calls the former `dynamic-linking`. That
//! it is so is checked at the start ([`check`](crate::check)). Libraries of NVIDIA's do not come by here.

#![allow(non_snake_case, reason = "NVIDIA's names")]

use std::ffi::{CStr, c_int, c_longlong, c_uint, c_void};
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

use candle_core::cuda_backend::cudarc::cublas::sys::{
    cublasComputeType_t, cublasGemmAlgo_t, cublasHandle_t, cublasOperation_t, cublasStatus_t, cudaDataType,
};
use candle_core::cuda_backend::cudarc::driver::DriverError;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUcontext, CUdeviceptr, CUfunction, CUresult, CUstream, cuCtxGetCurrent, cuCtxSetCurrent, cuMemAllocFromPoolAsync,
    cuStreamCreateWithPriority, cuStreamSynchronize,
};
use nix::libc;

use crate::blocks::Freeing;
use crate::{blocks, rein, route, share};

/// The function of this name in the libraries, or null.
fn next(name: &CStr) -> *mut c_void {
    // SAFETY: The name ends with a zero.
    unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) }
}

/// The library's own function, looked up once, as a function of this type; `None` if there is none.
macro_rules! library {
    ($name:literal as $type:ty) => {{
        static FOUND: OnceLock<Option<$type>> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let found = next($name);
            // SAFETY: What has this name in the libraries is of this type: it is what this file's function of that name stands
            // in for.
            (!found.is_null()).then(|| unsafe { std::mem::transmute::<*mut c_void, $type>(found) })
        })
    }};
}

/// The one in which the latest stream was made. All lanes are in the same: a device has one to a process.
static CONTEXT: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// The context of the calling thread, or null.
fn current() -> CUcontext {
    let mut context = ptr::null_mut();
    // SAFETY: It writes a handle, if anything.
    let _ = unsafe { cuCtxGetCurrent(&raw mut context) };
    context
}

/// Gives a thread that is in no context the lanes'. Whoever drops what lanes allocated, such as the housekeeper, need not have had
/// to do with the device before. A failure is met again by whatever needs the context.
fn enter() {
    if current().is_null() {
        // SAFETY: It was that of a stream, or is null, which changes nothing.
        let _ = unsafe { cuCtxSetCurrent(CONTEXT.load(Ordering::Relaxed).cast()) };
    }
}

type Allocate = unsafe extern "C" fn(*mut CUdeviceptr, usize, CUstream) -> CUresult;
type Free = unsafe extern "C" fn(CUdeviceptr, CUstream) -> CUresult;
type MakeStream = unsafe extern "C" fn(*mut CUstream, c_uint) -> CUresult;
type Launch = unsafe extern "C" fn(
    CUfunction,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    c_uint,
    CUstream,
    *mut *mut c_void,
    *mut *mut c_void,
) -> CUresult;
/// Of kernels, and of threads in each of their blocks: how many in each direction.
#[repr(C)]
#[derive(Clone, Copy)]
struct Dim3 {
    x: c_uint,
    y: c_uint,
    z: c_uint,
}

type RuntimeLaunch = unsafe extern "C" fn(*const c_void, Dim3, Dim3, *mut *mut c_void, usize, CUstream) -> c_int;

/// `cudaErrorSymbolNotFound`.
const SYMBOL_NOT_FOUND: c_int = 500;

type Gemm = unsafe extern "C" fn(
    cublasHandle_t,
    cublasOperation_t,
    cublasOperation_t,
    c_int,
    c_int,
    c_int,
    *const c_void,
    *const c_void,
    cudaDataType,
    c_int,
    c_longlong,
    *const c_void,
    cudaDataType,
    c_int,
    c_longlong,
    *const c_void,
    *mut c_void,
    cudaDataType,
    c_int,
    c_longlong,
    c_int,
    cublasComputeType_t,
    cublasGemmAlgo_t,
) -> cublasStatus_t;

/// A stream; one that was wished for has its priority and its pool.
///
/// # Safety
/// As of the driver's.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuStreamCreate(stream: *mut CUstream, flags: c_uint) -> CUresult {
    let wish = route::take_wish();
    let done = match (wish, library!(c"cuStreamCreate" as MakeStream)) {
        // SAFETY: By this function's own condition.
        (Some(wish), _) => unsafe { cuStreamCreateWithPriority(stream, flags, wish.priority) },
        // SAFETY: Likewise.
        (None, Some(create)) => unsafe { create(stream, flags) },
        (None, None) => CUresult::CUDA_ERROR_NOT_FOUND,
    };
    if done == CUresult::CUDA_SUCCESS {
        // SAFETY: The driver has just written it.
        route::made(unsafe { *stream } as usize, wish);
        CONTEXT.store(current().cast(), Ordering::Relaxed);
    }
    done
}

/// Memory in the order of a stream: from its lane's pool.
///
/// # Safety
/// As of the driver's.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemAllocAsync(address: *mut CUdeviceptr, bytes: usize, stream: CUstream) -> CUresult {
    let Some(pool) = route::of(stream as usize) else {
        let Some(allocate) = library!(c"cuMemAllocAsync" as Allocate) else { return CUresult::CUDA_ERROR_NOT_FOUND };
        // SAFETY: By this function's own condition.
        return unsafe { allocate(address, bytes, stream) };
    };
    let pool = pool as *mut _;
    // SAFETY: By this function's own condition; a pool is there for as long as streams that draw on it.
    let mut done = unsafe { cuMemAllocFromPoolAsync(address, bytes, pool, stream) };
    if done == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        // What this stream has freed may not have been reached yet by the device.
        // SAFETY: Likewise.
        done = unsafe { cuStreamSynchronize(stream) };
        if done == CUresult::CUDA_SUCCESS {
            // SAFETY: Likewise.
            done = unsafe { cuMemAllocFromPoolAsync(address, bytes, pool, stream) };
        }
    }
    if done == CUresult::CUDA_SUCCESS {
        // SAFETY: The driver has just written it.
        blocks::took(unsafe { *address }, bytes as u64);
    } else if done == CUresult::CUDA_ERROR_OUT_OF_MEMORY {
        route::refused(bytes as u64);
    }
    done
}

/// Gives memory back in the order of a stream, unless tensors of other streams have it; the last of them does, after all that the
/// others may have read there.
///
/// # Safety
/// As of the driver's.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemFreeAsync(address: CUdeviceptr, stream: CUstream) -> CUresult {
    let Some(free) = library!(c"cuMemFreeAsync" as Free) else { return CUresult::CUDA_ERROR_NOT_FOUND };
    let Freeing::After(others) = blocks::frees(address) else { return CUresult::CUDA_SUCCESS };
    enter();
    // SAFETY: By this function's own condition.
    if let Err(DriverError(why)) = unsafe { share::after(stream, &others) } {
        // Rather lost than given away under whoever may still read it.
        return why;
    }
    // SAFETY: Likewise.
    unsafe { free(address, stream) }
}

/// A kernel, when its lane may.
///
/// # Safety
/// As of the driver's.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuLaunchKernel(
    function: CUfunction,
    grid_x: c_uint,
    grid_y: c_uint,
    grid_z: c_uint,
    block_x: c_uint,
    block_y: c_uint,
    block_z: c_uint,
    shared: c_uint,
    stream: CUstream,
    parameters: *mut *mut c_void,
    extra: *mut *mut c_void,
) -> CUresult {
    let Some(launch) = library!(c"cuLaunchKernel" as Launch) else { return CUresult::CUDA_ERROR_NOT_FOUND };
    rein::before();
    // SAFETY: By this function's own condition.
    let done = unsafe {
        launch(function, grid_x, grid_y, grid_z, block_x, block_y, block_z, shared, stream, parameters, extra)
    };
    rein::after();
    done
}

/// Launches by the runtime's own function, if there is one, when the thread's lane may.
fn when_it_may(launch: Option<RuntimeLaunch>, call: impl FnOnce(RuntimeLaunch) -> c_int) -> c_int {
    let Some(launch) = launch else { return SYMBOL_NOT_FOUND };
    rein::before();
    let done = call(launch);
    rein::after();
    done
}

/// A kernel by the runtime, as compilers before CUDA 12.8 launch those of candle's that are linked (`<<<...>>>`), when its lane may.
///
/// # Safety
/// As of the runtime's.
#[unsafe(no_mangle)]
unsafe extern "C" fn cudaLaunchKernel(
    function: *const c_void,
    grid: Dim3,
    block: Dim3,
    parameters: *mut *mut c_void,
    shared: usize,
    stream: CUstream,
) -> c_int {
    let launch = library!(c"cudaLaunchKernel" as RuntimeLaunch);
    // SAFETY: By this function's own condition.
    when_it_may(launch, |launch| unsafe { launch(function, grid, block, parameters, shared, stream) })
}

/// The same as compilers since CUDA 12.8 do it, by a handle of the kernel.
///
/// # Safety
/// As of the runtime's.
#[unsafe(no_mangle)]
unsafe extern "C" fn __cudaLaunchKernel(
    kernel: *const c_void,
    grid: Dim3,
    block: Dim3,
    parameters: *mut *mut c_void,
    shared: usize,
    stream: CUstream,
) -> c_int {
    let launch = library!(c"__cudaLaunchKernel" as RuntimeLaunch);
    // SAFETY: By this function's own condition.
    when_it_may(launch, |launch| unsafe { launch(kernel, grid, block, parameters, shared, stream) })
}

/// A product of matrices, when its lane may. It counts as one kernel, whatever cuBLAS makes of it.
///
/// # Safety
/// As of cuBLAS's.
#[unsafe(no_mangle)]
unsafe extern "C" fn cublasGemmStridedBatchedEx(
    handle: cublasHandle_t,
    op_a: cublasOperation_t,
    op_b: cublasOperation_t,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: *const c_void,
    a: *const c_void,
    type_a: cudaDataType,
    lda: c_int,
    stride_a: c_longlong,
    b: *const c_void,
    type_b: cudaDataType,
    ldb: c_int,
    stride_b: c_longlong,
    beta: *const c_void,
    c: *mut c_void,
    type_c: cudaDataType,
    ldc: c_int,
    stride_c: c_longlong,
    batch: c_int,
    compute: cublasComputeType_t,
    algorithm: cublasGemmAlgo_t,
) -> cublasStatus_t {
    let Some(gemm) = library!(c"cublasGemmStridedBatchedEx" as Gemm) else {
        return cublasStatus_t::CUBLAS_STATUS_NOT_SUPPORTED;
    };
    rein::before();
    // SAFETY: By this function's own condition.
    let done = unsafe {
        gemm(
            handle, op_a, op_b, m, n, k, alpha, a, type_a, lda, stride_a, b, type_b, ldb, stride_b, beta, c, type_c,
            ldc, stride_c, batch, compute, algorithm,
        )
    };
    rein::after();
    done
}

/// How many functions are defined here, all of which the linker has to take: what is not asked for it may leave out of a
/// library of ours, and take NVIDIA's.
pub(crate) fn count() -> usize {
    let functions = [
        cuStreamCreate as MakeStream as usize,
        cuMemAllocAsync as Allocate as usize,
        cuMemFreeAsync as Free as usize,
        cuLaunchKernel as Launch as usize,
        cudaLaunchKernel as RuntimeLaunch as usize,
        __cudaLaunchKernel as RuntimeLaunch as usize,
        cublasGemmStridedBatchedEx as Gemm as usize,
    ];
    std::hint::black_box(functions).iter().filter(|function| **function != 0).count()
}
