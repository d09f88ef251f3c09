//! Answers to "why", "when" and "where".

use gpusched_core::{Class, GateRule, Input, Measurement, Quotas};
use gpusched_shared::{JobId, Reason};

use crate::shell::{ANN, BEN, Shell, ask, heavy_and_light, model, only, paint, prior};

/// Jobs of model `m` are known to take 10 ms.
fn knowing(mut shell: Shell) -> Shell {
    let (model, width, height) = ("m".to_owned(), 0, 0);
    shell.scheduler.recall(&[Measurement {
        model,
        width,
        height,
        pictures: 0,
        input_pixels: 0,
        peak_bytes: 0,
        step_us: 10_000,
        runs: 1,
    }]);
    shell
}

fn behind(jobs: u32, lane_ms: u64) -> Reason {
    Reason::Behind { jobs, lane_ms }
}

fn busy(lanes: u32) -> Reason {
    Reason::LanesBusy { class: "c".to_owned(), lanes }
}

#[test]
fn a_job_waits_for_lanes_and_for_those_before_it() {
    let mut shell = knowing(Shell::simple(2));
    let jobs: Vec<JobId> = (0..5).map(|_| shell.submit(ANN, ask("m"))).collect();
    assert_eq!(shell.reasons(jobs[0]), [], "it is on its lane");
    assert_eq!(shell.reasons(jobs[2]), [busy(2)]);
    assert_eq!(shell.reasons(jobs[4]), [behind(2, 20), busy(2)]);
    shell.pass_ms(4);
    let when = |shell: &Shell, job| {
        let explanation = shell.scheduler.explain(job, shell.now).expect("it is there");
        (explanation.starts_in_ms, explanation.ends_in_ms)
    };
    assert_eq!(when(&shell, jobs[0]), (None, Some(6)));
    assert_eq!(when(&shell, jobs[2]), (Some(6), Some(16)));
    assert_eq!(when(&shell, jobs[4]), (Some(16), Some(26)));
    shell.pass_ms(9);
    assert_eq!(when(&shell, jobs[0]), (None, Some(0)), "it takes longer than was thought");
    assert_eq!(when(&shell, jobs[2]), (Some(0), Some(10)));
    shell.input(Input::Pause { class: 0, paused: true });
    assert_eq!(when(&shell, jobs[2]), (None, None), "nothing moves");
}

#[test]
fn where_nothing_was_measured_nothing_is_promised() {
    let mut shell = Shell::simple(1);
    let [first, second] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    for job in [first, second] {
        let explanation = shell.scheduler.explain(job, shell.now).expect("it is there");
        assert_eq!((explanation.starts_in_ms, explanation.ends_in_ms), (None, None));
    }
}

#[test]
fn a_job_of_a_paused_class_or_a_leaving_daemon_is_told_so() {
    let mut shell = Shell::simple(1);
    shell.input(Input::Pause { class: 0, paused: true });
    let job = shell.submit(ANN, ask("m"));
    let paused = Reason::Paused { class: "c".to_owned() };
    assert_eq!(shell.reasons(job), std::slice::from_ref(&paused));
    shell.input(Input::Leave);
    assert_eq!(shell.reasons(job), [Reason::Stopping, paused]);
}

#[test]
fn a_job_beyond_its_owners_quota_is_told_so() {
    let mut plan = only(Class::new("c", 2));
    plan.quotas = Quotas { running_per_uid: 1, ..Quotas::default() };
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    let [_, second] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    assert_eq!(shell.reasons(second), [Reason::RunningQuota { limit: 1 }]);
}

#[test]
fn a_job_that_lacks_memory_is_told_how_much() {
    let mut shell = Shell::with_memory(2, 100, vec![model("a", 40, 30), model("b", 20, 31)]);
    shell.submit(ANN, ask("a"));
    let other = shell.submit(ANN, ask("b"));
    let memory = Reason::Memory { class: "c".to_owned(), needs_bytes: 51, free_bytes: 30, cap_bytes: 100 };
    assert_eq!(shell.reasons(other), [memory]);
    let same = shell.submit(BEN, ask("a"));
    assert_eq!(shell.running(), [JobId(1), same], "its weights are there already");
}

#[test]
fn a_job_that_waits_for_a_model_to_leave_is_told_which() {
    let models = vec![model("a", 60, 10), model("b", 60, 10)];
    let mut shell = Shell::new(only(Class { batch_wait_ms: 50, cap_bytes: 100, ..Class::new("c", 1) }), models);
    let first = shell.submit(ANN, ask("a"));
    shell.load_and_run(first, "a", 1);
    shell.input(Input::Pause { class: 0, paused: true });
    let other = shell.submit(ANN, ask("b"));
    let same = shell.submit(ANN, ask("a"));
    let evicting = Reason::Evicting { model: "b".to_owned(), evicts: vec!["a".to_owned()] };
    assert!(shell.reasons(other).contains(&evicting), "{:?}", shell.reasons(other));
    shell.input(Input::Pause { class: 0, paused: false });
    assert_eq!(shell.running(), [same]);
    shell.start(same);
    shell.pass_ms(20);
    shell.input(Input::Pause { class: 0, paused: true });
    shell.finish(same);
    let batching = Reason::Batching { model: "b".to_owned(), at_most_ms: 30 };
    assert!(shell.reasons(other).contains(&batching), "{:?}", shell.reasons(other));
}

#[test]
fn a_parked_job_is_told_for_whom() {
    let gate = Some(GateRule { min_share_milli: 100, window_ms: 1000 });
    let heavy = Class { gate, ..Class::new("heavy", 1) };
    let light = Class { priority: 1, ..Class::new("light", 1) };
    let mut shell = Shell::new(heavy_and_light(heavy, light), vec![model("m", 0, 0)]);
    let job = shell.submit(ANN, paint("m", 1));
    shell.start(job);
    shell.submit(ANN, ask("m"));
    shell.input(Input::Parked(job));
    assert_eq!(shell.reasons(job), [Reason::Parked { classes: vec!["light".to_owned()] }]);
}

#[test]
fn the_queue_is_shown_class_by_class_in_order() {
    let plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 1));
    let mut shell = knowing(Shell::new(plan, vec![model("m", 0, 0)]));
    let light = shell.submit(ANN, ask("m"));
    let heavy = shell.submit(BEN, paint("m", 1));
    let last = shell.submit(ANN, ask("m"));
    shell.pass_ms(3);
    let next = shell.submit(ANN, prior(4, ask("m")));
    let queue = shell.scheduler.queue(shell.now);
    let jobs: Vec<_> = queue.iter().map(|(uid, place)| (*uid, place.job, place.lane, place.priority)).collect();
    let expected = [(BEN, heavy, Some(0), 0), (ANN, light, Some(0), 0), (ANN, next, None, 4), (ANN, last, None, 0)];
    assert_eq!(jobs, expected);
    let (_, place) = &queue[3];
    assert_eq!((place.class.as_str(), place.model.as_str(), place.waited_ms), ("light", "m", 3));
    assert_eq!((place.starts_in_ms, place.ends_in_ms), (Some(17), Some(27)));
    assert_eq!((queue[1].1.starts_in_ms, queue[1].1.ends_in_ms), (None, Some(7)));
}

#[test]
fn a_route_is_explained_with_what_the_job_would_need() {
    let plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 1));
    let shell = knowing(Shell::new(plan, vec![model("m", 7, 5)]));
    let route = shell.scheduler.route(&ask("m"), ANN);
    assert_eq!(route.class.as_deref(), Some("light"));
    let rules: Vec<_> = route.rules.iter().map(|rule| (rule.rule.as_str(), rule.fails.as_deref())).collect();
    assert_eq!(rules, [("task = txt2img -> heavy", Some("its task is vqa")), ("anything -> light", None)]);
    assert_eq!((route.weights_bytes, route.run_bytes), (7, 5));
    assert_eq!(route.run_ms, Some(10));
    let unknown = shell.scheduler.route(&paint("gone", 1), ANN);
    assert_eq!((unknown.class.as_deref(), unknown.weights_bytes, unknown.run_ms), (Some("heavy"), 0, None));
}
