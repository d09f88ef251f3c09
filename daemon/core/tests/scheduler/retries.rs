//! Jobs that run out of memory: backed off, tried again, and given up at last.

use gpusched_core::policy::backoff::{bound_ms, delay_ms};
use gpusched_core::{Class, Effect, Input, JobRecord, Plan, Retry, Unfinished};
use gpusched_shared::{AttemptEnd, FailureKind, JobId, JobState, OutOfMemory, Outcome, Reason, TimeLimit, Update};

use crate::restore::record;
use crate::shell::{ANN, BEN, Shell, answers, ask, model, only, usage};

const RULE: Retry = Retry { base_ms: 1000, factor_milli: 2000, ceiling_ms: 3000, budget: 3, seed: 7 };

fn plan(lanes: u32) -> Plan {
    let mut plan = only(Class { cap_bytes: 100, ..Class::new("c", lanes) });
    plan.retry = RULE;
    plan
}

/// 100 bytes for models that each take 20 and, for a job, 10.
fn shell(lanes: u32) -> Shell {
    Shell::new(plan(lanes), ["m", "n", "o"].map(|name| model(name, 20, 10)).to_vec())
}

/// The job was found to need so many bytes, with so many over the cap.
fn out_of_memory(requested_bytes: u64, over_bytes: u64) -> Outcome {
    let (cap_bytes, used_bytes) = (100, 100 + over_bytes);
    let oom = OutOfMemory { partition: "c".to_owned(), requested_bytes, used_bytes, cap_bytes };
    Outcome::Failed { message: oom.to_string(), kind: FailureKind::OutOfMemory(oom) }
}

fn run_out(shell: &mut Shell, job: JobId, over_bytes: u64) {
    shell.start(job);
    shell.finish_with(job, out_of_memory(10, over_bytes), usage(10));
}

fn retry_of(shell: &Shell, job: JobId) -> Option<(u32, u64)> {
    let JobState::BackingOff { retry, within_ms } = shell.scheduler.view(job, shell.now)?.state else { return None };
    Some((retry, within_ms))
}

#[test]
fn it_is_tried_again_when_its_time_has_come_and_fails_when_the_budget_is_spent() {
    let mut shell = shell(1);
    let job = shell.submit(ANN, ask("m"));
    shell.loaded("m");
    for retry in 1..=RULE.budget {
        assert_eq!(shell.running(), [job]);
        shell.take_effects();
        run_out(&mut shell, job, 5);
        let within_ms = delay_ms(&RULE, job.0, retry);
        assert!(within_ms <= bound_ms(&RULE, retry));
        assert_eq!(retry_of(&shell, job), Some((retry, within_ms)));
        let effects = shell.take_effects();
        let said = |effect: &Effect| effects.contains(effect);
        assert!(said(&Effect::AttemptEnded { job, attempt: retry, end: AttemptEnd::OutOfMemory }));
        assert!(said(&Effect::BackOff { job, retry, within_ms }) && said(&Effect::Flush { class: 0, job }));
        assert!(said(&Effect::Tell(job, Update::BackingOff { retry, within_ms })));
        assert_eq!(shell.reasons(job), [Reason::BackingOff { retry, budget: 3, within_ms }]);
        let class = &shell.scheduler.classes()[0];
        assert_eq!((class.queued, class.backing_off, class.out_of_memory), (0, 1, u64::from(retry)));
        if within_ms > 0 {
            shell.pass_us(within_ms * 1000 - 1);
            assert_eq!(shell.running(), [], "not before its time");
            shell.pass_us(1);
        }
    }
    run_out(&mut shell, job, 5);
    let outcome = shell.outcomes.get(&job);
    let Some(Outcome::Failed { kind: FailureKind::OutOfMemory(_), message }) = outcome else { panic!("{outcome:?}") };
    assert!(message.ends_with("(attempt 4, the last)"), "{message}");
}

#[test]
fn a_retry_may_succeed_and_the_time_it_waited_is_told() {
    let mut shell = shell(1);
    let job = shell.submit(ANN, ask("m"));
    shell.loaded("m");
    run_out(&mut shell, job, 1);
    let waited_ms = delay_ms(&RULE, job.0, 1);
    shell.pass_ms(waited_ms);
    shell.start(job);
    shell.take_effects();
    shell.finish(job);
    let told = shell.take_told(job);
    let [Update::Done(view)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((&view.state, view.attempts, view.retries), (&JobState::Done(answers()), 2, 1));
    assert_eq!((view.wait_us, view.backoff_us), (waited_ms * 1000, waited_ms * 1000));
}

#[test]
fn freed_memory_ends_the_wait_as_soon_as_it_is_enough() {
    let mut shell = shell(3);
    let [job, other, third] = [0; 3].map(|_| shell.submit(ANN, ask("m")));
    shell.loaded("m");
    // It lacked 15 bytes: one lease of 10 is not enough, two are.
    run_out(&mut shell, job, 15);
    assert_eq!(shell.running(), [other, third]);
    shell.run(other, 0);
    assert!(retry_of(&shell, job).is_some());
    shell.run(third, 0);
    assert_eq!(shell.running(), [job]);
}

#[test]
fn idle_models_leave_for_it_but_not_its_own() {
    let mut shell = shell(1);
    for name in ["n", "o"] {
        let before = shell.submit(ANN, ask(name));
        shell.load_and_run(before, name, 1);
    }
    let job = shell.submit(ANN, ask("m"));
    shell.loaded("m");
    shell.take_effects();
    run_out(&mut shell, job, 15);
    assert_eq!(shell.take_evicted(), ["n"], "as much as was lacking, least recently used first");
    shell.unloaded("n");
    assert_eq!(shell.running(), [job]);
    // 30 are not to be had: everything idle goes, and it waits for its time.
    run_out(&mut shell, job, 30);
    assert_eq!(shell.take_evicted(), ["o"]);
    shell.unloaded("o");
    assert!(retry_of(&shell, job).is_some());
}

#[test]
fn what_can_never_fit_is_not_tried_again() {
    let mut shell = shell(1);
    let job = shell.submit(ANN, ask("m"));
    shell.loaded("m");
    shell.start(job);
    shell.finish_with(job, out_of_memory(81, 1), usage(81));
    assert!(matches!(shell.outcomes.get(&job), Some(Outcome::Failed { kind: FailureKind::OutOfMemory(_), .. })));
}

#[test]
fn others_run_meanwhile_and_it_keeps_its_place() {
    let mut shell = shell(1);
    let job = shell.submit(ANN, ask("m"));
    let [second, third] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    let foreign = shell.submit(BEN, ask("m"));
    shell.loaded("m");
    run_out(&mut shell, job, 1);
    assert_eq!(shell.running().len(), 1, "its lane is free");
    let next = shell.running()[0];
    shell.run(next, 1);
    // That freed enough, so the first is back, before the others of its owner.
    let mut order = Vec::new();
    while let Some(next) = shell.running().first().copied() {
        order.push(next);
        shell.run(next, 1);
    }
    let of_ann: Vec<JobId> = order.into_iter().filter(|id| ![foreign, next].contains(id)).collect();
    let expected: Vec<JobId> = [job, second, third].into_iter().filter(|id| *id != next).collect();
    assert_eq!(of_ann, expected);
}

#[test]
fn it_can_be_cancelled_and_expires_while_it_backs_off() {
    let mut shell = shell(1);
    let job = shell.submit(ANN, ask("m"));
    shell.loaded("m");
    run_out(&mut shell, job, 1);
    shell.input(Input::Cancel(job));
    assert_eq!(shell.outcomes.get(&job), Some(&Outcome::Cancelled));
    let mut hasty = ask("m");
    hasty.deadline_ms = Some(1);
    let job = shell.submit(ANN, hasty);
    run_out(&mut shell, job, 1);
    shell.pass_ms(1);
    assert_eq!(shell.outcomes.get(&job), Some(&Outcome::Expired { limit: TimeLimit::Deadline }));
    assert_eq!(shell.scheduler.next_timer(), None);
}

#[test]
fn told_to_stop_it_does_not_start_again() {
    let mut shell = shell(1);
    let job = shell.submit(ANN, ask("m"));
    shell.loaded("m");
    shell.start(job);
    shell.input(Input::Cancel(job));
    shell.finish_with(job, out_of_memory(10, 1), usage(10));
    assert_eq!(shell.outcomes.get(&job), Some(&Outcome::Cancelled));
}

#[test]
fn the_schedule_survives_the_daemon() {
    let mut shell = shell(1);
    let restored = Unfinished {
        record: JobRecord { retries: 2, ..record(5, ask("m")) },
        age_ms: 10,
        retry_in_ms: Some(700),
        ended: Vec::new(),
        damage: None,
    };
    shell.input(Input::Restore(vec![restored]));
    assert_eq!(retry_of(&shell, JobId(5)), Some((2, 700)));
    shell.pass_ms(699);
    assert_eq!(shell.running(), []);
    shell.pass_ms(1);
    assert_eq!(shell.running(), [JobId(5)]);
    shell.loaded("m");
    run_out(&mut shell, JobId(5), 1);
    assert_eq!(retry_of(&shell, JobId(5)).map(|(retry, _)| retry), Some(3), "it goes on where it was");
}

#[test]
fn a_dead_engine_frees_all_memory() {
    let mut shell = shell(1);
    let job = shell.submit(ANN, ask("m"));
    shell.loaded("m");
    run_out(&mut shell, job, u64::MAX - 100);
    shell.input(Input::EngineLost(gpusched_core::Blame::Everyone));
    assert_eq!(shell.running(), [], "there is nothing to run it");
    shell.input(Input::EngineReady);
    assert_eq!(shell.running(), [job]);
}
