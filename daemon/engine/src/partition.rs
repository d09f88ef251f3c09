//! The partition of a class: its memory, the models in it and its gate.

use std::sync::Arc;

use gpusched_shared::JobId;

use crate::account::Account;
use crate::command::{GateKind, PartitionSpec};
use crate::device::Pool;
use crate::event::Event;
use crate::gate::Gate;
use crate::memory::{Memory, MemoryUse};
use crate::residency::Residency;

/// What the lanes of a class share.
#[derive(Debug)]
pub(crate) struct Partition {
    /// Its place in the list given at the start.
    pub(crate) class: usize,
    pub(crate) spec: PartitionSpec,
    pub(crate) account: Arc<Account>,
    /// Where its bytes come from.
    pool: Arc<dyn Pool>,
    /// If the class has one.
    pub(crate) gate: Option<Gate>,
    pub(crate) residency: Residency,
}

impl Partition {
    /// `None` if there are too many accounts in the process.
    pub(crate) fn new(class: usize, spec: &PartitionSpec, pool: Arc<dyn Pool>) -> Option<Self> {
        Some(Self {
            class,
            spec: spec.clone(),
            account: Arc::new(Account::open(None)?),
            pool,
            gate: (spec.gate != GateKind::None).then(Gate::default),
            residency: Residency::default(),
        })
    }

    /// Gives free memory back to the system for a job, and says how much there was before and after.
    pub(crate) fn flush(&self, job: JobId) -> Event {
        let before = Memory::now(&self.account, &*self.pool);
        self.pool.flush();
        Event::Flushed { class: self.class, job, before, after: Memory::now(&self.account, &*self.pool) }
    }

    pub(crate) fn memory(&self) -> MemoryUse {
        MemoryUse {
            live_bytes: self.account.live(),
            peak_bytes: self.account.peak(),
            weights_bytes: self.residency.bytes(),
        }
    }
}
