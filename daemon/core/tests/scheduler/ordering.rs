//! Whose job goes next.

use gpusched_core::{Class, Effect, Input, Measurement};
use gpusched_shared::JobId;

use crate::shell::{ANN, BEN, Shell, model, only, paint, prior};

/// One lane and an aging bound of 100 ms. A job of model `m` takes 1 ms for each step, and that is known.
fn shell() -> Shell {
    let mut shell = Shell::new(only(Class { aging_ms: 100, ..Class::new("c", 1) }), vec![model("m", 0, 0)]);
    let model = "m".to_owned();
    let known =
        Measurement { model, width: 8, height: 8, pictures: 0, input_pixels: 0, peak_bytes: 0, step_us: 1000, runs: 1 };
    shell.scheduler.recall(&[known]);
    shell
}

/// Runs job after job, each for as long as its steps say, until all have ended; returns their order.
fn order(shell: &mut Shell) -> Vec<JobId> {
    while let Some(job) = shell.running().first().copied() {
        let view = shell.scheduler.view(job, shell.now).expect("it is there");
        let ms = gpusched_core::footprint::steps(&view.spec);
        shell.run(job, ms);
    }
    shell.launched.clone()
}

#[test]
fn lane_time_is_shared_between_uids_and_not_places() {
    let mut shell = shell();
    // Hers are four times as long, so he gets four for each of them.
    let anns: Vec<JobId> = (0..3).map(|_| shell.submit(ANN, paint("m", 8))).collect();
    let bens: Vec<JobId> = (0..10).map(|_| shell.submit(BEN, paint("m", 2))).collect();
    // He comes when hers has begun, and begins where she is: level with her once more.
    assert_eq!(order(&mut shell), [&anns[..2], &bens[..4], &anns[2..], &bens[4..]].concat());
}

#[test]
fn priority_counts_within_a_uid_and_not_between_them() {
    let mut shell = shell();
    let first = shell.submit(ANN, paint("m", 1));
    let low = shell.submit(ANN, paint("m", 1));
    let high = shell.submit(ANN, prior(5, paint("m", 1)));
    let bens = shell.submit(BEN, prior(-5, paint("m", 1)));
    assert_eq!(order(&mut shell), [first, high, bens, low]);
}

#[test]
fn another_priority_is_another_place() {
    let mut shell = shell();
    let jobs: Vec<JobId> = (0..4).map(|_| shell.submit(ANN, paint("m", 1))).collect();
    shell.take_effects();
    shell.input(Input::SetPriority(jobs[3], 7));
    let effects = shell.take_effects();
    let [Effect::Amend(record), Effect::Advanced] = &effects[..] else { panic!("{effects:?}") };
    assert_eq!((record.id, record.spec.priority), (jobs[3], 7));
    shell.input(Input::SetPriority(jobs[1], -7));
    shell.input(Input::SetPriority(jobs[0], 1));
    shell.input(Input::SetPriority(JobId(99), 1));
    assert_eq!(shell.scheduler.view(jobs[1], shell.now).map(|view| view.spec.priority), Some(-7));
    assert_eq!(shell.scheduler.places().map(|(job, _)| job).collect::<Vec<_>>(), [jobs[3], jobs[2], jobs[1]]);
    assert_eq!(order(&mut shell), [jobs[0], jobs[3], jobs[2], jobs[1]]);
}

#[test]
fn a_priority_may_change_before_the_record_is_written() {
    let mut shell = shell();
    let first = shell.submit(ANN, paint("m", 1));
    shell.journal_is_held = true;
    shell.submit_as(ANN, paint("m", 1), false);
    shell.submit_as(ANN, paint("m", 1), false);
    shell.input(Input::SetPriority(JobId(3), 1));
    shell.commit();
    shell.journal_is_held = false;
    assert_eq!(order(&mut shell), [first, JobId(3), JobId(2)]);
}

#[test]
fn nobody_lets_more_past_than_the_bound() {
    let mut shell = shell();
    let first = shell.submit(ANN, paint("m", 1));
    let patient = shell.submit(ANN, prior(-100, paint("m", 1)));
    let pushing: Vec<JobId> = (0..6).map(|_| shell.submit(ANN, prior(100, paint("m", 30)))).collect();
    // 90 ms of later jobs are within 100 ms, 120 are not.
    assert_eq!(order(&mut shell), [&[first], &pushing[..4], &[patient], &pushing[4..]].concat());
}

#[test]
fn lane_time_is_what_a_job_really_took() {
    let mut shell = shell();
    let first = shell.submit(ANN, paint("m", 4));
    let anns: Vec<JobId> = (0..3).map(|_| shell.submit(ANN, paint("m", 4))).collect();
    let bens: Vec<JobId> = (0..3).map(|_| shell.submit(BEN, paint("m", 4))).collect();
    // Hers is parked for long, which costs her nothing.
    shell.start(first);
    shell.pass_ms(2);
    shell.input(Input::Parked(first));
    shell.pass_ms(500);
    shell.input(Input::Resumed(first));
    shell.pass_ms(2);
    shell.finish(first);
    assert_eq!(shell.running(), [anns[0]], "they are level, and she comes first by number");
    // It ends early: she is ahead by less than he was charged for a whole job, so she is next again after his.
    shell.run(anns[0], 1);
    assert_eq!(shell.running(), [bens[0]]);
    shell.run(bens[0], 4);
    assert_eq!(shell.running(), [anns[1]]);
}
