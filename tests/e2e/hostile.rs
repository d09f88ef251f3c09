//! Clients without manners. Whatever they do, they get a typed refusal, and everybody else is served as before.

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};

use gpusched_client::blocking::Client;
use gpusched_client::shared::codec::encode;
use gpusched_client::shared::frame::MAX_REQUEST;
use gpusched_client::shared::spec::MAX_TEXT_BYTES;
use gpusched_client::shared::{Rejection, Request, Response, VERSION_MAX, VERSION_MIN};
use gpusched_client::{Error, JobId, JobSpec, Picture, Update, txt2img, vqa};

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::raw::{Raw, hello};
use crate::harness::{assert_well, long, picture, quick, until_working};

fn submit(spec: impl Into<JobSpec>) -> Request {
    Request::Submit { spec: spec.into(), pictures: 0, attached: true, key: None }
}

fn is_malformed(rejection: &Rejection) -> bool {
    matches!(rejection, Rejection::Malformed { .. })
}

#[test]
fn garbage_is_malformed_and_the_connection_goes_on() {
    let daemon = Daemon::start();
    let mut raw = Raw::greet(&daemon.home().socket());
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let bytes = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 56) as u8
        });
        bytes.take(length).collect()
    };
    for length in (0..64).chain([1000, MAX_REQUEST]) {
        let id = raw.payload(noise(length), &[]);
        assert!(is_malformed(&raw.refusal(id)), "{length}");
    }
    // A request cut short anywhere, one with something after it, and a text that claims to be longer than memory.
    let whole = encode(&submit(quick())).expect("encodable");
    for length in 0..whole.len() {
        let id = raw.payload(whole[..length].to_vec(), &[]);
        assert!(is_malformed(&raw.refusal(id)), "{length}");
    }
    let mut endless = encode(&hello(1, 1)).expect("encodable");
    endless[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    for payload in [[whole, vec![0]].concat(), endless] {
        let id = raw.payload(payload, &[]);
        assert!(is_malformed(&raw.refusal(id)));
    }
    assert!(matches!(raw.ask(&Request::Status, &[]), Response::Status(_)));
    assert_well(&daemon);
}

#[test]
fn an_oversized_frame_is_refused_at_its_header_and_ends_the_connection() {
    let daemon = Daemon::start();
    for length in [MAX_REQUEST + 1, u32::MAX as usize] {
        let mut raw = Raw::greet(&daemon.home().socket());
        raw.bytes(&u32::try_from(length).expect("it fits").to_le_bytes());
        raw.bytes(&77u64.to_le_bytes());
        let expected = Rejection::FrameTooLarge { bytes: length as u64, limit: MAX_REQUEST as u64 };
        assert_eq!(raw.refusal(77), expected);
        raw.closed();
    }
    assert_well(&daemon);
}

#[test]
fn the_handshake_comes_first_and_once() {
    let daemon = Daemon::start_with(&Setup { limits: "handshake_timeout_s = 1", ..Setup::default() });
    let socket = daemon.home().socket();
    for (least, most) in [(VERSION_MAX + 1, 9), (0, VERSION_MIN - 1)] {
        let mut raw = Raw::connect(&socket);
        assert_eq!(raw.refused(&hello(least, most), &[]), Rejection::Version { least: VERSION_MIN, most: VERSION_MAX });
        raw.closed();
    }
    let mut raw = Raw::connect(&socket);
    assert!(matches!(raw.ask(&hello(0, 9), &[]), Response::Welcome { version: VERSION_MAX, .. }));
    assert_eq!(raw.refused(&hello(VERSION_MIN, VERSION_MAX), &[]), Rejection::Handshake);
    assert!(matches!(raw.ask(&Request::Status, &[]), Response::Status(_)));

    let mut raw = Raw::connect(&socket);
    assert_eq!(raw.refused(&Request::Status, &[]), Rejection::Handshake);
    raw.closed();
    let mut raw = Raw::connect(&socket);
    let id = raw.payload(b"GET / HTTP/1.1\r\n".to_vec(), &[]);
    assert!(is_malformed(&raw.refusal(id)));
    raw.closed();
    // Who says nothing, or stops in the middle of a word, is not waited for.
    Raw::connect(&socket).closed();
    let mut raw = Raw::connect(&socket);
    raw.bytes(&[9, 0, 0]);
    raw.closed();
    assert_well(&daemon);
}

#[test]
fn a_client_may_go_in_the_middle_of_a_word() {
    let daemon = Daemon::start();
    for bytes in [&b""[..], &[9], &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1]] {
        let mut raw = Raw::greet(&daemon.home().socket());
        raw.bytes(bytes);
        drop(raw);
        drop(Raw::connect(&daemon.home().socket()));
    }
    assert_well(&daemon);
}

#[test]
fn a_client_that_does_not_read_keeps_nobody_waiting() {
    let daemon = Daemon::start();
    let mut raw = Raw::greet(&daemon.home().socket());
    let sent = raw.fill(&Request::Status);
    assert_well(&daemon);
    let limit = Rejection::TooManyRequests { limit: 64 };
    let (_, response) = raw.receive().expect("a response");
    assert!(matches!(response, Response::Status(_)) || response == Response::Rejected(limit), "{response:?} of {sent}");
    drop(raw);
    assert_well(&daemon);
}

#[test]
fn bad_jobs_are_refused_with_what_is_wrong_and_what_would_be_right() {
    let daemon = Daemon::start();
    let mut raw = Raw::greet(&daemon.home().socket());
    let mut says = |spec: JobSpec| raw.refused(&submit(spec), &[]).to_string();
    assert_eq!(
        says(quick().model("sd15").into()),
        "no model \"sd15\" here; there is flux2-klein-tiny",
        "those that could do it, not all there are"
    );
    assert_eq!(
        says(quick().model("vilt-tiny").into()),
        "model \"vilt-tiny\" does not do txt2img; there is flux2-klein-tiny that does"
    );
    assert_eq!(says(txt2img("").into()), "the text of a txt2img job is empty; say what you want");
    assert_eq!(says(txt2img(" \n\t").into()), "the text of a txt2img job is empty; say what you want");
    assert_eq!(
        says(txt2img("x".repeat(10_000)).into()),
        format!("the text has 10000 bytes, the limit is {MAX_TEXT_BYTES}; shorten it")
    );
    assert_eq!(
        says(quick().size(100, 65).into()),
        "bad size: 100x65 is not a multiple of 16, as flux2-klein-tiny needs; try 96x64"
    );
    assert_eq!(says(quick().size(0, 64).into()), "bad width: 0 is not within 16 to 4096");
    assert_eq!(says(quick().size(64, 100_000).into()), "bad height: 100000 is not within 16 to 4096");
    assert_eq!(says(quick().steps(0).into()), "bad steps: 0 is not within 1 to 500");
    assert_eq!(says(quick().steps(501).into()), "bad steps: 501 is not within 1 to 500");
    assert_eq!(says(quick().guidance(f32::NAN).into()), "bad guidance: NaN is not within 0 to 50");
    assert_eq!(says(quick().guidance(f32::INFINITY).into()), "bad guidance: inf is not within 0 to 50");
    assert_eq!(says(quick().model("x".repeat(129)).into()), "bad model: longer than 128 bytes");
    assert_eq!(says(quick().deadline(std::time::Duration::ZERO).into()), "bad deadline: must be after now");
    assert_eq!(says(vqa("what?").into()), "a vqa job takes 1 to 1 pictures, got 0");
    assert_eq!(says(gpusched_client::img2img("x").into()), "a img2img job takes 1 to 4 pictures, got 0");
    assert!(matches!(raw.ask(&Request::Status, &[]), Response::Status(_)));
    assert_well(&daemon);
}

#[test]
fn jobs_that_are_not_there() {
    let daemon = Daemon::start();
    let mut raw = Raw::greet(&daemon.home().socket());
    for job in [0, 1, i64::MAX as u64, u64::MAX].map(JobId) {
        for request in
            [Request::Watch(job), Request::Cancel(job), Request::Show(job), Request::Fetch { job, round: None }]
        {
            assert_eq!(raw.refused(&request, &[]), Rejection::NoSuchJob { job });
        }
    }
    for (before, limit) in [(None, 0), (None, u32::MAX), (Some(JobId(0)), 1), (Some(JobId(u64::MAX)), u32::MAX)] {
        let list = Request::List { ended: true, before, limit };
        assert_eq!(raw.ask(&list, &[]), Response::Jobs(Vec::new()));
    }
    assert_well(&daemon);
}

#[test]
fn requests_are_bounded_on_each_connection() {
    let daemon = Daemon::start_with(&Setup { limits: "open_requests = 2", ..Setup::default() });
    let client = daemon.client();
    let job = client.submit(long(), Vec::new(), false).expect("accepted");
    let mut raw = Raw::greet(&daemon.home().socket());
    let watches = [0; 2].map(|_| raw.send(&Request::Watch(job), &[]));
    let third = raw.send(&Request::Status, &[]);
    let refusal = loop {
        match raw.receive().expect("a response") {
            (id, Response::Rejected(rejection)) if id == third => break rejection,
            (id, Response::Update(_)) if watches.contains(&id) => {}
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refusal, Rejection::TooManyRequests { limit: 2 });
    client.cancel(job).expect("cancelled");
    let ended = |response: &Response| matches!(response, Response::Update(Update::Done(_)));
    let both = std::iter::from_fn(|| raw.receive()).filter(|(_, response)| ended(response)).take(2);
    assert!(both.map(|(id, _)| id).all(|id| watches.contains(&id)));
    assert_well(&daemon);
}

#[test]
fn connections_are_bounded() {
    for limits in ["connections = 2", "connections_per_uid = 2"] {
        let daemon = Daemon::start_with(&Setup { limits, ..Setup::default() });
        let (first, _second) = (daemon.client(), daemon.client());
        let third = || Client::connect(daemon.home().socket());
        match third() {
            Err(Error::Rejected(rejection)) => assert_eq!(rejection, Rejection::TooManyConnections { limit: 2 }),
            other => panic!("{other:?}"),
        }
        let ended = daemon.gpuctl(&["status"]).expect(4);
        assert!(ended.stderr.contains("close one"), "{}", ended.stderr);
        drop(first);
        // The daemon sees the end of the first in its own time.
        let client = std::iter::repeat_with(third).find_map(Result::ok).expect("endless");
        client.status().expect("status");
    }
}

#[test]
fn the_queue_of_a_class_is_bounded() {
    let daemon = Daemon::start_with(&Setup { queue: 1, ..Setup::default() });
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick(), Vec::new(), true).expect("accepted");
    match client.submit(quick(), Vec::new(), true) {
        Err(Error::Rejected(rejection)) => {
            assert!(
                matches!(&rejection, Rejection::QueueFull { class, limit: 1, .. } if class == "heavy"),
                "{rejection}"
            );
        }
        other => panic!("{other:?}"),
    }
    let ended = daemon.gpuctl(&["submit", "txt2img", "a red circle"]).expect(4);
    let refusal = "gpuctl: the queue of class heavy is full (1 jobs); try again in ";
    assert!(ended.stderr.starts_with(refusal), "{}", ended.stderr);
    client.cancel(waiting).expect("cancelled");
    client.cancel(running).expect("cancelled");
    assert_well(&daemon);
}

#[test]
fn descriptors_are_counted() {
    let daemon = Daemon::start();
    let socket = daemon.home().socket();
    let null = File::open("/dev/null").expect("a file");
    let with = |pictures| Request::Submit { spec: vqa("what?").into(), pictures, attached: true, key: None };
    let mut raw = Raw::greet(&socket);
    assert!(is_malformed(&raw.refused(&with(1), &[])), "announced, not sent");
    assert!(matches!(raw.refused(&with(255), &[]), Rejection::WrongImageCount { got: 255, .. }));
    // More at once than any frame takes.
    // None of them stays open in the daemon.
    let open = daemon.open_descriptors();
    for count in [9, 20, 253].repeat(8) {
        let mut raw = Raw::greet(&socket);
        raw.stray(&vec![null.as_fd(); count]);
        assert!(is_malformed(&raw.refusal(0)));
        raw.closed();
    }
    daemon.client().status().expect("status");
    assert!(daemon.open_descriptors() < open + 10, "{open} before, {} after", daemon.open_descriptors());
    // One that no frame asked for ends the connection: the next frame must not get it in place of its own.
    let picture: OwnedFd = Picture::from_bytes(&picture::red_circle()).expect("a memory file").into();
    let garbage = vec![0xff; 8];
    for payload in [encode(&Request::Status).expect("encodable"), encode(&with(0)).expect("encodable"), garbage] {
        let mut raw = Raw::greet(&socket);
        let id = raw.payload(payload, &[picture.as_fd()]);
        assert!(is_malformed(&raw.refusal(id)));
        raw.closed();
    }
    assert_well(&daemon);
}
