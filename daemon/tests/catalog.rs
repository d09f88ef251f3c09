//! `systemd/gpusched.catalog` explains each message that the daemon numbers, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use gpusched_daemon::telemetry::message::Message;

/// What entries may name of a message's fields.
const FIELDS: [&str; 11] =
    ["ATTEMPT", "CLASS", "CLIENT_UID", "JOB_ID", "LANE", "LINES", "MODEL", "OUTCOME", "RUN_MS", "STAGE", "WAIT_MS"];

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../systemd").join(name);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Entries by their number: header lines, and the text.
fn entries(catalog: &str) -> BTreeMap<&str, (Vec<&str>, &str)> {
    let parts = catalog.split("\n-- ").skip(1).map(|entry| {
        let (id, rest) = entry.split_once('\n').expect("a line of its own");
        let (header, text) = rest.split_once("\n\n").unwrap_or_else(|| panic!("{id} has no text"));
        (id, (header.lines().collect(), text.trim()))
    });
    let count = catalog.matches("\n-- ").count();
    let entries: BTreeMap<_, _> = parts.collect();
    assert_eq!(entries.len(), count, "each number once");
    entries
}

#[test]
fn each_message_is_explained_and_nothing_else_is() {
    let catalog = shipped("gpusched.catalog");
    let entries = entries(&catalog);
    let ours: BTreeSet<&str> = Message::ALL.iter().map(|message| message.id()).collect();
    assert_eq!(entries.keys().copied().collect::<BTreeSet<_>>(), ours);
    for (id, (header, text)) in entries {
        for name in ["Subject: ", "Defined-By: gpusched", "Support: "] {
            assert!(header.iter().any(|line| line.starts_with(name)), "{id} has no {name}");
        }
        assert!(text.len() > 20, "{id} says nothing");
        let named = text.split('@').skip(1).step_by(2);
        let unknown: Vec<&str> = named.filter(|name| !FIELDS.contains(name)).collect();
        assert!(unknown.is_empty(), "{id} names {unknown:?}");
        assert_eq!(text.matches('@').count() % 2, 0, "{id}");
    }
}

#[test]
fn alerts_look_for_messages_that_there_are() {
    let alerts = shipped("monitoring/alerts.yml");
    let named: Vec<&str> = alerts.split("MESSAGE_ID=").skip(1).filter_map(|rest| rest.get(..32)).collect();
    assert!(!named.is_empty());
    for id in named {
        assert!(Message::ALL.iter().any(|message| message.id() == id), "{id}");
    }
}

#[test]
fn journalctl_takes_the_catalog() {
    let root = tempfile::tempdir().expect("a directory");
    let directory = root.path().join("usr/lib/systemd/catalog");
    fs::create_dir_all(&directory).expect("a directory");
    fs::write(directory.join("gpusched.catalog"), shipped("gpusched.catalog")).expect("written");
    let at = format!("--root={}", root.path().display());
    let updated = match Command::new("journalctl").args([&at, "--update-catalog"]).output() {
        Ok(output) => output,
        Err(e) => {
            assert!(std::env::var_os("CI").is_none(), "journalctl: {e}; install systemd");
            eprintln!("SKIPPED: journalctl: {e}. With CI set this fails");
            return;
        }
    };
    assert!(updated.status.success(), "{}", String::from_utf8_lossy(&updated.stderr));
    let listed = Command::new("journalctl").args([&at, "--list-catalog"]).output().expect("it runs");
    let listed = String::from_utf8(listed.stdout).expect("text");
    for message in Message::ALL {
        assert!(listed.contains(message.id()), "{message:?} in {listed}");
    }
}
