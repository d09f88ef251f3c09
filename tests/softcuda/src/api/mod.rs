//! The C interfaces, over one device for the process.

mod blas;
mod context;
mod control;
mod device;
mod event;
mod launch;
mod memory;
mod nvml;
mod pool;
mod random;
mod runtime;
mod stream;

use std::cell::Cell;
use std::path::PathBuf;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::{env, process, thread};

use crate::model::trace::Trace;
use crate::model::{Gpu, LEGACY, StreamId};
use crate::settings::Settings;
use crate::status::Status;

/// The handle of the only context, the device's primary one.
const CONTEXT: usize = 0x60_0000_0000;

/// The stream that `CU_STREAM_PER_THREAD` means.
const PER_THREAD: usize = 2;

static GPU: LazyLock<Mutex<Gpu>> = LazyLock::new(|| {
    let trace =
        env::var_os("SOFTCUDA_TRACE").map_or_else(|| Ok(Trace::default()), |path| Trace::to(&PathBuf::from(path)));
    let gpu = Settings::from_environment().and_then(|settings| Ok(Gpu::new(settings, trace?)));
    Mutex::new(gpu.unwrap_or_else(|why| {
        eprintln!("softcuda: {why}");
        process::exit(2)
    }))
});

/// Runs as the library is loaded: files that the environment names are opened before the program gives up its right to.
#[used]
#[unsafe(link_section = ".init_array")]
static AT_LOAD: extern "C" fn() = {
    extern "C" fn at_load() {
        if ["SOFTCUDA_TRACE", "SOFTCUDA_ONCE"].iter().any(|name| env::var_os(name).is_some()) {
            drop(gpu());
        }
    }
    at_load
};

thread_local! {
    static CURRENT: Cell<usize> = const { Cell::new(0) };
    static OWN_STREAM: Cell<Option<StreamId>> = const { Cell::new(None) };
}

fn gpu() -> MutexGuard<'static, Gpu> {
    GPU.lock().unwrap_or_else(PoisonError::into_inner)
}

/// For functions that need nothing but `cuInit` before them.
fn initialised(call: impl FnOnce(&mut Gpu) -> Result<(), Status>) -> Status {
    let mut gpu = gpu();
    if gpu.initialised { call(&mut gpu).into() } else { Status::NOT_INITIALIZED }
}

/// For functions that need a context that works.
fn within(call: impl FnOnce(&mut Gpu) -> Result<(), Status>) -> Status {
    initialised(|gpu| {
        if CURRENT.get() != CONTEXT || gpu.retained == 0 {
            return Err(Status::INVALID_CONTEXT);
        }
        gpu.alive()?;
        call(gpu)
    })
}

/// Waits as a call does that is documented to synchronise: afterwards each pool gives back what is idle above its threshold.
fn synchronise(over: impl Fn(&Gpu) -> bool) -> Status {
    let status = wait(over);
    gpu().memory.release();
    status
}

/// Lets the device work until something is over, with other threads in between.
fn wait(over: impl Fn(&Gpu) -> bool) -> Status {
    loop {
        let mut gpu = gpu();
        if let Err(status) = gpu.alive() {
            return status;
        }
        if over(&gpu) || !gpu.step() {
            return gpu.alive().into();
        }
        drop(gpu);
        thread::yield_now();
    }
}

/// Where a library's handle sends its work from now on.
fn set_stream(handle: usize, on: usize) -> Result<(), Status> {
    let mut gpu = gpu();
    let id = stream(&mut gpu, on)?;
    gpu.libraries.get_mut(handle).ok_or(Status::NOT_INITIALIZED)?.stream = id;
    Ok(())
}

/// The stream that a handle means for this thread.
fn stream(gpu: &mut Gpu, handle: usize) -> Result<StreamId, Status> {
    if handle != PER_THREAD {
        return gpu.stream(handle);
    }
    let own = OWN_STREAM.get().filter(|id| gpu.streams.contains_key(id)).unwrap_or_else(|| gpu.open_stream(0));
    OWN_STREAM.set(Some(own));
    Ok(own)
}

/// Writes what a caller has room for.
fn put<T>(place: Option<&mut T>, value: T) -> Result<(), Status> {
    *place.ok_or(Status::INVALID_VALUE)? = value;
    Ok(())
}

/// Work without a stream of its own goes to this one.
const DEFAULT_STREAM: StreamId = LEGACY;
