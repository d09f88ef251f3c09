//! The program against a scripted daemon: what it prints, where, and how it exits.
#![cfg(feature = "cli")]

mod daemon;

use std::io::{Seek, Write};
use std::process::{Child, Command, Output, Stdio};

use daemon::{Daemon, Peer, done, queued, view, working};
use gpusched_client::shared::{Request, Response};
use gpusched_client::{Answer, BlobHash, BlobRef, FailureKind, JobId, JobState, Outcome, Rejection, Size};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

fn start(daemon: &Daemon, args: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_gpuctl"))
        .args(args)
        .arg("--socket")
        .arg(daemon.socket())
        .current_dir(daemon.directory())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("gpuctl starts")
}

async fn end(child: Child) -> (i32, String, String) {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output());
    let Output { status, stdout, stderr } = output.await.expect("no panic").expect("gpuctl ends");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (status.code().expect("not killed"), text(stdout), text(stderr))
}

/// Accepts the job that is submitted as number 7, and returns the id of the watch that follows.
async fn accept(peer: &mut Peer, attached: bool) -> u64 {
    let (id, request) = peer.request().await;
    assert!(matches!(request, Request::Submit { attached: a, .. } if a == attached), "{request:?}");
    peer.say(id, Response::Accepted(JobId(7))).await;
    peer.expect(Request::Watch(JobId(7))).await
}

fn answers() -> Outcome {
    let answer = |label: &str, score| Answer { label: label.to_owned(), score };
    Outcome::Answers(vec![answer("red", 0.75), answer("blue", 0.25)])
}

#[tokio::test]
async fn a_question_gets_its_answer() {
    let daemon = Daemon::new();
    std::fs::write(daemon.directory().join("car.png"), b"picture").expect("written");
    let child = start(&daemon, &["submit", "vqa", "car.png", "what colour?"]);
    let mut peer = daemon.welcome().await;
    let watch = accept(&mut peer, true).await;
    assert_eq!(peer.descriptors(9).len(), 1);
    peer.say(watch, queued(3)).await;
    let best = Outcome::Answers(vec![Answer { label: "red".to_owned(), score: 0.9 }]);
    peer.say(watch, done(7, best)).await;
    let ended = end(child).await;
    assert_eq!(ended, (0, "red\n".to_owned(), "gpuctl: job 7: queued, 3 ahead\n".to_owned()));
}

#[tokio::test]
async fn more_answers_are_a_table_and_quiet_is_quiet() {
    let daemon = Daemon::new();
    std::fs::write(daemon.directory().join("car.png"), b"picture").expect("written");
    let child = start(&daemon, &["-q", "submit", "vqa", "car.png", "what colour?", "--top", "2"]);
    let mut peer = daemon.welcome().await;
    let watch = accept(&mut peer, true).await;
    peer.say(watch, queued(3)).await;
    peer.say(watch, done(7, answers())).await;
    assert_eq!(end(child).await, (0, "ANSWER  SCORE\nred     0.750\nblue    0.250\n".to_owned(), String::new()));
}

#[tokio::test]
async fn a_picture_becomes_a_file_that_names_its_job() {
    let daemon = Daemon::new();
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\0\0\0\0\x3a\x7e\x9b\x55REST";
    let blob = BlobRef { hash: BlobHash::of(png), bytes: png.len() as u64 };
    let child = start(&daemon, &["submit", "txt2img", "a red circle"]);
    let mut peer = daemon.welcome().await;
    let watch = accept(&mut peer, true).await;
    peer.say(watch, working(1, 1)).await;
    let size = Size { width: 1, height: 1 };
    peer.say(watch, done(7, Outcome::Image { blob, size, truncated_tokens: 2 })).await;
    let fetch = peer.expect(Request::Fetch(JobId(7))).await;
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(png).expect("written");
    file.rewind().expect("rewound");
    peer.say_with(fetch, Response::File(blob), file.into()).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!((code, stdout.as_str()), (0, "gpusched-7.png\n"));
    let warning = "gpuctl: the prompt is 2 tokens longer than the model reads; the end was ignored\n";
    assert_eq!(stderr, format!("gpuctl: job 7: step 1 of 1\n{warning}"));
    let written = std::fs::read(daemon.directory().join("gpusched-7.png")).expect("written");
    assert!(written.windows(18).any(|part| part == b"tEXtgpusched:job\x007"));
}

#[tokio::test]
async fn json_is_one_document_a_line() {
    let daemon = Daemon::new();
    std::fs::write(daemon.directory().join("car.png"), b"picture").expect("written");
    let child = start(&daemon, &["--json", "submit", "vqa", "car.png", "what colour?"]);
    let mut peer = daemon.welcome().await;
    let watch = accept(&mut peer, true).await;
    peer.say(watch, queued(0)).await;
    peer.say(watch, done(7, answers())).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let lines: Vec<serde_json::Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(lines[0], serde_json::json!({ "job": 7 }));
    assert_eq!(lines[1], serde_json::json!({ "update": { "queued": { "ahead": 0 } } }));
    assert_eq!(lines[2]["result"]["state"]["done"]["answers"][0]["label"], "red");
}

#[tokio::test]
async fn a_detached_job_is_let_go() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["submit", "txt2img", "x", "--detach"]);
    let mut peer = daemon.welcome().await;
    let (id, request) = peer.request().await;
    assert!(matches!(request, Request::Submit { attached: false, .. }), "{request:?}");
    peer.say(id, Response::Accepted(JobId(7))).await;
    peer.closed().await;
    assert_eq!(end(child).await, (0, "7\n".to_owned(), String::new()));
}

#[tokio::test]
async fn an_interrupt_cancels_an_attached_job() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["submit", "txt2img", "x"]);
    let mut peer = daemon.welcome().await;
    accept(&mut peer, true).await;
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, Signal::SIGINT).expect("signalled");
    let cancel = peer.expect(Request::Cancel(JobId(7))).await;
    peer.say(cancel, Response::Job(view(7, JobState::Queued { ahead: 0 }))).await;
    let wait = peer.expect(Request::Watch(JobId(7))).await;
    peer.say(wait, done(7, Outcome::Cancelled)).await;
    let ended = end(child).await;
    assert_eq!(ended, (130, String::new(), "gpuctl: interrupted: job 7 is cancelled\n".to_owned()));
}

#[tokio::test]
async fn each_end_has_its_exit_code() {
    let failed = Outcome::Failed { kind: FailureKind::Engine, message: "out of memory".to_owned() };
    for (outcome, code, word) in
        [(failed, 1, "out of memory"), (Outcome::Cancelled, 5, "cancelled"), (Outcome::Expired, 5, "deadline")]
    {
        let daemon = Daemon::new();
        let child = start(&daemon, &["watch", "7"]);
        let mut peer = daemon.welcome().await;
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, done(7, outcome)).await;
        let (got, stdout, stderr) = end(child).await;
        assert_eq!((got, stdout.as_str()), (code, ""));
        assert!(stderr.contains(word), "{stderr}");
    }
}

#[tokio::test]
async fn refusals_and_lost_connections_have_theirs() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["cancel", "3", "4"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Cancel(JobId(3))).await;
    peer.say(id, Response::Rejected(Rejection::NoSuchJob { job: JobId(3) })).await;
    let id = peer.expect(Request::Cancel(JobId(4))).await;
    peer.say(id, Response::Job(view(4, JobState::Done(Outcome::Cancelled)))).await;
    let expected = "gpuctl: no job 3 of yours; list yours with `gpuctl jobs`\n";
    assert_eq!(end(child).await, (4, "job 4: cancelled\n".to_owned(), expected.to_owned()));

    let child = start(&daemon, &["--json", "status"]);
    let mut peer = daemon.welcome().await;
    peer.expect(Request::Status).await;
    drop(peer);
    let (code, stdout, _) = end(child).await;
    assert_eq!(code, 3);
    assert!(stdout.starts_with(r#"{"error":{"code":"disconnected","#), "{stdout}");
}

#[tokio::test]
async fn lists_are_paged() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["jobs", "--all", "--limit", "3"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::List { ended: true, before: None, limit: 3 }).await;
    let ended = |job| view(job, JobState::Done(Outcome::Expired));
    peer.say(id, Response::Jobs(vec![ended(9), ended(8)])).await;
    let id = peer.expect(Request::List { ended: true, before: Some(JobId(8)), limit: 1 }).await;
    peer.say(id, Response::Jobs(vec![ended(7)])).await;
    let (code, stdout, _) = end(child).await;
    let ids: Vec<_> = stdout.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert_eq!((code, ids), (0, vec!["ID", "9", "8", "7"]));
}

#[tokio::test]
async fn a_reader_that_has_enough_is_no_error() {
    let daemon = Daemon::new();
    let mut child = start(&daemon, &["show", "7"]);
    drop(child.stdout.take());
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Show(JobId(7))).await;
    peer.say(id, Response::Job(view(7, JobState::Queued { ahead: 0 }))).await;
    assert_eq!(end(child).await, (0, String::new(), String::new()));
}
