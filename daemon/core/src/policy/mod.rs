//! Decisions, each pure and by itself: they borrow facts and return what to do.

pub mod admission;
pub mod backoff;
pub mod forecast;
pub mod ordering;
pub mod preemption;
pub mod residency;
pub mod routing;
pub mod selection;
