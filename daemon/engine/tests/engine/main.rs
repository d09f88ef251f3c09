//! The engine with the shipped models: gates, memory, residency. Driven by its events alone: a thread of the engine that
//! says something waits until the test asks for the next event, so nothing here depends on how fast anything is.

mod analyze;
mod beat;
mod faults;
mod footprint;
mod gate;
mod inspect;
mod memory;
mod preview;
mod residency;
mod rig;

#[global_allocator]
static ALLOCATOR: gpusched_engine::Allocator = gpusched_engine::Allocator;
