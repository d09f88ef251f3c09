//! The memory of a class in the simulated engine, its gate, and what is measured of both.

use crate::preemption::Preemption;
use crate::stretch::FULL;

/// Whether a model is in a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Residency {
    Absent,
    Loading,
    Resident,
}

#[derive(Debug)]
pub(crate) struct Partition {
    pub(crate) name: String,
    pub(crate) cap_bytes: u64,
    /// By model.
    pub(crate) residency: Vec<Residency>,
    /// Whether its gate is closed.
    pub(crate) closed: bool,
    /// Jobs that compute just now: neither loading nor parked.
    pub(crate) computing: u32,
    /// What their work takes, in thousandths of what it takes alone.
    pub(crate) slowness: u64,
    pub(crate) preemption: Preemption,
    live_bytes: u64,
    peak_bytes: u64,
    busy: u32,
    peak_busy: u32,
}

impl Partition {
    pub(crate) fn new(name: String, cap_bytes: u64, models: usize) -> Self {
        Self {
            name,
            cap_bytes,
            residency: vec![Residency::Absent; models],
            closed: false,
            computing: 0,
            slowness: FULL,
            preemption: Preemption::default(),
            live_bytes: 0,
            peak_bytes: 0,
            busy: 0,
            peak_busy: 0,
        }
    }

    /// Weights, and what jobs use beside them, in bytes.
    pub(crate) fn live_bytes(&self) -> u64 {
        self.live_bytes
    }

    /// The most of it at once.
    pub(crate) fn peak_bytes(&self) -> u64 {
        self.peak_bytes
    }

    /// The most lanes that were busy at once.
    pub(crate) fn peak_busy(&self) -> u32 {
        self.peak_busy
    }

    pub(crate) fn take(&mut self, bytes: u64) {
        self.live_bytes += bytes;
        self.peak_bytes = self.peak_bytes.max(self.live_bytes);
    }

    pub(crate) fn give_back(&mut self, bytes: u64) {
        self.live_bytes -= bytes;
    }

    pub(crate) fn occupy(&mut self) {
        self.busy += 1;
        self.peak_busy = self.peak_busy.max(self.busy);
    }

    pub(crate) fn vacate(&mut self) {
        self.busy -= 1;
    }

    /// The engine is gone; a fresh one has nothing in memory and its gates open.
    pub(crate) fn lose(&mut self) {
        self.residency.fill(Residency::Absent);
        (self.live_bytes, self.busy, self.computing) = (0, 0, 0);
        (self.closed, self.slowness) = (false, FULL);
    }
}
