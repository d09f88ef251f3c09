//! What only an NVIDIA GPU can confirm, each with what is expected of it and what was seen. For a person, by
//! `tests/gpu/accept.sh`; over the software driver as well, which shows that the checks run, and nothing of hardware.
//!
//! ```text
//! accept [WORD...]     the checks whose names contain one of the words; all of them without
//! ```
//!
//! It ends with 0 if everything was as expected. The checks are in the order in which they can still be made: the last breaks
//! the device for this process.

mod bounds;
mod engine;
mod memory;
mod setup;

use std::process::ExitCode;

/// What came of a check.
#[derive(Debug)]
pub(crate) struct Seen {
    /// What was looked at.
    what: String,
    /// What should be seen.
    expected: String,
    /// What was.
    seen: String,
    /// Whether that is what should be.
    well: bool,
}

impl Seen {
    pub(crate) fn new(
        what: impl Into<String>,
        expected: impl Into<String>,
        seen: impl Into<String>,
        well: bool,
    ) -> Self {
        Self { what: what.into(), expected: expected.into(), seen: seen.into(), well }
    }
}

/// A check, which may look at several things, or say in a sentence why it could not be made.
type Check = fn() -> Result<Vec<Seen>, String>;

const CHECKS: [(&str, Check); 10] = [
    ("facts", memory::facts),
    ("reservation", memory::reservation),
    ("contention", memory::contention),
    ("flush", memory::flush),
    ("priorities", bounds::priorities),
    ("blocks", bounds::blocks),
    ("kernels", bounds::kernels),
    ("launches", bounds::launches),
    ("parity", engine::parity),
    ("poison", engine::poison),
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<_> = CHECKS
        .into_iter()
        .filter(|(name, _)| words.is_empty() || words.iter().any(|word| name.contains(word)))
        .collect();
    if chosen.is_empty() {
        eprintln!("no such check; there are {}", CHECKS.map(|(name, _)| name).join(", "));
        return ExitCode::from(2);
    }
    let mut all_well = true;
    for (name, check) in chosen {
        println!("{name}");
        match check() {
            Ok(lines) => {
                for Seen { what, expected, seen, well } in lines {
                    all_well &= well;
                    let verdict = if well { "ok" } else { "NOT AS EXPECTED" };
                    println!("    {what}: {seen} (expected: {expected}): {verdict}");
                }
            }
            Err(why) => {
                all_well = false;
                println!("    could not be made: {why}");
            }
        }
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
