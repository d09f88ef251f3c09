//! `cuStream*`.

use super::{initialised, put, stream, synchronise, within};
use crate::model::streams::LEAST;
use crate::status::Status;

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreate(handle: Option<&mut usize>, flags: u32) -> Status {
    cuStreamCreateWithPriority(handle, flags, LEAST)
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamCreateWithPriority(handle: Option<&mut usize>, flags: u32, priority: i32) -> Status {
    // 1 is CU_STREAM_NON_BLOCKING.
    if flags > 1 {
        return Status::INVALID_VALUE;
    }
    within(|gpu| put(handle, gpu.create_stream(priority)))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamDestroy_v2(handle: usize) -> Status {
    within(|gpu| gpu.destroy_stream(handle))
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamGetPriority(handle: usize, priority: Option<&mut i32>) -> Status {
    within(|gpu| {
        let id = stream(gpu, handle)?;
        put(priority, gpu.streams.get(&id).map_or(0, |stream| stream.priority))
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamSynchronize(handle: usize) -> Status {
    let mut tail = None;
    let found = within(|gpu| {
        let id = stream(gpu, handle)?;
        tail = Some(gpu.tail(id));
        Ok(())
    });
    match tail {
        Some(tail) => synchronise(|gpu| gpu.past(tail)),
        None => found,
    }
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamQuery(handle: usize) -> Status {
    within(|gpu| {
        let id = stream(gpu, handle)?;
        if gpu.past(gpu.tail(id)) { Ok(()) } else { Err(Status::NOT_READY) }
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamWaitEvent(handle: usize, event: usize, _flags: u32) -> Status {
    within(|gpu| {
        let id = stream(gpu, handle)?;
        gpu.wait_for_event(id, event)
    })
}

/// Nothing is ever captured: 0 is `CU_STREAM_CAPTURE_STATUS_NONE`.
#[unsafe(no_mangle)]
extern "C" fn cuStreamIsCapturing(handle: usize, status: Option<&mut i32>) -> Status {
    initialised(|gpu| {
        stream(gpu, handle)?;
        put(status, 0)
    })
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamBeginCapture_v2(_handle: usize, _mode: i32) -> Status {
    Status::NOT_SUPPORTED
}

#[unsafe(no_mangle)]
extern "C" fn cuStreamEndCapture(_handle: usize, _graph: usize) -> Status {
    Status::NOT_SUPPORTED
}
