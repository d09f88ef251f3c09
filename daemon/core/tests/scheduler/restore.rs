//! Jobs of an earlier life of the daemon.

use gpusched_core::{Class, Input, JobRecord, Plan, Route, Time, Unfinished};
use gpusched_shared::{FailureKind, JobId, JobSpec, Outcome, TaskKind, TimeLimit};

use crate::shell::{ANN, Shell, ask, model, paint, prior};

pub(crate) fn record(id: u64, spec: JobSpec) -> JobRecord {
    let class = "of an earlier configuration".to_owned();
    JobRecord {
        id: JobId(id),
        uid: ANN,
        class,
        spec,
        pictures: Vec::new(),
        attached: false,
        submitted_unix_ms: 0,
        submitted_boot: None,
        attempts: 1,
        key: None,
        retries: 0,
        suspect: false,
        deaths: 0,
        part: None,
    }
}

/// A class for questions only.
fn shell() -> Shell {
    let plan = Plan::new(vec![Class::new("light", 1)], vec![Route::of_task(TaskKind::Vqa, "light")]);
    Shell::new(plan.expect("a valid plan"), vec![model("m", 0, 0)])
}

#[test]
fn what_had_not_ended_runs_again() {
    let mut shell = shell();
    let jobs = [record(5, ask("m")), record(6, ask("m")), record(7, prior(3, ask("m")))];
    shell.input(Input::Restore(
        jobs.map(|record| Unfinished { record, age_ms: 1000, retry_in_ms: None, ended: Vec::new(), damage: None })
            .to_vec(),
    ));
    assert_eq!(shell.running(), [JobId(7)], "in the order that they would have had");
    let view = shell.scheduler.view(JobId(7), shell.now).expect("it is there");
    assert_eq!((view.class.as_str(), view.attempts), ("light", 2));
    shell.run(JobId(7), 1);
    assert_eq!(shell.running(), [JobId(5)]);
}

#[test]
fn an_attached_job_went_with_its_client() {
    let mut shell = shell();
    shell.restore(JobRecord { attached: true, ..record(5, ask("m")) }, 1000);
    assert_eq!(shell.outcomes.get(&JobId(5)), Some(&Outcome::Cancelled));
    assert!(shell.launched.is_empty());
}

#[test]
fn limits_go_on_counting_from_acceptance() {
    let mut shell = shell();
    shell.now = Time(1_000_000);
    shell.input(Input::Pause { class: 0, paused: true });
    shell.restore(record(5, JobSpec { deadline_ms: Some(30), ..ask("m") }), 20);
    shell.restore(record(6, JobSpec { queue_timeout_ms: Some(40), ..ask("m") }), 20);
    shell.restore(record(7, JobSpec { deadline_ms: Some(30), ..ask("m") }), 31);
    let expired = |limit| Some(Outcome::Expired { limit });
    assert_eq!(shell.outcomes.get(&JobId(7)).cloned(), expired(TimeLimit::Deadline), "it passed meanwhile");
    assert_eq!(shell.outcomes.len(), 1);
    shell.pass_ms(10);
    assert_eq!(shell.outcomes.get(&JobId(5)).cloned(), expired(TimeLimit::Deadline));
    shell.pass_ms(10);
    assert_eq!(shell.outcomes.get(&JobId(6)).cloned(), expired(TimeLimit::QueueTimeout));
}

#[test]
fn what_has_no_place_any_more_fails_and_says_why() {
    let mut shell = shell();
    shell.restore(record(5, paint("m", 1)), 0);
    shell.restore(record(6, ask("gone")), 0);
    for (job, reason) in [(5, "txt2img"), (6, "gone")] {
        let outcome = shell.outcomes.get(&JobId(job));
        let Some(Outcome::Failed { kind: FailureKind::Input, message }) = outcome else { panic!("{outcome:?}") };
        assert!(message.contains(reason), "{message}");
    }
    assert!(shell.scheduler.is_idle());
}
