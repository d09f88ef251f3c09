//! `cuEvent*`.

use super::{put, stream, synchronise, within};
use crate::model::events::Event;
use crate::status::Status;

/// `CU_EVENT_DISABLE_TIMING`.
const UNTIMED: u32 = 2;

#[unsafe(no_mangle)]
extern "C" fn cuEventCreate(handle: Option<&mut usize>, flags: u32) -> Status {
    within(|gpu| put(handle, gpu.events.insert(Event::new(flags & UNTIMED != 0))))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventDestroy_v2(handle: usize) -> Status {
    within(|gpu| gpu.events.remove(handle).map(|_| ()).ok_or(Status::INVALID_HANDLE))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventRecord(handle: usize, on: usize) -> Status {
    within(|gpu| {
        let id = stream(gpu, on)?;
        gpu.record(handle, id)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventQuery(handle: usize) -> Status {
    within(|gpu| match gpu.recorded(handle)? {
        Some(mark) if !gpu.past(mark) => Err(Status::NOT_READY),
        Some(_) | None => Ok(()),
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuEventSynchronize(handle: usize) -> Status {
    let mut recorded = None;
    let found = within(|gpu| {
        recorded = gpu.recorded(handle)?;
        Ok(())
    });
    match recorded {
        Some(mark) => synchronise(|gpu| gpu.past(mark)),
        None => found,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime(milliseconds: Option<&mut f32>, from: usize, to: usize) -> Status {
    within(|gpu| put(milliseconds, gpu.elapsed(from, to)? as f32 / 1e6))
}

#[unsafe(no_mangle)]
extern "C" fn cuEventElapsedTime_v2(milliseconds: Option<&mut f32>, from: usize, to: usize) -> Status {
    cuEventElapsedTime(milliseconds, from, to)
}
