//! The program and reflection: what it asks for, what it tells of rounds, and how it exits.
#![cfg(feature = "cli")]

mod daemon;

use std::io::{Seek, Write};

use daemon::program::{end, start};
use daemon::{Daemon, Peer, view};
use gpusched_client::shared::{
    Activity, Checked, ModelSuccess, Phase, ReflectEnd, Request, Response, Round, RoundImage, Success, TrendPoint,
};
use gpusched_client::{
    BlobHash, BlobRef, Check, FailureKind, JobId, JobState, JobView, Outcome, QualityView, Reflect, Reflection,
    Rejection, Size, Update, Verdict,
};

const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55REST";
const SIZE: Size = Size { width: 1, height: 1 };

fn blob() -> BlobRef {
    BlobRef { hash: BlobHash::of(PNG), bytes: PNG.len() as u64 }
}

fn round(number: u8, answer: &str, confidence: f32) -> Round {
    let passed = answer == "yes";
    let (question, expected) = ("is there a red circle?".to_owned(), "yes".to_owned());
    Round {
        number,
        prompt: "a red circle".to_owned(),
        seed: u64::from(number),
        steps: 20,
        guidance: None,
        image: Some(RoundImage { blob: blob(), size: SIZE, truncated_tokens: 0 }),
        checks: vec![Checked { question, expected, answer: Some(answer.to_owned()), confidence, passed }],
        verdict: Some(if passed { Verdict::Pass } else { Verdict::Fail }),
        score: confidence,
        image_us: 480_000,
        check_us: 60_000,
        rejected_early: false,
    }
}

/// A job that has ended, with a second round that gave `answer`.
fn ended(outcome: Outcome, answer: &str) -> JobView {
    let image = matches!(outcome, Outcome::Image { .. });
    let second = round(2, answer, 0.75);
    let end = if second.verdict == Some(Verdict::Pass) { ReflectEnd::Passed } else { ReflectEnd::Rounds };
    let reflection = Reflection {
        best: image.then_some(2),
        verdict: second.verdict.filter(|_| image),
        rounds: vec![round(1, "no", 0.25), second],
        end: Some(end),
    };
    JobView { reflection: Some(reflection), ..view(7, JobState::Done(outcome)) }
}

fn picture() -> Outcome {
    Outcome::Image { blob: blob(), size: SIZE, truncated_tokens: 0 }
}

/// Answers a request for a file.
async fn hand_over(peer: &mut Peer, round: Option<u8>) {
    let fetch = peer.expect(Request::Fetch { job: JobId(7), round }).await;
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(PNG).expect("written");
    file.rewind().expect("rewound");
    peer.say_with(fetch, Response::File(blob()), file.into()).await;
}

const FIRST: &str = "gpuctl: round 1: FAIL, score 0.250\n\
                     gpuctl:     is there a red circle? expected yes, got no (confidence 0.250)\n";

#[tokio::test]
async fn rounds_are_told_as_they_pass_and_in_the_end() {
    let daemon = Daemon::new();
    let checks = ["--check", "is there a red circle?", "--check", "how many shapes?=one"];
    let args = [&["submit", "txt2img", "a red circle", "--reflect", "--rounds", "4"][..], &checks].concat();
    let child = start(&daemon, &args);
    let mut peer = daemon.welcome().await;
    let (id, request) = peer.request().await;
    let Request::Submit { spec, attached: true, .. } = request else { panic!("{request:?}") };
    let checks = vec![Check::new("is there a red circle?", "yes"), Check::new("how many shapes?", "one")];
    assert_eq!(spec.reflect.as_deref(), Some(&Reflect { rounds: Some(4), checks, ..Reflect::default() }));
    peer.say(id, Response::Accepted(JobId(7))).await;
    let watch = peer.expect(Request::Watch(JobId(7))).await;
    let phase = Phase::Making { activity: Activity::Working { done: 12, of: 40 }, parked: false };
    peer.say(watch, Response::Update(Update::Reflecting { round: 2, of: 4, phase })).await;
    peer.say(watch, Response::Update(Update::Done(ended(picture(), "yes")))).await;
    hand_over(&mut peer, None).await;
    let (code, stdout, stderr) = end(child).await;
    let rest = "gpuctl: round 2: PASS, score 0.750\ngpuctl: round 2 is the result: PASS\n";
    assert_eq!(stderr, format!("gpuctl: job 7: round 2/4: step 12 of 40\n{FIRST}{rest}"));
    assert_eq!((code, stdout.as_str()), (0, "gpusched-7.png\n"));
}

/// The picture is there, so that is no failure; but even who wants to hear little hears of it.
#[tokio::test]
async fn a_picture_that_fails_is_a_warning() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["-q", "submit", "txt2img", "a red circle", "--reflect", "-o", "x.png"]);
    let mut peer = daemon.welcome().await;
    let watch = daemon::program::accept(&mut peer, true).await;
    peer.say(watch, Response::Update(Update::Done(ended(picture(), "no")))).await;
    hand_over(&mut peer, None).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!((code, stdout.as_str()), (0, "x.png\n"));
    let warning = "round 2 is the result, and did best: FAIL; no further round because all rounds were used";
    assert_eq!(stderr, format!("gpuctl: {warning}\n"));
}

#[tokio::test]
async fn who_is_strict_gets_a_failure() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["submit", "txt2img", "a red circle", "--reflect", "--strict"]);
    let mut peer = daemon.welcome().await;
    let watch = daemon::program::accept(&mut peer, true).await;
    let failed = Outcome::Failed { kind: FailureKind::ChecksFailed, message: String::new() };
    peer.say(watch, Response::Update(Update::Done(ended(failed, "no")))).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!((code, stdout.as_str()), (1, ""));
    assert!(stderr.starts_with(FIRST), "{stderr}");
    let last = stderr.lines().last().unwrap_or_default();
    assert!(last.starts_with("gpuctl: job 7 failed: no picture passed its checks; "), "{stderr}");
}

#[tokio::test]
async fn json_has_everything() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["--json", "watch", "7"]);
    let mut peer = daemon.welcome().await;
    let watch = peer.expect(Request::Watch(JobId(7))).await;
    let phase = Phase::Checking { done: 3, of: 5 };
    peer.say(watch, Response::Update(Update::Reflecting { round: 1, of: 4, phase })).await;
    peer.say(watch, Response::Update(Update::Done(ended(picture(), "yes")))).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
    let phase = serde_json::json!({ "checking": { "done": 3, "of": 5 } });
    assert_eq!(lines[0]["update"]["reflecting"], serde_json::json!({ "round": 1, "of": 4, "phase": phase }));
    let reflection = &lines[1]["result"]["reflection"];
    assert_eq!((&reflection["verdict"], &reflection["best"]), (&"pass".into(), &2.into()));
    assert_eq!(reflection["rounds"][0]["checks"][0]["answer"], "no");
}

#[tokio::test]
async fn jobs_and_show_tell_the_verdict() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["jobs", "--all", "--limit", "1"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::List { ended: true, before: None, limit: 1 }).await;
    let mut listed = ended(picture(), "no");
    listed.reflection.as_mut().expect("it reflects").rounds.clear();
    peer.say(id, Response::Jobs(vec![listed])).await;
    let (code, stdout, _) = end(child).await;
    assert_eq!(code, 0);
    assert!(stdout.contains("  done, FAIL  "), "{stdout}");

    let child = start(&daemon, &["show", "7"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Show(JobId(7))).await;
    peer.say(id, Response::Job(ended(picture(), "yes"))).await;
    let (code, stdout, _) = end(child).await;
    assert_eq!(code, 0);
    let tables = "\
ROUND  VERDICT  SCORE  SEED  STEPS  GUIDANCE  MAKING  CHECKING  PROMPT
1      FAIL     0.250  1     20     -         480 ms  60 ms     a red circle
2      PASS     0.750  2     20     -         480 ms  60 ms     a red circle

ROUND  CHECK                   EXPECTED  ANSWER  CONFIDENCE  PASSED
1      is there a red circle?  yes       no      0.250       no
2      is there a red circle?  yes       yes     0.750       yes
";
    assert!(stdout.ends_with(tables), "{stdout}");
}

#[tokio::test]
async fn the_picture_of_each_round_can_be_had() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["fetch", "7", "--round", "1"]);
    let mut peer = daemon.welcome().await;
    hand_over(&mut peer, Some(1)).await;
    assert_eq!(end(child).await, (0, "gpusched-7-round-1.png\n".to_owned(), String::new()));

    let child = start(&daemon, &["fetch", "7", "--round", "3"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Fetch { job: JobId(7), round: Some(3) }).await;
    let nothing = Rejection::NothingToFetch { job: JobId(7), state: "at round 2".to_owned() };
    peer.say(id, Response::Rejected(nothing)).await;
    assert_eq!(end(child).await.0, 4);
}

fn quality() -> QualityView {
    let success = |jobs, first_passed, passed| Success {
        jobs,
        first_passed,
        passed,
        rounds: 2 * jobs,
        checks: 6 * jobs,
        image_us: 960_000 * jobs,
        check_us: 120_000 * jobs,
    };
    let point =
        |until_unix_ms, first_passed, passed| TrendPoint { until_unix_ms, success: success(4, first_passed, passed) };
    QualityView {
        overall: success(8, 4, 7),
        recent: success(5, 3, 5),
        window: 5,
        models: vec![ModelSuccess { model: "flux".to_owned(), success: success(8, 4, 7) }],
        trend: vec![point(1_795_362_071_000, 1, 3), point(1_795_362_090_000, 3, 4)],
    }
}

/// What gpuctl prints when the daemon says `view`.
async fn quality_of(daemon: &Daemon, args: &[&str], view: QualityView) -> (i32, String, String) {
    let child = start(daemon, &[&["quality", "--window", "5"][..], args].concat());
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Quality { since_unix_ms: 0, window: 5, points: 20 }).await;
    peer.say(id, Response::Quality(view)).await;
    end(child).await
}

#[tokio::test]
async fn quality_is_a_table_a_document_or_data() {
    let daemon = Daemon::new();
    let (code, stdout, stderr) = quality_of(&daemon, &[], quality()).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let table = "\
JOBS        COUNT  FIRST ROUND  FINAL    ROUNDS  CHECKS  MAKING  CHECKING
all         8      50.0 %       87.5 %   2.00    6.00    960 ms  120 ms
last 5      5      60.0 %       100.0 %  2.00    6.00    960 ms  120 ms
model flux  8      50.0 %       87.5 %   2.00    6.00    960 ms  120 ms
";
    assert!(stdout.starts_with(table), "{stdout}");

    let (code, stdout, _) = quality_of(&daemon, &["--json"], quality()).await;
    let read: QualityView = serde_json::from_str(&stdout).expect("a document");
    assert_eq!((code, read), (0, quality()));

    let csv = "\
until_unix_ms,jobs,first_passed,passed,rounds,first_rate,rate
1795362071000,4,1,3,8,0.2500,0.7500
1795362090000,4,3,4,8,0.7500,1.0000
";
    assert_eq!(quality_of(&daemon, &["--csv"], quality()).await, (0, csv.to_owned(), String::new()));
}

#[tokio::test]
async fn without_jobs_there_is_no_quality() {
    let daemon = Daemon::new();
    let none = QualityView {
        overall: Success::default(),
        recent: Success::default(),
        window: 5,
        models: Vec::new(),
        trend: Vec::new(),
    };
    let said = "gpuctl: no job that reflects has come to a verdict\n";
    assert_eq!(quality_of(&daemon, &[], none.clone()).await, (0, String::new(), said.to_owned()));
    let header = "until_unix_ms,jobs,first_passed,passed,rounds,first_rate,rate\n";
    assert_eq!(quality_of(&daemon, &["--csv"], none).await, (0, header.to_owned(), String::new()));

    let child = start(&daemon, &["quality", "--since", "1h"]);
    let mut peer = daemon.welcome().await;
    let (_, request) = peer.request().await;
    assert!(matches!(request, Request::Quality { since_unix_ms: 1.., window: 50, points: 20 }), "{request:?}");
    drop(peer);
    assert_eq!(end(child).await.0, 3);
}
