//! What errors mean.

use candle_core::Error;
use candle_core::cuda_backend::CudaError;
use candle_core::cuda_backend::cudarc::cublas::result::CublasError;
use candle_core::cuda_backend::cudarc::cublas::sys::cublasStatus_t as Blas;
use candle_core::cuda_backend::cudarc::curand::result::CurandError;
use candle_core::cuda_backend::cudarc::curand::sys::curandStatus_t as Rand;
use candle_core::cuda_backend::cudarc::driver::DriverError;
use candle_core::cuda_backend::cudarc::driver::sys::CUresult as Code;

/// Whether an error says that memory could not be had, whatever has been said around it.
pub(crate) fn is_out_of_memory(error: &Error) -> bool {
    match cause(error) {
        Some(CudaError::Cuda(DriverError(code)) | CudaError::Load { cuda: DriverError(code), .. }) => {
            *code == Code::CUDA_ERROR_OUT_OF_MEMORY
        }
        Some(CudaError::Cublas(CublasError(status))) => *status == Blas::CUBLAS_STATUS_ALLOC_FAILED,
        Some(CudaError::Curand(CurandError(status))) => *status == Rand::CURAND_STATUS_ALLOCATION_FAILED,
        Some(
            CudaError::Compiler(_)
            | CudaError::MissingKernel { .. }
            | CudaError::UnsupportedDtype { .. }
            | CudaError::InternalError(_)
            | CudaError::MatMulNonContiguous { .. }
            | CudaError::UnexpectedDType { .. },
        )
        | None => false,
    }
}

/// Whether an error says of itself that nothing works any more.
pub(crate) fn is_sticky(error: &Error) -> bool {
    matches!(cause(error), Some(CudaError::Cuda(e) | CudaError::Load { cuda: e, .. }) if leaves_nothing(*e))
}

/// Whether a process that the driver has told this can use the device no more: its context is broken, and every call fails
/// until the process has ended.
pub(crate) fn leaves_nothing(DriverError(code): DriverError) -> bool {
    matches!(
        code,
        Code::CUDA_ERROR_ILLEGAL_ADDRESS
            | Code::CUDA_ERROR_ILLEGAL_INSTRUCTION
            | Code::CUDA_ERROR_MISALIGNED_ADDRESS
            | Code::CUDA_ERROR_INVALID_ADDRESS_SPACE
            | Code::CUDA_ERROR_INVALID_PC
            | Code::CUDA_ERROR_HARDWARE_STACK_ERROR
            | Code::CUDA_ERROR_ASSERT
            | Code::CUDA_ERROR_LAUNCH_FAILED
            | Code::CUDA_ERROR_LAUNCH_TIMEOUT
            | Code::CUDA_ERROR_ECC_UNCORRECTABLE
            | Code::CUDA_ERROR_NVLINK_UNCORRECTABLE
            | Code::CUDA_ERROR_CONTEXT_IS_DESTROYED
            | Code::CUDA_ERROR_DEINITIALIZED
            | Code::CUDA_ERROR_UNKNOWN
    )
}

/// The error of CUDA in one of candle's, if there is one.
fn cause(error: &Error) -> Option<&CudaError> {
    #[expect(clippy::wildcard_enum_match_arm, reason = "only these have another error in them")]
    match error {
        Error::Cuda(inner) => inner.downcast_ref(),
        Error::Context { inner, .. } | Error::WithPath { inner, .. } | Error::WithBacktrace { inner, .. } => {
            cause(inner)
        }
        Error::WrappedContext { wrapped, .. } => wrapped.downcast_ref().and_then(cause),
        _ => None,
    }
}

/// What the driver says, for a person: the error's name and what it means.
pub(crate) fn sentence(error: DriverError) -> String {
    let text = |text: Result<&std::ffi::CStr, DriverError>| text.map(|text| text.to_string_lossy().into_owned());
    match (text(error.error_name()), text(error.error_string())) {
        (Ok(name), Ok(meaning)) => format!("{meaning} ({name})"),
        (Ok(name), Err(_)) => name,
        (Err(_), _) => format!("{:?}", error.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn driver(code: Code) -> Error {
        Error::Cuda(Box::new(CudaError::Cuda(DriverError(code))))
    }

    #[test]
    fn memory_that_ran_out_is_found_in_whatever_is_around_it() {
        let plain = || driver(Code::CUDA_ERROR_OUT_OF_MEMORY);
        let load = CudaError::Load { cuda: DriverError(Code::CUDA_ERROR_OUT_OF_MEMORY), module_name: "x".to_owned() };
        let blas = CudaError::Cublas(CublasError(Blas::CUBLAS_STATUS_ALLOC_FAILED));
        let rand = CudaError::Curand(CurandError(Rand::CURAND_STATUS_ALLOCATION_FAILED));
        for error in [
            plain(),
            plain().context("while computing"),
            plain().with_path("/a/file").context("twice"),
            Error::WrappedContext { wrapped: Box::new(plain()), context: "again".to_owned() },
            Error::WithBacktrace {
                inner: Box::new(plain()),
                backtrace: Box::new(std::backtrace::Backtrace::disabled()),
            },
            Error::Cuda(Box::new(load)),
            Error::Cuda(Box::new(blas)),
            Error::Cuda(Box::new(rand)),
        ] {
            assert!(is_out_of_memory(&error) && !is_sticky(&error), "{error}");
        }
        for other in [driver(Code::CUDA_ERROR_INVALID_VALUE), Error::Msg("out of memory".to_owned())] {
            assert!(!is_out_of_memory(&other) && !is_sticky(&other), "{other}");
        }
    }

    #[test]
    fn what_breaks_the_context_is_known() {
        for code in [Code::CUDA_ERROR_ILLEGAL_ADDRESS, Code::CUDA_ERROR_ASSERT, Code::CUDA_ERROR_LAUNCH_FAILED] {
            assert!(is_sticky(&driver(code).context("x")), "{code:?}");
        }
        for code in [Code::CUDA_ERROR_OUT_OF_MEMORY, Code::CUDA_ERROR_NOT_READY, Code::CUDA_ERROR_INVALID_HANDLE] {
            assert!(!is_sticky(&driver(code)), "{code:?}");
        }
    }
}
