//! What a client may send: any bytes, in any pieces.

#![no_main]

use gpusched_tests::feed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| feed::frames(bytes));
