//! Pictures that are looked at before a job is accepted.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::OwnedFd;

use gpusched_engine::{Command, Event};
use gpusched_shared::Size;
use gpusched_shared::spec::MAX_IMAGE_BYTES;

use crate::rig::{Rig, samples};

/// What is found of a file.
fn found(rig: &mut Rig, ticket: u64, file: impl Into<OwnedFd>) -> Result<Size, String> {
    rig.tell_with(Command::Inspect { ticket }, vec![file.into()]);
    let Event::Inspected { ticket: answered, result } = rig.next() else { panic!("another event") };
    assert_eq!(answered, ticket);
    result
}

fn of_bytes(bytes: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(bytes).expect("written");
    file
}

#[test]
fn pictures_are_told_from_what_is_none() {
    let mut rig = Rig::new();
    let size = Size { width: 640, height: 256 };
    assert_eq!(found(&mut rig, 1, samples()), Ok(size));
    let mut read_before = File::from(samples());
    read_before.seek(SeekFrom::End(0)).expect("it can be sought");
    assert_eq!(found(&mut rig, 2, read_before), Ok(size), "wherever the offset is");

    let mut whole = Vec::new();
    File::from(samples()).read_to_end(&mut whole).expect("read");
    assert!(found(&mut rig, 3, of_bytes(&whole[..whole.len() / 2])).is_err());
    assert!(found(&mut rig, 4, of_bytes(b"no picture at all")).is_err());
    let long = tempfile::tempfile().expect("a file");
    long.set_len(MAX_IMAGE_BYTES + 1).expect("sparse");
    assert!(found(&mut rig, 5, long).expect_err("too long").contains("which is the limit"));
    let (end, _other) = std::os::unix::net::UnixStream::pair().expect("a pair");
    assert!(found(&mut rig, 6, end).expect_err("no file").contains("cannot be read"));
    assert_eq!(found(&mut rig, 7, samples()), Ok(size), "and goes on");
}

#[test]
fn a_picture_that_is_larger_than_it_looks_is_refused() {
    let mut rig = Rig::new();
    // A few bytes that say they are 60000 x 60000 pixels; what would follow them is of no interest.
    let mut bomb = Vec::new();
    let mut encoder = png::Encoder::new(&mut bomb, 60_000, 60_000);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    let mut writer = encoder.write_header().expect("a header");
    writer.write_chunk(png::chunk::IDAT, &[0x78, 0x9c]).expect("a beginning");
    drop(writer);
    let why = found(&mut rig, 1, of_bytes(&bomb)).expect_err("too large");
    assert!(why.contains("60000"), "{why}");
}

#[test]
fn a_command_without_its_file_is_refused() {
    let rig = Rig::new();
    let refused = rig.engine().command(Command::Inspect { ticket: 1 }, Vec::new()).expect_err("no file");
    assert_eq!(refused.message, "0 files came with a command that takes 1");
}
