//! The single queue: the baseline that everything else is compared with.

use gpusched_core::{Class, Input, Policy};
use gpusched_shared::{FailureKind, JobId, OutOfMemory, Outcome, Reason};

use crate::shell::{ANN, BEN, Shell, ask, heavy_and_light, model, paint, prior, usage};

fn shell() -> Shell {
    let mut plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 4));
    (plan.policy, plan.quotas.running_per_uid) = (Policy::Fifo, 1);
    Shell::new(plan, vec![model("m", 0, 0)])
}

#[test]
fn one_at_a_time_in_the_order_of_acceptance() {
    let mut shell = shell();
    let jobs = [
        shell.submit(ANN, paint("m", 1)),
        shell.submit(ANN, ask("m")),
        shell.submit(BEN, prior(9, ask("m"))),
        shell.submit(ANN, prior(9, paint("m", 1))),
        shell.submit(ANN, ask("m")),
    ];
    assert_eq!(shell.scheduler.places().map(|(job, _)| job).collect::<Vec<JobId>>(), jobs[1..]);
    for job in jobs {
        assert_eq!(shell.running(), [job]);
        shell.run(job, 1);
    }
    assert_eq!(shell.launched, jobs);
}

#[test]
fn the_next_job_begins_while_a_result_is_stored() {
    let mut shell = shell();
    let [first, second] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    shell.start(first);
    shell.lanes.remove(&first);
    shell.input(Input::Made(first, gpusched_shared::Usage::default()));
    assert_eq!(shell.running(), [second]);
}

#[test]
fn what_is_paused_is_passed() {
    let mut shell = shell();
    shell.input(Input::Pause { class: 0, paused: true });
    let heavy = shell.submit(ANN, paint("m", 1));
    let light = shell.submit(ANN, ask("m"));
    assert_eq!(shell.running(), [light]);
    shell.input(Input::Pause { class: 0, paused: false });
    assert_eq!(shell.running(), [light]);
    shell.run(light, 1);
    assert_eq!(shell.running(), [heavy]);
}

#[test]
fn waiting_jobs_know_what_runs() {
    let mut shell = shell();
    let heavy = shell.submit(ANN, paint("m", 1));
    let light = shell.submit(BEN, ask("m"));
    assert_eq!(shell.reasons(light), [Reason::OneAtATime { job: heavy }]);
    let behind = shell.submit(BEN, ask("m"));
    assert_eq!(
        shell.reasons(behind),
        [Reason::Behind { jobs: 1, lane_ms: 0 }, Reason::OneAtATime { job: heavy }],
        "it is not behind what runs"
    );
}

#[test]
fn who_waited_behind_a_job_that_can_never_run_goes_at_once() {
    let light = Class { cap_bytes: 100, ..Class::new("light", 4) };
    let mut plan = heavy_and_light(Class::new("heavy", 1), light);
    plan.policy = Policy::Fifo;
    let mut shell = Shell::new(plan, vec![model("m", 0, 40)]);
    let first = shell.submit(ANN, ask("m"));
    let like_it = shell.submit(ANN, ask("m"));
    let heavy = shell.submit(ANN, paint("m", 1));
    shell.start(first);
    let oom = OutOfMemory { partition: "light".to_owned(), requested_bytes: 200, used_bytes: 0, cap_bytes: 100 };
    let outcome = Outcome::Failed { kind: FailureKind::OutOfMemory(oom), message: String::new() };
    shell.finish_with(first, outcome, usage(100));
    assert!(matches!(shell.outcomes[&like_it], Outcome::Failed { .. }), "as much is never there");
    assert_eq!(shell.running(), [heavy]);
}
