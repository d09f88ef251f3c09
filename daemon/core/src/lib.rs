//! The scheduler: a deterministic state machine without IO, clocks, threads or randomness.
//!
//! The shell calls [`Scheduler::handle`] with an [`Input`] and the time, then carries out every [`Effect`] in order,
//! then arms one timer for [`Scheduler::next_timer`]. The same object runs under tokio in the daemon and under a virtual
//! clock in tests.
//!
//! ```text
//! submit ─▶ Record ─▶ (journal) ─▶ Recorded ─▶ Queued ─▶ Launch ─▶ (engine) ─▶ Started … Finished ─▶ Conclude ─▶ Concluded
//! ```
//!
//! Where to look: `scheduler` is the wiring, with `intake` (how jobs come in), `lifecycle` (how they move on), `dispatch`
//! (what a free lane takes), `gates` (who makes way), and `view` and `explain` (what others may see); [`job`] is a job's
//! life; `healing` is what happens when memory runs out or the engine dies, `keys` what makes submissions repeatable; `queue`, `ledger`, `lane` and [`footprint`] hold what the decisions in [`policy`] are made on.

pub mod catalog;
pub mod class;
mod dispatch;
pub mod effect;
mod explain;
pub mod footprint;
mod gates;
mod healing;
pub mod input;
mod intake;
mod invariants;
pub mod job;
mod keys;
mod lane;
mod ledger;
mod lifecycle;
mod plan;
pub mod policy;
pub mod program;
mod queue;
mod scheduler;
mod stages;
mod time;
mod timers;
mod view;

pub use catalog::{Catalog, ModelId};
pub use class::{Class, FlushRule, GateRule};
pub use effect::{BootTime, Effect, JobRecord, Key, Picture};
pub use footprint::Measurement;
pub use input::{Blame, Input, SessionId, Ticket, Unfinished};
pub use lane::LaneId;
pub use plan::{Plan, PlanError, Policy, Quotas};
pub use policy::backoff::Retry;
pub use policy::routing::Route;
pub use program::{EndedPart, Part, Role};
pub use scheduler::Scheduler;
pub use time::Time;
