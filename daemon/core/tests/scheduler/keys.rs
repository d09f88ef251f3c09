//! The same submission again: one job, however often it is asked for.

use gpusched_core::{Input, JobRecord, Key, SessionId, Unfinished};
use gpusched_shared::{BlobHash, JobId, Outcome, Rejection};

use crate::restore::record;
use crate::shell::{ANN, BEN, Shell, ask};

fn key(name: &str, fingerprint: u8) -> Key {
    Key { name: name.to_owned(), fingerprint: BlobHash([fingerprint; 32]) }
}

fn answers(shell: &mut Shell) -> Vec<Result<JobId, Rejection>> {
    std::mem::take(&mut shell.answers)
}

#[test]
fn one_job_for_one_key() {
    let mut shell = Shell::simple(1);
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    assert_eq!(answers(&mut shell), [Ok(JobId(1)), Ok(JobId(1))]);
    shell.submit_keyed(ANN, ask("m"), false, key("a", 2));
    assert_eq!(answers(&mut shell), [Err(Rejection::KeyConflict { job: JobId(1) })]);
    shell.submit_keyed(BEN, ask("m"), false, key("a", 2));
    shell.submit_keyed(ANN, ask("m"), false, key("b", 1));
    assert_eq!(answers(&mut shell), [Ok(JobId(2)), Ok(JobId(3))], "of another owner, or with another key");
    // Once it has ended, the journal knows it, and the shell asks there first.
    shell.run(JobId(1), 1);
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    assert_eq!(answers(&mut shell), [Ok(JobId(4))]);
}

#[test]
fn nobody_is_promised_what_is_not_on_record() {
    let mut shell = Shell::simple(1);
    shell.journal_is_held = true;
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    assert_eq!(answers(&mut shell), []);
    shell.commit();
    assert_eq!(answers(&mut shell), [Ok(JobId(1)), Ok(JobId(1))]);

    shell.submit_keyed(ANN, ask("m"), false, key("b", 1));
    shell.submit_keyed(ANN, ask("m"), false, key("b", 1));
    shell.input(Input::RecordFailed(JobId(2), Rejection::Draining));
    assert_eq!(answers(&mut shell), [Err(Rejection::Draining), Err(Rejection::Draining)]);
}

#[test]
fn an_attached_job_belongs_to_whoever_asked_last() {
    let mut shell = Shell::simple(1);
    shell.submit_keyed(ANN, ask("m"), true, key("a", 1));
    shell.session = SessionId(2);
    shell.submit_keyed(ANN, ask("m"), true, key("a", 1));
    shell.input(Input::SessionClosed(SessionId(1)));
    shell.start(JobId(1));
    assert_eq!(shell.running(), [JobId(1)]);
    shell.session = SessionId(3);
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    shell.input(Input::SessionClosed(SessionId(2)));
    shell.input(Input::SessionClosed(SessionId(3)));
    shell.finish(JobId(1));
    assert!(matches!(shell.outcomes.get(&JobId(1)), Some(Outcome::Answers(_))), "it has been detached");
}

#[test]
fn after_a_restart_it_waits_for_its_client_for_a_while() {
    for comes_back in [true, false] {
        let mut shell = Shell::simple(1);
        let record = JobRecord { attached: true, key: Some(key("a", 1)), ..record(5, ask("m")) };
        let unfinished = Unfinished { record, age_ms: 0, retry_in_ms: None, ended: Vec::new(), damage: None };
        shell.input(Input::Restore(vec![unfinished]));
        shell.start(JobId(5));
        shell.pass_ms(29_999);
        if comes_back {
            shell.submit_keyed(ANN, ask("m"), true, key("a", 1));
            assert_eq!(answers(&mut shell), [Ok(JobId(5))]);
        }
        shell.take_effects();
        shell.pass_ms(60_000);
        assert_eq!(shell.take_stopped().is_empty(), comes_back);
    }
}

#[test]
fn a_repeated_submission_is_answered_even_while_no_new_ones_are_taken() {
    let mut shell = Shell::simple(1);
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    shell.input(Input::Drain(true));
    shell.submit_keyed(ANN, ask("m"), false, key("a", 1));
    shell.submit_keyed(ANN, ask("m"), false, key("b", 1));
    assert_eq!(answers(&mut shell), [Ok(JobId(1)), Ok(JobId(1)), Err(Rejection::Draining)]);
}
