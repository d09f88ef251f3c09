//! The memory of a class on the device: one pool, with a hard cap.

use std::ffi::c_void;
use std::mem::MaybeUninit;
use std::sync::{Arc, OnceLock};

use candle_core::cuda_backend::cudarc::driver::result::mem_pool;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice, CUmemAllocationType, CUmemLocationType, CUmemPool_attribute as Attribute, CUmemPoolProps, CUmemoryPool,
};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, CudaStream, DriverError, result};
use gpusched_engine::device;
use gpusched_shared::Bytes;

/// Pools grow by at least so many bytes at a time, and no allocation can use a cap that is no multiple of it to the end.
pub(crate) const GRAIN: u64 = 2 << 20;

/// A pool of the driver's. Gone when this is; what is still allocated from it keeps its memory.
#[derive(Debug)]
pub(crate) struct RawPool(CUmemoryPool);

// SAFETY: The driver's pools may be used by any thread.
unsafe impl Send for RawPool {}
// SAFETY: Likewise.
unsafe impl Sync for RawPool {}

impl RawPool {
    /// A pool on a device that never holds more than `cap_bytes`, and by itself gives nothing of that back.
    pub(crate) fn new(device: CUdevice, cap_bytes: u64) -> Result<Self, DriverError> {
        let mut properties = MaybeUninit::<CUmemPoolProps>::zeroed();
        let at = properties.as_mut_ptr();
        // SAFETY: Zeros are what the driver takes for "not said", and no type of a field has a value that they are not. The
        // number of the device follows the kind of place in every version of the driver's headers, in some as one of several
        // meanings.
        let properties = unsafe {
            (&raw mut (*at).allocType).write(CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED);
            let place = &raw mut (*at).location;
            (&raw mut (*place).type_).write(CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE);
            place.cast::<i32>().add(1).write(device);
            (&raw mut (*at).maxSize).write(cap_bytes as usize);
            properties.assume_init()
        };
        // SAFETY: The properties are valid, and the pool is this object's alone.
        let pool = Self(unsafe { mem_pool::create(&raw const properties) }?);
        pool.set(Attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, cap_bytes)?;
        Ok(pool)
    }

    pub(crate) fn handle(&self) -> CUmemoryPool {
        self.0
    }

    fn set(&self, attribute: Attribute, mut value: u64) -> Result<(), DriverError> {
        // SAFETY: The pool is there, and all attributes set here are of 64 bits.
        unsafe { mem_pool::set_attribute(self.0, attribute, (&raw mut value).cast::<c_void>()) }
    }

    fn get(&self, attribute: Attribute) -> Result<u64, DriverError> {
        let mut value = 0_u64;
        // SAFETY: Likewise.
        unsafe { mem_pool::get_attribute(self.0, attribute, (&raw mut value).cast::<c_void>()) }?;
        Ok(value)
    }

    fn trim(&self, keep_bytes: u64) -> Result<(), DriverError> {
        // SAFETY: The pool is there.
        unsafe { mem_pool::trim_to(self.0, keep_bytes as usize) }
    }

    /// Takes so many bytes in one piece in the order of a stream, and gives them back; whether they could be had.
    pub(crate) fn try_out(&self, bytes: u64, stream: &CudaStream) -> Result<(), DriverError> {
        stream.context().bind_to_thread()?;
        // SAFETY: Pool and stream are there, and nobody uses the memory.
        unsafe {
            let address = mem_pool::alloc_async(self.0, bytes as usize, stream.cu_stream())?;
            result::free_async(address, stream.cu_stream())?;
        }
        stream.synchronize()
    }
}

impl Drop for RawPool {
    fn drop(&mut self) {
        // SAFETY: Nobody else has it.
        if let Err(e) = unsafe { mem_pool::destroy(self.0) } {
            tracing::debug!("a pool is not given back: {e}");
        }
    }
}

/// What a pool holds and held, as the driver counts, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Figures {
    /// Allocated.
    pub(crate) used: u64,
    /// The most of it at once.
    pub(crate) used_high: u64,
    /// Taken from the device.
    pub(crate) reserved: u64,
    /// The most of it at once.
    pub(crate) reserved_high: u64,
}

/// The pool of a class.
#[derive(Debug)]
pub(crate) struct Pool {
    name: String,
    pub(crate) raw: RawPool,
    pub(crate) cap_bytes: u64,
    /// Whether the cap stays taken from the device.
    reserve: bool,
    context: Arc<CudaContext>,
    /// Those of the lanes that draw on it, once they are there.
    streams: OnceLock<Vec<Arc<CudaStream>>>,
    /// What everybody else's memory comes from, for as long.
    _misc: Arc<RawPool>,
}

impl Pool {
    pub(crate) fn new(
        name: &str,
        cap_bytes: u64,
        reserve: bool,
        context: &Arc<CudaContext>,
        misc: &Arc<RawPool>,
    ) -> Result<Self, DriverError> {
        // A cap of less than a grain would be none: zero is "no limit" to the driver.
        let cap_bytes = (cap_bytes / GRAIN).max(1) * GRAIN;
        let raw = RawPool::new(context.cu_device(), cap_bytes)?;
        let (context, _misc) = (Arc::clone(context), Arc::clone(misc));
        Ok(Self { name: name.to_owned(), raw, cap_bytes, reserve, context, streams: OnceLock::new(), _misc })
    }

    /// These are the lanes' that draw on it.
    pub(crate) fn belongs_to(&self, streams: Vec<Arc<CudaStream>>) {
        let _ = self.streams.set(streams);
    }

    pub(crate) fn figures(&self) -> Result<Figures, DriverError> {
        Ok(Figures {
            used: self.raw.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
            used_high: self.raw.get(Attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
            reserved: self.raw.get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
            reserved_high: self.raw.get(Attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
        })
    }

    /// Gives back all that is not in use but for so many bytes.
    pub(crate) fn empty(&self, keep_bytes: u64) -> Result<(), DriverError> {
        self.context.bind_to_thread()?;
        // What was freed belongs to the pool only when the device has got there.
        for stream in self.streams.get().into_iter().flatten() {
            stream.synchronize()?;
        }
        self.raw.trim(keep_bytes)
    }

    fn try_flush(&self) -> Result<(), DriverError> {
        self.empty(if self.reserve { self.cap_bytes } else { 0 })?;
        let Figures { used, used_high, reserved, reserved_high } = self.figures()?;
        let (class, most) = (&self.name, Bytes(used_high));
        tracing::debug!("class {class} has {} of {} in use, {most} at most", Bytes(used), Bytes(reserved));
        if !self.reserve && reserved > used {
            let (lost, held) = (Bytes(reserved - used), Bytes(reserved));
            let peak = Bytes(reserved_high);
            tracing::info!(
                "class {class} keeps {held} ({peak} at most), {lost} of it between what is in use: fragmentation"
            );
        }
        Ok(())
    }
}

impl device::Pool for Pool {
    fn held_bytes(&self) -> u64 {
        self.context.bind_to_thread().and_then(|()| self.figures()).map_or(0, |figures| figures.reserved)
    }

    fn peak_held_bytes(&self) -> u64 {
        self.context.bind_to_thread().and_then(|()| self.figures()).map_or(0, |figures| figures.reserved_high)
    }

    fn flush(&self) {
        if let Err(e) = self.try_flush() {
            // A device that is lost is met by a lane.
            tracing::warn!("class {} cannot be flushed: {e}", self.name);
        }
    }
}
