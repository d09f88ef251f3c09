//! Any text as the configuration file.

#![no_main]

use gpusched_tests::feed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| feed::configuration(bytes));
