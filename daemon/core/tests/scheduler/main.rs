//! The scheduler by example: what it does about each input, seen from where the shell sees it.

mod admission;
mod ending;
mod explaining;
mod fifo;
mod gates;
mod learning;
mod memory;
mod ordering;
mod restore;
mod shell;
mod time_limits;
