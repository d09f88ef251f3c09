//! The program against a scripted daemon: what it prints, where, and how it exits.
#![cfg(feature = "cli")]

mod daemon;

use std::io::{Seek, Write};

use daemon::program::{accept, end, start};
use daemon::{Daemon, Peer, done, queued, view, working};
use gpusched_client::shared::{OutOfMemory, Reason, Request, Response, RuleView};
use gpusched_client::{
    Answer, BlobHash, BlobRef, Explanation, FailureKind, JobId, JobSpec, JobState, Outcome, QueueView, Rejection,
    RouteView, Size, TimeLimit,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

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
    let fetch = peer.expect(Request::Fetch { job: JobId(7), round: None }).await;
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
    let watch = accept(&mut peer, true).await;
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    kill(pid, Signal::SIGINT).expect("signalled");
    let cancel = peer.expect(Request::Cancel(JobId(7))).await;
    peer.say(cancel, Response::Job(view(7, JobState::Queued { ahead: 0 }))).await;
    peer.say(watch, done(7, Outcome::Cancelled)).await;
    let ended = end(child).await;
    assert_eq!(ended, (130, String::new(), "gpuctl: interrupted: job 7 is cancelled\n".to_owned()));
}

#[tokio::test]
async fn each_end_has_its_exit_code() {
    let oom =
        OutOfMemory { partition: "heavy".to_owned(), requested_bytes: 3 << 30, used_bytes: 0, cap_bytes: 2 << 30 };
    let message = oom.to_string();
    for (outcome, code, word) in [
        (Outcome::Failed { kind: FailureKind::Engine, message: "it died".to_owned() }, 1, "it died"),
        (Outcome::Failed { kind: FailureKind::OutOfMemory(oom), message }, 1, "needs 3.0 GiB, partition heavy has 0 B"),
        (Outcome::Cancelled, 5, "cancelled"),
        (Outcome::Expired { limit: TimeLimit::Deadline }, 5, "deadline"),
        (Outcome::Expired { limit: TimeLimit::RunTimeout }, 5, "run timeout"),
    ] {
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
    let ended = |job| view(job, JobState::Done(Outcome::Expired { limit: TimeLimit::Deadline }));
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

/// Nobody reads any more, but the exit code still tells how the job ended.
#[tokio::test]
async fn a_job_that_fails_unread_is_a_failure() {
    let daemon = Daemon::new();
    let mut child = start(&daemon, &["--json", "watch", "7"]);
    drop(child.stdout.take());
    let mut peer = daemon.welcome().await;
    let watch = peer.expect(Request::Watch(JobId(7))).await;
    peer.say(watch, working(1, 2)).await;
    let failed = Outcome::Failed { kind: FailureKind::Engine, message: "it died".to_owned() };
    peer.say(watch, done(7, failed)).await;
    assert_eq!(end(child).await, (1, String::new(), String::new()));
}

#[tokio::test]
async fn a_full_queue_is_retried_when_told_so_and_only_then() {
    let full = Rejection::QueueFull { class: "heavy".to_owned(), limit: 8, retry_after_ms: 1 };
    let daemon = Daemon::new();
    for json in [false, true] {
        let args = [&["submit", "txt2img", "x", "--detach", "--retry=1h"][..], if json { &["--json"] } else { &[] }];
        let child = start(&daemon, &args.concat());
        let mut peer = daemon.welcome().await;
        let (id, _) = peer.request().await;
        peer.say(id, Response::Rejected(full.clone())).await;
        let (id, _) = peer.request().await;
        peer.say(id, Response::Accepted(JobId(7))).await;
        let (code, stdout, stderr) = end(child).await;
        if json {
            let first = stdout.lines().next().expect("a line");
            let first: serde_json::Value = serde_json::from_str(first).expect("a document");
            assert_eq!(first["retry"]["because"]["code"], "queue_full");
            assert!(first["retry"]["wait_ms"].is_u64());
            assert_eq!((code, stderr.as_str()), (0, ""));
        } else {
            assert_eq!((code, stdout.as_str()), (0, "7\n"));
            assert!(
                stderr.starts_with("gpuctl: the queue of class heavy is full (8 jobs); trying again in "),
                "{stderr}"
            );
        }
    }
    let child = start(&daemon, &["submit", "txt2img", "x"]);
    let mut peer = daemon.welcome().await;
    let (id, _) = peer.request().await;
    peer.say(id, Response::Rejected(full)).await;
    assert_eq!(end(child).await.0, 4);
}

#[tokio::test]
async fn a_waiting_job_is_explained() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["explain", "7"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Explain(JobId(7))).await;
    let reasons = vec![Reason::Paused { class: "heavy".to_owned() }];
    let job = view(7, JobState::Queued { ahead: 0 });
    let explanation = Explanation { job, reasons, starts_in_ms: None, ends_in_ms: None };
    peer.say(id, Response::Explanation(explanation)).await;
    let (code, stdout, _) = end(child).await;
    assert_eq!(code, 0);
    assert!(stdout.contains("because    class heavy is paused; `gpuctl resume heavy` starts it again\n"), "{stdout}");
}

#[tokio::test]
async fn the_queue_is_listed() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["queue", "--json"]);
    let mut peer = daemon.welcome().await;
    let entry = QueueView {
        class: "heavy".to_owned(),
        job: JobId(7),
        lane: None,
        priority: 1,
        model: "flux".to_owned(),
        waited_ms: 5,
        starts_in_ms: Some(9),
        ends_in_ms: None,
    };
    let id = peer.expect(Request::Queue).await;
    peer.say(id, Response::Queue(vec![entry.clone()])).await;
    let (code, stdout, _) = end(child).await;
    let read: Vec<QueueView> = serde_json::from_str(&stdout).expect("a document");
    assert_eq!((code, read), (0, vec![entry]));

    let child = start(&daemon, &["queue"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Queue).await;
    peer.say(id, Response::Queue(Vec::new())).await;
    assert_eq!(end(child).await, (0, String::new(), "gpuctl: nothing runs and nothing waits\n".to_owned()));
}

/// Answers the next request, which must ask for a route, and returns the job it asks about.
async fn answer_route(peer: &mut Peer, class: Option<&str>) -> JobSpec {
    let (id, request) = peer.request().await;
    let Request::Route(spec) = request else { panic!("{request:?}") };
    let rules = vec![RuleView { rule: "1: task txt2img".to_owned(), fails: Some("the task is vqa".to_owned()) }];
    let class = class.map(str::to_owned);
    peer.say(id, Response::Route(RouteView { class, rules, run_bytes: 1, weights_bytes: 1, run_ms: None })).await;
    spec
}

#[tokio::test]
async fn a_route_is_a_class_or_a_refusal() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["route", "vqa", "--model", "vilt"]);
    let mut peer = daemon.welcome().await;
    let spec = answer_route(&mut peer, Some("light")).await;
    assert_eq!((spec.model.as_deref(), spec.validate(1)), (Some("vilt"), Ok(())));
    assert_eq!(end(child).await, (0, "light\n".to_owned(), String::new()));

    let child = start(&daemon, &["route", "--explain", "vqa", "car.png", "what?"]);
    let mut peer = daemon.welcome().await;
    answer_route(&mut peer, None).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!(code, 4);
    assert!(stdout.contains("1: task txt2img  no: the task is vqa\n"), "{stdout}");
    assert!(stderr.contains("takes this vqa job"), "{stderr}");
}

#[tokio::test]
async fn priorities_are_set() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["set-priority", "7", "-3"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::SetPriority { job: JobId(7), priority: -3 }).await;
    let mut job = view(7, JobState::Queued { ahead: 2 });
    job.spec.priority = -3;
    peer.say(id, Response::Job(job)).await;
    assert_eq!(end(child).await, (0, "job 7: priority -3, queued, 2 ahead\n".to_owned(), String::new()));
}

#[tokio::test]
async fn admins_pause_resume_and_drain() {
    let daemon = Daemon::new();
    let pause = |class: &str, paused| Request::Pause { class: class.to_owned(), paused };
    let draining = "draining: no new jobs are taken\n\
                    class heavy: 3 waiting, 1 running\n\
                    class light: 3 waiting, 1 running\n";
    for (args, request, said) in [
        (&["pause", "heavy"][..], pause("heavy", true), "class heavy is paused: 3 waiting, 1 running\n"),
        (&["resume", "light"], pause("light", false), "class light takes jobs from its queue: 3 waiting, 1 running\n"),
        (&["drain"], Request::Drain(true), draining),
    ] {
        let child = start(&daemon, args);
        let mut peer = daemon.welcome().await;
        let id = peer.expect(request).await;
        peer.say(id, Response::Status(daemon::status())).await;
        assert_eq!(end(child).await, (0, said.to_owned(), String::new()));
    }
    let child = start(&daemon, &["drain", "--off"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Drain(false)).await;
    peer.say(id, Response::Rejected(Rejection::NotAllowed { action: "end the draining".to_owned() })).await;
    let (code, _, stderr) = end(child).await;
    assert_eq!((code, stderr.as_str()), (4, "gpuctl: only root and the daemon's own user may end the draining\n"));
}
