//! What may stand in the journal after a disk has decayed.

#![no_main]

use gpusched_tests::feed;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| feed::rows(bytes));
