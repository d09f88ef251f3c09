//! What the fuzzers started from and what they found, fed to the same functions again.

use std::fs;
use std::path::{Path, PathBuf};

use gpusched_daemon::journal::row;
use gpusched_models::Picture;
use gpusched_models::gguf::Header;
use gpusched_tests::feed::{self, TARGETS};

/// Of the whole corpus, which every clone has to carry.
const MOST_BYTES: u64 = 300_000;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
    entries.map(|entry| entry.expect("an entry").path()).collect()
}

#[test]
fn every_input_is_survived() {
    for (name, feed) in TARGETS {
        let inputs = files(&corpus().join(name));
        assert!(!inputs.is_empty(), "{name} has no corpus");
        for input in inputs {
            // The last line tells which one it was.
            eprintln!("{}", input.display());
            feed(&fs::read(&input).expect("readable"));
        }
    }
}

/// Seeds that are refused at once would lead no fuzzer anywhere.
#[test]
fn some_seeds_are_good() {
    let read = |name: &str| fs::read(corpus().join(name)).expect("readable");
    for name in ["small.png", "deep.png", "grey1.png", "bomb-whole.png", "grey.jpg", "one.webp"] {
        let picture = Picture::decode(&read(&format!("pictures/{name}")), 1 << 20);
        assert!(picture.is_ok(), "{name}: {picture:?}");
    }
    let weights = read("gguf/small");
    let header = Header::read(weights.as_slice(), weights.len() as u64);
    assert!(header.as_ref().is_ok_and(|header| header.tensors.len() == 2), "{header:?}");
    for name in ["rows/hand-made", "rows/stage"] {
        let row = feed::row(std::str::from_utf8(&read(name)).expect("text"));
        assert!(row::view(&row).is_ok(), "{name}: {:?}", row::view(&row));
    }
}

#[test]
fn the_corpus_is_small_and_of_targets_that_there_are() {
    let mut sum = 0;
    for directory in files(&corpus()) {
        let name = directory.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "no target {name}");
        sum += files(&directory).iter().map(|file| file.metadata().expect("metadata").len()).sum::<u64>();
    }
    assert!(sum <= MOST_BYTES, "{sum} bytes");
}

#[test]
fn every_target_can_be_fuzzed() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(fuzz.join("Cargo.toml")).expect("readable");
    let programs = files(&fuzz.join("fuzz_targets"));
    assert_eq!(programs.len(), TARGETS.len(), "{programs:?}");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
        let program = fs::read_to_string(fuzz.join(format!("fuzz_targets/{name}.rs"))).expect("readable");
        assert!(program.contains(&format!("feed::{name}(bytes)")), "{name} feeds another");
    }
}
