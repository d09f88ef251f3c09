//! Frames: `length: u32`, `request id: u64`, `payload: [u8; length]`, all little-endian.
//!
//! [`Frames`] cuts a byte stream into frames without IO, so the daemon, the clients and the fuzzer share it. Its memory
//! is bounded by one frame of the stated limit: a longer one is refused when its header is read.

use crate::id::RequestId;

/// Bytes of a frame's header.
pub const HEADER: usize = 12;
/// Largest payload the daemon accepts.
pub const MAX_REQUEST: usize = 64 * 1024;
/// Largest payload the daemon sends.
pub const MAX_RESPONSE: usize = 1024 * 1024;

/// One message as it stood on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Pairs responses with requests.
    pub id: RequestId,
    /// An encoded [`Request`](crate::Request) or [`Response`](crate::Response).
    pub payload: Vec<u8>,
}

impl Frame {
    /// The frame's bytes, ready to be written.
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.payload.len()).unwrap_or(u32::MAX);
        let mut bytes = Vec::with_capacity(HEADER + self.payload.len());
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// A frame longer than the reader allows. Nothing after it can be trusted: the connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame of {length} bytes, the limit is {limit}")]
pub struct FrameTooLarge {
    /// The request it came with, so that the refusal reaches its sender.
    pub id: RequestId,
    /// What its header says.
    pub length: usize,
    /// What is allowed.
    pub limit: usize,
}

/// Cuts a byte stream into frames.
#[derive(Debug)]
pub struct Frames {
    buffer: Vec<u8>,
    limit: usize,
}

impl Frames {
    /// A reader that refuses payloads over `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit }
    }

    /// Takes bytes as they arrived.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, if there is one yet.
    ///
    /// # Errors
    /// [`FrameTooLarge`], again at every later call.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameTooLarge> {
        let Some((length, rest)) = self.buffer.split_first_chunk::<4>() else { return Ok(None) };
        let Some((id, rest)) = rest.split_first_chunk::<8>() else { return Ok(None) };
        let (length, id) = (u32::from_le_bytes(*length) as usize, u64::from_le_bytes(*id));
        if length > self.limit {
            return Err(FrameTooLarge { id, length, limit: self.limit });
        }
        let Some(payload) = rest.get(..length) else { return Ok(None) };
        let frame = Frame { id, payload: payload.to_vec() };
        self.buffer.drain(..HEADER + length);
        Ok(Some(frame))
    }

    /// True if part of a frame is waiting for the rest of it.
    pub fn is_mid_frame(&self) -> bool {
        !self.buffer.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            payloads in prop::collection::vec((any::<u64>(), prop::collection::vec(any::<u8>(), 0..64)), 0..8),
            chunk in 1usize..32,
        ) {
            let sent: Vec<Frame> = payloads.into_iter().map(|(id, payload)| Frame { id, payload }).collect();
            let bytes: Vec<u8> = sent.iter().flat_map(Frame::to_bytes).collect();
            let mut frames = Frames::new(64);
            let mut got = Vec::new();
            for part in bytes.chunks(chunk) {
                frames.push(part);
                while let Some(frame) = frames.next_frame().expect("within the limit") {
                    got.push(frame);
                }
            }
            prop_assert_eq!(got, sent);
            prop_assert!(!frames.is_mid_frame());
        }
    }

    #[test]
    fn a_long_frame_is_refused_at_its_header() {
        let mut frames = Frames::new(8);
        frames.push(&9u32.to_le_bytes());
        frames.push(&7u64.to_le_bytes());
        assert_eq!(frames.next_frame(), Err(FrameTooLarge { id: 7, length: 9, limit: 8 }));
    }
}
