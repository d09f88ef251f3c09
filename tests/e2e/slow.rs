//! Clients that begin and do not finish, ask and do not read, or change a file while it is read.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};

use gpusched_client::shared::spec::MAX_IMAGE_PIXELS;
use gpusched_client::shared::{Rejection, Request, Response};
use gpusched_client::{Outcome, Picture, img2img, vqa};

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::raw::Raw;
use crate::harness::{assert_well, outcome, picture};

fn question(pictures: u8) -> Request {
    Request::Submit { spec: vqa("what color is the shape?").into(), pictures, attached: true, key: None }
}

#[test]
fn a_frame_that_was_begun_must_end() {
    let daemon = Daemon::start_with(&Setup { limits: "frame_timeout_s = 1", ..Setup::default() });
    let socket = daemon.home().socket();
    // Idle connections may stay; this one is asked at the end.
    let mut idle = Raw::greet(&socket);
    for begun in [&[9][..], &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0], &[9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 7]] {
        let mut raw = Raw::greet(&socket);
        raw.bytes(begun);
        let refusal = raw.refusal(0);
        let expected = "a frame was begun, and not complete 1 s later".to_owned();
        assert_eq!(refusal, Rejection::Malformed { reason: expected });
        raw.closed();
    }
    // A byte now and then does not help.
    let mut raw = Raw::greet(&socket);
    raw.bytes(&[200, 0, 0, 0]);
    while raw.try_bytes(&[1]) {
        std::thread::yield_now();
    }
    assert!(matches!(idle.ask(&Request::Status, &[]), Response::Status(_)));
    assert_well(&daemon);
}

#[test]
fn who_does_not_read_is_cut_off() {
    let daemon = Daemon::start_with(&Setup { limits: "write_timeout_s = 1", ..Setup::default() });
    let socket = daemon.home().socket();
    let mut idle = Raw::greet(&socket);
    let mut raws: Vec<_> = (0..20).map(|_| Raw::greet(&socket)).collect();
    for raw in &mut raws {
        raw.fill(&Request::Status);
    }
    assert_well(&daemon);
    daemon.until_logged("does not read what it asked for");
    for raw in &mut raws {
        while raw.try_bytes(&[0]) {
            std::thread::yield_now();
        }
    }
    assert!(matches!(idle.ask(&Request::Status, &[]), Response::Status(_)));
    assert_well(&daemon);
}

#[test]
fn a_fifth_descriptor_is_one_too_many() {
    let daemon = Daemon::start();
    let socket = daemon.home().socket();
    let picture = Picture::from_bytes(&picture::red_circle()).expect("a memory file");
    let file = std::os::fd::OwnedFd::from(picture);
    let five = [file.as_fd(); 5];
    let mix = |pictures| Request::Submit { spec: img2img("x").into(), pictures, attached: true, key: None };
    let mut raw = Raw::greet(&socket);
    let refused = raw.refused(&mix(5), &five);
    assert!(matches!(refused, Rejection::WrongImageCount { most: 4, got: 5, .. }), "{refused:?}");
    let id = raw.send(&mix(4), &five);
    assert!(matches!(raw.refusal(id), Rejection::Malformed { .. }));
    raw.closed();
    assert_well(&daemon);
}

#[test]
fn a_file_may_shrink_while_it_is_read() {
    let daemon = Daemon::start();
    let path = daemon.home().file("circle.png");
    // Long enough to be read in many pieces.
    let whole = picture::png(2000, 2000, |x, y| [(x * 7.0 + y * y) as u8, (x * y) as u8, (y * 3.0) as u8]);
    fs::write(&path, &whole).expect("written");
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(&path).expect("a file");
            while !done.load(Ordering::Relaxed) {
                file.set_len(0).expect("cut");
                fs::write(&path, &whole).expect("written");
            }
        });
        let mut raw = Raw::greet(&daemon.home().socket());
        for _ in 0..20 {
            let file = File::open(&path).expect("a file");
            let id = raw.send(&question(1), &[file.as_fd()]);
            match raw.receive() {
                Some((of, Response::Accepted(_) | Response::Rejected(Rejection::BadImage { .. }))) if of == id => {}
                other => panic!("{other:?}"),
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_well(&daemon);
}

#[test]
fn a_picture_may_unfold_as_far_as_allowed_and_no_further() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let side = MAX_IMAGE_PIXELS.isqrt();
    let side = u32::try_from(side).expect("a side");
    let bomb = picture::png(side, side, |_, _| [255, 0, 0]);
    assert!((bomb.len() as u64) < MAX_IMAGE_PIXELS / 50, "{} bytes are no bomb", bomb.len());
    let picture = Picture::from_bytes(&bomb).expect("a memory file");
    let before = daemon.memory_bytes();
    let job = client.submit(vqa("what color is the shape?"), vec![picture], true).expect("accepted");
    let view = client.wait(job).expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Answers(_)), "{:?}", view.state);
    // The front never unfolds it: that is the engine's.
    let grown = daemon.memory_bytes().saturating_sub(before);
    assert!(grown < MAX_IMAGE_PIXELS, "{grown} bytes");
    let further = picture::png(side, side + 1, |_, _| [255, 0, 0]);
    let mut raw = Raw::greet(&daemon.home().socket());
    let file = std::os::fd::OwnedFd::from(Picture::from_bytes(&further).expect("a memory file"));
    let refused = raw.refused(&question(1), &[file.as_fd()]);
    assert!(matches!(&refused, Rejection::BadImage { reason, .. } if reason.contains("pixels")), "{refused:?}");
    assert_well(&daemon);
}
