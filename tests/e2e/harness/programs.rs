//! Where the programs under test are.

use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

/// The program called `name`, `gpuschedd` or `gpuctl`.
///
/// Cargo tells a test only of the programs of its own package (`CARGO_BIN_EXE_…`), and these are of others. So once in
/// each test process Cargo itself builds them, in the profile and the target directory that this test was built in; where
/// they are fresh, as after `cargo build`, that takes a moment. `GPUSCHED_BIN_DIR` names ready-made ones instead.
pub(crate) fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| env::var_os("GPUSCHED_BIN_DIR").map_or_else(build, PathBuf::from)).join(name)
}

fn build() -> PathBuf {
    // This is TARGET/[TRIPLE/]PROFILE/deps/e2e-0123456789abcdef, and Cargo tags TARGET.
    let test = env::current_exe().expect("this program has a path");
    let directory = test.ancestors().nth(2).expect("it lies in a target directory");
    let above = || directory.ancestors().skip(1);
    let target = above().find(|path| path.join("CACHEDIR.TAG").exists()).expect("the target directory has a tag");
    let name = |path: &std::path::Path| path.file_name().expect("no root").to_owned();

    let mut cargo = Command::new(env!("CARGO"));
    cargo.current_dir(env!("CARGO_MANIFEST_DIR")).args(["build", "--workspace", "--bins", "--quiet"]);
    cargo.arg("--target-dir").arg(target);
    // The directory of profile `dev` is not called so.
    let profile = name(directory);
    cargo.arg("--profile").arg(if profile == "debug" { "dev".into() } else { profile });
    if let Some(triple) = above().next().filter(|parent| *parent != target) {
        cargo.arg("--target").arg(name(triple));
    }
    let status = cargo.status().expect("cargo runs");
    assert!(status.success(), "cargo could not build the programs under test");
    directory.to_owned()
}

/// The directories of models: the shipped weights, unless `GPUSCHED_TEST_MODELS` names others of the same names.
pub(crate) fn models() -> PathBuf {
    let shipped = concat!(env!("CARGO_MANIFEST_DIR"), "/../models/weights");
    let models = env::var_os("GPUSCHED_TEST_MODELS").map_or_else(|| shipped.into(), PathBuf::from);
    for name in ["clip-tiny", "flux2-klein-tiny", "owlv2-tiny", "sam2-tiny", "sd3-tiny", "vilt-tiny"] {
        assert!(models.join(name).is_dir(), "no model {name} in {}", models.display());
    }
    models.canonicalize().expect("it is there")
}
