//! The single queue: the baseline that everything else is compared with.

use gpusched_core::{Class, Input, Policy};
use gpusched_shared::{JobId, Reason};

use crate::shell::{ANN, BEN, Shell, ask, heavy_and_light, model, paint, prior};

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
