//! How jobs end: by themselves, cancelled in every state, with their connection, with the engine.

use gpusched_core::{Blame, Effect, Input, SessionId};
use gpusched_shared::{Activity, FailureKind, JobId, JobState, Outcome, Update, Usage};

use crate::shell::{ANN, Shell, answers, ask, usage};

/// A scheduler with one lane, and a job on it that has begun.
fn running() -> (Shell, JobId) {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, ask("m"));
    shell.start(job);
    shell.take_effects();
    (shell, job)
}

#[test]
fn a_job_is_seen_all_the_way() {
    let mut shell = Shell::simple(1);
    shell.pass_ms(5);
    let first = shell.submit(ANN, ask("m"));
    let job = shell.submit(ANN, ask("m"));
    let state = |shell: &Shell, job| shell.scheduler.view(job, shell.now).map(|view| view.state);
    assert_eq!(state(&shell, job), Some(JobState::Queued { ahead: 0 }));
    let behind = shell.submit(ANN, ask("m"));
    assert_eq!(state(&shell, behind), Some(JobState::Queued { ahead: 1 }));
    assert_eq!(shell.scheduler.places().collect::<Vec<_>>(), [(job, 0), (behind, 1)]);
    shell.run(first, 2);
    shell.start(job);
    shell.pass_ms(3);
    let activity = Activity::Working { done: 1, of: 4 };
    shell.input(Input::Progress(job, activity));
    assert_eq!(state(&shell, job), Some(JobState::Running { lane: 0, activity, parked: false }));
    shell.finish_with(job, answers(), usage(9));
    let told = shell.take_told(job);
    let running = |activity| Update::Running { lane: 0, activity, parked: false };
    assert_eq!(told[..2], [running(Activity::Starting), running(activity)]);
    let [.., Update::Done(view)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((told.len(), view.wait_us, view.run_us, view.attempts), (3, 2000, 3000, 1));
    assert_eq!((view.state.clone(), view.usage.peak_bytes), (JobState::Done(answers()), 9));
    assert_eq!(shell.scheduler.view(job, shell.now), None, "it is the journal's now");
    assert_eq!(shell.scheduler.classes()[0].finished, 2);
    let newest_first: Vec<JobId> = shell.scheduler.live().map(|(id, _)| id).collect();
    assert_eq!(newest_first, [behind]);
}

#[test]
fn a_job_that_is_not_on_record_yet_is_nobodys_business() {
    let mut shell = Shell::simple(1);
    shell.journal_is_held = true;
    shell.submit_as(ANN, ask("m"), false);
    assert_eq!((shell.scheduler.live().count(), shell.scheduler.view(JobId(1), shell.now)), (0, None));
    assert_eq!(shell.scheduler.explain(JobId(1), shell.now), None);
    shell.input(Input::Cancel(JobId(1)));
    assert!(shell.outcomes.is_empty(), "an outcome needs a record");
    shell.commit();
    assert_eq!(shell.outcomes.get(&JobId(1)), Some(&Outcome::Cancelled));
    assert!(shell.launched.is_empty());
}

#[test]
fn a_waiting_job_is_cancelled_at_once() {
    let mut shell = Shell::simple(1);
    let [running, waiting, behind] = [0; 3].map(|_| shell.submit(ANN, ask("m")));
    shell.input(Input::Cancel(waiting));
    assert_eq!(shell.outcomes.get(&waiting), Some(&Outcome::Cancelled));
    shell.run(running, 1);
    assert_eq!(shell.running(), [behind]);
}

#[test]
fn a_launched_job_is_stopped_once_and_leaves() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, ask("m"));
    shell.take_effects();
    shell.input(Input::Cancel(job));
    shell.input(Input::Cancel(job));
    shell.start(job);
    assert_eq!(shell.take_stopped(), [job]);
    shell.interrupt(job);
    assert_eq!(shell.outcomes.get(&job), Some(&Outcome::Cancelled));
}

#[test]
fn finished_beats_cancelled() {
    let (mut shell, job) = running();
    shell.input(Input::Cancel(job));
    assert_eq!(shell.take_stopped(), [job]);
    shell.finish(job);
    assert_eq!(shell.outcomes.get(&job), Some(&answers()));
}

#[test]
fn a_parked_job_is_stopped() {
    let (mut shell, job) = running();
    shell.input(Input::Parked(job));
    let view = shell.scheduler.view(job, shell.now).expect("it is there");
    assert!(matches!(view.state, JobState::Running { parked: true, .. }));
    shell.input(Input::Cancel(job));
    assert_eq!(shell.take_stopped(), [job]);
    shell.interrupt(job);
    assert_eq!(shell.outcomes.get(&job), Some(&Outcome::Cancelled));
}

#[test]
fn what_is_made_is_stored_whatever_comes() {
    let mut shell = Shell::simple(1);
    let [job, next] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    shell.start(job);
    shell.lanes.remove(&job);
    shell.input(Input::Made(job, usage(7)));
    assert_eq!(shell.running(), [next], "its lane is free while its result is written");
    shell.input(Input::Cancel(job));
    shell.lanes.clear();
    shell.input(Input::EngineLost(Blame::Nobody));
    shell.input(Input::EngineReady);
    assert!(shell.outcomes.is_empty());
    let failed = Outcome::Failed { kind: FailureKind::Engine, message: "disk full".to_owned() };
    shell.input(Input::Stored(job, failed.clone()));
    assert_eq!(shell.outcomes.get(&job), Some(&failed));
}

#[test]
fn no_more_results_pile_up_than_the_store_takes() {
    let mut shell = Shell::simple(1);
    let jobs: Vec<JobId> = (0..10).map(|_| shell.submit(ANN, ask("m"))).collect();
    for job in &jobs[..8] {
        shell.start(*job);
        shell.lanes.remove(job);
        shell.input(Input::Made(*job, Usage::default()));
    }
    assert_eq!(shell.running(), [], "eight results are on their way to the store");
    shell.input(Input::Stored(jobs[3], answers()));
    assert_eq!(shell.running(), [jobs[8]]);
}

#[test]
fn an_outcome_is_not_seen_before_it_is_on_record() {
    let (mut shell, job) = running();
    shell.journal_is_held = true;
    shell.finish(job);
    shell.input(Input::Cancel(job));
    let view = shell.scheduler.view(job, shell.now).expect("it has not ended");
    assert!(matches!(view.state, JobState::Running { .. }));
    assert!(!shell.take_effects().iter().any(|effect| matches!(effect, Effect::Tell(_, Update::Done(_)))));
    assert!(!shell.scheduler.is_idle());
    shell.commit();
    assert!(matches!(shell.take_told(job)[..], [Update::Done(_)]));
    assert!(shell.scheduler.is_idle());
    shell.input(Input::Cancel(job));
}

#[test]
fn an_outcome_of_a_job_that_never_ran_is_not_seen_either() {
    let (mut shell, _) = running();
    let waiting = shell.submit(ANN, ask("m"));
    shell.journal_is_held = true;
    shell.input(Input::Cancel(waiting));
    let view = shell.scheduler.view(waiting, shell.now).expect("it has not ended");
    assert_eq!(view.state, JobState::Queued { ahead: 0 });
}

#[test]
fn attached_jobs_end_with_their_connection_and_others_do_not() {
    let mut shell = Shell::simple(1);
    let [attached, more] = [0; 2].map(|_| shell.submit_attached(ANN, ask("m")));
    let detached = shell.submit(ANN, ask("m"));
    shell.session = SessionId(2);
    let of_another = shell.submit_attached(ANN, ask("m"));
    shell.take_effects();
    shell.input(Input::SessionClosed(SessionId(1)));
    assert_eq!(shell.outcomes.keys().copied().collect::<Vec<_>>(), [more]);
    assert_eq!(shell.take_stopped(), [attached]);
    shell.interrupt(attached);
    assert_eq!(shell.running(), [detached]);
    shell.run(detached, 1);
    assert_eq!(shell.running(), [of_another]);
    shell.input(Input::SessionClosed(SessionId(1)));
}

#[test]
fn a_lost_engine_costs_an_attempt() {
    let mut shell = Shell::simple(2);
    let [job, doomed, waiting] = [0; 3].map(|_| shell.submit(ANN, ask("m")));
    shell.loaded("m");
    shell.start(job);
    shell.input(Input::Cancel(doomed));
    shell.pass_ms(4);
    shell.take_effects();
    shell.lanes.clear();
    shell.input(Input::EngineLost(Blame::Nobody));
    shell.input(Input::EngineReady);
    assert_eq!(shell.outcomes.get(&doomed), Some(&Outcome::Cancelled));
    assert_eq!(shell.running(), [job, waiting], "everything else runs again");
    assert_eq!(shell.scheduler.holders("m"), [""; 0], "its models are gone");
    let attempts = |shell: &Shell, job| shell.scheduler.view(job, shell.now).map(|view| view.attempts);
    assert_eq!((attempts(&shell, job), attempts(&shell, waiting)), (Some(2), Some(1)));
}

#[test]
fn time_parked_is_told_apart_and_counted_once() {
    let (mut shell, job) = running();
    let times = |shell: &Shell| {
        let view = shell.scheduler.view(job, shell.now).expect("it is there");
        (view.wait_us, view.run_us, view.usage.parked_us)
    };
    shell.pass_us(10);
    shell.input(Input::Parked(job));
    shell.pass_us(5);
    assert_eq!(times(&shell), (0, 15, 5));
    shell.input(Input::Resumed(job));
    shell.pass_us(1);
    assert_eq!(times(&shell), (0, 16, 5));
    // Taken off its lane, as at the end of the daemon: the lane says how long it was parked.
    shell.input(Input::Leave);
    shell.lanes.remove(&job);
    shell.input(Input::Interrupted(job, Usage { parked_us: 5, yields: 1, ..Usage::default() }));
    shell.pass_us(2);
    assert_eq!(times(&shell), (2, 16, 5));
}

#[test]
fn what_cannot_have_happened_is_reported_and_changes_nothing() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, ask("m"));
    let waiting = shell.submit(ANN, ask("m"));
    for input in [Input::Started(waiting), Input::Concluded(job), Input::Started(JobId(99))] {
        assert_eq!(shell.scheduler.handle(input, shell.now).len(), 0);
        assert_eq!(shell.scheduler.take_impossible().len(), 1);
    }
    assert_eq!(shell.scheduler.take_impossible().len(), 0);
    assert_eq!(shell.running(), [job]);
}
