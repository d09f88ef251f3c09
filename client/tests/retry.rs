//! Handing in a job again while the queue is full, on a clock that stands still but for the waits.

mod daemon;

use std::os::unix::fs::FileExt;

use daemon::{Peer, connected};
use gpusched_client::shared::{Request, Response};
use gpusched_client::{Error, JobId, Picture, Rejection, Retry, txt2img, vqa};
use tokio::time::Instant;

/// Reads the one picture of a submission, as the daemon does: from the start, wherever its position is.
fn contents(peer: &mut Peer) -> Vec<u8> {
    let [file] = <[_; 1]>::try_from(peer.descriptors(9)).expect("one picture");
    let mut bytes = vec![0; usize::try_from(file.metadata().expect("metadata").len()).expect("small")];
    file.read_exact_at(&mut bytes, 0).expect("readable");
    bytes
}

fn full() -> Rejection {
    Rejection::QueueFull { class: "light".to_owned(), limit: 8, retry_after_ms: 1000 }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_is_asked_again_with_the_same_pictures() {
    let (_daemon, client, mut peer) = connected().await;
    let refuse_twice = async {
        for _ in 0..2 {
            let (id, _) = peer.request().await;
            assert_eq!(contents(&mut peer), b"picture");
            peer.say(id, Response::Rejected(full())).await;
        }
        let (id, request) = peer.request().await;
        assert!(matches!(request, Request::Submit { pictures: 1, attached: false, .. }), "{request:?}");
        assert_eq!(contents(&mut peer), b"picture");
        peer.say(id, Response::Accepted(JobId(3))).await;
    };
    let start = Instant::now();
    let mut waits = Vec::new();
    let notice = |refusal: &Rejection, wait| {
        assert_eq!(refusal, &full());
        waits.push(wait);
    };
    let pictures = vec![Picture::from_bytes(b"picture").expect("memory")];
    let submit = client.submit_retrying(vqa("what?"), pictures, false, Retry::default(), notice);
    let (job, ()) = tokio::join!(submit, refuse_twice);
    assert_eq!(job.expect("accepted"), JobId(3));
    assert_eq!(waits.len(), 2);
    // The clock stands still but for the waits.
    assert!(start.elapsed() >= waits.iter().sum(), "{:?} for {waits:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn patience_ends_with_the_refusal() {
    let (_daemon, client, mut peer) = connected().await;
    let refuse = async {
        for _ in 0..3 {
            let (id, _) = peer.request().await;
            peer.say(id, Response::Rejected(full())).await;
        }
    };
    let retry = Retry { tries: 3, ..Retry::default() };
    let submit = client.submit_retrying(txt2img("x"), Vec::new(), true, retry, |_, _| {});
    let (refused, ()) = tokio::join!(submit, refuse);
    assert!(matches!(refused, Err(Error::Rejected(rejection)) if rejection == full()));
}

#[tokio::test(start_paused = true)]
async fn other_refusals_are_not_retried() {
    let (_daemon, client, mut peer) = connected().await;
    let refuse = async {
        let (id, _) = peer.request().await;
        peer.say(id, Response::Rejected(Rejection::Draining)).await;
    };
    let notice = |_: &Rejection, _| panic!("nothing to wait for");
    let submit = client.submit_retrying(txt2img("x"), Vec::new(), true, Retry::default(), notice);
    let (refused, ()) = tokio::join!(submit, refuse);
    assert!(matches!(refused, Err(Error::Rejected(Rejection::Draining))));
}
