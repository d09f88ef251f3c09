//! What reflection costs, and that it keeps to its budget.

use std::path::Path;

use gpusched_sim::scenario::{ReflectSpec, Seconds};
use gpusched_sim::{Policy, ReflectionReport, Report, Scenario, load, simulate, simulate_recorded};

fn shipped() -> Scenario {
    load(Path::new("reflecting")).unwrap_or_else(|e| panic!("{e}"))
}

/// The same, whose pictures are checked in another way.
fn with(change: impl FnOnce(&mut ReflectSpec)) -> Scenario {
    let mut scenario = shipped();
    change(scenario.arrivals[0].reflect.as_mut().expect("it reflects"));
    scenario
}

/// A loop that does not keep to its budget is a violation, too.
fn run(scenario: &Scenario, policy: Policy) -> Report {
    let report = simulate(scenario, policy).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(report.violations, Vec::<String>::new(), "seed {}", scenario.seed);
    report
}

fn reflection(scenario: &Scenario) -> ReflectionReport {
    run(scenario, Policy::MultiQueue).reflection.expect("jobs came to a verdict")
}

/// They are those of scenario `published`.
#[test]
fn light_work_of_others_keeps_to_its_bounds() {
    let (mut waited_us, mut answers) = (0.0, 0);
    for seed in 0..20 {
        let report = run(&Scenario { seed, ..shipped() }, Policy::MultiQueue);
        let light = report.class("light").expect("it is there");
        assert_eq!(light.done, 50, "checks are not counted as jobs");
        assert!(light.latency.mean_us <= 2.1e6 && light.latency.p99_us < 5_000_000, "seed {seed}: {light:?}");
        waited_us += light.wait.mean_us * light.done as f64;
        answers += light.done;
        let reflection = report.reflection.expect("jobs came to a verdict");
        assert_eq!((reflection.success.jobs, report.class("heavy").map(|heavy| heavy.done)), (20, Some(20)));
        assert!(reflection.most_rounds <= 4, "{reflection:?}");
    }
    assert!(waited_us / answers as f64 <= 0.1e6, "they wait {waited_us} us in all");
    let light = run(&shipped(), Policy::MultiQueue).class("light").expect("it is there").clone();
    assert!(light.wait.mean_us <= 0.1e6, "{light:?}");
}

#[test]
fn a_second_picture_repairs_most_failures() {
    let (mut first_right, mut right, mut jobs) = (0, 0, 0);
    for seed in 0..20 {
        let reflection = reflection(&Scenario { seed, ..shipped() });
        first_right += reflection.first_right;
        right += reflection.right;
        jobs += reflection.success.jobs;
        assert!(reflection.success.first_passed <= reflection.success.passed, "{reflection:?}");
    }
    assert!(first_right * 10 > jobs * 4 && first_right * 10 < jobs * 6, "one in two is right: {first_right} of {jobs}");
    assert!(right * 10 > jobs * 8, "{right} of {jobs}");
}

/// Both policies are compared with the very same pictures and judgements.
#[test]
fn policies_meet_the_same_pictures() {
    let count = |policy| {
        let reflection = run(&shipped(), policy).reflection.expect("jobs came to a verdict");
        let success = reflection.success;
        (success.first_passed, success.passed, success.rounds, success.checks, reflection.first_right, reflection.right)
    };
    assert_eq!(count(Policy::Fifo), count(Policy::MultiQueue));
}

#[test]
fn judges_err_as_the_scenario_says() {
    let sure = |right: f64| with(|reflect| (reflect.right, reflect.false_pass, reflect.false_fail) = (right, 0.0, 0.0));
    let good = reflection(&sure(1.0));
    assert_eq!((good.success.rounds, good.success.first_passed, good.success.checks, good.right), (20, 20, 100, 20));
    let bad = reflection(&sure(0.0));
    assert_eq!((bad.success.rounds, bad.success.passed, bad.success.checks, bad.right), (80, 0, 400, 0));
    let blind = reflection(&with(|reflect| (reflect.right, reflect.false_pass, reflect.false_fail) = (0.0, 1.0, 0.0)));
    assert_eq!((blind.success.passed, blind.wrongly_passed, blind.right), (20, 20, 0));
    let strict = reflection(&with(|reflect| (reflect.right, reflect.false_fail, reflect.strict) = (1.0, 1.0, true)));
    assert_eq!((strict.success.jobs, strict.success.passed, strict.right), (20, 0, 0), "nobody gets what failed");
}

#[test]
fn lane_time_bounds_a_loop() {
    let hopeless = |lane_s: Option<u64>| {
        reflection(&with(|reflect| {
            (reflect.right, reflect.false_pass, reflect.rounds) = (0.0, 0.0, 8);
            reflect.lane_s = lane_s.map(|s| Seconds::from_us(s * 1_000_000));
        }))
    };
    assert_eq!(hopeless(None).most_rounds, 8);
    // A round takes 17 to 20 s for the picture and 5 to 10 s for its checks.
    assert_eq!(hopeless(Some(40)).most_rounds, 2);
    assert_eq!(hopeless(Some(1)).success.rounds, 20);
}

#[test]
fn timelines_show_the_pictures_of_a_job() {
    let (report, timeline) = simulate_recorded(&shipped(), Policy::MultiQueue).expect("it is valid");
    assert_eq!(timeline.jobs.len() as u64, report.done, "stages are no jobs");
    let attempts = timeline.jobs.iter().filter(|job| job.class == "heavy").map(|job| job.attempts.len() as u64).sum();
    assert_eq!(Some(attempts), report.reflection.map(|reflection| reflection.success.rounds));
    for job in &timeline.jobs {
        assert!(job.attempts.is_sorted_by(|one, next| one.ended_us <= next.started_us), "{job:?}");
    }
}

#[test]
fn reports_tell_people_of_it() {
    let report = run(&shipped(), Policy::MultiQueue);
    let ReflectionReport { success, wrongly_passed, .. } = report.reflection.expect("jobs came to a verdict");
    let (text, pictures) = (report.to_string(), success.rounds);
    assert!(text.contains(&format!("reflection: 20 jobs, {pictures} pictures")), "{text}");
    assert!(text.contains(&format!("in the end {} ({wrongly_passed} wrongly)", success.passed)), "{text}");
}
