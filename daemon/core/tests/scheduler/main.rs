//! The scheduler seen from where the shell sees it: by example, what it does about each input; by property, with a
//! [`shell`] and a [`mill`] of jobs on a virtual clock; and beside a [`reference`] that is slow and obviously right.

mod admission;
mod bounds;
mod editing;
mod ending;
mod explaining;
mod fifo;
mod gates;
mod glancing;
mod histories;
mod keys;
mod learning;
mod memory;
mod mill;
mod ordering;
mod reference;
mod reflecting;
mod restore;
mod retries;
mod rounds;
mod rules;
mod shell;
mod suspects;
mod time_limits;
