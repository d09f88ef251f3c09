//! Pictures that are checked and made again, by the real daemon with the shipped weights.

use std::collections::BTreeSet;

use gpusched_client::shared::{Check, Phase, Reflect, ReflectEnd, Reflection, Update, Verdict};
use gpusched_client::spec::ImageJob;
use gpusched_client::{FailureKind, JobId, JobView, Outcome, txt2img};
use rusqlite::{Connection, OpenFlags};

use crate::harness::daemon::{Daemon, Home};
use crate::harness::{assert_well, outcome, picture};

/// A check that no picture passes that shows what was asked for.
fn impossible() -> Check {
    Check::new("is there a red circle?", "no")
}

fn reflecting(rounds: u8, checks: Vec<Check>) -> ImageJob {
    txt2img("a red circle").seed(1).steps(20).reflect(Reflect { rounds: Some(rounds), checks, ..Reflect::default() })
}

fn reflection(view: &JobView) -> &Reflection {
    view.reflection.as_ref().expect("it reflects")
}

/// The stages of a job that are on record, and that each of them has an outcome.
fn stages(home: &Home, job: JobId) -> Vec<String> {
    let file = home.file("state").join("journal.sqlite");
    let journal = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("the journal");
    let mut rows =
        journal.prepare("SELECT part, outcome FROM jobs WHERE parent = ?1 ORDER BY id").expect("a statement");
    let rows = rows
        .query_map([i64::try_from(job.0).expect("a small number")], |row| Ok((row.get(0)?, row.get(1)?)))
        .expect("rows");
    let rows: Vec<(String, Option<String>)> = rows.collect::<Result<_, _>>().expect("of stages");
    assert!(rows.iter().all(|(_, outcome)| outcome.is_some()), "{rows:?}");
    rows.into_iter().map(|(part, _)| part).collect()
}

#[test]
fn a_picture_is_checked_and_its_rounds_are_on_record() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(reflecting(2, Vec::new()), Vec::new(), false).expect("accepted");
    let view = client.wait(job).expect("waited for");
    let found = reflection(&view);
    let asked: Vec<&str> = found.rounds[0].checks.iter().map(|check| check.question.as_str()).collect();
    assert_eq!(asked, ["is there a red circle?", "what color is the circle?", "how many shapes are there?"]);
    assert_eq!((found.verdict, found.end), (Some(Verdict::Pass), Some(ReflectEnd::Passed)), "{found:?}");
    let made = outcome(&view).blob().expect("a picture");
    let best = found.best.expect("of a round");
    assert_eq!(found.image(best).map(|image| image.blob), Some(made));
    assert_eq!(client.fetch_round_bytes(job, best).expect("kept"), client.fetch_bytes(job).expect("kept"));
    let listed = client.list(true, None, 10).expect("listed");
    assert_eq!(listed.iter().map(|job| job.id).collect::<Vec<_>>(), [job], "its stages are nobody's jobs");
    let quality = client.quality(0, 10, 10).expect("known");
    assert_eq!((quality.overall.jobs, quality.overall.passed), (1, 1));
    assert_eq!(quality.models[0].model, "flux2-klein-tiny");
    assert_well(&daemon);
}

#[test]
fn a_picture_that_fails_is_made_again_within_its_budget() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let checks = vec![Check::new("is there a red circle?", "yes"), impossible()];
    let job = client.submit(reflecting(3, checks.clone()), Vec::new(), false).expect("accepted");
    let view = client.wait(job).expect("waited for");
    let found = reflection(&view);
    assert_eq!((found.verdict, found.end), (Some(Verdict::Fail), Some(ReflectEnd::Rounds)));
    let seeds: BTreeSet<u64> = found.rounds.iter().map(|round| round.seed).collect();
    assert_eq!((found.rounds.len(), seeds.len()), (3, 3), "each has a seed of its own");
    for round in &found.rounds {
        let png = client.fetch_round_bytes(job, round.number).expect("kept");
        assert_eq!(picture::read(&png).size, (64, 64));
        // An unsure answer passes neither.
        assert!(!(round.checks[0].passed && round.checks[1].passed), "they contradict each other: {round:?}");
    }
    let first: Vec<bool> = found.rounds[0].checks.iter().map(|check| check.passed).collect();
    assert_eq!(first, [true, false], "{:?}", found.rounds[0]);
    let mut strict = reflecting(1, checks);
    strict =
        strict.reflect(Reflect { rounds: Some(1), checks: vec![impossible()], strict: true, ..Reflect::default() });
    let job = client.submit(strict, Vec::new(), false).expect("accepted");
    let view = client.wait(job).expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Failed { kind: FailureKind::ChecksFailed, .. }), "{view:?}");
    assert_eq!(client.fetch_round_bytes(job, 1).expect("kept all the same")[1..4], *b"PNG");
    assert_well(&daemon);
}

#[test]
fn a_hopeless_picture_is_rejected_early() {
    let daemon = Daemon::start();
    let client = daemon.client();
    // An answer that no judge gives, to a question that says nothing of what to draw.
    let never = Check::new("what color is the shape?", "plaid");
    // The judge is loaded before pictures race with it.
    let first = client.submit(reflecting(1, vec![never.clone()]), Vec::new(), false).expect("accepted");
    client.wait(first).expect("waited for");
    let reflect = Reflect { rounds: Some(3), checks: vec![never], early: Some(0.1), ..Reflect::default() };
    // So many that the rest of them outlast what a glance takes, on any disk and beside any load.
    let job = txt2img("a red circle").seed(1).steps(300).reflect(reflect);
    let job = client.submit(job, Vec::new(), false).expect("accepted");
    let view = client.wait(job).expect("waited for");
    let found = reflection(&view);
    let rejected: Vec<bool> = found.rounds.iter().map(|round| round.rejected_early).collect();
    assert_eq!(rejected, [true, true, false], "the last is made whatever it becomes: {found:?}");
    for round in &found.rounds {
        assert_eq!((round.image.is_some(), round.verdict), (!round.rejected_early, Some(Verdict::Fail)), "{round:?}");
        assert!(round.checks.len() == 1 && !round.checks[0].passed, "{round:?}");
    }
    assert_eq!((found.best, found.end), (Some(3), Some(ReflectEnd::Rounds)));
    assert_eq!(client.fetch_round_bytes(job, 3).expect("kept"), client.fetch_bytes(job).expect("kept"));
    let refused = client.fetch_round_bytes(job, 1).expect_err("it was not made").to_string();
    assert!(refused.contains("a job whose round 1 made none"), "{refused}");
    let of_round = |round: u8| ["image", "glance/0"].map(|role| format!("{round}/{role}"));
    let expected = [of_round(1), of_round(2), ["3/image", "3/check/0"].map(str::to_owned)].concat();
    assert_eq!(stages(daemon.home(), job), expected);
    assert_well(&daemon);
}

#[test]
fn the_command_line_says_what_was_found() {
    let daemon = Daemon::start();
    let file = daemon.home().file("out.png");
    let out = file.to_str().expect("text");
    let submit =
        ["submit", "txt2img", "a red circle", "--seed", "1", "--steps", "20", "-o", out, "--reflect", "--rounds", "2"];
    let ended = daemon.gpuctl(&submit).expect(0);
    assert!(ended.stderr.contains("PASS"), "{}", ended.stderr);
    assert!(file.exists());
    let check = [&submit[..], &["--check", "is there a red circle?=no", "--strict"]].concat();
    let ended = daemon.gpuctl(&check).expect(1);
    assert!(ended.stderr.contains("is there a red circle?"), "{}", ended.stderr);
    let quality = daemon.gpuctl(&["quality", "--json"]).expect(0);
    let document = &quality.documents()[0];
    assert_eq!(document["overall"]["jobs"], 2, "{document}");
}

/// In which state of a round the daemon is killed, and whether that lasts so long that it must be seen.
type Moment = (fn(u8, &Phase) -> bool, bool);
const MOMENTS: [Moment; 5] = [
    (|round, phase| round == 1 && matches!(phase, Phase::Waiting), false),
    (|round, phase| round == 1 && matches!(phase, Phase::Making { .. }), true),
    (|round, phase| round == 1 && matches!(phase, Phase::Checking { .. }), false),
    (|round, phase| round == 2 && matches!(phase, Phase::Waiting | Phase::Making { .. }), true),
    (|round, phase| round == 2 && matches!(phase, Phase::Checking { .. }), false),
];

#[test]
fn a_daemon_that_is_killed_goes_on_at_its_round() {
    let checks = vec![Check::new("is there a red circle?", "yes"), impossible()];
    let asked = reflecting(2, checks).steps(100);
    let mut daemon = Daemon::start();
    let undisturbed = {
        let client = daemon.client();
        let job = client.submit(asked.clone(), Vec::new(), false).expect("accepted");
        reflection(&client.wait(job).expect("waited for")).rounds.clone()
    };
    for (moment, lasts) in MOMENTS {
        let client = daemon.client();
        let job = client.submit(asked.clone(), Vec::new(), false).expect("accepted");
        for update in client.watch(job).expect("watched") {
            let update = update.expect("news");
            let is_over = matches!(update, Update::Done(_));
            // Where it may be too fast to be seen there, it is killed at its end.
            assert!(!lasts || !is_over, "it was not seen there: {update:?}");
            if is_over || matches!(update, Update::Reflecting { round, phase, .. } if moment(round, &phase)) {
                break;
            }
        }
        daemon = daemon.kill().start();
        let view = daemon.client().wait(job).expect("waited for");
        let rounds = &reflection(&view).rounds;
        let made = |rounds: &[gpusched_client::shared::Round]| {
            rounds
                .iter()
                .map(|round| (round.seed, round.prompt.clone(), round.image, round.checks.clone()))
                .collect::<Vec<_>>()
        };
        assert_eq!(made(rounds), made(&undisturbed), "as if nothing had happened");
        let parts = stages(daemon.home(), job);
        let once: BTreeSet<&String> = parts.iter().collect();
        assert_eq!((parts.len(), once.len()), (6, 6), "two pictures and four checks, each on record once: {parts:?}");
    }
    assert_well(&daemon);
}
