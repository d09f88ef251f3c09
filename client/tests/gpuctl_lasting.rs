//! The program and a daemon that goes away; and what it tells of jobs that were tried again.
#![cfg(feature = "cli")]

mod daemon;

use daemon::program::{accept, end, start};
use daemon::{Daemon, done, queued, view, working};
use gpusched_client::shared::{Request, Response};
use gpusched_client::{Answer, AttemptEnd, AttemptView, JobId, JobState, Outcome, Rejection, Update};

fn red() -> Outcome {
    Outcome::Answers(vec![Answer { label: "red".to_owned(), score: 0.9 }])
}

#[tokio::test]
async fn a_submission_outlives_the_daemon() {
    for json in [false, true] {
        let daemon = Daemon::new();
        std::fs::write(daemon.directory().join("car.png"), b"picture").expect("written");
        let args = [&["submit", "vqa", "car.png", "what colour?"][..], if json { &["--json"] } else { &[] }].concat();
        let child = start(&daemon, &args);
        let mut peer = daemon.welcome().await;
        let watch = accept(&mut peer, true).await;
        peer.say(watch, working(1, 20)).await;
        drop(peer);
        let daemon = daemon.stop().start();
        let mut peer = daemon.welcome().await;
        let watch = accept(&mut peer, true).await;
        assert_eq!(peer.descriptors(9).len(), 1, "the picture comes again");
        peer.say(watch, queued(0)).await;
        peer.say(watch, done(7, red())).await;
        let (code, stdout, stderr) = end(child).await;
        if json {
            let lines: Vec<serde_json::Value> =
                stdout.lines().map(|line| serde_json::from_str(line).expect("a document")).collect();
            let lost = serde_json::json!({ "daemon": "lost", "within_ms": 60_000 });
            assert!(lines.contains(&lost) && lines.contains(&serde_json::json!({ "daemon": "back" })), "{stdout}");
            assert_eq!((code, stderr.as_str()), (0, ""));
        } else {
            let expected = "gpuctl: job 7: step 1 of 20\n\
                gpuctl: the daemon went away; waiting for it (up to 60 s)…\n\
                gpuctl: the daemon is back\n\
                gpuctl: job 7: queued, next\n";
            assert_eq!((code, stdout.as_str(), stderr.as_str()), (0, "red\n", expected));
        }
    }
}

#[tokio::test]
async fn a_daemon_that_stays_away_is_not_waited_for_longer_than_said() {
    for (args, word) in [
        (&["submit", "txt2img", "x", "--reconnect", "0"][..], "the daemon closed the connection"),
        (&["submit", "txt2img", "x", "--reconnect", "1"], "the daemon went away and was not back within 1 s"),
        (&["watch", "7", "--reconnect", "1"], "the daemon went away and was not back within 1 s"),
    ] {
        let daemon = Daemon::new();
        let child = start(&daemon, args);
        let mut peer = daemon.welcome().await;
        peer.request().await;
        drop(peer);
        let _stopped = daemon.stop();
        let (code, stdout, stderr) = end(child).await;
        assert_eq!((code, stdout.as_str()), (3, ""), "{stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with(&format!("gpuctl: {word}")), "{stderr}");
    }
}

#[tokio::test]
async fn keys_are_passed_on_and_conflicts_refused() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["submit", "txt2img", "x", "--key", "poster-17", "--detach"]);
    let mut peer = daemon.welcome().await;
    let (id, request) = peer.request().await;
    assert!(matches!(&request, Request::Submit { key: Some(key), .. } if key == "poster-17"), "{request:?}");
    peer.say(id, Response::Rejected(Rejection::KeyConflict { job: JobId(3) })).await;
    let said = "gpuctl: key was used for job 3, which is another request; choose a new key for a new job\n";
    assert_eq!(end(child).await, (4, String::new(), said.to_owned()));
}

#[tokio::test]
async fn waiting_to_be_tried_again_is_news() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["watch", "7"]);
    let mut peer = daemon.welcome().await;
    let watch = peer.expect(Request::Watch(JobId(7))).await;
    peer.say(watch, Response::Update(Update::BackingOff { retry: 2, within_ms: 12_000 })).await;
    peer.say(watch, done(7, red())).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!((code, stdout.as_str()), (0, "red\n"));
    assert_eq!(stderr, "gpuctl: job 7: ran out of memory; retry 2 in up to 12.0 s\n");
}

fn attempts() -> Vec<AttemptView> {
    let attempt = |attempt, end| AttemptView {
        attempt,
        lane: "heavy-0".to_owned(),
        started_unix_ms: 1_795_362_071_000,
        ended_unix_ms: Some(1_795_362_074_500),
        end: Some(end),
    };
    vec![attempt(1, AttemptEnd::OutOfMemory), attempt(2, AttemptEnd::Done)]
}

#[tokio::test]
async fn histories_are_of_ended_jobs_with_each_attempt() {
    let daemon = Daemon::new();
    let child = start(&daemon, &["jobs", "--history", "--limit", "1"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::List { ended: true, before: None, limit: 1 }).await;
    peer.say(id, Response::Jobs(vec![view(9, JobState::Queued { ahead: 0 })])).await;
    let id = peer.expect(Request::List { ended: true, before: Some(JobId(9)), limit: 1 }).await;
    peer.say(id, Response::Jobs(vec![view(8, JobState::Done(red()))])).await;
    let id = peer.expect(Request::History(JobId(8))).await;
    peer.say(id, Response::History(attempts())).await;
    let (code, stdout, stderr) = end(child).await;
    assert_eq!((code, stderr.as_str()), (0, ""));
    let rows: Vec<Vec<&str>> = stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows.len(), 3, "{stdout}");
    assert_eq!(rows[1][..3], ["8", "txt2img", "done"]);
    assert!(stdout.contains("3.5 s") && stdout.contains("out of memory"), "{stdout}");

    let child = start(&daemon, &["jobs", "--history", "8", "--json"]);
    let mut peer = daemon.welcome().await;
    let id = peer.expect(Request::Show(JobId(8))).await;
    peer.say(id, Response::Job(view(8, JobState::Done(red())))).await;
    let id = peer.expect(Request::History(JobId(8))).await;
    peer.say(id, Response::History(attempts())).await;
    let (code, stdout, _) = end(child).await;
    let document: serde_json::Value = serde_json::from_str(&stdout).expect("a document");
    assert_eq!((code, &document[0]["job"]["id"]), (0, &serde_json::json!(8)));
    assert_eq!(document[0]["attempts"][0]["end"], "out_of_memory");
}
