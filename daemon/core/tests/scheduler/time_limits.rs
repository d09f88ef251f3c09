//! Deadlines, queue timeouts and run timeouts.

use gpusched_core::{Blame, Input, Time};
use gpusched_shared::{JobSpec, Outcome, TimeLimit};

use crate::shell::{ANN, Shell, ask};

fn expired(limit: TimeLimit) -> Option<Outcome> {
    Some(Outcome::Expired { limit })
}

#[test]
fn a_deadline_counts_waiting_and_running() {
    let mut shell = Shell::simple(1);
    let within = JobSpec { deadline_ms: Some(10), ..ask("m") };
    let running = shell.submit(ANN, within.clone());
    let waiting = shell.submit(ANN, within);
    shell.start(running);
    assert_eq!(shell.scheduler.next_timer(), Some(Time(10_000)));
    shell.pass_us(9_999);
    assert!(shell.outcomes.is_empty() && shell.take_stopped().is_empty());
    shell.pass_us(1);
    assert_eq!(shell.outcomes.get(&waiting).cloned(), expired(TimeLimit::Deadline));
    assert_eq!(shell.take_stopped(), [running]);
    shell.interrupt(running);
    assert_eq!(shell.outcomes.get(&running).cloned(), expired(TimeLimit::Deadline));
    assert_eq!(shell.scheduler.next_timer(), None);
}

#[test]
fn a_deadline_that_has_passed_comes_before_a_free_lane() {
    let mut shell = Shell::simple(1);
    let running = shell.submit(ANN, ask("m"));
    let late = shell.submit(ANN, JobSpec { deadline_ms: Some(10), ..ask("m") });
    shell.start(running);
    // The end of the one is heard of when the other's deadline has passed already.
    shell.now = Time(10_000);
    shell.finish(running);
    assert_eq!(shell.launched, [running]);
    assert_eq!(shell.outcomes.get(&late).cloned(), expired(TimeLimit::Deadline));
}

#[test]
fn a_deadline_may_pass_before_the_record_is_written() {
    let mut shell = Shell::simple(1);
    shell.journal_is_held = true;
    shell.submit_as(ANN, JobSpec { deadline_ms: Some(10), ..ask("m") }, false);
    shell.pass_ms(10);
    shell.commit();
    assert_eq!(shell.outcomes.values().next().cloned(), expired(TimeLimit::Deadline));
    assert!(shell.launched.is_empty());
}

#[test]
fn a_queue_timeout_ends_with_the_lane() {
    let mut shell = Shell::simple(1);
    let impatient = JobSpec { queue_timeout_ms: Some(10), ..ask("m") };
    let running = shell.submit(ANN, impatient.clone());
    shell.start(running);
    assert_eq!(shell.scheduler.next_timer(), None, "it has its lane");
    let waiting = shell.submit(ANN, impatient);
    shell.pass_us(9_999);
    assert!(shell.outcomes.is_empty());
    shell.pass_us(1);
    assert_eq!(shell.outcomes.get(&waiting).cloned(), expired(TimeLimit::QueueTimeout));
    shell.pass_ms(100);
    assert_eq!(shell.take_stopped(), []);
    // Back in the queue it does not count anew.
    shell.lanes.clear();
    shell.input(Input::EngineLost(Blame::Nobody));
    shell.input(Input::EngineReady);
    assert_eq!(shell.scheduler.next_timer(), None);
}

#[test]
fn time_parked_does_not_count_to_the_run_timeout() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, JobSpec { run_timeout_ms: Some(10), ..ask("m") });
    shell.pass_ms(1);
    shell.start(job);
    shell.pass_ms(3);
    shell.input(Input::Parked(job));
    assert_eq!(shell.scheduler.next_timer(), None);
    shell.pass_ms(100);
    shell.input(Input::Resumed(job));
    assert_eq!(shell.scheduler.next_timer(), Some(shell.now.after_ms(6)));
    shell.pass_us(5_999);
    assert_eq!(shell.take_stopped(), []);
    shell.pass_us(1);
    assert_eq!(shell.take_stopped(), [job]);
    assert_eq!(shell.scheduler.next_timer(), None);
    shell.interrupt(job);
    assert_eq!(shell.outcomes.get(&job).cloned(), expired(TimeLimit::RunTimeout));
}

#[test]
fn each_attempt_has_the_whole_run_timeout() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, JobSpec { run_timeout_ms: Some(10), ..ask("m") });
    shell.start(job);
    shell.pass_ms(7);
    shell.lanes.clear();
    shell.input(Input::EngineLost(Blame::Nobody));
    shell.input(Input::EngineReady);
    assert_eq!(shell.scheduler.next_timer(), Some(shell.now.after_ms(10)));
    shell.pass_ms(2);
    shell.start(job);
    assert_eq!(shell.scheduler.next_timer(), Some(shell.now.after_ms(8)));
}

#[test]
fn timers_go_with_their_jobs() {
    let mut shell = Shell::simple(1);
    let limits = JobSpec { deadline_ms: Some(30), queue_timeout_ms: Some(20), run_timeout_ms: Some(10), ..ask("m") };
    let [first, second] = [0; 2].map(|_| shell.submit(ANN, limits.clone()));
    shell.input(Input::Cancel(second));
    shell.run(first, 1);
    assert_eq!(shell.scheduler.next_timer(), None);
    shell.pass_ms(100);
    assert_eq!(shell.outcomes.len(), 2);
}
