//! `cuMem*` but for pools: what is allocated, freed, copied and set.
//!
//! A copy from the host takes the bytes at once unless they are page-locked, as for pageable memory is documented; one to
//! pageable host memory returns when it is over. Copies that have no stream return when they are over.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::slice;
use std::sync::{Mutex, PoisonError};

use super::{CONTEXT, DEFAULT_STREAM, put, stream, wait, within};
use crate::model::engine::{Effect, Op, Work};
use crate::model::memory::PLAIN;
use crate::model::{Gpu, Mark, StreamId, region};
use crate::status::Status;

/// Bytes that the device moves within itself in a virtual nanosecond.
const WITHIN_GBPS: u64 = 1000;

/// Page-locked host memory, by address.
static LOCKED: Mutex<BTreeMap<usize, Box<[u64]>>> = Mutex::new(BTreeMap::new());

/// A place in host memory, for a copy that the device makes later.
struct Host(*mut u8);

// SAFETY: That it stays until the copy is over is what the caller of an asynchronous copy promises.
unsafe impl Send for Host {}

fn locked(address: usize) -> bool {
    let locked = LOCKED.lock().unwrap_or_else(PoisonError::into_inner);
    locked.range(..=address).next_back().is_some_and(|(base, memory)| address < base + size_of_val(&**memory))
}

/// Runs a call that submits something, and waits until that is over.
fn wait_over(call: impl FnOnce(&mut Gpu) -> Result<Mark, Status>) -> Status {
    let mut submitted = None;
    let status = within(|gpu| {
        submitted = Some(call(gpu)?);
        Ok(())
    });
    match submitted {
        Some(mark) => wait(|gpu| gpu.past(mark)),
        None => status,
    }
}

fn moves(
    gpu: &mut Gpu,
    on: StreamId,
    (kind, name): (&'static str, &str),
    ranges: Vec<(u64, u64)>,
    staged: u64,
    effect: Effect,
) -> Result<Mark, Status> {
    for (address, bytes) in &ranges {
        gpu.touch(on, *address, *bytes)?;
    }
    let bytes = ranges.first().map_or(0, |(_, bytes)| *bytes);
    let over_the_bus = matches!(name, "htod" | "dtoh");
    let ns = bytes.div_ceil(if over_the_bus { gpu.settings.copy_gbps } else { WITHIN_GBPS });
    let (name, effect, fault) = (name.to_owned(), Some(effect), None);
    gpu.submit(on, Op::Work(Work { kind, name, bytes, ns, ranges, effect, staged, fault }))
}

/// # Safety
/// `from` has `bytes` bytes, and if it is page-locked it keeps them until the copy is over.
unsafe fn to_device(gpu: &mut Gpu, on: StreamId, to: u64, from: *const c_void, bytes: usize) -> Result<Mark, Status> {
    let host = Host(from.cast_mut().cast());
    let staged = if locked(from as usize) {
        None
    } else {
        gpu.stage(bytes as u64);
        // SAFETY: The caller has `bytes` bytes there.
        Some(unsafe { slice::from_raw_parts(from.cast::<u8>(), bytes) }.to_vec())
    };
    let held = staged.as_ref().map_or(0, |bytes| bytes.len() as u64);
    let effect = move || {
        let host = host;
        let from = staged.as_ref().map_or(host.0.cast_const(), Vec::as_ptr);
        // SAFETY: `from` as above; the engine has made sure that `to` is mapped.
        unsafe { std::ptr::copy(from, to as *mut u8, bytes) };
        Ok(())
    };
    moves(gpu, on, ("copy", "htod"), vec![(to, bytes as u64)], held, Box::new(effect))
}

/// # Safety
/// `to` has room for `bytes` bytes until the copy is over.
unsafe fn to_host(gpu: &mut Gpu, on: StreamId, to: *mut c_void, from: u64, bytes: usize) -> Result<Mark, Status> {
    let host = Host(to.cast());
    let effect = move || {
        let host = host;
        // SAFETY: The caller has room there; the engine has made sure that `from` is mapped.
        unsafe { std::ptr::copy(from as *const u8, host.0, bytes) };
        Ok(())
    };
    moves(gpu, on, ("copy", "dtoh"), vec![(from, bytes as u64)], 0, Box::new(effect))
}

fn within_device(gpu: &mut Gpu, on: StreamId, to: u64, from: u64, bytes: usize) -> Result<Mark, Status> {
    let effect = move || {
        // SAFETY: The engine has made sure that both are mapped.
        unsafe { std::ptr::copy(from as *const u8, to as *mut u8, bytes) };
        Ok(())
    };
    moves(gpu, on, ("copy", "dtod"), vec![(to, bytes as u64), (from, bytes as u64)], 0, Box::new(effect))
}

fn set(gpu: &mut Gpu, on: StreamId, to: u64, value: u8, bytes: usize) -> Result<Mark, Status> {
    let effect = move || {
        // SAFETY: The engine has made sure that it is mapped, and nothing else is at work on the device.
        unsafe {
            if value == 0 {
                region::zero(to, bytes);
            } else {
                (to as *mut u8).write_bytes(value, bytes);
            }
        }
        Ok(())
    };
    moves(gpu, on, ("set", "d8"), vec![(to, bytes as u64)], 0, Box::new(effect))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemGetInfo_v2(free: Option<&mut usize>, total: Option<&mut usize>) -> Status {
    within(|gpu| {
        let bytes = |n: u64| usize::try_from(n).map_err(|_| Status::INVALID_VALUE);
        put(free, bytes(gpu.room())?)?;
        put(total, bytes(gpu.settings.memory)?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAlloc_v2(address: Option<&mut u64>, bytes: usize) -> Status {
    within(|gpu| put(address, gpu.allocate(bytes as u64, PLAIN, None)?))
}

/// Waits for all streams, which the driver may do, and in practice does.
#[unsafe(no_mangle)]
extern "C" fn cuMemFree_v2(address: u64) -> Status {
    match within(|_| Ok(())) {
        Status::SUCCESS if address == 0 => Status::SUCCESS,
        Status::SUCCESS => match wait(Gpu::idle) {
            Status::SUCCESS => within(|gpu| gpu.free(address, DEFAULT_STREAM)),
            failed => failed,
        },
        failed => failed,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocAsync(address: Option<&mut u64>, bytes: usize, on: usize) -> Status {
    within(|gpu| {
        let (on, pool) = (stream(gpu, on)?, gpu.memory.current);
        put(address, gpu.allocate(bytes as u64, pool, Some(on))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocFromPoolAsync(address: Option<&mut u64>, bytes: usize, pool: usize, on: usize) -> Status {
    within(|gpu| {
        let (on, pool) = (stream(gpu, on)?, gpu.memory.handles.get(pool).copied().ok_or(Status::INVALID_VALUE)?);
        put(address, gpu.allocate(bytes as u64, pool, Some(on))?)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemFreeAsync(address: u64, on: usize) -> Status {
    within(|gpu| {
        let on = stream(gpu, on)?;
        gpu.free(address, on)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemHostAlloc(address: Option<&mut usize>, bytes: usize, _flags: u32) -> Status {
    within(|_| {
        if bytes == 0 {
            return Err(Status::INVALID_VALUE);
        }
        let memory = vec![0_u64; bytes.div_ceil(8)].into_boxed_slice();
        let at = memory.as_ptr() as usize;
        LOCKED.lock().unwrap_or_else(PoisonError::into_inner).insert(at, memory);
        put(address, at)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemAllocHost_v2(address: Option<&mut usize>, bytes: usize) -> Status {
    cuMemHostAlloc(address, bytes, 0)
}

/// Waits for all streams, since one may be copying from or to it.
#[unsafe(no_mangle)]
extern "C" fn cuMemFreeHost(address: usize) -> Status {
    match wait(Gpu::idle) {
        Status::SUCCESS => within(|_| {
            let freed = LOCKED.lock().unwrap_or_else(PoisonError::into_inner).remove(&address);
            freed.map(drop).ok_or(Status::INVALID_VALUE)
        }),
        failed => failed,
    }
}

/// # Safety
/// As `to_device` has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoDAsync_v2(to: u64, from: *const c_void, bytes: usize, on: usize) -> Status {
    within(|gpu| {
        let on = stream(gpu, on)?;
        // SAFETY: By this function's own condition.
        unsafe { to_device(gpu, on, to, from, bytes) }.map(|_| ())
    })
}

/// # Safety
/// `from` has `bytes` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyHtoD_v2(to: u64, from: *const c_void, bytes: usize) -> Status {
    // SAFETY: By this function's own condition.
    wait_over(|gpu| unsafe { to_device(gpu, DEFAULT_STREAM, to, from, bytes) })
}

/// # Safety
/// `to` has room for `bytes` bytes, and if it is page-locked keeps it until the copy is over.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoHAsync_v2(to: *mut c_void, from: u64, bytes: usize, on: usize) -> Status {
    let submit = |gpu: &mut Gpu| {
        let on = stream(gpu, on)?;
        // SAFETY: By this function's own condition, and for pageable memory because it is waited for.
        unsafe { to_host(gpu, on, to, from, bytes) }
    };
    if locked(to as usize) { within(|gpu| submit(gpu).map(|_| ())) } else { wait_over(submit) }
}

/// # Safety
/// `to` has room for `bytes` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn cuMemcpyDtoH_v2(to: *mut c_void, from: u64, bytes: usize) -> Status {
    // SAFETY: By this function's own condition.
    wait_over(|gpu| unsafe { to_host(gpu, DEFAULT_STREAM, to, from, bytes) })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoDAsync_v2(to: u64, from: u64, bytes: usize, on: usize) -> Status {
    within(|gpu| {
        let on = stream(gpu, on)?;
        within_device(gpu, on, to, from, bytes).map(|_| ())
    })
}

/// From one context to another, and there is only one.
#[unsafe(no_mangle)]
extern "C" fn cuMemcpyPeerAsync(to: u64, there: usize, from: u64, here: usize, bytes: usize, on: usize) -> Status {
    if [there, here] != [CONTEXT; 2] {
        return Status::INVALID_CONTEXT;
    }
    cuMemcpyDtoDAsync_v2(to, from, bytes, on)
}

#[unsafe(no_mangle)]
extern "C" fn cuMemcpyDtoD_v2(to: u64, from: u64, bytes: usize) -> Status {
    wait_over(|gpu| within_device(gpu, DEFAULT_STREAM, to, from, bytes))
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8Async(to: u64, value: u8, bytes: usize, on: usize) -> Status {
    within(|gpu| {
        let on = stream(gpu, on)?;
        set(gpu, on, to, value, bytes).map(|_| ())
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuMemsetD8_v2(to: u64, value: u8, bytes: usize) -> Status {
    wait_over(|gpu| set(gpu, DEFAULT_STREAM, to, value, bytes))
}
