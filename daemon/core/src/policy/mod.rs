//! Decisions, each pure and by itself: they borrow a view and return what to do.

pub mod ordering;
pub mod routing;
