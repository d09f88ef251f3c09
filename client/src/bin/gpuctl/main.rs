//! gpuctl
fn main() {}
