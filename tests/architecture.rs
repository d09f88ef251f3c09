//! The rules of the code base: who may depend on whom, what may be named where, and how the tree looks.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use gpusched_daemon::config::Config;
use toml::{Table, Value};

/// Our crates and, for each, those of ours that it may depend on.
const CRATES: [(&str, &str, &[&str]); 7] = [
    ("gpusched-shared", "shared", &[]),
    ("gpusched-models", "models", &[]),
    ("gpusched-client", "client", &["gpusched-shared"]),
    ("gpusched-core", "daemon/core", &["gpusched-shared"]),
    ("gpusched-sim", "daemon/sim", &["gpusched-core", "gpusched-shared"]),
    ("gpusched-engine", "daemon/engine", &["gpusched-models", "gpusched-shared"]),
    (
        "gpusched-daemon",
        "daemon",
        &["gpusched-client", "gpusched-core", "gpusched-engine", "gpusched-shared", "gpusched-sim"],
    ),
];

/// The longest that a source file may get, in lines.
const LINES: usize = 450;

/// Names of files that say nothing of what is in them.
const EMPTY_NAMES: [&str; 9] = ["util", "utils", "types", "manager", "managers", "helper", "helpers", "common", "misc"];

/// What lies at the top. Files whose names start with a dot may join it.
const TOP: [&str; 15] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "benches",
    "client",
    "clippy.toml",
    "daemon",
    "deny.toml",
    "models",
    "rustfmt.toml",
    "shared",
    "systemd",
    "tests",
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A file's text.
fn text(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

/// The files that git tracks, as paths from the root, but for those that have just been deleted.
fn tracked() -> Vec<String> {
    let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(root()).output().expect("git runs");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let names = String::from_utf8(listed.stdout).expect("names are UTF-8");
    names.split_terminator('\0').filter(|name| root().join(name).exists()).map(str::to_owned).collect()
}

fn sources() -> Vec<String> {
    tracked().into_iter().filter(|path| path.ends_with(".rs")).collect()
}

/// The source files below a directory.
fn below(directory: &str) -> Vec<String> {
    let files: Vec<_> = sources().into_iter().filter(|path| path.starts_with(directory)).collect();
    assert!(!files.is_empty(), "no sources in {directory}");
    files
}

fn manifest(directory: &str) -> Table {
    text(&format!("{directory}/Cargo.toml")).parse().unwrap_or_else(|e| panic!("{directory}: {e}"))
}

/// The names in a table of a manifest.
fn names(manifest: &Table, table: &str) -> BTreeSet<String> {
    manifest.get(table).and_then(Value::as_table).into_iter().flat_map(Table::keys).cloned().collect()
}

/// What a file says, without comments: who is only mentioned in words is not depended on.
fn code(path: &str) -> String {
    let text = text(path);
    let lines = text.lines().map(|line| line.find("//").map_or(line, |comment| &line[..comment]));
    lines.collect::<Vec<_>>().join("\n")
}

/// The names that follow `prefix` in a file, for instance the modules after `crate::`; braces are looked into.
fn after(code: &str, prefix: &str) -> BTreeSet<String> {
    let word = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let found = code.match_indices(prefix).filter(|(at, _)| !code[..*at].ends_with(|c: char| c.is_alphanumeric()));
    found
        .flat_map(|(at, _)| {
            let rest = &code[at + prefix.len()..];
            match rest.strip_prefix('{').and_then(|list| list.split_once('}')) {
                Some((list, _)) => list.split(',').map(|item| word(item.trim())).collect(),
                None => vec![word(rest)],
            }
        })
        .collect()
}

#[test]
fn names_after_a_prefix_are_found_wherever_they_stand() {
    let code = "use crate::{a::b, c};\nuse crate::d; fn f(x: crate::e::F) { mycrate::g() }";
    assert_eq!(after(code, "crate::"), BTreeSet::from(["a", "c", "d", "e"].map(str::to_owned)));
}

#[test]
fn crates_depend_only_on_those_below_them() {
    let ours: BTreeSet<_> = CRATES.iter().map(|(name, ..)| (*name).to_owned()).collect();
    for (name, directory, allowed) in CRATES {
        let manifest = manifest(directory);
        assert_eq!(manifest["package"]["name"].as_str(), Some(name));
        let used: BTreeSet<_> = names(&manifest, "dependencies").intersection(&ours).cloned().collect();
        assert_eq!(used, allowed.iter().map(|name| (*name).to_owned()).collect(), "{name}");
        // Tests of a crate do not reach around its place, either.
        let tested: BTreeSet<_> = names(&manifest, "dev-dependencies").intersection(&ours).cloned().collect();
        assert!(tested.is_subset(&used), "{name} is tested with {tested:?}");
    }
}

#[test]
fn the_core_does_no_io_and_asks_no_clock() {
    let manifest = manifest("daemon/core");
    let dependencies = names(&manifest, "dependencies");
    for foreign in ["candle-core", "candle-nn", "libc", "mio", "nix", "rand", "rusqlite", "tokio", "getrandom"] {
        assert!(!dependencies.contains(foreign), "{foreign}");
    }
    let shared = manifest["dependencies"]["gpusched-shared"].as_table().expect("a table");
    assert_eq!(shared.get("features"), None, "its sockets are not for the core");
    for path in below("daemon/core/src/") {
        let code = code(&path);
        for module in ["env", "fs", "io", "net", "os", "process", "thread"] {
            assert!(!after(&code, "std::").contains(module), "{path} uses std::{module}");
        }
        for name in ["Instant", "SystemTime", "rand::", "async fn", "unsafe"] {
            assert!(!code.contains(name), "{path} says {name}");
        }
    }
}

#[test]
fn the_codec_can_be_replaced_in_one_file() {
    let name = concat!("win", "code");
    let naming: Vec<_> = sources().into_iter().filter(|path| text(path).contains(name)).collect();
    assert_eq!(naming, ["shared/src/codec.rs"]);
}

#[test]
fn the_parts_of_the_daemon_do_not_know_each_other() {
    let parts = ["server", "journal", "supervisor", "telemetry"];
    for part in parts {
        let directory = format!("daemon/src/{part}/");
        for path in below(&directory) {
            let code = code(&path);
            let known = after(&code, "crate::");
            let allowed = BTreeSet::from(["backend", "blobs", "clock", "config", "disk", part].map(str::to_owned));
            assert!(known.is_subset(&allowed), "{path} knows {known:?}");
            let out = if path == format!("{directory}mod.rs") { "super::" } else { "super::super::" };
            assert!(!code.contains(out), "{path} reaches out of {part}");
        }
    }
    // Only these put the parts together.
    let together = ["daemon/src/driver", "daemon/src/serve.rs", "daemon/src/main.rs", "daemon/src/lib.rs"];
    let apart = below("daemon/src/").into_iter().filter(|path| !together.iter().any(|at| path.starts_with(at)));
    for path in apart.filter(|path| !parts.iter().any(|part| path.starts_with(&format!("daemon/src/{part}/")))) {
        let known = after(&code(&path), "crate::");
        assert!(parts.iter().all(|part| !known.contains(*part)), "{path} knows {known:?}");
    }
}

#[test]
fn the_daemon_is_a_client_only_in_its_demo() {
    for path in below("daemon/src/").into_iter().filter(|path| !path.starts_with("daemon/src/demo/")) {
        assert!(!code(&path).contains("gpusched_client"), "{path}");
    }
}

#[test]
fn files_are_short_and_say_what_they_are() {
    let long =
        sources().into_iter().map(|path| (text(&path).lines().count(), path)).filter(|(lines, _)| *lines >= LINES);
    assert_eq!(long.collect::<Vec<_>>(), [], "split them");
    let stem = |path: &String| Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let empty = sources().into_iter().filter(|path| EMPTY_NAMES.iter().any(|name| stem(path).as_deref() == Some(name)));
    assert_eq!(empty.collect::<Vec<_>>(), [""; 0], "name them for what is in them");
}

#[test]
fn the_top_of_the_tree_is_tidy() {
    let tracked = tracked();
    let top = tracked.iter().filter_map(|path| path.split('/').next()).filter(|name| !name.starts_with('.'));
    assert_eq!(top.collect::<BTreeSet<_>>(), BTreeSet::from(TOP));
}

#[test]
fn the_shipped_configuration_is_valid_and_is_the_default() {
    let shipped = Config::load(&root().join("systemd/gpusched.toml")).unwrap_or_else(|e| panic!("{e}"));
    let mut default = Config::default();
    // The default follows the machine.
    default.classes[0].threads = shipped.classes[0].threads;
    assert_eq!(shipped, default);
}
