//! Service classes.

/// A service class: jobs that queue together for the same lanes and share one memory partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// Its name, which is also that of its partition.
    pub name: String,
    /// How many of its jobs run at once.
    pub lanes: u32,
    /// How many may wait.
    pub queue_limit: u32,
    /// Classes with a [gate](Self::gate) make way for those of higher priority.
    pub priority: i32,
    /// Bytes of its partition: weights of resident models and what running jobs use beside them.
    pub cap_bytes: u64,
    /// When its memory is flushed.
    pub flush: FlushRule,
    /// Whether and how far its jobs make way for classes of higher priority.
    pub gate: Option<GateRule>,
    /// How much lane time of later jobs is let past a waiting one: of its own uid's later jobs, and of other uids beyond
    /// their fair share. In milliseconds.
    pub aging_ms: u64,
    /// How long jobs of models in memory may go before one whose model must be swapped in, in milliseconds.
    pub batch_wait_ms: u64,
    /// Milliseconds after which a model that no job uses leaves memory; `None` keeps it until the room is needed.
    pub keep_alive_ms: Option<u64>,
    /// Models that never leave memory once they are loaded.
    pub pinned: Vec<String>,
}

/// When a class's memory is flushed: caches dropped and what is free returned to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FlushRule {
    /// Before each job.
    BeforeEach,
    /// Before a job that leaves less than a tenth of the partition free.
    OnPressure,
    /// Never.
    #[default]
    Never,
}

/// How far a class makes way. See [`crate::policy::preemption`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GateRule {
    /// The share of the time, in thousandths, that its jobs run however much other work there is.
    pub min_share_milli: u32,
    /// The longest they are parked in one go, in milliseconds.
    pub window_ms: u64,
}

impl Class {
    /// A class without limits on memory that never makes way.
    pub fn new(name: impl Into<String>, lanes: u32) -> Self {
        Self {
            name: name.into(),
            lanes,
            queue_limit: 1000,
            priority: 0,
            cap_bytes: u64::MAX,
            flush: FlushRule::Never,
            gate: None,
            aging_ms: 600_000,
            batch_wait_ms: 10_000,
            keep_alive_ms: None,
            pinned: Vec::new(),
        }
    }
}
