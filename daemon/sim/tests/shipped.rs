//! The shipped scenarios show what they are there to show.

use std::collections::BTreeMap;
use std::path::Path;

use gpusched_sim::scenario::{Gate, SHIPPED};
use gpusched_sim::timeline::JobLine;
use gpusched_sim::{ClassReport, Policy, Report, Scenario, Timeline, load, simulate, simulate_recorded};

fn shipped(name: &str) -> Scenario {
    load(Path::new(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn run(scenario: &Scenario, policy: Policy) -> Report {
    let report = simulate(scenario, policy).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(report.violations, Vec::<String>::new(), "seed {}", scenario.seed);
    report
}

fn class<'a>(report: &'a Report, name: &str) -> &'a ClassReport {
    report.class(name).expect("the class is there")
}

fn seconds(us: f64) -> f64 {
    us / 1e6
}

fn jobs<'a>(timeline: &'a Timeline, class: &str) -> Vec<&'a JobLine> {
    timeline.jobs.iter().filter(|job| job.class == class).collect()
}

#[test]
fn every_scenario_can_be_read_and_ends_well() {
    for (name, _) in SHIPPED {
        for policy in [Policy::Fifo, Policy::MultiQueue] {
            let report = run(&shipped(name), policy);
            for class in &report.classes {
                assert!(class.peak_bytes <= class.cap_bytes, "{name}: {} keeps to its partition", class.name);
            }
        }
    }
}

#[test]
fn published_light_work_waits_as_reported() {
    let scenario = shipped("published");
    let light = class(&run(&scenario, Policy::MultiQueue), "light").clone();
    assert_eq!(light.done, 5);
    assert!(seconds(light.latency.mean_us) < 5.0, "the published KPI");
    assert!(seconds(light.wait.mean_us) <= 0.1, "{light:?}");
    assert!(seconds(light.latency.mean_us) <= 2.1, "{light:?}");

    let light = class(&run(&scenario, Policy::Fifo), "light").clone();
    assert_eq!(light.done, 5);
    let within = |value: f64, published: f64| (value - published).abs() <= published / 10.0;
    assert!(within(seconds(light.latency.mean_us), 17.0), "{light:?}");
    assert!(within(seconds(light.wait.mean_us), 15.2), "{light:?}");
}

#[test]
fn published_heavy_work_keeps_its_order() {
    for name in ["published", "burst"] {
        for seed in 0..20 {
            let scenario = Scenario { seed, ..shipped(name) };
            for policy in [Policy::Fifo, Policy::MultiQueue] {
                let (_, timeline) = simulate_recorded(&scenario, policy).expect("it is valid");
                let heavy = jobs(&timeline, "heavy");
                assert_eq!(heavy.len(), 10);
                assert!(heavy.is_sorted_by_key(|job| job.job), "{name}, seed {seed}: jobs are numbered as they came");
            }
        }
    }
}

/// Heavy work is parked for as long as light work runs, and loses little beyond that.
#[test]
fn light_work_costs_heavy_work_its_own_time_and_little_more() {
    let scenario = shipped("burst");
    let report = run(&scenario, Policy::MultiQueue);
    let (heavy, light) = (class(&report, "heavy"), class(&report, "light"));
    let alone = Scenario { arrivals: scenario.arrivals[..1].to_vec(), ..scenario };
    let alone_us = run(&alone, Policy::MultiQueue).makespan_us as f64;
    let light_us = light.run.mean_us * light.done as f64;
    assert!(report.makespan_us as f64 <= alone_us + light_us, "{} {alone_us} {light_us}", report.makespan_us);
    assert!(heavy.parked.count > 0);
    let preemption = heavy.preemption.expect("heavy makes way");
    assert!(preemption.max_us <= preemption.longest_gap_us, "{preemption:?}");
}

#[test]
fn without_the_gate_light_work_is_slower() {
    let mut scenario = shipped("hour-70");
    let gated = run(&scenario, Policy::MultiQueue);
    scenario.classes[0].gate = Gate::Off;
    let open = run(&scenario, Policy::MultiQueue);
    assert!(class(&open, "light").run.mean_us > 1.3 * class(&gated, "light").run.mean_us);
    assert_eq!(class(&open, "heavy").parked.count, 0);
    assert!(class(&open, "heavy").preemption.is_none());
}

#[test]
fn overload_is_bounded_and_does_not_reach_light_work() {
    let [fair, over] = ["hour-70", "hour-110"].map(|name| run(&shipped(name), Policy::MultiQueue));
    for report in [&fair, &over] {
        assert!(class(report, "light").latency.p99_us < 5_000_000);
        assert_eq!(class(report, "light").refused, BTreeMap::new());
    }
    let heavy = class(&over, "heavy");
    assert!(heavy.latency.mean_us > 3.0 * class(&fair, "heavy").latency.mean_us, "it grows");
    assert!(heavy.refused.contains_key("queue_full"), "until the queue is full");
    // Nobody waits for more than a full queue of either client's and what runs.
    assert!(heavy.wait.max_us <= 41 * heavy.run.max_us, "{heavy:?}");

    let fifo = run(&shipped("hour-110"), Policy::Fifo);
    assert!(seconds(class(&fifo, "light").latency.mean_us) > 60.0, "one queue takes light work along");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let scenario = Scenario { seed: 7, ..shipped("faults") };
    let run = |scenario: &Scenario| simulate_recorded(scenario, Policy::MultiQueue).expect("it is valid");
    assert_eq!(run(&scenario), run(&scenario));
    let other = Scenario { seed: 8, ..scenario.clone() };
    assert_ne!(run(&scenario).1, run(&other).1);
}

/// Both policies are compared with the very same jobs.
#[test]
fn policies_meet_the_same_jobs() {
    let scenario = Scenario { contentions: Vec::new(), ..shipped("burst") };
    let runs = [Policy::Fifo, Policy::MultiQueue].map(|policy| {
        let (_, timeline) = simulate_recorded(&scenario, policy).expect("it is valid");
        let worked = |job: &&JobLine| -> u64 {
            let parked = |attempt: &gpusched_sim::timeline::AttemptLine| -> u64 {
                attempt.parked.iter().map(|span| span.until_us - span.from_us).sum()
            };
            job.attempts.iter().map(|attempt| attempt.ended_us - attempt.started_us - parked(attempt)).sum()
        };
        // The first of all loads the model.
        jobs(&timeline, "heavy").iter().map(worked).collect::<Vec<u64>>()
    });
    assert_eq!(runs[0], runs[1]);
}

#[test]
fn timelines_tell_where_jobs_were_and_what_they_held() {
    let (report, timeline) = simulate_recorded(&shipped("published"), Policy::MultiQueue).expect("it is valid");
    assert!(!timeline.truncated);
    assert_eq!(timeline.jobs.len() as u64, report.done);
    for job in &timeline.jobs {
        let [attempt] = job.attempts.as_slice() else { panic!("one attempt: {job:?}") };
        assert!(job.submitted_us <= attempt.started_us && attempt.ended_us <= job.ended_us, "{job:?}");
        for span in &attempt.parked {
            assert!(attempt.started_us <= span.from_us && span.from_us < span.until_us, "{job:?}");
            assert!(span.until_us <= attempt.ended_us, "{job:?}");
        }
    }
    let most =
        |name: &str| timeline.memory.iter().filter(|point| point.partition == name).map(|point| point.live_bytes).max();
    for class in &report.classes {
        assert_eq!(most(&class.name), Some(class.peak_bytes));
    }
    assert!(timeline.memory.is_sorted_by_key(|point| point.at_us));
    let text = serde_json::to_string(&timeline).expect("it is plain data");
    assert_eq!(serde_json::from_str::<Timeline>(&text).expect("as it was written"), timeline);
}
