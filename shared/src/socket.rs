//! Frames and descriptors over a connected Unix stream socket. The only IO in this crate, behind feature `socket`; the
//! daemon and the clients share it.
//!
//! Descriptors travel with the first byte of their frame and are kept in order until somebody takes them. At most
//! [`MAX_DESCRIPTORS`] may wait: a peer that sends more is broken or hostile.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;
use tokio::net::UnixStream;

use crate::frame::{Frame, FrameTooLarge, Frames};
use crate::spec::MAX_REFERENCES;

/// Descriptors that may wait for their frame to be read.
pub const MAX_DESCRIPTORS: usize = 2 * MAX_REFERENCES;

/// Why nothing more can be read from a connection.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The socket failed, or closed in the middle of a frame.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The peer announced a frame over the limit.
    #[error(transparent)]
    TooLarge(#[from] FrameTooLarge),
    /// The peer sent more descriptors than its frames ask for.
    #[error("more than {MAX_DESCRIPTORS} descriptors that no frame takes")]
    TooManyDescriptors,
}

/// The two halves of a connection; `limit` is the largest payload to read.
pub fn split(stream: UnixStream, limit: usize) -> (Reader, Writer) {
    let stream = Arc::new(stream);
    let reader = Reader { stream: Arc::clone(&stream), frames: Frames::new(limit), descriptors: VecDeque::new() };
    (reader, Writer { stream })
}

/// Reads frames.
#[derive(Debug)]
pub struct Reader {
    stream: Arc<UnixStream>,
    frames: Frames,
    descriptors: VecDeque<OwnedFd>,
}

impl Reader {
    /// The next frame, or `None` when the peer has closed. Cancel-safe: nothing read is lost.
    ///
    /// # Errors
    /// [`ReadError`]; the connection is of no more use then.
    pub async fn next_frame(&mut self) -> Result<Option<Frame>, ReadError> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                return Ok(Some(frame));
            }
            if !self.fill().await? {
                return if self.frames.is_mid_frame() {
                    Err(io::Error::from(io::ErrorKind::UnexpectedEof).into())
                } else {
                    Ok(None)
                };
            }
        }
    }

    /// Waits until the next frame has begun: true once a byte of it is here, false when the peer has closed. Who wants a
    /// frame to be complete in time counts from here. Cancel-safe likewise.
    ///
    /// # Errors
    /// As for [`next_frame`](Self::next_frame).
    pub async fn begun(&mut self) -> Result<bool, ReadError> {
        while !self.frames.is_mid_frame() {
            if !self.fill().await? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads what has arrived; false when the peer has closed.
    async fn fill(&mut self) -> Result<bool, ReadError> {
        loop {
            self.stream.readable().await?;
            let mut chunk = [0; 16 * 1024];
            let received = self.stream.try_io(Interest::READABLE, || receive(&self.stream, &mut chunk));
            let (count, descriptors, cut) = match received {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
                received => received?,
            };
            self.descriptors.extend(descriptors);
            if cut || self.descriptors.len() > MAX_DESCRIPTORS {
                return Err(ReadError::TooManyDescriptors);
            }
            self.frames.push(&chunk[..count]);
            return Ok(count > 0);
        }
    }

    /// True if descriptors wait that no frame can want any more: the peer sent some with a frame that takes none.
    pub fn has_strays(&self) -> bool {
        !self.descriptors.is_empty() && !self.frames.is_mid_frame()
    }

    /// The descriptors that came with the frame just read: up to `count`, in order.
    pub fn take_descriptors(&mut self, count: usize) -> Vec<OwnedFd> {
        let count = count.min(self.descriptors.len());
        self.descriptors.drain(..count).collect()
    }
}

/// Writes frames.
#[derive(Debug)]
pub struct Writer {
    stream: Arc<UnixStream>,
}

impl Writer {
    /// Writes a frame and the descriptors that belong to it. Not cancel-safe: a frame cut short ends the connection.
    ///
    /// # Errors
    /// When the socket fails or the peer has closed.
    pub async fn send(&self, frame: &Frame, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let bytes = frame.to_bytes();
        let mut sent = 0;
        while sent < bytes.len() {
            self.stream.writable().await?;
            let with = if sent == 0 { descriptors } else { &[] };
            match self.stream.try_io(Interest::WRITABLE, || transmit(&self.stream, &bytes[sent..], with)) {
                Ok(count) => sent += count,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

/// Bytes read, descriptors that came with them, and whether there were more of those than there is room for.
fn receive(stream: &UnixStream, chunk: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>, bool)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    // Owns what arrives: descriptors that are not taken out of it are closed with it, also where something went wrong.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let message = recvmsg(stream, &mut [IoSliceMut::new(chunk)], &mut control, flags)?;
    let mut descriptors = Vec::new();
    for item in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = item {
            descriptors.extend(rights);
        }
    }
    Ok((message.bytes, descriptors, message.flags.contains(ReturnFlags::CTRUNC)))
}

fn transmit(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "more descriptors than a frame takes"));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, flags)?)
}
