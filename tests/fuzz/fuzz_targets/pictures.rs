//! What a client may hand over as a picture.

#![no_main]

use gpusched_tests::feed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| feed::pictures(bytes));
