//! How fast is the scheduler? Runs a million jobs through it in a simulation, on one core.
//!
//! `cargo run --release -p gpusched-sim --example million`

use std::time::Instant;

use gpusched_sim::{Policy, Scenario, simulate};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let scenario = Scenario::parse(include_str!("million.toml"), "million.toml")?;
    for policy in [Policy::MultiQueue, Policy::Fifo] {
        let begun = Instant::now();
        let report = simulate(&scenario, policy)?;
        let took = begun.elapsed().as_secs_f64();
        let jobs: u64 = report.classes.iter().map(|class| class.submitted).sum();
        print!("{report}");
        println!("{jobs} jobs in {took:.2} s: {:.0} jobs/s on one core", jobs as f64 / took);
        println!("peak memory of the process: {}\n", peak_memory()?);
    }
    Ok(())
}

/// As Linux counts it.
fn peak_memory() -> std::io::Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.map_or("unknown", str::trim).to_owned())
}
