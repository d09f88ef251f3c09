//! Events: places in a stream's order, and the virtual time at which the device got there.

use std::collections::BTreeMap;

use super::engine::Op;
use super::{Gpu, Mark, Ns, StreamId};
use crate::status::Status;

/// An event, which knows of its last recording only.
#[derive(Debug)]
pub(crate) struct Event {
    /// Created with `CU_EVENT_DISABLE_TIMING`.
    untimed: bool,
    recorded: Option<Record>,
}

impl Event {
    pub(crate) fn new(untimed: bool) -> Self {
        Self { untimed, recorded: None }
    }
}

#[derive(Debug)]
struct Record {
    mark: Mark,
    /// What the stream was known to come after.
    order: BTreeMap<StreamId, u64>,
    reached: Option<Ns>,
}

impl Gpu {
    pub(crate) fn record(&mut self, event: usize, stream: StreamId) -> Result<(), Status> {
        self.events.get(event).ok_or(Status::INVALID_HANDLE)?;
        let order = self.streams.get(&stream).map(|stream| stream.after.clone()).unwrap_or_default();
        let mark = Mark { stream, seq: self.tail(stream).seq + 1 };
        if let Some(event) = self.events.get_mut(event) {
            event.recorded = Some(Record { mark, order, reached: None });
        }
        self.submit(stream, Op::Record(event)).map(|_| ())
    }

    /// The device got to a recording. A later one of the same event is left alone.
    pub(crate) fn reach(&mut self, event: usize, mark: Mark) {
        let now = self.now;
        if let Some(record) = self.events.get_mut(event).and_then(|event| event.recorded.as_mut())
            && record.mark == mark
        {
            record.reached = Some(now);
        }
    }

    /// Where the event was recorded last; `None` if it never was, which counts as reached.
    pub(crate) fn recorded(&self, event: usize) -> Result<Option<Mark>, Status> {
        let event = self.events.get(event).ok_or(Status::INVALID_HANDLE)?;
        Ok(event.recorded.as_ref().map(|record| record.mark))
    }

    /// Makes what is submitted to `stream` next wait for the event's last recording, if there was one.
    pub(crate) fn wait_for_event(&mut self, stream: StreamId, event: usize) -> Result<(), Status> {
        let event = self.events.get(event).ok_or(Status::INVALID_HANDLE)?;
        let Some((mark, order)) = event.recorded.as_ref().map(|record| (record.mark, record.order.clone())) else {
            return Ok(());
        };
        self.wait_for(stream, mark, &order)
    }

    /// The virtual time from one event to another, in nanoseconds.
    pub(crate) fn elapsed(&self, from: usize, to: usize) -> Result<i64, Status> {
        let reached = |event: usize| {
            let event = self.events.get(event).filter(|event| !event.untimed).ok_or(Status::INVALID_HANDLE)?;
            event.recorded.as_ref().ok_or(Status::INVALID_HANDLE)?.reached.ok_or(Status::NOT_READY)
        };
        let (from, to) = (reached(from)?, reached(to)?);
        Ok(to.cast_signed() - from.cast_signed())
    }
}
