//! The states of a job.
//!
//! ```text
//! Recording ─recorded→ Queued ─assigned→ Launching ─started→ Running ─made→ Storing ─finished→ Concluding ─concluded→ Done
//!     │                  ▲ │                 │ └────────────┐ │ ▲ │ └─────────finished─────────────▲
//!     │                  │ └─cancel|expire───┼──────────────┼─┼─┼─┼────────────────────────────────┤
//!     │                  │                   │              │ │ │ └parked→ Parked                  │
//!     │                  │                   │              │ │ └──resumed─┘ │                     │
//!     │                  ├─interrupted|──────┴──────────────┼─┴──────────────┘                     │
//!     │                  │ engine lost                      │ │                                    │
//!     │                  └─retry─ BackingOff ◀─back off─────┼─┘                                    │
//!     │                                 └─cancel|expire─────┼──────────────────────────────────────┤
//!     │                                                     ▼                                      │
//!     └─recorded, if cancelled or expired meanwhile      Stopping ─interrupted|finished────────────┘
//!
//! Recording ─begun→ Underway ─finished→ Concluding       a job with a program, whose stages are jobs of their own
//!                      └─cancel|expire→ Ceasing ─finished→ Concluding
//! ```

use gpusched_shared::{Outcome, TimeLimit};

use crate::lane::LaneId;

/// Where a job is. Only `Launching`, `Running`, `Parked` and `Stopping` hold a lane, and memory.
#[derive(Debug, Clone, PartialEq)]
pub enum State {
    /// Its submission is on its way to the journal; its client has no answer yet. It may be doomed already.
    Recording(Option<Ending>),
    /// Waits for a lane.
    Queued,
    /// Given to a lane that has not begun.
    Launching(LaneId),
    /// On a lane.
    Running(LaneId),
    /// On a lane, at a yield point, while lighter work runs.
    Parked(LaneId),
    /// Ran out of memory, and waits to be queued again: until memory is freed, or its time has come.
    BackingOff,
    /// On a lane that has been asked to leave it.
    Stopping(LaneId, Ending),
    /// Its lane is done; what it made is being stored.
    Storing,
    /// Its stages, which are jobs of their own, are under way.
    Underway,
    /// Its stages have been told to end.
    Ceasing(Ending),
    /// Its outcome is on its way to the journal; no client has seen it yet.
    Concluding(Outcome),
    /// Over.
    Done(Outcome),
}

/// Why a job ends before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// Somebody cancelled it, or its client went away.
    Cancelled,
    /// It ran out of time.
    Expired(TimeLimit),
}

impl Ending {
    /// The outcome it leads to.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Cancelled => Outcome::Cancelled,
            Self::Expired(limit) => Outcome::Expired { limit },
        }
    }
}

impl State {
    /// The lane it holds.
    pub fn lane(&self) -> Option<LaneId> {
        match self {
            Self::Launching(lane) | Self::Running(lane) | Self::Parked(lane) | Self::Stopping(lane, _) => Some(*lane),
            Self::Recording(_)
            | Self::Queued
            | Self::BackingOff
            | Self::Storing
            | Self::Underway
            | Self::Ceasing(_)
            | Self::Concluding(_)
            | Self::Done(_) => None,
        }
    }

    /// True while it takes a place in its class's queue. A job with a program does as long as it lives, and its stages take
    /// none.
    pub fn is_waiting(&self) -> bool {
        match self {
            Self::Recording(_) | Self::Queued | Self::BackingOff | Self::Underway | Self::Ceasing(_) => true,
            Self::Launching(_)
            | Self::Running(_)
            | Self::Parked(_)
            | Self::Stopping(..)
            | Self::Storing
            | Self::Concluding(_)
            | Self::Done(_) => false,
        }
    }
}
