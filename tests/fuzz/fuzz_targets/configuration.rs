//! Any text as the configuration file: refused or usable, never a panic.

#![no_main]

use gpusched_daemon::config::Config;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(config) = toml::from_str::<Config>(text)
        && config.check().is_ok()
    {
        assert!(!config.lanes().is_empty());
    }
});
