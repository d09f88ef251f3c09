//! Any payload, as a request and as a response.

#![no_main]

use gpusched_tests::feed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| feed::codec(bytes));
