//! A daemon that says what the test tells it to.

// Each test crate uses its part of this.
#![allow(dead_code, unreachable_pub)]

#[cfg(feature = "cli")]
pub mod program;

use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use gpusched_client::shared::codec::{decode, encode};
use gpusched_client::shared::frame::{Frame, MAX_REQUEST};
use gpusched_client::shared::socket::{Reader, Writer, split};
use gpusched_client::shared::{
    Activity, ClassView, EngineView, PartitionView, Request, RequestId, Response, StatusView, StorageView, Usage,
    VERSION_MAX, VERSION_MIN,
};
use gpusched_client::{Client, JobId, JobState, JobView, Outcome, Update, txt2img};
use tempfile::TempDir;
use tokio::net::UnixListener;

/// A client and the daemon's side of its connection.
pub async fn connected() -> (Daemon, Client, Peer) {
    let daemon = Daemon::new();
    let (client, peer) = tokio::join!(Client::connect(daemon.socket()), daemon.welcome());
    (daemon, client.expect("connected"), peer)
}

/// A socket in a directory of its own.
pub struct Daemon {
    listener: UnixListener,
    directory: TempDir,
}

/// The daemon's side of one connection.
pub struct Peer {
    reader: Reader,
    writer: Writer,
}

/// A daemon that has gone away.
pub struct Stopped(TempDir);

impl Stopped {
    /// Comes back, on the same socket.
    pub fn start(self) -> Daemon {
        let listener = UnixListener::bind(self.0.path().join("socket")).expect("a socket");
        Daemon { listener, directory: self.0 }
    }
}

impl Daemon {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let listener = UnixListener::bind(directory.path().join("socket")).expect("a socket");
        Self { listener, directory }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory().join("socket")
    }

    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Goes away, and its socket with it.
    pub fn stop(self) -> Stopped {
        let Self { listener, directory } = self;
        drop(listener);
        std::fs::remove_file(directory.path().join("socket")).expect("removed");
        Stopped(directory)
    }

    /// The next connection, before Hello.
    pub async fn accept(&self) -> Peer {
        let (stream, _) = self.listener.accept().await.expect("a connection");
        let (reader, writer) = split(stream, MAX_REQUEST);
        Peer { reader, writer }
    }

    /// The next connection, after Hello and Welcome.
    pub async fn welcome(&self) -> Peer {
        let mut peer = self.accept().await;
        let (id, request) = peer.request().await;
        assert!(matches!(request, Request::Hello { least: VERSION_MIN, most: VERSION_MAX, .. }), "{request:?}");
        peer.say(id, welcome(VERSION_MAX)).await;
        peer
    }
}

impl Peer {
    /// The next request; there must be one.
    pub async fn request(&mut self) -> (RequestId, Request) {
        let frame = self.reader.next_frame().await.expect("readable").expect("a request");
        (frame.id, decode(&frame.payload).expect("well-formed"))
    }

    /// The id of the next request, which must be `expected`.
    pub async fn expect(&mut self, expected: Request) -> RequestId {
        let (id, request) = self.request().await;
        assert_eq!(request, expected);
        id
    }

    /// Waits until the client has closed.
    pub async fn closed(&mut self) {
        let frame = self.reader.next_frame().await.expect("readable");
        assert!(frame.is_none(), "{frame:?}");
    }

    pub fn descriptors(&mut self, count: usize) -> Vec<File> {
        self.reader.take_descriptors(count).into_iter().map(File::from).collect()
    }

    pub async fn say(&mut self, id: RequestId, response: Response) {
        self.bytes(id, encode(&response).expect("encodable")).await;
    }

    pub async fn say_with(&mut self, id: RequestId, response: Response, descriptor: OwnedFd) {
        let frame = Frame { id, payload: encode(&response).expect("encodable") };
        self.writer.send(&frame, &[descriptor.as_fd()]).await.expect("writable");
    }

    /// Sends a payload that the client may refuse to read to its end.
    pub async fn overflow(&mut self, id: RequestId, payload: Vec<u8>) {
        let _ = self.writer.send(&Frame { id, payload }, &[]).await;
    }

    pub async fn bytes(&mut self, id: RequestId, payload: Vec<u8>) {
        self.writer.send(&Frame { id, payload }, &[]).await.expect("writable");
    }
}

pub fn welcome(version: u16) -> Response {
    Response::Welcome { version, server: "gpuschedd test".to_owned(), max_open_requests: 8 }
}

pub fn view(job: u64, state: JobState) -> JobView {
    JobView {
        id: JobId(job),
        uid: 1000,
        class: "interactive".to_owned(),
        spec: txt2img("a red circle").into(),
        attached: true,
        state,
        attempts: 1,
        submitted_unix_ms: 1_795_362_071_000,
        wait_us: 10_000,
        run_us: 20_000,
        usage: Usage::default(),
        retries: 0,
        backoff_us: 0,
        reflection: None,
    }
}

pub fn queued(ahead: u32) -> Response {
    Response::Update(Update::Queued { ahead })
}

pub fn working(done: u32, of: u32) -> Response {
    Response::Update(Update::Running { lane: 0, activity: Activity::Working { done, of }, parked: false })
}

pub fn done(job: u64, outcome: Outcome) -> Response {
    Response::Update(Update::Done(view(job, JobState::Done(outcome))))
}

/// A draining daemon with a paused class and one that is not.
pub fn status() -> StatusView {
    let class = |name: &str, paused| ClassView {
        name: name.to_owned(),
        queued: 3,
        running: 1,
        backing_off: 0,
        finished: 40,
        out_of_memory: 0,
        paused,
        partition: PartitionView::default(),
    };
    StatusView {
        version: "0.1.0".to_owned(),
        uptime_ms: 60_000,
        draining: true,
        classes: vec![class("heavy", true), class("light", false)],
        lanes: Vec::new(),
        models: Vec::new(),
        preemption: Vec::new(),
        engine: EngineView { up: true, pid: Some(4711), deaths: 0 },
        storage: StorageView::default(),
    }
}
