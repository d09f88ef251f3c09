//! The engine's CUDA device over the software driver (`tests/softcuda`): the very code that talks to NVIDIA's. What is bounded is
//! measured on the driver's virtual clock, so nothing here depends on how fast the machine is. Run by `tests/softcuda/suite.sh`.
//!
//! There is one device to a process, and its clock, its trace and its faults are everybody's: tests take turns.

mod bounds;
mod lanes;
mod partitions;
mod process;
mod rig;
mod sharing;
mod soft;
mod start;
