//! What tests and fuzzers share.

pub mod feed;
