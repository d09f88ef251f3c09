//! The device and the driver's state, without a C interface: what is submitted, when it runs, and what it does to memory.

pub(crate) mod engine;
pub(crate) mod events;
pub(crate) mod launch;
pub(crate) mod library;
pub(crate) mod memory;
pub(crate) mod pool;
pub(crate) mod region;
pub(crate) mod slots;
pub(crate) mod streams;
#[cfg(test)]
mod tests;
pub(crate) mod trace;

use std::collections::BTreeMap;

use crate::settings::Settings;
use crate::status::Status;
use engine::Running;
use events::Event;
use launch::{Kernel, Module};
use library::Library;
use memory::Memory;
use slots::Slots;
use streams::Stream;
use trace::Trace;

/// Virtual nanoseconds.
pub(crate) type Ns = u64;

/// A stream's number. Unlike its handle it is not used again.
pub(crate) type StreamId = u32;

/// The stream with handle 0 or 1.
pub(crate) const LEGACY: StreamId = 0;

/// A place in the order of a stream: its operation with this number, the first of which is 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Mark {
    pub(crate) stream: StreamId,
    pub(crate) seq: u64,
}

/// The device, and the driver's state for this process.
pub(crate) struct Gpu {
    pub(crate) settings: Settings,
    pub(crate) now: Ns,
    pub(crate) initialised: bool,
    /// How often the primary context was retained.
    pub(crate) retained: u32,
    /// The error after which nothing works any more in this process.
    pub(crate) failed: Option<Status>,
    pub(crate) handles: Slots<StreamId>,
    pub(crate) streams: BTreeMap<StreamId, Stream>,
    pub(crate) events: Slots<Event>,
    pub(crate) memory: Memory,
    pub(crate) modules: Slots<Module>,
    /// The kernels that were asked for.
    pub(crate) functions: Slots<Kernel>,
    pub(crate) libraries: Slots<Library>,
    pub(crate) trace: Trace,
    running: Option<Running>,
    /// Bytes of host memory that what is queued holds.
    staged: u64,
    next_stream: StreamId,
    submissions: u64,
}

impl Gpu {
    pub(crate) fn new(settings: Settings, trace: Trace) -> Self {
        Self {
            now: 0,
            initialised: false,
            retained: 0,
            failed: None,
            handles: Slots::new(slots::STREAM),
            streams: BTreeMap::from([(LEGACY, Stream::new(0))]),
            events: Slots::new(slots::EVENT),
            memory: Memory::new(),
            modules: Slots::new(slots::MODULE),
            functions: Slots::new(slots::FUNCTION),
            libraries: Slots::new(slots::LIBRARY),
            trace,
            running: None,
            staged: 0,
            next_stream: LEGACY + 1,
            submissions: 0,
            settings,
        }
    }

    /// Fails with the error that nothing survives, if there was one.
    pub(crate) fn alive(&self) -> Result<(), Status> {
        self.failed.map_or(Ok(()), Err)
    }

    /// The end of the primary context, with everything that is in it.
    pub(crate) fn end_context(&mut self) {
        self.running = None;
        self.staged = 0;
        self.streams = BTreeMap::from([(LEGACY, Stream::new(0))]);
        self.handles.clear();
        self.events.clear();
        self.memory.clear();
        self.modules.clear();
        self.functions.clear();
        self.libraries.clear();
    }
}
