//! Tensors of several lanes over the same memory.
//!
//! candle's tensor belongs to a stream: it is computed with there, and frees its memory in that stream's order. So each lane has a
//! tensor of its own, all of them with one address; how many there are is counted ([`blocks`]), and the last of them that frees
//! the memory does so after all that the others' streams were handed ([`after`]). Such memory is only ever read.

use std::sync::Arc;

use candle_core::cuda_backend::cudarc::driver::result;
use candle_core::cuda_backend::cudarc::driver::sys::{CUevent_wait_flags, CUstream};
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr as _, DriverError};
use candle_core::cuda_backend::{CudaDType, CudaStorageSlice as Slice};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, Error, Storage, Tensor};

use crate::blocks;

/// A tensor of a lane's, by its device and stream, over the memory of another one. What was written there is there already.
pub(crate) fn share(tensor: &Tensor, lane: (&CudaDevice, &Arc<CudaStream>)) -> Result<Tensor, Error> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        return Err(Error::msg("what is not on the GPU cannot be shared on it"));
    };
    if !layout.is_contiguous() || layout.start_offset() != 0 {
        return Err(Error::msg("a part of a tensor cannot be shared"));
    }
    let storage = match &storage.slice {
        Slice::F16(slice) => over(slice, lane),
        Slice::BF16(slice) => over(slice, lane),
        Slice::F32(slice) => over(slice, lane),
        Slice::F64(slice) => over(slice, lane),
        Slice::U8(slice) => over(slice, lane),
        Slice::U32(slice) => over(slice, lane),
        Slice::I16(slice) => over(slice, lane),
        Slice::I32(slice) => over(slice, lane),
        Slice::I64(slice) => over(slice, lane),
        Slice::F8E4M3(slice) => over(slice, lane),
        Slice::F6E2M3(_) | Slice::F6E3M2(_) | Slice::F4(_) | Slice::F8E8M0(_) => {
            Err(Error::msg("numbers of this type cannot be shared"))
        }
    }?;
    Ok(Tensor::from_storage(Storage::Cuda(storage), layout.shape(), BackpropOp::none(), false))
}

fn over<T: CudaDType>(
    slice: &CudaSlice<T>,
    (device, stream): (&CudaDevice, &Arc<CudaStream>),
) -> Result<CudaStorage, Error> {
    let (address, _in_use) = slice.device_ptr(stream);
    if !blocks::share(address, [slice.stream(), stream]) {
        return Err(Error::msg("what is of no class's memory cannot be shared"));
    }
    // SAFETY: So many numbers of this type lie there, for as long as this slice has not freed them: it has been counted.
    let shared = unsafe { stream.upgrade_device_ptr::<T>(address, slice.len()) };
    Ok(CudaStorage::wrap_cuda_slice(shared, device.clone()))
}

/// Makes what a stream is handed next come after all that others were handed so far.
///
/// # Safety
/// The stream is there.
pub(crate) unsafe fn after(stream: CUstream, others: &[Arc<CudaStream>]) -> Result<(), DriverError> {
    for other in others.iter().filter(|other| other.cu_stream() != stream) {
        // Gone as soon as the driver needs it no more.
        let so_far = other.record_event(None)?;
        let flags = CUevent_wait_flags::CU_EVENT_WAIT_DEFAULT;
        // SAFETY: By this function's own condition, and the event has just been made.
        unsafe { result::stream::wait_event(stream, so_far.cu_event(), flags) }?;
    }
    Ok(())
}
