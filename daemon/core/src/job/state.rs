//! The states of a job.
//!
//! ```text
//! Recording ─recorded→ Queued ─assigned→ Launching ─started→ Running ─finished→ Concluding ─concluded→ Done
//!     │                  ▲ │                 │ └──────────────┐ │                   ▲
//!     │                  │ └─cancel|expire───┼────────────────┼─┼───────────────────┤
//!     │                  └──────engine lost──┴────────────────┼─┤                   │
//!     │                                                       ▼ ▼                   │
//!     └─recorded, if cancelled or expired meanwhile         Stopping ─interrupted|finished
//! ```

use gpusched_shared::Outcome;

use crate::lane::LaneId;

/// Where a job is. Only `Launching`, `Running` and `Stopping` hold a lane.
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
    /// On a lane that has been asked to leave it.
    Stopping(LaneId, Ending),
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
    /// Its deadline passed.
    Expired,
}

impl Ending {
    /// The outcome it leads to.
    pub fn outcome(self) -> Outcome {
        match self {
            Self::Cancelled => Outcome::Cancelled,
            Self::Expired => Outcome::Expired,
        }
    }
}

impl State {
    /// The lane it holds.
    pub fn lane(&self) -> Option<LaneId> {
        match self {
            Self::Launching(lane) | Self::Running(lane) | Self::Stopping(lane, _) => Some(*lane),
            Self::Recording(_) | Self::Queued | Self::Concluding(_) | Self::Done(_) => None,
        }
    }
}
