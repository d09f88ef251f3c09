//! The library against a scripted daemon, over a real socket.

mod daemon;

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::time::Duration;

use daemon::{Daemon, connected, done, queued, view, welcome, working};
use gpusched_client::shared::frame::MAX_RESPONSE;
use gpusched_client::shared::{Phase, Request, Response};
use gpusched_client::{
    Answer, BlobHash, BlobRef, Client, Error, Explanation, JobId, JobState, Outcome, Picture, Reflect, Rejection,
    Retry, RouteView, TimeLimit, Update, blocking, img2img, txt2img, vqa,
};

fn file_of(bytes: &[u8]) -> OwnedFd {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    std::io::Seek::rewind(&mut file).expect("rewound");
    file.into()
}

#[tokio::test]
async fn nobody_there_is_said_with_the_remedy() {
    let directory = tempfile::tempdir().expect("a directory");
    let socket = directory.path().join("none");
    let error = Client::connect(&socket).await.expect_err("nobody there");
    assert_eq!(
        error.to_string(),
        format!(
            "no daemon at {}: start it with `systemctl start gpusched` or `gpuschedd serve`, or name another with \
             --socket or $GPUSCHED_SOCKET",
            socket.display()
        )
    );
    // A socket whose daemon has died is still a file.
    drop(std::os::unix::net::UnixListener::bind(&socket).expect("a socket"));
    assert!(matches!(Client::connect(&socket).await, Err(Error::NotRunning { .. })));
}

#[tokio::test]
async fn a_refused_handshake_brings_its_reason() {
    let daemon = Daemon::new();
    let refuse = async {
        let mut peer = daemon.accept().await;
        let (id, _) = peer.request().await;
        peer.say(id, Response::Rejected(Rejection::Version { least: 2, most: 3 })).await;
    };
    let (client, ()) = tokio::join!(Client::connect(daemon.socket()), refuse);
    assert!(matches!(client, Err(Error::Rejected(Rejection::Version { least: 2, most: 3 }))));
}

#[tokio::test]
async fn a_refusal_without_listening_is_heard() {
    let daemon = Daemon::new();
    let refuse = async {
        let mut peer = daemon.accept().await;
        peer.say(0, Response::Rejected(Rejection::TooManyConnections { limit: 1 })).await;
    };
    let (client, ()) = tokio::join!(Client::connect(daemon.socket()), refuse);
    assert!(matches!(client, Err(Error::Rejected(Rejection::TooManyConnections { limit: 1 }))));
}

#[tokio::test]
async fn a_version_nobody_asked_for_is_an_error() {
    let daemon = Daemon::new();
    let answer = async {
        let mut peer = daemon.accept().await;
        let (id, _) = peer.request().await;
        peer.say(id, welcome(9)).await;
    };
    let (client, ()) = tokio::join!(Client::connect(daemon.socket()), answer);
    assert!(matches!(client, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn a_daemon_that_hangs_up_at_hello_is_an_error() {
    let daemon = Daemon::new();
    let hang_up = async { drop(daemon.accept().await) };
    let (client, ()) = tokio::join!(Client::connect(daemon.socket()), hang_up);
    assert!(matches!(client, Err(Error::Disconnected)));
}

#[tokio::test]
async fn answers_find_their_calls_in_any_order() {
    let (_daemon, client, mut peer) = connected().await;
    let answer = async {
        let first = peer.expect(Request::Show(JobId(1))).await;
        let second = peer.expect(Request::Show(JobId(2))).await;
        let third = peer.expect(Request::Cancel(JobId(3))).await;
        peer.say(999, Response::Accepted(JobId(1))).await;
        peer.say(third, Response::Rejected(Rejection::NoSuchJob { job: JobId(3) })).await;
        peer.say(second, Response::Job(view(2, JobState::Queued { ahead: 1 }))).await;
        peer.say(first, Response::Job(view(1, JobState::Queued { ahead: 0 }))).await;
    };
    let (first, second, third, ()) =
        tokio::join!(client.show(JobId(1)), client.show(JobId(2)), client.cancel(JobId(3)), answer);
    assert_eq!(first.expect("shown").id, JobId(1));
    assert_eq!(second.expect("shown").id, JobId(2));
    assert!(matches!(third, Err(Error::Rejected(Rejection::NoSuchJob { job: JobId(3) }))));
}

#[tokio::test]
async fn hanging_up_ends_every_open_call_and_every_later_one() {
    let (_daemon, client, mut peer) = connected().await;
    let hang_up = async {
        peer.request().await;
        peer.request().await;
        drop(peer);
    };
    let (status, wait, ()) = tokio::join!(client.status(), client.wait(JobId(1)), hang_up);
    assert!(matches!(status, Err(Error::Disconnected)));
    assert!(matches!(wait, Err(Error::Disconnected)));
    assert!(matches!(client.status().await, Err(Error::Disconnected)));
}

#[tokio::test]
async fn nonsense_ends_the_connection() {
    let (_daemon, client, mut peer) = connected().await;
    let babble = async {
        let (id, _) = peer.request().await;
        peer.bytes(id, vec![0xff; 8]).await;
    };
    let (status, ()) = tokio::join!(client.status(), babble);
    assert!(matches!(status, Err(Error::Protocol(_))));
    assert!(matches!(client.status().await, Err(Error::Protocol(_))));
    peer.closed().await;

    let (_daemon, client, mut peer) = connected().await;
    let overflow = async {
        let (id, _) = peer.request().await;
        peer.overflow(id, vec![0; MAX_RESPONSE + 1]).await;
    };
    let (status, ()) = tokio::join!(client.status(), overflow);
    assert!(matches!(status, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn an_answer_of_the_wrong_kind_fails_that_call_alone() {
    let (_daemon, client, mut peer) = connected().await;
    let answer = async {
        let (id, _) = peer.request().await;
        peer.say(id, Response::Accepted(JobId(1))).await;
        let (id, _) = peer.request().await;
        peer.say(id, Response::Jobs(Vec::new())).await;
    };
    let calls = async { (client.status().await, client.list(true, None, 1).await) };
    let ((status, list), ()) = tokio::join!(calls, answer);
    assert!(matches!(status, Err(Error::Protocol(_))));
    assert_eq!(list.expect("listed"), []);
}

#[tokio::test]
async fn a_watch_goes_on_to_the_end() {
    let (_daemon, client, mut peer) = connected().await;
    let run = async {
        let id = peer.expect(Request::Watch(JobId(7))).await;
        for update in [queued(1), working(0, 2), working(2, 2), done(7, Outcome::Cancelled)] {
            peer.say(id, update).await;
        }
    };
    let follow = async {
        let mut watch = client.watch(JobId(7)).await.expect("watching");
        let mut updates = Vec::new();
        while let Some(update) = watch.next().await.expect("an update") {
            updates.push(update);
        }
        assert_eq!(watch.next().await.expect("no error"), None);
        updates
    };
    let (updates, ()) = tokio::join!(follow, run);
    assert_eq!(updates.len(), 4);
    assert_eq!(updates[0], Update::Queued { ahead: 1 });
    assert_eq!(updates[3], Update::Done(view(7, JobState::Done(Outcome::Cancelled))));
}

#[tokio::test]
async fn a_dropped_watch_disturbs_nobody() {
    let (_daemon, client, mut peer) = connected().await;
    let run = async {
        let watch = peer.expect(Request::Watch(JobId(7))).await;
        peer.say(watch, queued(1)).await;
        let list = peer.expect(Request::List { ended: false, before: None, limit: 5 }).await;
        peer.say(watch, working(0, 2)).await;
        peer.say(watch, done(7, Outcome::Expired { limit: TimeLimit::Deadline })).await;
        peer.say(list, Response::Jobs(vec![view(9, JobState::Queued { ahead: 0 })])).await;
    };
    let call = async {
        let mut watch = client.watch(JobId(7)).await.expect("watching");
        watch.next().await.expect("an update");
        drop(watch);
        client.list(false, None, 5).await
    };
    let (jobs, ()) = tokio::join!(call, run);
    assert_eq!(jobs.expect("listed")[0].id, JobId(9));
}

#[tokio::test]
async fn pictures_travel_as_descriptors() {
    let (_daemon, client, mut peer) = connected().await;
    let pictures = vec![Picture::from_bytes(b"one").expect("memory"), Picture::from_bytes(b"two").expect("memory")];
    let accept = async {
        let (id, request) = peer.request().await;
        let Request::Submit { pictures: 2, attached: false, spec, key: None } = request else { panic!("{request:?}") };
        assert_eq!(spec.task.text(), "mix them");
        peer.say(id, Response::Accepted(JobId(3))).await;
        let contents = peer.descriptors(9).into_iter().map(|mut file| {
            let mut text = String::new();
            std::io::Seek::rewind(&mut file).expect("rewound");
            file.read_to_string(&mut text).expect("readable");
            text
        });
        contents.collect::<Vec<_>>()
    };
    let (job, contents) = tokio::join!(client.submit(img2img("mix them"), pictures, false), accept);
    assert_eq!(job.expect("accepted"), JobId(3));
    assert_eq!(contents, ["one", "two"]);
}

#[tokio::test]
async fn what_is_asked_of_the_scheduler_is_sent_and_answered() {
    let (_daemon, client, mut peer) = connected().await;
    let waiting = view(7, JobState::Queued { ahead: 0 });
    let explanation =
        Explanation { job: waiting.clone(), reasons: Vec::new(), starts_in_ms: Some(5), ends_in_ms: None };
    let route = RouteView { class: None, rules: Vec::new(), run_bytes: 1, weights_bytes: 2, run_ms: None };
    let answer = async {
        let id = peer.expect(Request::Explain(JobId(7))).await;
        peer.say(id, Response::Explanation(explanation.clone())).await;
        let id = peer.expect(Request::Queue).await;
        peer.say(id, Response::Queue(Vec::new())).await;
        let id = peer.expect(Request::Route(txt2img("x").into())).await;
        peer.say(id, Response::Route(route.clone())).await;
        let id = peer.expect(Request::SetPriority { job: JobId(7), priority: -3 }).await;
        peer.say(id, Response::Job(waiting.clone())).await;
        for request in [
            Request::Pause { class: "heavy".to_owned(), paused: true },
            Request::Pause { class: "heavy".to_owned(), paused: false },
            Request::Drain(true),
        ] {
            let id = peer.expect(request).await;
            peer.say(id, Response::Status(daemon::status())).await;
        }
        let id = peer.expect(Request::Drain(false)).await;
        peer.say(id, Response::Rejected(Rejection::NotAllowed { action: "drain the daemon".to_owned() })).await;
    };
    let ask = async {
        assert_eq!(client.explain(JobId(7)).await.expect("explained"), explanation);
        assert_eq!(client.queue().await.expect("listed"), []);
        assert_eq!(client.route(txt2img("x")).await.expect("routed"), route);
        assert_eq!(client.set_priority(JobId(7), -3).await.expect("set"), waiting);
        assert_eq!(client.pause("heavy").await.expect("paused"), daemon::status());
        assert_eq!(client.resume("heavy").await.expect("resumed"), daemon::status());
        assert_eq!(client.drain(true).await.expect("draining"), daemon::status());
        assert!(matches!(client.drain(false).await, Err(Error::Rejected(Rejection::NotAllowed { .. }))));
    };
    tokio::join!(ask, answer);
}

#[tokio::test]
async fn a_hopeless_job_is_refused_without_the_daemon() {
    let (_daemon, client, peer) = connected().await;
    drop(peer);
    let error = client.submit(txt2img(" "), Vec::new(), true).await.expect_err("refused");
    assert!(matches!(error, Error::Rejected(Rejection::EmptyText { .. })));
    let error = client.submit(vqa("what?"), Vec::new(), true).await.expect_err("refused");
    assert!(matches!(error, Error::Rejected(Rejection::WrongImageCount { got: 0, .. })));
}

#[tokio::test]
async fn fetching_passes_a_descriptor() {
    let (_daemon, client, mut peer) = connected().await;
    let blob = BlobRef { hash: BlobHash::of(b"picture"), bytes: 7 };
    let give = async {
        let id = peer.expect(Request::Fetch { job: JobId(1), round: None }).await;
        peer.say_with(id, Response::File(blob), file_of(b"picture")).await;
        let id = peer.expect(Request::Fetch { job: JobId(1), round: None }).await;
        peer.say_with(id, Response::File(blob), file_of(b"picture")).await;
        let id = peer.expect(Request::Fetch { job: JobId(2), round: None }).await;
        peer.say_with(id, Response::File(blob), file_of(b"another")).await;
        let id = peer.expect(Request::Fetch { job: JobId(3), round: None }).await;
        peer.say(id, Response::File(blob)).await;
        for _ in 0..2 {
            let id = peer.expect(Request::Fetch { job: JobId(4), round: Some(2) }).await;
            peer.say_with(id, Response::File(blob), file_of(b"picture")).await;
        }
    };
    let get = async {
        let (got, mut file) = client.fetch(JobId(1)).await.expect("fetched");
        let mut text = String::new();
        file.read_to_string(&mut text).expect("readable");
        assert_eq!((got, text.as_str()), (blob, "picture"));
        assert_eq!(client.fetch_bytes(JobId(1)).await.expect("fetched"), b"picture");
        assert!(matches!(client.fetch_bytes(JobId(2)).await, Err(Error::Damaged { job: JobId(2) })));
        assert!(matches!(client.fetch(JobId(3)).await, Err(Error::Protocol(_))));
        assert_eq!(client.fetch_round(JobId(4), 2).await.expect("fetched").0, blob);
        assert_eq!(client.fetch_round_bytes(JobId(4), 2).await.expect("fetched"), b"picture");
    };
    tokio::join!(get, give);
}

#[tokio::test]
async fn rounds_are_news_and_not_the_end() {
    let (_daemon, client, mut peer) = connected().await;
    let update = Update::Reflecting { round: 1, of: 4, phase: Phase::Checking { done: 0, of: 5 } };
    let reflect = Reflect { rounds: Some(4), ..Reflect::default() };
    let tell = async {
        let (id, request) = peer.request().await;
        let Request::Submit { spec, .. } = request else { panic!("{request:?}") };
        assert_eq!(spec.reflect.as_deref(), Some(&reflect));
        peer.say(id, Response::Accepted(JobId(7))).await;
        for _ in 0..2 {
            let id = peer.expect(Request::Watch(JobId(7))).await;
            peer.say(id, Response::Update(update.clone())).await;
            peer.say(id, done(7, Outcome::Cancelled)).await;
        }
    };
    let hear = async {
        let spec = txt2img("a red circle").reflect(reflect.clone());
        let job = client.submit(spec, Vec::new(), true).await.expect("accepted");
        let mut watch = client.watch(job).await.expect("watched");
        assert_eq!(watch.next().await.expect("news"), Some(update.clone()));
        assert!(matches!(watch.next().await, Ok(Some(Update::Done(_)))));
        assert_eq!(client.wait(job).await.expect("ended").id, job);
    };
    tokio::join!(hear, tell);
}

#[tokio::test]
async fn the_connection_closes_with_its_last_user() {
    let (_daemon, client, mut peer) = connected().await;
    let clone = client.clone();
    let (watch, _) = tokio::join!(client.watch(JobId(1)), peer.request());
    drop((client, clone));
    drop(watch);
    peer.closed().await;
}

#[test]
fn blocking_verbs_do_the_same() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().expect("a runtime");
    let daemon = {
        let _guard = runtime.enter();
        Daemon::new()
    };
    let socket = daemon.socket();
    let user = std::thread::spawn(move || {
        let client = blocking::Client::connect(socket).expect("connected");
        let retry = Retry { within: Duration::from_secs(3600), ..Retry::default() };
        let job = client.submit_retrying(txt2img("x"), Vec::new(), true, retry, |_, _| {}).expect("accepted");
        let updates: Result<Vec<_>, _> = client.watch(job).expect("watching").collect();
        updates.expect("updates")
    });
    runtime.block_on(async {
        let mut peer = daemon.welcome().await;
        let (id, _) = peer.request().await;
        let full = Rejection::QueueFull { class: "light".to_owned(), limit: 8, retry_after_ms: 1 };
        peer.say(id, Response::Rejected(full)).await;
        let (id, _) = peer.request().await;
        peer.say(id, Response::Accepted(JobId(1))).await;
        let id = peer.expect(Request::Watch(JobId(1))).await;
        peer.say(id, queued(0)).await;
        let answers = vec![Answer { label: "red".to_owned(), score: 1.0 }];
        peer.say(id, done(1, Outcome::Answers(answers))).await;
        peer.closed().await;
    });
    let updates = user.join().expect("no panic");
    assert_eq!(updates.len(), 2);
    assert_eq!(updates[0], Update::Queued { ahead: 0 });
}
