//! The journal and the blob store on disks that lose power, are full, or break.
//!
//! `tape` records every change that a run makes to the disk, those of SQLite through `vfs`, together with what was
//! promised to clients; `disk` says what a crash at any moment could leave of it; `crash` has the real recovery open that,
//! and looks whether every promise is kept. `faults` has the disk fail in the middle, `full` has it fill up.

mod crash;
mod disk;
mod faults;
mod full;
mod station;
mod tape;
mod vfs;
