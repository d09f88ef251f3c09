//! What is wrong with a scenario is said in a sentence.

use std::path::Path;

use gpusched_sim::scenario::SHIPPED;
use gpusched_sim::{Policy, Scenario, load, simulate};

/// What is said of the published scenario with one thing in it replaced.
fn refusal(from: &str, to: &str) -> String {
    let (_, published) = SHIPPED[0];
    assert!(published.contains(from), "{from}");
    match Scenario::parse(&published.replacen(from, to, 1), "test.toml") {
        Ok(_) => panic!("{to} was taken"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn refusals_say_what_is_wrong() {
    for (from, to, says) in [
        ("seed = 1", "sed = 1", "unknown field `sed`"),
        ("lanes = 4", "lanes = 0", "lanes of class \"light\": 0 is not within 1 to 256"),
        ("lanes = 4", "lanes = 257", "257 is not within 1 to 256"),
        ("lanes = 4", "lanes = 256", "lanes in all: 257 is not within 1 to 256"),
        ("name = \"light\"", "name = \"heavy\"", "class \"heavy\" is defined twice"),
        (
            "partition = \"34GB\"",
            "partition = \"50GB\"",
            "the partitions take 50.0 GB together, the device has 48.0 GB",
        ),
        ("partition = \"34GB\"", "", "more than one class without a partition"),
        ("partition = \"34GB\"", "partition = \"much\"", "much"),
        ("name = \"vilt\"", "name = \"flux\"", "model \"flux\" is defined twice"),
        ("model = \"vilt\"", "model = \"vlt\"", "kind \"answer\" names model \"vlt\", which is not defined"),
        ("task = \"vqa\"\nclass", "task = \"img2img\"\nclass", "no [[route]] takes the jobs of arrival \"answer\""),
        ("memory = \"0.47GB\"", "memory = \"1GB\"\npeak = \"2GB\"", "use more at their peak than they are promised"),
        ("run_s = [1.0, 2.0]", "run_s = [2.0, 1.0]", "run_s of kind \"answer\": the first is larger than the second"),
        ("run_s = [1.0, 2.0]", "run_s = [-1.0, 1.0]", "a time is a number of seconds from 0"),
        ("run_s = [1.0, 2.0]", "run_s = [1.0, nan]", "a time is a number of seconds from 0"),
        ("steps = 28", "steps = 501", "steps of kind \"image\": 501 is not within 1 to 500"),
        ("yields_per_step = 12", "yields_per_step = 0", "0 is not within 1 to 100000"),
        ("stream = \"image\"", "stream = \"answer\"", "names earlier arrival \"answer\", which is not defined"),
        ("every = 2", "every = 0", "every of arrival \"answer\": 0 is not within 1"),
        ("count = 10", "count = 10_000_000", "jobs in all: 10000005 is not within 0 to 10000000"),
        (
            "pattern = \"closed\", count = 10",
            "pattern = \"load\", load = 900.0, for_s = 1",
            "load of arrival \"image\"",
        ),
        ("pattern = \"closed\"", "pattern = \"open\"", "unknown variant `open`"),
        ("factor = 2.0", "factor = 0.5", "factor of [[contention]]: 0.5 is not within 1 to 1000"),
        ("beside = \"heavy\"", "beside = \"dark\"", "[[contention]] names class \"dark\", which is not defined"),
        ("uid = 1001\n", "reflect = { rounds = 9 }\n", "rounds of arrival \"image\": 9 is not within 1 to 8"),
        ("uid = 1001\n", "reflect = { checks = 0 }\n", "checks of arrival \"image\": 0 is not within 1 to 16"),
        (
            "uid = 1001\n",
            "reflect = { right = 1.5 }\n",
            "probability right of arrival \"image\": 1.5 is not within 0 to 1",
        ),
        ("uid = 1001\n", "reflect = { judge = \"image\" }\n", "no kind \"image\" of task \"vqa\" is defined"),
        ("uid = 1001\n", "reflect = { rouns = 2 }\n", "unknown field `rouns`"),
        ("uid = 1002\n", "reflect = {}\n", "arrival \"answer\" reflects, but makes no pictures"),
        (
            "[[contention]]",
            "[faults]\noom = 2.0\n[[contention]]",
            "probability oom of [faults]: 2 is not within 0 to 1",
        ),
    ] {
        let refusal = refusal(from, to);
        assert!(refusal.contains("test.toml"), "{refusal}");
        assert!(refusal.contains(says), "{to}: {refusal}");
    }
}

#[test]
fn what_is_changed_by_hand_is_checked_too() {
    let mut scenario = load(Path::new("burst")).expect("it is shipped");
    scenario.classes[0].lanes = 0;
    assert!(simulate(&scenario, Policy::Fifo).is_err());
}

#[test]
fn files_are_found_or_named() {
    let error = load(Path::new("/nowhere/x.toml")).expect_err("there is none").to_string();
    assert!(error.contains("/nowhere/x.toml") && error.contains("shipped are published, burst"), "{error}");
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/published.toml");
    assert_eq!(load(&here).expect("it is there"), load(Path::new("published")).expect("it is shipped"));
}
