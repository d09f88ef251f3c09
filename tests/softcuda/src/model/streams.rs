//! Streams: what was submitted and has not run, in order, and what that order is known to come after.

use std::collections::{BTreeMap, VecDeque};

use super::engine::Op;
use super::{Gpu, LEGACY, Mark, Ns, StreamId};
use crate::status::Status;

/// The priorities that there are; a lower number goes first.
pub(crate) const LEAST: i32 = 0;
pub(crate) const GREATEST: i32 = -5;

pub(crate) struct Queued {
    pub(crate) seq: u64,
    /// Its place among the submissions to all streams.
    pub(crate) order: u64,
    pub(crate) at: Ns,
    pub(crate) op: Op,
}

pub(crate) struct Stream {
    pub(crate) priority: i32,
    pub(crate) queue: VecDeque<Queued>,
    /// The number of its last operation.
    pub(crate) submitted: u64,
    /// The number of the last operation that is over; all before it are, too.
    pub(crate) done: u64,
    /// How far other streams are, at least, when what is submitted next begins.
    pub(crate) after: BTreeMap<StreamId, u64>,
    /// Its handle is gone; it goes when its work is done.
    pub(crate) closing: bool,
}

impl Stream {
    pub(crate) fn new(priority: i32) -> Self {
        let priority = priority.clamp(GREATEST, LEAST);
        Self { priority, queue: VecDeque::new(), submitted: 0, done: 0, after: BTreeMap::new(), closing: false }
    }
}

impl Gpu {
    /// A new stream's number. A priority outside the range becomes the nearest inside.
    pub(crate) fn open_stream(&mut self, priority: i32) -> StreamId {
        let id = self.next_stream;
        self.next_stream += 1;
        self.streams.insert(id, Stream::new(priority));
        id
    }

    /// The handle of a new stream.
    pub(crate) fn create_stream(&mut self, priority: i32) -> usize {
        let id = self.open_stream(priority);
        self.handles.insert(id)
    }

    /// The stream that a handle means; 0 and 1 are the legacy stream.
    pub(crate) fn stream(&self, handle: usize) -> Result<StreamId, Status> {
        match handle {
            0 | 1 => Ok(LEGACY),
            _ => self.handles.get(handle).copied().ok_or(Status::INVALID_HANDLE),
        }
    }

    /// The handle is unknown from now on, and its work goes on.
    pub(crate) fn destroy_stream(&mut self, handle: usize) -> Result<(), Status> {
        let id = self.handles.remove(handle).ok_or(Status::INVALID_HANDLE)?;
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.closing = true;
        }
        self.settle();
        Ok(())
    }

    /// The place after everything that was submitted to a stream.
    pub(crate) fn tail(&self, stream: StreamId) -> Mark {
        Mark { stream, seq: self.streams.get(&stream).map_or(0, |stream| stream.submitted) }
    }

    /// Whether a stream is past a mark. One that is gone has done all that it had to.
    pub(crate) fn past(&self, mark: Mark) -> bool {
        self.streams.get(&mark.stream).is_none_or(|stream| stream.done >= mark.seq)
    }

    /// Whether what is submitted to `stream` next can begin only after `mark`.
    pub(crate) fn ordered(&self, stream: StreamId, mark: Mark) -> bool {
        let known = || self.streams.get(&stream).and_then(|stream| stream.after.get(&mark.stream).copied());
        mark.stream == stream || self.past(mark) || known().is_some_and(|seq| seq >= mark.seq)
    }

    /// Makes what is submitted to `stream` next wait until another is past `mark`; `order` is what that itself came after.
    pub(crate) fn wait_for(
        &mut self,
        stream: StreamId,
        mark: Mark,
        order: &BTreeMap<StreamId, u64>,
    ) -> Result<(), Status> {
        if mark.stream == stream {
            return Ok(());
        }
        self.submit(stream, Op::Wait(mark))?;
        if let Some(waiting) = self.streams.get_mut(&stream) {
            for (other, seq) in order.iter().map(|(other, seq)| (*other, *seq)).chain([(mark.stream, mark.seq)]) {
                let known = waiting.after.entry(other).or_default();
                *known = seq.max(*known);
            }
        }
        Ok(())
    }
}
