//! Benchmarks: `cargo bench -p gpusched-benches`. They measure; tests check.
