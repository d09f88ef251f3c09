//! One connection, shared by all calls: requests go out in turn, responses come back to the call whose id they carry.
//!
//! A single task owns the socket. It ends, and the socket closes, when the daemon hangs up or when the last
//! [`Connection`] is dropped, which is how the daemon learns that attached jobs lost their client.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gpusched_shared::codec::{decode, encode};
use gpusched_shared::frame::{Frame, MAX_REQUEST, MAX_RESPONSE};
use gpusched_shared::socket::{ReadError, Reader, Writer, split};
use gpusched_shared::{Rejection, Request, RequestId, Response, Update, VERSION_MAX, VERSION_MIN};
use tokio::net::UnixStream;
use tokio::sync::mpsc;

use crate::error::Error;
use crate::mailbox::{Receiver, Sender, mailbox};

/// Requests that wait for the socket to take them; further callers wait before they queue.
const OUTGOING: usize = 16;
/// The request id of Hello. Those of calls start after it.
const HELLO: RequestId = 0;

/// The way to the daemon. The connection closes when it is dropped.
#[derive(Debug)]
pub(crate) struct Connection {
    outgoing: mpsc::Sender<Outgoing>,
    calls: Arc<Calls>,
    next_id: AtomicU64,
    server: String,
    version: u16,
}

#[derive(Debug)]
struct Outgoing {
    frame: Frame,
    descriptors: Vec<OwnedFd>,
}

/// A response and the descriptor that came with it.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) response: Response,
    pub(crate) descriptor: Option<OwnedFd>,
}

impl Connection {
    /// Connects to the daemon at `path` and shakes hands.
    pub(crate) async fn open(path: &Path) -> Result<Self, Error> {
        let stream = UnixStream::connect(path).await.map_err(|e| explain(e, path))?;
        let (mut reader, writer) = split(stream, MAX_RESPONSE);
        let (server, version) = shake_hands(&mut reader, &writer).await?;
        let (outgoing, queue) = mpsc::channel(OUTGOING);
        let calls = Arc::new(Calls::default());
        tokio::spawn(serve(reader, writer, queue, Arc::clone(&calls)));
        Ok(Self { outgoing, calls, next_id: AtomicU64::new(HELLO + 1), server, version })
    }

    /// The daemon's name and version.
    pub(crate) fn server(&self) -> &str {
        &self.server
    }

    /// The version of the protocol that is spoken.
    pub(crate) fn version(&self) -> u16 {
        self.version
    }

    /// True once nothing more can be asked.
    pub(crate) fn is_over(&self) -> bool {
        self.calls.state().end.is_some()
    }

    /// Sends a request; its responses arrive in the mailbox.
    pub(crate) async fn ask(&self, request: &Request, descriptors: Vec<OwnedFd>) -> Result<Receiver<Reply>, Error> {
        let payload = encode(request).map_err(|e| Error::Protocol(e.to_string()))?;
        if payload.len() > MAX_REQUEST {
            // The daemon would say the same, and then hang up on the other calls, too.
            return Err(Rejection::FrameTooLarge { bytes: payload.len() as u64, limit: MAX_REQUEST as u64 }.into());
        }
        // From here on nothing waits, so a call that its caller gives up is either unknown or both on record and sent.
        let slot = self.outgoing.reserve().await.map_err(|_| self.lost())?;
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = mailbox();
        self.calls.add(id, sender)?;
        slot.send(Outgoing { frame: Frame { id, payload }, descriptors });
        Ok(receiver)
    }

    /// Sends a request that has one response. A refusal becomes an error.
    pub(crate) async fn call(&self, request: &Request, descriptors: Vec<OwnedFd>) -> Result<Reply, Error> {
        let mut replies = self.ask(request, descriptors).await?;
        self.next(&mut replies).await
    }

    /// The next response to an asked request. A refusal becomes an error.
    pub(crate) async fn next(&self, replies: &mut Receiver<Reply>) -> Result<Reply, Error> {
        match replies.next().await {
            Some(Reply { response: Response::Rejected(rejection), .. }) => Err(rejection.into()),
            Some(reply) => Ok(reply),
            None => Err(self.lost()),
        }
    }

    fn lost(&self) -> Error {
        match &self.calls.state().end {
            Some(End::Protocol(reason)) => Error::Protocol(reason.clone()),
            Some(End::Closed) | None => Error::Disconnected,
        }
    }
}

/// The error for a response of the wrong kind.
pub(crate) fn unexpected(response: &Response) -> Error {
    let what = match response {
        Response::Welcome { .. } => "Welcome",
        Response::Rejected(_) => "Rejected",
        Response::Accepted(_) => "Accepted",
        Response::Update(_) => "Update",
        Response::Job(_) => "Job",
        Response::Jobs(_) => "Jobs",
        Response::File(_) => "File",
        Response::Status(_) => "Status",
        Response::Explanation(_) => "Explanation",
        Response::Queue(_) => "Queue",
        Response::Route(_) => "Route",
        Response::History(_) => "History",
        Response::Quality(_) => "Quality",
        Response::Timeline(_) => "Timeline",
        Response::Stages(_) => "Stages",
    };
    Error::Protocol(format!("{what} does not answer this request"))
}

fn explain(error: io::Error, path: &Path) -> Error {
    let path = path.to_owned();
    if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) {
        Error::NotRunning { path }
    } else if error.kind() == io::ErrorKind::PermissionDenied {
        Error::PermissionDenied { path }
    } else {
        Error::Io(error)
    }
}

/// Says Hello; the daemon's name and version, and the version of the protocol.
async fn shake_hands(reader: &mut Reader, writer: &Writer) -> Result<(String, u16), Error> {
    let client = format!("{} {}", env!("CARGO_PKG_NAME"), env!("CARGO_PKG_VERSION"));
    let hello = encode(&Request::Hello { least: VERSION_MIN, most: VERSION_MAX, client });
    let payload = hello.map_err(|e| Error::Protocol(e.to_string()))?;
    // A daemon that takes no more connections says so and hangs up without reading: what it said counts, not that the
    // writing failed.
    let sent = writer.send(&Frame { id: HELLO, payload }, &[]).await;
    let frame = match reader.next_frame().await {
        Ok(Some(frame)) => frame,
        Ok(None) | Err(ReadError::Io(_)) => return Err(Error::Disconnected),
        Err(e @ (ReadError::TooLarge(_) | ReadError::TooManyDescriptors)) => {
            return Err(Error::Protocol(e.to_string()));
        }
    };
    match decode(&frame.payload).map_err(|e| Error::Protocol(e.to_string()))? {
        Response::Welcome { version, server, .. } if (VERSION_MIN..=VERSION_MAX).contains(&version) => {
            sent.map_err(|_| Error::Disconnected)?;
            Ok((server, version))
        }
        Response::Welcome { version, .. } => Err(Error::Protocol(format!("it chose version {version}"))),
        Response::Rejected(rejection) => Err(rejection.into()),
        other @ (Response::Accepted(_)
        | Response::Update(_)
        | Response::Job(_)
        | Response::Jobs(_)
        | Response::File(_)
        | Response::Status(_)
        | Response::Explanation(_)
        | Response::Queue(_)
        | Response::Route(_)
        | Response::History(_)
        | Response::Quality(_)
        | Response::Timeline(_)
        | Response::Stages(_)) => Err(unexpected(&other)),
    }
}

/// The requests that are open, as the daemon counts them: a call whose caller has gone stays until its last response.
#[derive(Debug, Default)]
struct Calls(Mutex<CallsState>);

#[derive(Debug, Default)]
struct CallsState {
    open: HashMap<RequestId, Sender<Reply>>,
    end: Option<End>,
}

/// Why the connection is over.
#[derive(Debug)]
enum End {
    Closed,
    Protocol(String),
}

impl Calls {
    fn state(&self) -> MutexGuard<'_, CallsState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, id: RequestId, sender: Sender<Reply>) -> Result<(), Error> {
        let mut state = self.state();
        match &state.end {
            Some(End::Protocol(reason)) => Err(Error::Protocol(reason.clone())),
            Some(End::Closed) => Err(Error::Disconnected),
            None => {
                state.open.insert(id, sender);
                Ok(())
            }
        }
    }

    /// Brings a reply to its caller. One that nobody waits for is dropped, and its descriptor closed.
    fn deliver(&self, id: RequestId, reply: Reply) {
        let more = match &reply.response {
            Response::Update(
                Update::Queued { .. }
                | Update::Running { .. }
                | Update::BackingOff { .. }
                | Update::Reflecting { .. }
                | Update::Editing { .. }
                | Update::Writing { .. },
            ) => true,
            Response::Update(Update::Done(_))
            | Response::Welcome { .. }
            | Response::Rejected(_)
            | Response::Accepted(_)
            | Response::Job(_)
            | Response::Jobs(_)
            | Response::File(_)
            | Response::Status(_)
            | Response::Explanation(_)
            | Response::Queue(_)
            | Response::Route(_)
            | Response::History(_)
            | Response::Quality(_)
            | Response::Timeline(_)
            | Response::Stages(_) => false,
        };
        let mut state = self.state();
        if more {
            if let Some(sender) = state.open.get(&id) {
                sender.post(reply);
            }
        } else if let Some(sender) = state.open.remove(&id) {
            sender.post(reply);
        }
    }

    /// Fails every open call and every later one.
    fn end(&self, end: End) {
        let mut state = self.state();
        state.end = Some(end);
        state.open.clear();
    }
}

async fn serve(reader: Reader, writer: Writer, queue: mpsc::Receiver<Outgoing>, calls: Arc<Calls>) {
    let end = tokio::select! {
        end = read(reader, &calls) => end,
        () = write(writer, queue) => End::Closed,
    };
    calls.end(end);
}

async fn read(mut reader: Reader, calls: &Calls) -> End {
    loop {
        let frame = match reader.next_frame().await {
            Ok(Some(frame)) => frame,
            Ok(None) | Err(ReadError::Io(_)) => return End::Closed,
            Err(e @ (ReadError::TooLarge(_) | ReadError::TooManyDescriptors)) => return End::Protocol(e.to_string()),
        };
        let response = match decode(&frame.payload) {
            Ok(response) => response,
            Err(e) => return End::Protocol(e.to_string()),
        };
        let descriptor = match &response {
            Response::File(_) => reader.take_descriptors(1).pop(),
            Response::Welcome { .. }
            | Response::Rejected(_)
            | Response::Accepted(_)
            | Response::Update(_)
            | Response::Job(_)
            | Response::Jobs(_)
            | Response::Status(_)
            | Response::Explanation(_)
            | Response::Queue(_)
            | Response::Route(_)
            | Response::History(_)
            | Response::Quality(_)
            | Response::Timeline(_)
            | Response::Stages(_) => None,
        };
        calls.deliver(frame.id, Reply { response, descriptor });
    }
}

async fn write(writer: Writer, mut queue: mpsc::Receiver<Outgoing>) {
    while let Some(Outgoing { frame, descriptors }) = queue.recv().await {
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        match writer.send(&frame, &borrowed).await {
            Ok(()) => {}
            // The daemon has hung up. What it said before that is still to be read, and reading ends by itself.
            Err(e) if matches!(e.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                std::future::pending::<()>().await;
            }
            Err(_) => return,
        }
    }
}
