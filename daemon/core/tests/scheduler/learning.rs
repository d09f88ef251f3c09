//! What is learnt from jobs, and from whose.

use gpusched_core::{Class, Effect, Input, Measurement};
use gpusched_shared::{FailureKind, JobId, OutOfMemory, Outcome, RouteView, Usage};

use crate::shell::{ANN, Shell, answers, ask, model, only, paint, usage};

/// 100 bytes for a model that says it needs 40 beside none.
fn shell() -> Shell {
    let mut plan = only(Class { cap_bytes: 100, ..Class::new("c", 2) });
    // What is learnt from a job that ran out of memory is the same whether it is tried again or not.
    plan.retry.budget = 0;
    Shell::new(plan, vec![model("m", 0, 40)])
}

/// What has been found out about painting in two steps.
fn known(shell: &Shell) -> (u64, Option<u64>) {
    let RouteView { run_bytes, run_ms, .. } = shell.scheduler.route(&paint("m", 2), ANN);
    (run_bytes, run_ms)
}

fn kept(shell: &mut Shell) -> Vec<Measurement> {
    let kept = |effect| if let Effect::Keep(measurement) = effect { Some(measurement) } else { None };
    shell.take_effects().into_iter().filter_map(kept).collect()
}

fn finish_after(shell: &mut Shell, job: JobId, ms: u64, outcome: Outcome, peak_bytes: u64) {
    shell.start(job);
    shell.pass_ms(ms);
    shell.finish_with(job, outcome, usage(peak_bytes));
}

fn out_of_memory(requested_bytes: u64) -> Outcome {
    let oom = OutOfMemory { partition: "c".to_owned(), requested_bytes, used_bytes: 0, cap_bytes: 100 };
    Outcome::Failed { kind: FailureKind::OutOfMemory(oom), message: String::new() }
}

#[test]
fn a_cold_start_says_what_a_job_needs_and_not_how_long_it_takes() {
    let mut shell = shell();
    let cold = shell.submit(ANN, paint("m", 2));
    shell.loaded("m");
    finish_after(&mut shell, cold, 500, answers(), 20);
    assert_eq!(known(&shell), (22, None));
    assert_eq!(kept(&mut shell).iter().map(|kept| (kept.peak_bytes, kept.runs)).collect::<Vec<_>>(), [(20, 0)]);
    let warm = shell.submit(ANN, paint("m", 4));
    finish_after(&mut shell, warm, 8, answers(), 10);
    assert_eq!(known(&shell), (22, Some(4)), "2 ms for each step, and the peak stays");
    let kept = kept(&mut shell);
    assert_eq!(kept.iter().map(|kept| (kept.step_us, kept.runs)).collect::<Vec<_>>(), [(2000, 1)]);
}

#[test]
fn jobs_that_wait_for_the_same_load_are_cold_too() {
    let mut shell = shell();
    let [first, second] = [0; 2].map(|_| shell.submit(ANN, paint("m", 2)));
    shell.loaded("m");
    for job in [first, second] {
        finish_after(&mut shell, job, 5, answers(), 10);
    }
    assert_eq!(known(&shell).1, None);
}

#[test]
fn what_was_made_is_learnt_from_before_it_is_stored() {
    let mut shell = shell();
    let cold = shell.submit(ANN, paint("m", 2));
    shell.load_and_run(cold, "m", 1);
    let job = shell.submit(ANN, paint("m", 2));
    shell.start(job);
    shell.pass_ms(6);
    shell.lanes.remove(&job);
    shell.input(Input::Made(job, usage(30)));
    shell.pass_ms(100);
    shell.input(Input::Stored(job, answers()));
    assert_eq!(known(&shell), (33, Some(6)), "once, and without the time that storing took");
}

#[test]
fn time_parked_is_not_learnt() {
    let mut shell = shell();
    let cold = shell.submit(ANN, paint("m", 2));
    shell.load_and_run(cold, "m", 1);
    let job = shell.submit(ANN, paint("m", 2));
    shell.start(job);
    shell.pass_ms(3);
    shell.input(Input::Parked(job));
    shell.pass_ms(100);
    shell.input(Input::Resumed(job));
    shell.pass_ms(3);
    shell.finish(job);
    assert_eq!(known(&shell).1, Some(6));
}

#[test]
fn running_out_of_memory_raises_what_the_next_is_thought_to_need() {
    let mut shell = shell();
    let job = shell.submit(ANN, paint("m", 2));
    shell.loaded("m");
    finish_after(&mut shell, job, 1, out_of_memory(50), 45);
    assert_eq!(known(&shell), (55, None));
    assert_eq!(kept(&mut shell).iter().map(|kept| (kept.peak_bytes, kept.runs)).collect::<Vec<_>>(), [(50, 0)]);
    let [first, second] = [0; 2].map(|_| shell.submit(ANN, paint("m", 2)));
    assert_eq!(shell.running(), [first], "two of them do not fit any more");
    // It turns out to need more than there is: neither those that come nor those that wait can ever run.
    finish_after(&mut shell, first, 1, out_of_memory(101), 0);
    let outcome = shell.outcomes.get(&second);
    let Some(Outcome::Failed { kind: FailureKind::OutOfMemory(oom), message }) = outcome else { panic!("{outcome:?}") };
    assert_eq!((oom.requested_bytes, oom.used_bytes, oom.cap_bytes), (101, 0, 100));
    assert!(message.contains("needs 101 B") && message.ends_with("a larger partition"), "{message}");
    assert!(shell.try_submit(ANN, paint("m", 2)).is_err());
}

#[test]
fn nothing_is_learnt_from_failures_and_interruptions() {
    let mut shell = shell();
    let cold = shell.submit(ANN, paint("m", 2));
    shell.load_and_run(cold, "m", 1);
    let failed = shell.submit(ANN, paint("m", 2));
    let failure = Outcome::Failed { kind: FailureKind::Engine, message: String::new() };
    finish_after(&mut shell, failed, 9, failure, 70);
    let stopped = shell.submit(ANN, paint("m", 2));
    shell.start(stopped);
    shell.input(Input::Cancel(stopped));
    shell.pass_ms(9);
    shell.lanes.remove(&stopped);
    shell.input(Input::Interrupted(stopped, usage(70)));
    assert_eq!(known(&shell), (40, None));
    assert_eq!(kept(&mut shell), []);
}

#[test]
fn what_lanes_measured_adds_up_over_attempts() {
    let mut shell = shell();
    let job = shell.submit(ANN, ask("m"));
    shell.start(job);
    shell.input(Input::Cancel(job));
    shell.lanes.remove(&job);
    shell.take_effects();
    shell.input(Input::Interrupted(job, Usage { parked_us: 1, yields: 2, longest_gap_us: 3, peak_bytes: 4 }));
    let concluded = |effect| if let Effect::Conclude { usage, .. } = effect { Some(usage) } else { None };
    let usage = shell.take_effects().into_iter().find_map(concluded);
    assert_eq!(usage, Some(Usage { parked_us: 1, yields: 2, longest_gap_us: 3, peak_bytes: 4 }));
}
