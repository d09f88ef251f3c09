//! Jobs that outlive the daemon, on a clock that stands still but for the waits.

mod daemon;

use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::{Daemon, Peer, done, queued, working};
use gpusched_client::shared::{Request, Response};
use gpusched_client::{
    Error, JobId, JobState, Notice, Outcome, Picture, Reconnect, Rejection, Retry, Session, Submission, Update,
    txt2img, vqa,
};
use tokio::time::Instant;

const MINUTE: Duration = Duration::from_secs(60);

type Notices = Arc<Mutex<Vec<Notice>>>;

/// A session, the daemon's side of it, and what it is told.
async fn session(reconnect: Reconnect) -> (Daemon, Session, Peer, Notices) {
    let daemon = Daemon::new();
    let notices = Notices::default();
    let told = Arc::clone(&notices);
    let connect = Session::connect(daemon.socket(), reconnect, move |notice| told.lock().expect("whole").push(notice));
    let (session, peer) = tokio::join!(connect, daemon.welcome());
    (daemon, session.expect("connected"), peer, notices)
}

fn told(notices: &Notices) -> Vec<Notice> {
    notices.lock().expect("whole").clone()
}

/// The next request, which must be a submission; its key and its picture.
async fn submission(peer: &mut Peer) -> (u64, String, Vec<Vec<u8>>) {
    let (id, request) = peer.request().await;
    let Request::Submit { attached: true, key: Some(key), .. } = request else { panic!("{request:?}") };
    let contents = peer.descriptors(9).into_iter().map(|file| {
        let mut bytes = vec![0; usize::try_from(file.metadata().expect("metadata").len()).expect("small")];
        file.read_exact_at(&mut bytes, 0).expect("readable");
        bytes
    });
    (id, key, contents.collect())
}

fn question() -> Submission {
    Submission::new(vqa("what?")).pictures(vec![Picture::from_bytes(b"picture").expect("memory")])
}

#[tokio::test(start_paused = true)]
async fn a_submission_is_handed_in_again_with_its_key_and_its_pictures() {
    // The daemon dies before it answers: twice, once without having read anything.
    let (daemon, session, mut peer, notices) = session(Reconnect::default()).await;
    let script = async {
        let (_, key, pictures) = submission(&mut peer).await;
        assert_eq!(pictures, [b"picture"]);
        drop(peer);
        let daemon = daemon.stop().start();
        drop(daemon.accept().await);
        let mut peer = daemon.welcome().await;
        let (id, again, pictures) = submission(&mut peer).await;
        assert_eq!((&again, pictures), (&key, vec![b"picture".to_vec()]));
        peer.say(id, Response::Accepted(JobId(7))).await;
        (daemon, peer)
    };
    let (job, _daemon) = tokio::join!(session.submit(question()), script);
    assert_eq!(job.expect("accepted").id(), JobId(7));
    assert_eq!(told(&notices), [Notice::Lost { within: MINUTE }, Notice::Back]);
}

#[tokio::test(start_paused = true)]
async fn an_attached_job_is_attached_anew_and_watched_on() {
    let (daemon, session, mut peer, notices) = session(Reconnect::default()).await;
    let script = async {
        let (id, key, _) = submission(&mut peer).await;
        peer.say(id, Response::Accepted(JobId(7))).await;
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, working(3, 20)).await;
        drop(peer);
        let stopped = daemon.stop();
        tokio::time::sleep(Duration::from_secs(20)).await;
        let daemon = stopped.start();
        let mut peer = daemon.welcome().await;
        let (id, again, pictures) = submission(&mut peer).await;
        assert_eq!((again, pictures.len()), (key, 1));
        peer.say(id, Response::Accepted(JobId(7))).await;
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, queued(0)).await;
        peer.say(watch, done(7, Outcome::Cancelled)).await;
        (daemon, peer)
    };
    let watch = async {
        let mut job = session.submit(question()).await.expect("accepted");
        let mut updates = Vec::new();
        while let Some(update) = job.next().await.expect("an update") {
            updates.push(update);
        }
        (job, updates)
    };
    let ((mut job, updates), (_daemon, mut peer)) = tokio::join!(watch, script);
    assert!(matches!(updates[0], Update::Running { .. }), "{updates:?}");
    assert_eq!(updates[1], Update::Queued { ahead: 0 });
    assert!(matches!(updates[2], Update::Done(_)) && updates.len() == 3, "{updates:?}");
    assert_eq!(told(&notices), [Notice::Lost { within: MINUTE }, Notice::Back]);
    // How it ended can be asked again.
    let show = async {
        let id = peer.expect(Request::Show(JobId(7))).await;
        peer.say(id, Response::Job(daemon::view(7, JobState::Done(Outcome::Cancelled)))).await;
    };
    let (view, ()) = tokio::join!(job.wait(), show);
    assert_eq!(view.expect("known").id, JobId(7));
}

#[tokio::test(start_paused = true)]
async fn a_detached_job_is_only_watched_again() {
    let (daemon, session, peer, _) = session(Reconnect::default()).await;
    let script = async {
        drop(peer);
        let daemon = daemon.stop().start();
        let mut peer = daemon.welcome().await;
        let watch = peer.expect(Request::Watch(JobId(9))).await;
        peer.say(watch, done(9, Outcome::Cancelled)).await;
        (daemon, peer)
    };
    let mut job = session.attend(JobId(9));
    let (view, _daemon) = tokio::join!(job.wait(), script);
    assert_eq!(view.expect("ended").id, JobId(9));
}

#[tokio::test(start_paused = true)]
async fn patience_ends_and_the_error_says_so() {
    let (daemon, session, mut peer, notices) = session(Reconnect { within: Duration::from_secs(10) }).await;
    let script = async {
        let (id, ..) = submission(&mut peer).await;
        peer.say(id, Response::Accepted(JobId(7))).await;
        peer.expect(Request::Watch(JobId(7))).await;
        drop(peer);
        daemon.stop()
    };
    let wait = async {
        let mut job = session.submit(Submission::new(txt2img("x"))).await.expect("accepted");
        let start = Instant::now();
        let ended = job.wait().await;
        (ended, start.elapsed(), job)
    };
    let ((ended, elapsed, mut job), _stopped) = tokio::join!(wait, script);
    match ended {
        Err(error @ Error::Gone { .. }) => {
            let said = error.to_string();
            assert!(said.starts_with("the daemon went away and was not back within 10 s: start it with"), "{said}");
            let last = std::error::Error::source(&error).expect("the last try").to_string();
            assert!(last.starts_with("no daemon at "), "{last}");
        }
        other => panic!("{other:?}"),
    }
    assert!(elapsed >= Duration::from_secs(10) && elapsed < Duration::from_secs(11), "{elapsed:?}");
    assert_eq!(told(&notices), [Notice::Lost { within: Duration::from_secs(10) }]);
    assert!(job.next().await.expect("nothing").is_none());
}

#[tokio::test(start_paused = true)]
async fn without_patience_nothing_is_waited_for() {
    let (daemon, session, peer, notices) = session(Reconnect::OFF).await;
    drop(peer);
    drop(daemon);
    let ended = session.submit(Submission::new(txt2img("x"))).await;
    assert!(matches!(ended, Err(Error::Disconnected | Error::NotRunning { .. })), "{ended:?}");
    assert!(told(&notices).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_daemon_that_hangs_is_away() {
    let (daemon, session, peer, _) = session(Reconnect { within: Duration::from_secs(10) }).await;
    drop(peer);
    // It takes connections and says nothing: its socket does, while it is stopped.
    let ended = session.submit(Submission::new(txt2img("x"))).await;
    assert!(matches!(ended, Err(Error::Gone { .. })), "{ended:?}");
    drop(daemon);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_final_but_for_those_that_pass() {
    let (daemon, session, mut peer, notices) = session(Reconnect::default()).await;
    let conflict = Rejection::KeyConflict { job: JobId(3) };
    let refuse = async {
        // Nothing was lost: that it drains is what it means. That the engine is away passes.
        for refusal in [Rejection::Draining, Rejection::EngineDown, conflict.clone()] {
            let (id, key, _) = submission(&mut peer).await;
            assert_eq!(key, "mine");
            peer.say(id, Response::Rejected(refusal)).await;
        }
    };
    let submit = || session.submit(Submission::new(txt2img("x")).key("mine"));
    let (refused, ()) = tokio::join!(async { (submit().await, submit().await) }, refuse);
    assert!(matches!(refused.0, Err(Error::Rejected(Rejection::Draining))), "{refused:?}");
    assert!(matches!(refused.1, Err(Error::Rejected(rejection)) if rejection == conflict));
    assert!(told(&notices).is_empty());

    // One that comes back may be full of others who do, or about to stop again.
    drop(peer);
    let script = async {
        let daemon = daemon.stop().start();
        let mut peer = daemon.accept().await;
        peer.say(0, Response::Rejected(Rejection::TooManyConnections { limit: 2 })).await;
        drop(peer);
        let mut peer = daemon.welcome().await;
        let (id, ..) = submission(&mut peer).await;
        peer.say(id, Response::Rejected(Rejection::Draining)).await;
        let (id, ..) = submission(&mut peer).await;
        peer.say(id, Response::Accepted(JobId(4))).await;
        (daemon, peer)
    };
    let (job, _daemon) = tokio::join!(submit(), script);
    assert_eq!(job.expect("accepted").id(), JobId(4));
}

#[tokio::test(start_paused = true)]
async fn what_was_accepted_is_not_given_up_for_a_refusal_that_passes() {
    let (daemon, session, mut peer, notices) = session(Reconnect::default()).await;
    let script = async {
        let (id, key, _) = submission(&mut peer).await;
        peer.say(id, Response::Accepted(JobId(7))).await;
        // It stops, says so, and hangs up a moment later: that is not the job's end.
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, Response::Rejected(Rejection::Draining)).await;
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, Response::Rejected(Rejection::Draining)).await;
        drop(peer);
        let daemon = daemon.stop().start();
        let mut peer = daemon.welcome().await;
        // What it has on record it cannot take again just now.
        for refusal in [
            Rejection::DiskFull { free_bytes: 1, low_water_bytes: 2 },
            Rejection::StoreFull { quota_bytes: 3 },
            Rejection::Internal { reason: "cannot store a picture".to_owned() },
            Rejection::BadImage { index: 0, reason: "the engine died while it looked at it".to_owned() },
            Rejection::EngineDown,
        ] {
            let (id, again, pictures) = submission(&mut peer).await;
            assert_eq!((&again, pictures.len()), (&key, 1));
            peer.say(id, Response::Rejected(refusal)).await;
        }
        let (id, again, _) = submission(&mut peer).await;
        assert_eq!(again, key);
        peer.say(id, Response::Accepted(JobId(7))).await;
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, Response::Rejected(Rejection::Internal { reason: "no answer".to_owned() })).await;
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, done(7, Outcome::Cancelled)).await;
        (daemon, peer)
    };
    let wait = async { session.submit(question()).await.expect("accepted").wait().await };
    let (view, _daemon) = tokio::join!(wait, script);
    assert_eq!(view.expect("ended").id, JobId(7));
    assert_eq!(told(&notices), [Notice::Lost { within: MINUTE }, Notice::Back]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_does_not_pass_in_time_is_said_as_it_is() {
    let (_daemon, session, mut peer, _) = session(Reconnect { within: Duration::from_secs(5) }).await;
    let mut job = session.attend(JobId(7));
    let script = async {
        loop {
            let watch = peer.expect(Request::Watch(JobId(7))).await;
            peer.say(watch, Response::Rejected(Rejection::Internal { reason: "broken".to_owned() })).await;
        }
    };
    tokio::select! {
        ended = job.wait() => assert!(matches!(ended, Err(Error::Rejected(Rejection::Internal { .. }))), "{ended:?}"),
        () = script => {}
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_and_a_lost_daemon_are_both_outlasted() {
    let (daemon, session, mut peer, _) = session(Reconnect::default()).await;
    let script = async {
        let (id, key, _) = submission(&mut peer).await;
        let full = Rejection::QueueFull { class: "light".to_owned(), limit: 8, retry_after_ms: 1000 };
        peer.say(id, Response::Rejected(full)).await;
        drop(peer);
        let daemon = daemon.stop().start();
        let mut peer = daemon.welcome().await;
        let (id, again, _) = submission(&mut peer).await;
        assert_eq!(again, key);
        peer.say(id, Response::Accepted(JobId(5))).await;
        (daemon, peer)
    };
    let mut waits = 0;
    let submit = session.submit_retrying(Submission::new(txt2img("x")), Retry::default(), |_, _| waits += 1);
    let (job, _daemon) = tokio::join!(submit, script);
    assert_eq!((job.expect("accepted").id(), waits), (JobId(5), 1));
}

#[tokio::test]
async fn bad_keys_are_refused_without_the_daemon() {
    let (_daemon, session, _peer, _) = session(Reconnect::default()).await;
    for key in ["", "two words", &"x".repeat(65)] {
        let refused = session.submit(Submission::new(txt2img("x")).key(key)).await;
        assert!(matches!(&refused, Err(Error::Rejected(Rejection::BadSpec { field, .. })) if field == "key"));
    }
}

#[tokio::test]
async fn sessions_may_move_between_threads() {
    let (_daemon, session, mut peer, _) = session(Reconnect::default()).await;
    let task = tokio::spawn(async move {
        let submit = session.submit_retrying(Submission::new(txt2img("x")), Retry::default(), |_, _| {});
        let mut job = submit.await.expect("accepted");
        job.wait().await
    });
    let (id, ..) = submission(&mut peer).await;
    peer.say(id, Response::Accepted(JobId(7))).await;
    let watch = peer.expect(Request::Watch(JobId(7))).await;
    peer.say(watch, done(7, Outcome::Cancelled)).await;
    assert_eq!(task.await.expect("no panic").expect("ended").id, JobId(7));
}
