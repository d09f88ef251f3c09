//! Simulation: the scheduler as it is, in a world that is not. Clients, journal, store and engine are simulated on a
//! virtual clock, so that hours pass in moments and the same seed gives the same run.
//!
//! ```text
//! scenario ─▶ arrivals, clients ─▶ world ─Input──▶ gpusched_core::Scheduler
//!                                  │  ▲ ◀─Effect── (unchanged)
//!                                  ▼  │
//!                               engine (lanes, partitions, stretches of work between yield points)
//! ```
//!
//! [`scenario`] says what is simulated, [`simulate`] runs it, [`report`] and [`timeline`] are what comes out. [`plan()`]
//! answers how many lanes fit into a device's memory and has a simulation confirm it. [`cli`] has the commands.

mod arrivals;
pub mod cli;
mod clients;
mod engine;
mod partition;
pub mod plan;
mod preemption;
mod product;
mod random;
mod recorder;
pub mod report;
mod samples;
pub mod scenario;
mod stretch;
mod tally;
pub mod timeline;
mod world;

pub use gpusched_core::Policy;
pub use plan::plan;
pub use preemption::PreemptionReport;
pub use report::{ClassReport, ReflectionReport, Report};
pub use samples::Summary;
pub use scenario::{Scenario, ScenarioError, load};
pub use timeline::Timeline;

use recorder::Recorder;
use world::World;

/// Runs a scenario to its end. Memory does not grow with the number of jobs, but with how many there are at once.
///
/// # Errors
/// What [`Scenario::check`] says.
pub fn simulate(scenario: &Scenario, policy: Policy) -> Result<Report, ScenarioError> {
    Ok(World::new(scenario, policy, None)?.run())
}

/// Runs a scenario to its end and keeps what happened to each job and partition, up to the bound that
/// [`Timeline::truncated`] tells of.
///
/// # Errors
/// What [`Scenario::check`] says.
pub fn simulate_recorded(scenario: &Scenario, policy: Policy) -> Result<(Report, Timeline), ScenarioError> {
    let mut recorder = Recorder::new(scenario, policy);
    let report = World::new(scenario, policy, Some(&mut recorder))?.run();
    Ok((report, recorder.into_timeline()))
}
