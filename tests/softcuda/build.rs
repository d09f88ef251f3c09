//! The name by which programs that are linked with the driver ask for it: its own, so that they do not start over NVIDIA's.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libsoftcuda.so");
}
