//! Answers on their way to one client, and how much of them there may be.
//!
//! A client that asks and does not read costs memory until it is given up, `write_timeout_s` after it stopped. What it can
//! hold meanwhile, with the limits as they are by default:
//!
//! - Short answers, whose size its own jobs bound: at most 16 KiB each, nearly all of it a prompt of 8 KiB and the names of
//!   a hundred answers. 64 requests may be open and wait for the queue, which has 16 places: 80 x 16 KiB = 1.3 MiB.
//! - Long answers (lists, the queue, histories, the daemon at a glance), and those with a file. One at a time on each
//!   connection, from before it is asked for until it is written: the value, its encoding and its frame, 1 MiB each; and 16
//!   at a time of each uid, over all of its connections.
//! - What it has sent: one frame and what was read beyond it, and a copy of its payload, 64 + 16 + 64 KiB; and what its
//!   open requests were decoded to, which is checked before it waits for anything, 64 x 9 KiB = 0.6 MiB.
//!
//! That is 2 MiB for each connection and 48 MiB for each uid: with the 64 connections of one uid 176 MiB, with all 256, of
//! four uids, 704 MiB. Before, one uid could hold 5 GiB. A client that reads costs next to nothing.
//!
//! Descriptors: 8 that came with no frame yet, 4 for each of two submissions whose pictures are being read, 1 of a file on its
//! way out, and the socket: 18 for each connection.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use gpusched_shared::frame::{Frame, MAX_RESPONSE};
use gpusched_shared::socket::Writer;
use gpusched_shared::{Rejection, RequestId, Response, codec};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::timeout;

/// Answers that may wait for a slow client.
const QUEUED: usize = 16;
/// Long answers of one uid at a time.
pub(super) const LONG_PER_UID: usize = 16;

/// Where a connection's answers are put.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    own: Arc<Semaphore>,
    of_uid: Arc<Semaphore>,
}

/// The leave to make a long answer; given back once it is written.
#[derive(Debug)]
pub(super) struct Room {
    _own: OwnedSemaphorePermit,
    _of_uid: OwnedSemaphorePermit,
}

#[derive(Debug)]
struct Outgoing {
    id: RequestId,
    response: Response,
    file: Option<File>,
    room: Option<Room>,
}

/// Answers that wait to be written.
#[derive(Debug)]
pub(super) struct Waiting(mpsc::Receiver<Outgoing>);

/// A connection's outbox, and what waits in it. `of_uid` has [`LONG_PER_UID`] permits, for all connections of the uid.
pub(super) fn outbox(of_uid: Arc<Semaphore>) -> (Outbox, Waiting) {
    let (queue, waiting) = mpsc::channel(QUEUED);
    (Outbox { queue, own: Arc::new(Semaphore::new(1)), of_uid }, Waiting(waiting))
}

impl Outbox {
    /// Puts a short answer. False when the connection has ended, which the reader sees, too.
    pub(super) async fn say(&self, id: RequestId, response: Response) -> bool {
        self.queue.send(Outgoing { id, response, file: None, room: None }).await.is_ok()
    }

    /// Waits for the leave to make a long answer.
    pub(super) async fn room(&self) -> Result<Room, Rejection> {
        // Never closed, so neither fails.
        let gone = |_| Rejection::Draining;
        let own = Arc::clone(&self.own).acquire_owned().await.map_err(gone)?;
        let of_uid = Arc::clone(&self.of_uid).acquire_owned().await.map_err(gone)?;
        Ok(Room { _own: own, _of_uid: of_uid })
    }

    /// Puts a long answer, or one with a file.
    pub(super) async fn say_long(&self, id: RequestId, response: Response, file: Option<File>, room: Room) {
        let _ = self.queue.send(Outgoing { id, response, file, room: Some(room) }).await;
    }

    /// Returns when nothing more is written.
    pub(super) async fn closed(&self) {
        self.queue.closed().await;
    }
}

/// How the writing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Everything is written, or the client has gone.
    Over,
    /// The client did not take an answer in time.
    Stalled,
}

/// Writes what is put, until the outbox is dropped, the client has gone, or does not take an answer within `limit`.
pub(super) async fn write(writer: Writer, mut waiting: Waiting, limit: Duration) -> End {
    while let Some(Outgoing { id, response, file, room }) = waiting.0.recv().await {
        let payload = match codec::encode(&response) {
            Ok(payload) if payload.len() <= MAX_RESPONSE => payload,
            Ok(_) | Err(_) => {
                let reason = "the answer is larger than a frame".to_owned();
                let Ok(payload) = codec::encode(&Response::Rejected(Rejection::Internal { reason })) else {
                    return End::Over;
                };
                payload
            }
        };
        drop(response);
        let descriptors: Vec<_> = file.iter().map(AsFd::as_fd).collect();
        match timeout(limit, writer.send(&Frame { id, payload }, &descriptors)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return End::Over,
            Err(_) => return End::Stalled,
        }
        drop(room);
    }
    End::Over
}

#[cfg(test)]
mod tests {
    use gpusched_shared::JobId;
    use gpusched_shared::frame::MAX_REQUEST;
    use gpusched_shared::socket::split;
    use tokio::net::UnixStream;

    use super::*;

    fn long() -> Response {
        Response::Rejected(Rejection::Internal { reason: "x".repeat(900_000) })
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_does_not_read_is_given_up() {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let (_, writer) = split(ours, MAX_REQUEST);
        let (outbox, waiting) = outbox(Arc::new(Semaphore::new(LONG_PER_UID)));
        let writing = tokio::spawn(write(writer, waiting, Duration::from_secs(30)));
        let room = outbox.room().await.expect("room");
        outbox.say_long(1, long(), None, room).await;
        outbox.closed().await;
        assert!(!outbox.say(2, Response::Accepted(JobId(1))).await);
        assert_eq!(writing.await.expect("no panic"), End::Stalled);
        drop(theirs);
    }

    #[tokio::test]
    async fn one_long_answer_at_a_time_and_so_many_of_each_uid() {
        let of_uid = Arc::new(Semaphore::new(2));
        let boxes: Vec<_> = (0..3).map(|_| outbox(Arc::clone(&of_uid))).collect();
        let first = boxes[0].0.room().await.expect("room");
        let mut second = Box::pin(boxes[0].0.room());
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(second.as_mut().poll(context).is_pending()));
        assert!(polled.await, "the connection has its one");
        let _other = boxes[1].0.room().await.expect("room");
        let mut third = Box::pin(boxes[2].0.room());
        let polled = std::future::poll_fn(|context| std::task::Poll::Ready(third.as_mut().poll(context).is_pending()));
        assert!(polled.await, "the uid has its two");
        // It asked the uid first: the other is still at its connection.
        drop(first);
        drop(third.await.expect("room"));
        second.await.expect("room");
    }
}
