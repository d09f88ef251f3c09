//! Unmodified candle over the software driver. Each case is a process of its own, since a process has one driver, and one whose
//! device has failed has none. An argument chooses the cases whose names contain it.

mod cases;
mod interposed;
mod numbers;
mod soft;

use std::process::{Command, ExitCode};
use std::{env, panic};

/// A case: its name, what the environment says to the driver, and what is to be seen.
type Case = (&'static str, &'static [(&'static str, &'static str)], fn());

fn main() -> ExitCode {
    // A child, which runs one case.
    if let Ok(name) = env::var("SOFTCUDA_CASE") {
        let (.., case) = cases::CASES.iter().find(|(known, ..)| *known == name).expect("a case");
        return if panic::catch_unwind(case).is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    }
    let chosen = env::args().skip(1).find(|argument| !argument.starts_with('-')).unwrap_or_default();
    let cases: Vec<_> = cases::CASES.iter().filter(|(name, ..)| name.contains(&chosen)).collect();
    let mut failed = 0;
    for (name, environment, _) in &cases {
        let mut child = Command::new(env::current_exe().expect("this program"));
        for (variable, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("SOFTCUDA_")) {
            child.env_remove(variable);
        }
        let status = child.env("SOFTCUDA_CASE", name).envs(environment.iter().copied()).status();
        let passed = status.is_ok_and(|status| status.success());
        failed += usize::from(!passed);
        println!("case {name} ... {}", if passed { "ok" } else { "FAILED" });
    }
    println!("\n{} passed, {failed} failed", cases.len() - failed);
    if failed == 0 && !cases.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
