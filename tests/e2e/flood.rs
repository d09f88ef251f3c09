//! Frames by the hundred thousand, random and spoilt, from clients that hang up, stall and come back; and beside them one
//! that behaves, and must not notice. `cargo test` sends a tenth of what there is to send; all of it:
//!
//! ```text
//! GPUSCHED_FLOOD_FRAMES=1000000 cargo test --workspace --test e2e -- flood --nocapture
//! ```

use std::env;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use fastrand::Rng;
use gpusched_client::shared::codec::{decode, encode};
use gpusched_client::shared::frame::{Frame, MAX_REQUEST};
use gpusched_client::shared::{Bytes, Request, VERSION_MAX, VERSION_MIN};
use gpusched_client::{JobId, txt2img, vqa};

use crate::harness::daemon::Daemon;
use crate::harness::raw::hello;
use crate::harness::{assert_well, made, quick};

/// Connections at a time.
const ATTACKERS: u64 = 6;
/// What the front may grow by, however many frames there are.
const GROWTH_BYTES: u64 = 10_000_000;

/// Requests to spoil. None that a spoilt copy of could be meant seriously, for the tests may run as an admin.
fn seeds() -> Vec<Vec<u8>> {
    let submit = |spec, pictures| Request::Submit { spec, pictures, attached: true, key: Some("flood".to_owned()) };
    let requests = [
        hello(VERSION_MIN, VERSION_MAX),
        submit(txt2img("x".repeat(300)).size(1, 1).into(), 0),
        submit(vqa("what?").into(), 3),
        Request::List { ended: true, before: Some(JobId(9)), limit: u32::MAX },
        Request::Watch(JobId(u64::MAX)),
        Request::Show(JobId(0)),
        Request::Fetch { job: JobId(1 << 40), round: Some(1) },
        Request::Status,
        Request::Queue,
        Request::History(JobId(77)),
        Request::Explain(JobId(78)),
        Request::Route(txt2img("x").into()),
    ];
    requests.iter().map(|request| encode(request).expect("encodable")).collect()
}

/// True for what would do something if it happened to be well-formed.
fn is_meant(payload: &[u8]) -> bool {
    match decode::<Request>(payload) {
        Ok(Request::Submit { spec, pictures, .. }) => spec.validate(usize::from(pictures)).is_ok(),
        Ok(Request::Cancel(_) | Request::SetPriority { .. } | Request::Pause { .. } | Request::Drain(_)) => true,
        Ok(
            Request::Hello { .. }
            | Request::Watch(_)
            | Request::Show(_)
            | Request::List { .. }
            | Request::Fetch { .. }
            | Request::Quality { .. }
            | Request::Timeline { .. }
            | Request::Status
            | Request::Explain(_)
            | Request::Queue
            | Request::Route(_)
            | Request::History(_)
            | Request::Stages(_),
        )
        | Err(_) => false,
    }
}

/// The bytes of one frame, more or less.
fn frame(random: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut payload = match random.u8(..) {
        0..100 => (0..random.usize(0..64)).map(|_| random.u8(..)).collect(),
        100..250 => {
            let mut seed = seeds[random.usize(..seeds.len())].clone();
            for _ in 0..random.usize(0..4) {
                let at = random.usize(..seed.len());
                seed[at] = random.u8(..);
            }
            let keep = if random.bool() { seed.len() } else { random.usize(..=seed.len()) };
            seed.truncate(keep);
            seed
        }
        250.. => vec![random.u8(..); random.usize(0..=MAX_REQUEST)],
    };
    if is_meant(&payload) {
        payload.clear();
    }
    let mut bytes = Frame { id: random.u64(0..200), payload }.to_bytes();
    match random.u16(..) {
        // The connection is of no use afterwards.
        0..20 => bytes[..4].fill(random.u8(..)),
        20..40 => bytes.truncate(random.usize(1..bytes.len())),
        40.. => {}
    }
    bytes
}

/// One hostile connection. It is lost often.
struct Attacker<'a> {
    socket: &'a Path,
    stream: UnixStream,
}

impl<'a> Attacker<'a> {
    fn connect(socket: &'a Path) -> Self {
        let mut stream = UnixStream::connect(socket).expect("the daemon is there");
        let payload = encode(&hello(VERSION_MIN, VERSION_MAX)).expect("encodable");
        // It may have gone again: that is for the first frame to find out.
        let _ = stream.write_all(&Frame { id: 0, payload }.to_bytes());
        stream.set_nonblocking(true).expect("a socket");
        Self { socket, stream }
    }

    /// Sends all of it, reading only where the daemon takes no more. False if it has hung up: then it is connected anew.
    fn send(&mut self, mut bytes: &[u8]) -> bool {
        let mut answers = [0; 64 * 1024];
        while !bytes.is_empty() {
            let lost = match self.stream.write(bytes) {
                Ok(count) => {
                    bytes = &bytes[count..];
                    false
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => match self.stream.read(&mut answers) {
                    Ok(count) => count == 0,
                    Err(_) => {
                        std::thread::yield_now();
                        false
                    }
                },
                Err(_) => true,
            };
            if lost {
                *self = Self::connect(self.socket);
                return false;
            }
        }
        true
    }
}

#[test]
fn a_flood_drowns_nobody() {
    let frames = env::var("GPUSCHED_FLOOD_FRAMES").ok().map_or(100_000, |n| n.parse().expect("a number of frames"));
    let daemon = Daemon::start();
    assert_well(&daemon);
    let (socket, seeds) = (daemon.home().socket(), seeds());
    let (before, start) = (daemon.memory_bytes(), Instant::now());
    let (sent, attacking) = (AtomicU64::new(0), AtomicU64::new(ATTACKERS));
    let jobs = std::thread::scope(|scope| {
        for seed in 0..ATTACKERS {
            let (socket, seeds, sent, attacking) = (&socket, &seeds, &sent, &attacking);
            scope.spawn(move || {
                let mut random = Rng::with_seed(seed);
                let mut attacker = Attacker::connect(socket);
                while sent.load(Ordering::Relaxed) < frames {
                    let whole = attacker.send(&frame(&mut random, seeds));
                    sent.fetch_add(u64::from(whole), Ordering::Relaxed);
                    if random.u16(..) < 100 {
                        attacker = Attacker::connect(socket);
                    }
                }
                attacking.fetch_sub(1, Ordering::Relaxed);
            });
        }
        let client = daemon.client();
        let mut jobs = 0;
        while attacking.load(Ordering::Relaxed) > 0 {
            let job = client.submit(quick(), Vec::new(), true).expect("accepted");
            made(&client, job);
            client.status().expect("status");
            jobs += 1;
        }
        jobs
    });
    let after = daemon.memory_bytes();
    eprintln!(
        "{frames} frames in {:.1} s, {jobs} jobs beside them; the front had {} before and {} after",
        start.elapsed().as_secs_f64(),
        Bytes(before),
        Bytes(after)
    );
    assert!(jobs > 0);
    assert!(after < before + GROWTH_BYTES, "{} before, {} after", Bytes(before), Bytes(after));
    assert_well(&daemon);
}
