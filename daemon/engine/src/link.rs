//! Frames with descriptors over a pair of stream sockets, blocking: what an engine in a process of its own and the front talk
//! over. What the frames say is [`protocol`](crate::protocol)'s business.
//!
//! A frame's id is the number of descriptors that belong to it. They travel with its first byte.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use gpusched_shared::frame::{Frame, FrameTooLarge, Frames, MAX_RESPONSE};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, Shutdown, SocketFlags, SocketType, recvmsg, sendmsg, shutdown, socketpair,
};

/// Bytes of the largest payload. What is larger goes into a file beside it.
pub const MAX_PAYLOAD: usize = MAX_RESPONSE;
/// The most descriptors that belong to one frame.
pub const MAX_DESCRIPTORS: usize = 16;

/// Bytes read at once.
const CHUNK: usize = 16 * 1024;

/// Why nothing more can be received.
#[derive(Debug, thiserror::Error)]
pub enum ReceiveError {
    /// The socket failed.
    #[error("the link failed: {0}")]
    Io(#[from] io::Error),
    /// It was closed in the middle of a frame.
    #[error("the link was closed in the middle of a message")]
    Cut,
    /// A frame is announced that is too long.
    #[error("the link carries nonsense: {0}")]
    TooLarge(#[from] FrameTooLarge),
    /// A frame says that more descriptors belong to it than came with it, or than may.
    #[error("the link carries nonsense: {wanted} descriptors belong to a message, {there} came")]
    Missing {
        /// What the frame says.
        wanted: u64,
        /// How many wait.
        there: usize,
    },
    /// Descriptors came that no frame asks for.
    #[error("the link carries nonsense: descriptors that belong to no message")]
    Strays,
}

/// Why something was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The socket failed, or the other end has closed it.
    #[error("the link failed: {0}")]
    Io(#[from] io::Error),
    /// It is too large; nothing has been sent.
    #[error("a message of {bytes} bytes with {descriptors} descriptors is too large for the link")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// What belongs to it.
        descriptors: usize,
    },
}

/// Two ends that are connected. Neither is inherited by programs.
///
/// # Errors
/// When there are too many descriptors.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

/// The two halves of an end.
pub fn open(socket: OwnedFd) -> (Reader, Writer) {
    let socket = Arc::new(socket);
    let frames = Frames::new(MAX_PAYLOAD);
    let reader = Reader { socket: Arc::clone(&socket), frames, descriptors: VecDeque::new() };
    (reader, Writer { socket, turn: Mutex::default() })
}

/// A frame's payload and the descriptors that came with it.
#[derive(Debug)]
pub struct Parcel {
    /// What it says.
    pub payload: Vec<u8>,
    /// What belongs to it, in order.
    pub descriptors: Vec<OwnedFd>,
}

/// Receives frames.
#[derive(Debug)]
pub struct Reader {
    socket: Arc<OwnedFd>,
    frames: Frames,
    descriptors: VecDeque<OwnedFd>,
}

impl Reader {
    /// Waits for the next frame; `None` when the other end has been closed.
    ///
    /// # Errors
    /// [`ReceiveError`]; the link is of no more use then.
    pub fn receive(&mut self) -> Result<Option<Parcel>, ReceiveError> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return self.parcel(frame).map(Some);
            }
            // Those of a frame whose begin has come are all there are.
            if self.descriptors.len() > MAX_DESCRIPTORS || (!self.descriptors.is_empty() && !self.frames.is_mid_frame())
            {
                return Err(ReceiveError::Strays);
            }
            let mut chunk = [0; CHUNK];
            match self.fill(&mut chunk) {
                Ok(0) if self.frames.is_mid_frame() => return Err(ReceiveError::Cut),
                Ok(0) => return Ok(None),
                Ok(count) => self.frames.push(&chunk[..count]),
                Err(Errno::INTR) => {}
                // What the other end did not read is lost with it.
                Err(Errno::CONNRESET) => return Ok(None),
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
    }

    fn parcel(&mut self, Frame { id, payload }: Frame) -> Result<Parcel, ReceiveError> {
        let there = self.descriptors.len();
        match usize::try_from(id) {
            Ok(count) if count <= there.min(MAX_DESCRIPTORS) => {
                Ok(Parcel { payload, descriptors: self.descriptors.drain(..count).collect() })
            }
            Ok(_) | Err(_) => Err(ReceiveError::Missing { wanted: id, there }),
        }
    }

    fn fill(&mut self, chunk: &mut [u8]) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        // Owns what arrives: descriptors that are not taken out of it are closed with it, also where something went wrong.
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let message = recvmsg(&self.socket, &mut [IoSliceMut::new(chunk)], &mut control, RecvFlags::CMSG_CLOEXEC)?;
        for item in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = item {
                self.descriptors.extend(rights);
            }
        }
        if message.flags.contains(ReturnFlags::CTRUNC) {
            // There were more than may be, or than this process may open: no frame will find its own.
            return Err(Errno::TOOMANYREFS);
        }
        Ok(message.bytes)
    }
}

/// Sends frames. May be shared: one frame is sent after the other.
#[derive(Debug)]
pub struct Writer {
    socket: Arc<OwnedFd>,
    turn: Mutex<()>,
}

impl Writer {
    /// Sends a frame and the descriptors that belong to it. Waits while the other end does not read.
    ///
    /// # Errors
    /// [`SendError`]
    pub fn send(&self, payload: Vec<u8>, descriptors: &[BorrowedFd<'_>]) -> Result<(), SendError> {
        if payload.len() > MAX_PAYLOAD || descriptors.len() > MAX_DESCRIPTORS {
            return Err(SendError::TooLarge { bytes: payload.len(), descriptors: descriptors.len() });
        }
        let bytes = Frame { id: descriptors.len() as u64, payload }.to_bytes();
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = 0;
        while sent < bytes.len() {
            let with = if sent == 0 { descriptors } else { &[] };
            match self.drain(&bytes[sent..], with) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(e) => return Err(io::Error::from(e).into()),
            }
        }
        Ok(())
    }

    /// Closes the link for both ends, also while somebody waits to send or to receive.
    pub fn close(&self) {
        // It fails only where it has been closed already.
        let _ = shutdown(&self.socket, Shutdown::Both);
    }

    fn drain(&self, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> Result<usize, Errno> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
            return Err(Errno::TOOMANYREFS);
        }
        sendmsg(&self.socket, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)
    }
}
