//! Any text as a scenario: refused or usable, never a panic.

#![no_main]

use gpusched_sim::Scenario;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(scenario) = Scenario::parse(text, "fuzz") {
        assert!(scenario.check().is_ok());
    }
});
