//! A client that says what no library would.

use std::io::{ErrorKind, IoSlice, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use gpusched_client::shared::codec::{decode, encode};
use gpusched_client::shared::frame::{Frame, MAX_RESPONSE};
use gpusched_client::shared::socket::{Reader, Writer, split};
use gpusched_client::shared::{Rejection, Request, RequestId, Response, VERSION_MAX, VERSION_MIN};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use tokio::runtime::{Builder, Runtime};

/// One connection.
#[derive(Debug)]
pub(crate) struct Raw {
    runtime: Runtime,
    reader: Reader,
    writer: Writer,
    stream: UnixStream,
    last_id: RequestId,
}

impl Raw {
    /// Connects, and says nothing yet.
    pub(crate) fn connect(socket: &Path) -> Self {
        let runtime = Builder::new_current_thread().enable_io().build().expect("a runtime");
        let stream = UnixStream::connect(socket).expect("connected");
        stream.set_nonblocking(true).expect("a socket");
        let ours = stream.try_clone().expect("a descriptor");
        let (reader, writer) = {
            let _context = runtime.enter();
            split(tokio::net::UnixStream::from_std(ours).expect("a socket"), MAX_RESPONSE)
        };
        Self { runtime, reader, writer, stream, last_id: 0 }
    }

    /// Connects, and says Hello as it should be said.
    pub(crate) fn greet(socket: &Path) -> Self {
        let mut raw = Self::connect(socket);
        let welcome = raw.ask(&hello(VERSION_MIN, VERSION_MAX), &[]);
        assert!(matches!(welcome, Response::Welcome { version: VERSION_MAX, .. }), "{welcome:?}");
        raw
    }

    /// Sends bytes without a frame.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("few enough for the socket's buffer");
    }

    /// Sends bytes without a frame if there is room for them; false once the daemon has hung up.
    pub(crate) fn try_bytes(&mut self, bytes: &[u8]) -> bool {
        !self.stream.write(bytes).is_err_and(|e| e.kind() != ErrorKind::WouldBlock)
    }

    /// Sends a payload, whatever it is.
    pub(crate) fn payload(&mut self, payload: Vec<u8>, descriptors: &[BorrowedFd<'_>]) -> RequestId {
        self.last_id += 1;
        let frame = Frame { id: self.last_id, payload };
        self.runtime.block_on(self.writer.send(&frame, descriptors)).expect("sent");
        self.last_id
    }

    /// Sends a byte of a frame with more descriptors than the library would.
    pub(crate) fn stray(&mut self, descriptors: &[BorrowedFd<'_>]) {
        let raw: Vec<_> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let parts = [IoSlice::new(&[0])];
        sendmsg::<()>(self.stream.as_raw_fd(), &parts, &rights, MsgFlags::empty(), None).expect("sent");
    }

    pub(crate) fn send(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> RequestId {
        self.payload(encode(request).expect("encodable"), descriptors)
    }

    /// Sends a request again and again until the daemon takes no more; how often. The last one may be cut short.
    pub(crate) fn fill(&mut self, request: &Request) -> u64 {
        let payload = encode(request).expect("encodable");
        for count in 0.. {
            self.last_id += 1;
            let frame = Frame { id: self.last_id, payload: payload.clone() }.to_bytes();
            match self.stream.write(&frame) {
                Ok(written) if written == frame.len() => {}
                Err(e) if e.kind() != ErrorKind::WouldBlock => panic!("{e}"),
                Ok(_) | Err(_) => return count,
            }
        }
        unreachable!("every buffer is full at last")
    }

    /// The next response, or `None` when the daemon has hung up.
    pub(crate) fn receive(&mut self) -> Option<(RequestId, Response)> {
        let frame = self.runtime.block_on(self.reader.next_frame()).ok().flatten()?;
        Some((frame.id, decode(&frame.payload).expect("a response")))
    }

    /// Sends a request; its response, which must be the next.
    pub(crate) fn ask(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Response {
        let asked = self.send(request, descriptors);
        let (id, response) = self.receive().expect("a response");
        assert_eq!(id, asked, "{response:?}");
        response
    }

    /// The next response, which must be a refusal of this request.
    pub(crate) fn refusal(&mut self, of: RequestId) -> Rejection {
        match self.receive() {
            Some((id, Response::Rejected(rejection))) if id == of => rejection,
            other => panic!("no refusal of {of}: {other:?}"),
        }
    }

    /// Sends a request that must be refused.
    pub(crate) fn refused(&mut self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> Rejection {
        let id = self.send(request, descriptors);
        self.refusal(id)
    }

    /// The daemon must have hung up, without a further word.
    pub(crate) fn closed(mut self) {
        let more = self.receive();
        assert!(more.is_none(), "{more:?}");
    }
}

pub(crate) fn hello(least: u16, most: u16) -> Request {
    Request::Hello { least, most, client: "e2e".to_owned() }
}
