//! What is taken and what is refused, and with which numbers.

use gpusched_core::{Class, Input, Plan, Quotas, Route, SessionId};
use gpusched_shared::{JobId, Outcome, Quota, Rejection, TaskKind};

use crate::shell::{ANN, BEN, Shell, ask, heavy_and_light, model, only, paint};

fn with_quotas(lanes: u32, quotas: Quotas) -> Shell {
    let mut plan = only(Class::new("c", lanes));
    plan.quotas = quotas;
    Shell::new(plan, vec![model("m", 0, 0)])
}

#[test]
fn a_job_goes_to_the_class_that_its_route_names() {
    let plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 4));
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    let heavy: Vec<JobId> = (0..3).map(|_| shell.submit(ANN, paint("m", 4))).collect();
    let light: Vec<JobId> = (0..5).map(|_| shell.submit(ANN, ask("m"))).collect();
    assert_eq!(shell.running(), [&heavy[..1], &light[..4]].concat(), "light jobs do not wait for heavy ones");
    let class = |id| shell.scheduler.view(id, shell.now).map(|view| view.class);
    assert_eq!((class(heavy[0]).as_deref(), class(light[0]).as_deref()), (Some("heavy"), Some("light")));
}

#[test]
fn a_job_without_a_route_or_a_model_is_refused() {
    let plan = Plan::new(vec![Class::new("c", 1)], vec![Route::of_task(TaskKind::Vqa, "c")]).expect("a valid plan");
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    assert_eq!(shell.try_submit(ANN, paint("m", 1)), Err(Rejection::NoRoute { task: "txt2img".to_owned() }));
    assert!(matches!(shell.try_submit(ANN, ask("gone")), Err(Rejection::UnknownModel { name, .. }) if name == "gone"));
    assert_eq!(shell.submit(ANN, ask("m")), JobId(1), "refused jobs use up no numbers");
}

#[test]
fn what_can_never_fit_is_refused_with_the_numbers() {
    let mut shell = Shell::with_memory(1, 100, vec![model("fits", 60, 40), model("large", 60, 41)]);
    assert_eq!(
        shell.try_submit(ANN, ask("large")),
        Err(Rejection::NeverFits {
            class: "c".to_owned(),
            model: "large".to_owned(),
            weights_bytes: 60,
            run_bytes: 41,
            cap_bytes: 100,
        })
    );
    shell.submit(ANN, ask("fits"));
}

#[test]
fn a_full_queue_says_when_to_come_back() {
    let mut shell = Shell::new(only(Class { queue_limit: 2, ..Class::new("c", 2) }), vec![model("m", 0, 0)]);
    let full = |retry_after_ms| Err(Rejection::QueueFull { class: "c".to_owned(), limit: 2, retry_after_ms });
    let [first, second] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    shell.loaded("m");
    shell.submit(ANN, ask("m"));
    shell.submit(BEN, ask("m"));
    assert_eq!(shell.try_submit(ANN, ask("m")), full(1000), "nothing has been measured");
    shell.run(first, 500);
    shell.run(second, 0);
    // They began on a cold model, which says nothing of how long jobs take.
    for _ in 0..2 {
        shell.submit(ANN, ask("m"));
    }
    assert_eq!(shell.try_submit(ANN, ask("m")), full(1000));
    let warm = shell.running()[0];
    shell.run(warm, 500);
    shell.submit(ANN, ask("m"));
    assert_eq!(shell.try_submit(ANN, ask("m")), full(250), "two lanes end a job each 500 ms");
    let warm = shell.running()[0];
    shell.run(warm, 400);
    shell.submit(ANN, ask("m"));
    // It had its lane for 900 ms, and the newest counts for a quarter.
    assert_eq!(shell.try_submit(ANN, ask("m")), full(300));
}

#[test]
fn a_job_on_its_way_to_the_journal_has_its_place_in_the_queue() {
    let mut shell = Shell::new(only(Class { queue_limit: 1, ..Class::new("c", 1) }), vec![model("m", 0, 0)]);
    shell.journal_is_held = true;
    assert_eq!(shell.submit_as(ANN, ask("m"), false), None, "no answer before it is on record");
    assert!(matches!(shell.submit_as(ANN, ask("m"), false), Some(Err(Rejection::QueueFull { .. }))));
    shell.input(Input::RecordFailed(JobId(1), Rejection::Internal { reason: "disk full".to_owned() }));
    assert_eq!(shell.scheduler.live().count(), 0);
    assert_eq!(shell.submit_as(ANN, ask("m"), false), None, "its place is free again");
}

#[test]
fn one_uid_may_have_so_many_jobs_waiting() {
    let mut shell = with_quotas(1, Quotas { queued_per_uid: 2, ..Quotas::default() });
    let running = shell.submit(ANN, ask("m"));
    shell.submit(ANN, ask("m"));
    shell.submit(ANN, ask("m"));
    let refused = Err(Rejection::QuotaExceeded { quota: Quota::QueuedPerUid, limit: 2 });
    assert_eq!(shell.try_submit(ANN, ask("m")), refused);
    shell.submit(BEN, ask("m"));
    shell.run(running, 1);
    shell.submit(ANN, ask("m"));
}

#[test]
fn one_uid_may_have_so_many_jobs_on_lanes() {
    let mut shell = with_quotas(3, Quotas { running_per_uid: 2, ..Quotas::default() });
    let anns: Vec<JobId> = (0..50).map(|_| shell.submit(ANN, ask("m"))).collect();
    assert_eq!(shell.running(), anns[..2]);
    // However much of hers is before it, and however often she was charged less.
    let bens = shell.submit(BEN, ask("m"));
    assert_eq!(shell.running(), [&anns[..2], &[bens]].concat());
    shell.run(anns[1], 1);
    assert_eq!(shell.running(), [anns[0], anns[2], bens]);
}

#[test]
fn one_connection_may_have_so_many_unfinished_jobs() {
    let mut shell = with_quotas(1, Quotas { jobs_per_connection: 2, ..Quotas::default() });
    let running = shell.submit(ANN, ask("m"));
    shell.submit(ANN, ask("m"));
    let refused = Err(Rejection::QuotaExceeded { quota: Quota::JobsPerConnection, limit: 2 });
    assert_eq!(shell.try_submit(ANN, ask("m")), refused);
    shell.session = SessionId(2);
    shell.submit(ANN, ask("m"));
    shell.session = SessionId(1);
    shell.run(running, 1);
    shell.submit(ANN, ask("m"));
}

#[test]
fn a_paused_class_starts_nothing_and_another_goes_on() {
    let plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 1));
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    let before = shell.submit(ANN, paint("m", 1));
    shell.input(Input::Pause { class: 0, paused: true });
    let heavy = shell.submit(ANN, paint("m", 1));
    let light = shell.submit(ANN, ask("m"));
    assert_eq!(shell.running(), [before, light]);
    shell.run(before, 1);
    assert_eq!(shell.running(), [light], "what ran has ended, what waits waits");
    assert!(shell.scheduler.classes()[0].paused && !shell.scheduler.classes()[1].paused);
    shell.input(Input::Pause { class: 0, paused: false });
    assert_eq!(shell.running(), [heavy, light]);
    shell.input(Input::Pause { class: 7, paused: true });
}

#[test]
fn a_draining_daemon_takes_nothing_and_runs_what_it_has() {
    let mut shell = Shell::simple(1);
    let jobs = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    shell.input(Input::Drain(true));
    assert!(shell.scheduler.is_draining());
    assert_eq!(shell.try_submit(ANN, ask("m")), Err(Rejection::Draining));
    shell.run(jobs[0], 1);
    assert_eq!(shell.running(), [jobs[1]]);
    shell.input(Input::Drain(false));
    shell.submit(ANN, ask("m"));
}

#[test]
fn a_leaving_daemon_lets_what_runs_finish_and_starts_nothing() {
    let mut shell = Shell::simple(1);
    let jobs = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    shell.input(Input::Leave);
    assert_eq!(shell.try_submit(ANN, ask("m")), Err(Rejection::Draining));
    assert!(!shell.scheduler.is_idle());
    shell.run(jobs[0], 1);
    assert_eq!((shell.running(), shell.scheduler.is_idle()), (vec![], true));
    assert_eq!(shell.outcomes.keys().copied().collect::<Vec<_>>(), [jobs[0]], "the other stays on record");
}

#[test]
fn an_abandoned_job_goes_back_to_its_queue() {
    let mut shell = Shell::simple(2);
    let jobs = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    shell.start(jobs[0]);
    shell.take_effects();
    shell.input(Input::Abandon);
    assert_eq!(shell.take_stopped(), jobs);
    shell.finish(jobs[0]);
    shell.interrupt(jobs[1]);
    assert!(shell.scheduler.is_idle());
    assert_eq!(shell.outcomes.get(&jobs[0]), Some(&Outcome::Answers(Vec::new())), "it was faster");
    assert_eq!(shell.outcomes.get(&jobs[1]), None);
}

#[test]
fn whose_owner_is_at_the_quota_holds_nobody_up() {
    const CAT: u32 = 1003;
    // Nobody overtakes anybody who waits for memory.
    let heavy = Class { cap_bytes: 100, aging_ms: 0, ..Class::new("heavy", 2) };
    let mut plan = heavy_and_light(heavy, Class::new("light", 1));
    plan.quotas.running_per_uid = 1;
    let mut shell = Shell::new(plan, vec![model("large", 0, 60), model("medium", 0, 50), model("small", 0, 30)]);
    let large = shell.submit(CAT, paint("large", 1));
    let small = shell.submit(BEN, paint("small", 1));
    shell.run(small, 5);
    shell.submit(ANN, paint("medium", 1));
    let small = shell.submit(BEN, paint("small", 1));
    assert_eq!(shell.running(), [large], "BEN had more than ANN, who waits for memory");
    let light = shell.submit(ANN, ask("small"));
    assert_eq!(shell.running(), [large, small, light], "now ANN waits for her own light job");
}
