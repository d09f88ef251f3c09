//! Pictures that clients hand over: odd ones, and descriptors of what is no picture at all.

use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use gpusched_client::shared::spec::{MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS};
use gpusched_client::shared::{Rejection, Request};
use gpusched_client::{FailureKind, Outcome, Picture, vqa};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::harness::daemon::Daemon;
use crate::harness::raw::Raw;
use crate::harness::{assert_well, outcome, picture};

fn question() -> Request {
    Request::Submit { spec: vqa("what?").into(), pictures: 1, attached: true, key: None }
}

/// Why the daemon refuses the picture behind a descriptor.
fn refusal(raw: &mut Raw, descriptor: BorrowedFd<'_>) -> String {
    let refused = raw.refused(&question(), &[descriptor]);
    let Rejection::BadImage { index: 0, reason } = refused else { panic!("{refused:?}") };
    reason
}

fn sealed(bytes: &[u8]) -> OwnedFd {
    Picture::from_bytes(bytes).expect("a memory file").into()
}

#[test]
fn what_is_no_picture_is_refused() {
    let daemon = Daemon::start();
    let mut raw = Raw::greet(&daemon.home().socket());
    let mut says = |bytes: &[u8]| refusal(&mut raw, sealed(bytes).as_fd());
    for bytes in [&b""[..], b"GIF89a", b"hello", &[0; 5000]] {
        assert!(says(bytes).contains("not a PNG, JPEG or WebP file"));
    }
    let whole = picture::red_circle();
    let mut broken = whole.clone();
    broken[whole.len() / 2] ^= 0xff;
    for bytes in [&whole[..8], &whole[..whole.len() / 2], &broken] {
        assert!(says(bytes).contains("cannot be read"));
    }
    let huge = says(&picture::claiming(60_000, 60_000));
    assert!(huge.contains("60000 x 60000 pixels") && huge.contains(&MAX_IMAGE_PIXELS.to_string()), "{huge}");
    assert_well(&daemon);
}

#[test]
fn what_is_no_picture_file_is_refused() {
    let daemon = Daemon::start();
    let mut raw = Raw::greet(&daemon.home().socket());
    let mut says = |descriptor: BorrowedFd<'_>| refusal(&mut raw, descriptor);

    let (pipe, _held_open) = nix::unistd::pipe().expect("a pipe");
    let (socket, _peer) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let open = |path: &str| File::open(path).expect("it is there");
    let (directory, zero) = (open("/"), open("/dev/zero"));
    for descriptor in [pipe.as_fd(), socket.as_fd(), directory.as_fd(), zero.as_fd()] {
        assert_eq!(says(descriptor), "neither a regular file nor a memfd");
    }

    let memory = memfd_create(c"picture", MFdFlags::MFD_ALLOW_SEALING).expect("a memory file");
    let mut memory = File::from(memory);
    memory.write_all(&picture::red_circle()).expect("written");
    assert!(says(memory.as_fd()).contains("not sealed"));

    let path = daemon.home().file("sparse.png");
    let sparse = File::options().write(true).create_new(true).open(&path).expect("a file");
    assert!(says(sparse.as_fd()).starts_with("cannot be read: "), "it is open for writing only");
    sparse.set_len(MAX_IMAGE_BYTES + 1).expect("a length");
    let reason = says(File::open(&path).expect("it is there").as_fd());
    assert_eq!(reason, format!("{} bytes, the limit is {MAX_IMAGE_BYTES}", MAX_IMAGE_BYTES + 1));
    assert_well(&daemon);
}

#[test]
fn the_index_names_the_bad_picture() {
    let daemon = Daemon::start();
    let mut raw = Raw::greet(&daemon.home().socket());
    let (good, bad) = (sealed(&picture::red_circle()), sealed(b"bad"));
    let request =
        Request::Submit { spec: gpusched_client::img2img("x").into(), pictures: 3, attached: true, key: None };
    let refused = raw.refused(&request, &[good.as_fd(), good.as_fd(), bad.as_fd()]);
    assert!(matches!(refused, Rejection::BadImage { index: 2, .. }), "{refused:?}");
}

#[test]
fn odd_pictures_are_answered_and_hopeless_ones_fail() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let ended = |width, height| {
        let png = picture::png(width, height, |_, _| [255, 0, 0]);
        let picture = Picture::from_bytes(&png).expect("a memory file");
        let job = client.submit(vqa("what color is the shape?").top(3), vec![picture], true).expect("accepted");
        outcome(&client.wait(job).expect("waited for")).clone()
    };
    for (width, height) in [(1, 1), (2, 3), (500, 333), (3000, 2000)] {
        let outcome = ended(width, height);
        assert!(matches!(&outcome, Outcome::Answers(answers) if answers.len() == 3), "{width}x{height}: {outcome:?}");
    }
    for (width, height) in [(1, 1000), (3000, 2)] {
        let Outcome::Failed { kind: FailureKind::Input, message } = ended(width, height) else { panic!("no failure") };
        assert!(message.contains("too narrow to be looked at"), "{message}");
    }
    assert_well(&daemon);
}

#[test]
fn a_picture_file_may_change_once_its_job_is_accepted() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let path = daemon.home().file("circle.png");
    fs::write(&path, picture::red_circle()).expect("written");
    let picture = Picture::open(&path).expect("it is there");
    let job = client.submit(vqa("what color is the shape?"), vec![picture], true).expect("accepted");
    fs::write(&path, b"gone").expect("written");
    let view = client.wait(job).expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Answers(answers) if answers[0].label == "red"), "{:?}", view.state);
}
