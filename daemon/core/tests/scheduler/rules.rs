//! What may change while jobs run, and what stays as it was.

use gpusched_core::{Class, GateRule, Input, Plan, Policy, Quotas, Retry, Route};
use gpusched_shared::{Quota, Rejection};

use crate::shell::{ANN, BEN, Shell, ask, heavy_and_light, model, only, paint};

/// The same plan but for what `change` does to it.
fn rules(plan: &Plan, change: impl FnOnce(&mut Plan)) -> Input {
    let mut plan = plan.clone();
    change(&mut plan);
    Input::Rules(Box::new(plan))
}

#[test]
fn a_quota_that_is_lowered_ends_nothing_that_runs() {
    let mut shell = Shell::simple(3);
    let jobs = [0; 4].map(|_| shell.submit(ANN, ask("m")));
    assert_eq!(shell.launched, jobs[..3]);
    let quotas = Quotas { running_per_uid: 1, queued_per_uid: 1, jobs_per_connection: 0 };
    let lower = rules(shell.scheduler.plan(), |plan| plan.quotas = quotas);
    shell.input(lower);
    let refused = shell.try_submit(ANN, ask("m")).expect_err("one waits already");
    assert_eq!(refused, Rejection::QuotaExceeded { quota: Quota::QueuedPerUid, limit: 1 });
    for done in &jobs[..2] {
        shell.run(*done, 1);
        assert_eq!(shell.launched.len(), 3, "one of hers still runs");
    }
    shell.run(jobs[2], 1);
    assert_eq!(shell.launched, jobs);

    // And raised: what waited for it goes at once.
    let [second, third] = [0; 2].map(|_| shell.submit(BEN, ask("m")));
    assert_eq!(shell.launched.last(), Some(&second));
    let raise = rules(shell.scheduler.plan(), |plan| plan.quotas.running_per_uid = 0);
    shell.input(raise);
    assert_eq!(shell.launched.last(), Some(&third));
}

#[test]
fn a_shorter_queue_refuses_and_drops_nothing() {
    let mut shell = Shell::simple(1);
    let jobs = [0; 3].map(|_| shell.submit(ANN, ask("m")));
    shell.input(Input::Rules(Box::new(only(Class { queue_limit: 1, ..Class::new("c", 1) }))));
    assert!(matches!(shell.try_submit(ANN, ask("m")), Err(Rejection::QueueFull { limit: 1, .. })));
    for job in jobs {
        shell.run(job, 1);
    }
    assert_eq!(shell.outcomes.len(), 3);
    shell.submit(ANN, ask("m"));
}

#[test]
fn routes_and_priorities_count_from_then_on() {
    let rule = GateRule { min_share_milli: 200, window_ms: 100 };
    let plan = heavy_and_light(Class { gate: Some(rule), ..Class::new("heavy", 1) }, Class::new("light", 1));
    let mut shell = Shell::new(plan.clone(), vec![model("m", 0, 0)]);
    let heavy = shell.submit(ANN, paint("m", 1));
    shell.start(heavy);
    let light = shell.submit(ANN, ask("m"));
    shell.start(light);
    assert_eq!(shell.take_gates(), [], "both are of priority 0");
    let classes = vec![plan.classes()[0].clone(), Class { priority: 1, ..plan.classes()[1].clone() }];
    let other = Plan::new(classes, vec![Route::to("light")]).expect("a valid plan");
    shell.input(Input::Rules(Box::new(other)));
    assert_eq!(shell.take_gates(), [true], "the lighter one is there already");
    let picture = shell.submit(ANN, paint("m", 1));
    shell.finish(light);
    assert_eq!(shell.launched.last(), Some(&picture), "it goes the new way, to the lane that is free");
}

#[test]
fn a_gate_keeps_to_its_new_share_at_once() {
    let rule = GateRule { min_share_milli: 200, window_ms: 100 };
    let light = Class { priority: 1, ..Class::new("light", 1) };
    let plan = |rule| heavy_and_light(Class { gate: Some(rule), ..Class::new("heavy", 1) }, light.clone());
    let mut shell = Shell::new(plan(rule), vec![model("m", 0, 0)]);
    let heavy = shell.submit(ANN, paint("m", 1));
    shell.start(heavy);
    let asked = shell.submit(ANN, ask("m"));
    shell.start(asked);
    assert_eq!(shell.take_gates(), [true]);
    shell.input(Input::Parked(heavy));
    shell.input(Input::Rules(Box::new(plan(GateRule { min_share_milli: 1000, ..rule }))));
    assert_eq!(shell.take_gates(), [false], "all of the time is heavy work's");
}

#[test]
fn what_lanes_and_memory_are_made_of_stays() {
    let mut shell = Shell::with_memory(1, 100, vec![model("m", 10, 10)]);
    let before = shell.scheduler.plan().clone();
    let class = Class { cap_bytes: 5, pinned: vec!["m".to_owned()], keep_alive_ms: Some(1), ..Class::new("c", 7) };
    let mut other = only(Class { gate: Some(GateRule { min_share_milli: 1, window_ms: 1 }), ..class });
    other.policy = Policy::Fifo;
    other.reattach_grace_ms = 1;
    other.retry = Retry { budget: 3, seed: 77, ..other.retry };
    shell.input(Input::Rules(Box::new(other)));
    let mut expected = before.clone();
    expected.retry.budget = 3;
    assert_eq!(*shell.scheduler.plan(), expected);

    // Another set of classes is another daemon's.
    let two = vec![Class::new("c", 1), Class::new("d", 1)];
    let two = Plan::new(two, vec![Route::to("d")]).expect("a valid plan");
    shell.input(Input::Rules(Box::new(two)));
    assert_eq!(shell.scheduler.plan().classes(), before.classes());
    assert_eq!(shell.scheduler.plan().routes(), before.routes());
    let job = shell.submit(ANN, ask("m"));
    shell.run(job, 1);
}
