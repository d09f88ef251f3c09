//! The commands, as `gpuschedd` has them.

use std::path::Path;

use clap::{Parser, Subcommand};
use gpusched_sim::Timeline;
use gpusched_sim::cli::{PlanArgs, SimulateArgs};
use serde_json::Value;

#[derive(Debug, Parser)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Simulate(SimulateArgs),
    Plan(PlanArgs),
}

fn run(args: &[&str]) -> Result<String, String> {
    let cli = Cli::try_parse_from([&["gpuschedd"], args].concat()).map_err(|error| error.to_string())?;
    match cli.action {
        Action::Simulate(args) => args.run().map_err(|error| error.to_string()),
        Action::Plan(args) => args.run().map_err(|error| error.to_string()),
    }
}

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&run(args).expect("it runs")).expect("it is JSON")
}

#[test]
fn both_policies_are_compared() {
    let text = run(&["simulate"]).expect("it runs");
    let position = |what: &str| text.find(what).unwrap_or_else(|| panic!("{what} in {text}"));
    assert!(position("[fifo, seed 1]") < position("[multi-queue, seed 1]"));
    assert!(position("[multi-queue, seed 1]") < position("(fifo / multi-queue)"));
}

#[test]
fn seeds_and_policies_can_be_chosen() {
    let reports = json(&["simulate", "burst", "--policy", "multi-queue", "--seed", "9", "--json"]);
    let [report] = reports.as_array().expect("a list").as_slice() else { panic!("one report: {reports}") };
    assert_eq!((&report["seed"], &report["policy"]), (&Value::from(9), &Value::from("multi-queue")));
    assert_eq!(report["classes"][1]["latency"]["count"], 5);
}

#[test]
fn timelines_are_written_for_each_policy() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("timeline.json");
    let path = path.to_str().expect("UTF-8");
    run(&["simulate", "burst", "--timeline", path]).expect("it runs");
    let text = std::fs::read_to_string(path).expect("it was written");
    let timelines: Vec<Timeline> = serde_json::from_str(&text).expect("as the format says");
    let policies: Vec<&str> = timelines.iter().map(|timeline| timeline.policy.as_str()).collect();
    assert_eq!(policies, ["fifo", "multi-queue"]);
    assert!(timelines.iter().all(|timeline| timeline.jobs.len() == 15));

    let error = run(&["simulate", "--timeline", "/nowhere/x.json"]).expect_err("there is no such directory");
    assert!(error.starts_with("cannot write /nowhere/x.json"), "{error}");
}

#[test]
fn other_devices_can_be_planned_for() {
    assert_eq!(json(&["plan", "--json"])[1]["lanes"], 29);
    // 46 GB beside heavy's 34 GB hold 97.9 times 0.47 GB.
    assert_eq!(json(&["plan", "--device", "80GB", "--json"])[1]["lanes"], 97);
    let error = run(&["plan", "--device", "24GB"]).expect_err("heavy alone takes 34 GB");
    assert!(error.contains("the partitions take 34.0 GB together, the device has 24.0 GB"), "{error}");
}
