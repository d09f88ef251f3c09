//! The one engine of the device, on the virtual clock.
//!
//! Time passes only in `step` and `advance`. What takes no time (an allocation, a free, a recording, a wait that is over) is
//! done as soon as its stream gets there; of the rest the engine runs one at a time, to its end, and then that of the stream
//! with the highest priority, among equals what was submitted first.

use super::streams::Queued;
use super::trace::Entry;
use super::{Gpu, Mark, Ns, StreamId};
use crate::status::Status;

/// How much the driver holds of what is to be copied to the device.
const STAGED_BYTES: u64 = 64 << 20;

/// What an operation does to memory, at its end. An error is a fault of the device.
pub(crate) type Effect = Box<dyn FnOnce() -> Result<(), Status> + Send>;

/// What a stream is asked to do.
pub(crate) enum Op {
    Work(Work),
    /// Memory of a pool becomes this stream's.
    Allocate,
    /// A block that is pending becomes free.
    Free {
        address: u64,
        bytes: u64,
    },
    /// An event is reached.
    Record(usize),
    /// Nothing goes on before another stream is past a mark.
    Wait(Mark),
}

/// Something that the engine takes time for.
#[derive(Default)]
pub(crate) struct Work {
    pub(crate) kind: &'static str,
    pub(crate) name: String,
    pub(crate) bytes: u64,
    pub(crate) ns: Ns,
    /// The device memory that the effect touches: addresses and lengths.
    pub(crate) ranges: Vec<(u64, u64)>,
    pub(crate) effect: Option<Effect>,
    /// Bytes of host memory that it holds until it is over.
    pub(crate) staged: u64,
    pub(crate) fault: Option<Status>,
}

/// What the engine is at.
pub(crate) struct Running {
    stream: StreamId,
    queued: Queued,
    begun: Ns,
    ends: Ns,
}

impl Gpu {
    /// Puts something at the end of a stream, and says where that is. A stream that is full makes the caller wait.
    pub(crate) fn submit(&mut self, stream: StreamId, op: Op) -> Result<Mark, Status> {
        self.alive()?;
        while self.streams.get(&stream).is_some_and(|known| known.queue.len() >= self.settings.queue) && self.step() {}
        self.alive()?;
        self.submissions += 1;
        let (order, at) = (self.submissions, self.now);
        let known = self.streams.get_mut(&stream).ok_or(Status::INVALID_HANDLE)?;
        known.submitted += 1;
        let seq = known.submitted;
        if let Op::Work(work) = &op {
            self.staged += work.staged;
        }
        known.queue.push_back(Queued { seq, order, at, op });
        self.settle();
        Ok(Mark { stream, seq })
    }

    /// Makes the caller wait until there is room for so many more bytes that are copied from the host, or for nothing else.
    pub(crate) fn stage(&mut self, bytes: u64) {
        while self.staged > 0 && self.staged + bytes > STAGED_BYTES && self.step() {}
    }

    /// Goes on to the end of what the engine is at. False if there is nothing left to do.
    pub(crate) fn step(&mut self) -> bool {
        self.settle();
        let Some(running) = self.running.take() else { return false };
        self.now = running.ends;
        self.finish(running);
        self.settle();
        true
    }

    /// Lets virtual time pass, in which the device works.
    pub(crate) fn advance(&mut self, ns: Ns) {
        let until = self.now.saturating_add(ns);
        self.settle();
        while self.running.as_ref().is_some_and(|running| running.ends <= until) {
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Whether nothing is left to do on any stream.
    pub(crate) fn idle(&self) -> bool {
        self.streams.values().all(|stream| stream.done == stream.submitted)
    }

    /// Does what takes no time, and gives the engine something to do. Nothing after a fault: the device stands still.
    pub(crate) fn settle(&mut self) {
        while self.failed.is_none()
            && let Some(stream) = self.instant()
        {
            self.pass(stream);
        }
        self.streams.retain(|_, stream| !stream.closing || stream.done < stream.submitted);
        if self.failed.is_none() && self.running.is_none() {
            let ready = |stream: &super::Stream| stream.queue.front().map(|first| (stream.priority, first.order));
            let waits = |stream: &super::Stream| matches!(stream.queue.front(), Some(Queued { op: Op::Wait(_), .. }));
            let heads = self.streams.iter().filter(|(_, stream)| !waits(stream));
            let next = heads.filter_map(|(id, stream)| ready(stream).map(|rank| (rank, *id))).min();
            if let Some((_, stream)) = next
                && let Some(queued) = self.streams.get_mut(&stream).and_then(|stream| stream.queue.pop_front())
            {
                let ns = if let Op::Work(work) = &queued.op { work.ns } else { 0 };
                self.running = Some(Running { stream, queued, begun: self.now, ends: self.now.saturating_add(ns) });
            }
        }
    }

    /// A stream whose next operation takes no time and can be done now.
    fn instant(&self) -> Option<StreamId> {
        let busy = self.running.as_ref().map(|running| running.stream);
        let ready = |op: &Op| match op {
            Op::Work(_) => false,
            Op::Allocate | Op::Free { .. } | Op::Record(_) => true,
            Op::Wait(mark) => self.past(*mark),
        };
        let mut idle = self.streams.iter().filter(|(id, _)| Some(**id) != busy);
        idle.find(|(_, stream)| stream.queue.front().is_some_and(|first| ready(&first.op))).map(|(id, _)| *id)
    }

    /// Does the next operation of a stream, which takes no time.
    fn pass(&mut self, stream: StreamId) {
        let Some(queued) = self.streams.get_mut(&stream).and_then(|stream| stream.queue.pop_front()) else { return };
        let mark = Mark { stream, seq: queued.seq };
        match queued.op {
            Op::Free { address, bytes } => self.memory.freed(address, bytes, mark),
            Op::Record(event) => self.reach(event, mark),
            Op::Allocate | Op::Wait(_) | Op::Work(_) => {}
        }
        self.over(mark);
    }

    fn finish(&mut self, running: Running) {
        let Running { stream, queued, begun, ends } = running;
        let mark = Mark { stream, seq: queued.seq };
        let Op::Work(work) = queued.op else { return self.over(mark) };
        let priority = self.streams.get(&stream).map_or(0, |stream| stream.priority);
        let Work { kind, name, bytes, ns: _, ranges, effect, staged, fault } = work;
        self.staged -= staged;
        if let Some(fault) = fault {
            self.failed = Some(fault);
        } else if !ranges.iter().all(|(address, bytes)| self.memory.mapped(*address, *bytes)) {
            self.failed = Some(Status::ILLEGAL_ADDRESS);
        } else if let Some(effect) = effect {
            self.failed = effect().err();
        }
        self.trace.push(Entry { submitted: queued.at, begin: begun, end: ends, stream, priority, kind, name, bytes });
        self.over(mark);
    }

    fn over(&mut self, mark: Mark) {
        if let Some(stream) = self.streams.get_mut(&mark.stream) {
            stream.done = mark.seq;
        }
    }
}
