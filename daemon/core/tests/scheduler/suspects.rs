//! The engine dies: who is suspected, what runs alone, and who is quarantined.

use gpusched_core::{Blame, Class, Effect, Input, JobRecord, LaneId};
use gpusched_shared::{AttemptEnd, FailureKind, JobId, Outcome, Reason};

use crate::restore::record;
use crate::shell::{ANN, BEN, Shell, ask, heavy_and_light, model, paint};

fn lose(shell: &mut Shell, blame: Blame) {
    shell.lanes.clear();
    shell.input(Input::EngineLost(blame));
    assert_eq!(shell.running(), [], "there is nothing to run on");
    shell.input(Input::EngineReady);
}

fn quarantined(shell: &Shell, job: JobId) -> bool {
    matches!(shell.outcomes.get(&job), Some(Outcome::Failed { kind: FailureKind::Quarantined { deaths: 2 }, .. }))
}

#[test]
fn suspects_run_alone_and_first_until_the_guilty_one_is_found() {
    let mut shell = Shell::simple(3);
    let [first, poison, third, fourth] = [0; 4].map(|_| shell.submit(ANN, ask("m")));
    shell.loaded("m");
    for job in [first, poison, third] {
        shell.start(job);
    }
    lose(&mut shell, Blame::Everyone);
    // A lane is free for each, but nothing that runs beside another tells which it was.
    assert_eq!(shell.running(), [first]);
    assert_eq!(shell.reasons(fourth)[0], Reason::Suspect { job: first });
    shell.run(first, 1);
    assert_eq!(shell.running(), [poison]);
    shell.start(poison);
    lose(&mut shell, Blame::Everyone);
    assert_eq!(shell.running(), [poison], "it died of it once");
    shell.start(poison);
    lose(&mut shell, Blame::Everyone);
    assert!(quarantined(&shell, poison));
    assert_eq!(shell.running(), [third], "a suspect yet");
    shell.run(third, 1);
    let fifth = shell.submit(BEN, ask("m"));
    assert_eq!(shell.running(), [fourth, fifth], "everything is as before");
}

#[test]
fn whoever_ran_alone_at_the_first_death_is_found_at_the_second() {
    let mut shell = Shell::simple(1);
    let [poison, waiting] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    for _ in 0..2 {
        shell.start(poison);
        lose(&mut shell, Blame::Everyone);
    }
    assert!(quarantined(&shell, poison));
    assert_eq!(shell.running(), [waiting]);
}

#[test]
fn nobody_is_suspected_of_what_came_from_outside() {
    let mut shell = Shell::simple(2);
    let jobs = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    for _ in 0..10 {
        lose(&mut shell, Blame::Nobody);
        assert_eq!(shell.running(), jobs);
    }
    let attempts = shell.scheduler.view(jobs[0], shell.now).map(|view| view.attempts);
    assert_eq!(attempts, Some(11));
}

#[test]
fn a_lane_that_hangs_accuses_its_job_alone() {
    let mut shell = Shell::simple(2);
    let [bystander, stuck] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    let lane = shell.lanes[&stuck];
    shell.start(stuck);
    lose(&mut shell, Blame::Lane(lane));
    assert_eq!(shell.running(), [stuck]);
    shell.start(stuck);
    lose(&mut shell, Blame::Lane(LaneId(0)));
    assert!(quarantined(&shell, stuck));
    assert_eq!(shell.running(), [bystander]);
}

#[test]
fn nobody_is_guilty_for_sure_of_what_may_have_been_something_else() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, ask("m"));
    for _ in 0..5 {
        shell.start(job);
        assert_eq!(shell.scheduler.tries_a_suspect(), shell.launched.len() > 1);
        lose(&mut shell, Blame::Anyone);
    }
    assert_eq!(shell.running(), [job]);
}

#[test]
fn a_job_that_had_not_begun_is_not_guilty() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, ask("m"));
    for blame in [Blame::Everyone, Blame::Lane(LaneId(0)), Blame::Everyone] {
        lose(&mut shell, blame);
    }
    assert_eq!(shell.running(), [job]);
}

#[test]
fn a_suspect_that_ends_well_or_is_cancelled_is_none_any_more() {
    let mut shell = Shell::simple(2);
    let [first, second] = [0; 2].map(|_| shell.submit(ANN, ask("m")));
    let third = shell.submit(ANN, ask("m"));
    lose(&mut shell, Blame::Everyone);
    shell.input(Input::Cancel(second));
    shell.run(first, 1);
    assert_eq!(shell.running(), [third]);
    let fourth = shell.submit(ANN, ask("m"));
    assert_eq!(shell.running(), [third, fourth]);
}

#[test]
fn who_was_told_to_stop_has_stopped() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, ask("m"));
    lose(&mut shell, Blame::Everyone);
    shell.input(Input::Cancel(job));
    lose(&mut shell, Blame::Everyone);
    assert_eq!(shell.outcomes.get(&job), Some(&Outcome::Cancelled));
}

#[test]
fn suspects_of_a_paused_class_keep_nobody_waiting() {
    let plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 1));
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    let [picture, question] = [paint("m", 1), ask("m")].map(|spec| shell.submit(ANN, spec));
    shell.input(Input::Pause { class: 0, paused: true });
    lose(&mut shell, Blame::Everyone);
    assert_eq!(shell.running(), [question]);
    shell.run(question, 1);
    let more = shell.submit(ANN, ask("m"));
    assert_eq!(shell.running(), [more]);
    // Its class goes on: it waits for the lanes to be free, and then has them to itself.
    shell.input(Input::Pause { class: 0, paused: false });
    let last = shell.submit(ANN, ask("m"));
    assert_eq!(shell.running(), [more]);
    shell.run(more, 1);
    assert_eq!(shell.running(), [picture]);
    shell.run(picture, 1);
    assert_eq!(shell.running(), [last]);
}

#[test]
fn suspicion_and_attempts_are_on_record() {
    let mut shell = Shell::simple(1);
    let job = shell.submit(ANN, ask("m"));
    shell.start(job);
    shell.take_effects();
    lose(&mut shell, Blame::Everyone);
    let effects = shell.take_effects();
    let amended = effects.iter().find_map(|e| if let Effect::Amend(record) = e { Some(record) } else { None });
    assert_eq!(amended.map(|record| (record.suspect, record.deaths)), Some((true, 1)));
    assert!(effects.contains(&Effect::AttemptEnded { job, attempt: 1, end: AttemptEnd::EngineLost }));
}

#[test]
fn suspicion_survives_the_daemon() {
    let mut shell = Shell::simple(2);
    shell.restore(JobRecord { suspect: true, deaths: 1, ..record(5, ask("m")) }, 0);
    let other = shell.submit(ANN, ask("m"));
    assert_eq!(shell.running(), [JobId(5)]);
    shell.start(JobId(5));
    lose(&mut shell, Blame::Everyone);
    assert!(quarantined(&shell, JobId(5)));
    assert_eq!(shell.running(), [other]);
}

#[test]
fn a_daemon_that_died_before_the_verdict_comes_to_it_again() {
    let mut shell = Shell::simple(1);
    shell.restore(JobRecord { suspect: true, deaths: 2, ..record(5, ask("m")) }, 0);
    assert!(quarantined(&shell, JobId(5)) && shell.launched.is_empty());
}
