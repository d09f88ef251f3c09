//! The scheduler: a deterministic state machine without IO, clocks, threads or randomness.
//!
//! The shell calls [`Scheduler::handle`] with an [`Input`] and the time, then carries out every [`Effect`] in order,
//! then arms one timer for [`Scheduler::next_timer`]. The same object runs under tokio in the daemon and under a virtual
//! clock in tests.
//!
//! ```text
//! submit ─▶ Record ─▶ (journal) ─▶ Recorded ─▶ Queued ─▶ Launch ─▶ (engine) ─▶ Started … Finished ─▶ Conclude ─▶ Concluded
//! ```

pub mod catalog;
pub mod class;
pub mod effect;
pub mod input;
mod invariants;
pub mod job;
mod lane;
pub mod policy;
mod scheduler;
mod time;
mod view;

pub use catalog::{Catalog, ModelInfo};
pub use class::Class;
pub use effect::{Effect, JobRecord};
pub use input::{Input, SessionId, Ticket};
pub use lane::LaneId;
pub use policy::routing::Route;
pub use scheduler::{Plan, PlanError, Scheduler};
pub use time::Time;
