//! A bounded queue from the connection to one caller, in which the newest message replaces the one before it when the
//! caller does not keep up.
//!
//! So the connection never waits for a slow caller, which would hold up all others, and the memory a call takes is
//! bounded. Nothing of worth is lost: only watches get more than one message, each of which says the whole present state,
//! and the last (which ends the call) is never replaced.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// Messages that wait for one caller.
const CAPACITY: usize = 64;

/// The two ends of a new mailbox.
pub(crate) fn mailbox<T>() -> (Sender<T>, Receiver<T>) {
    let shared =
        Arc::new(Shared { queue: Mutex::new(Queue { items: VecDeque::new(), closed: false }), changed: Notify::new() });
    (Sender(Arc::clone(&shared)), Receiver(shared))
}

/// The connection's end. Dropping it closes the mailbox.
#[derive(Debug)]
pub(crate) struct Sender<T>(Arc<Shared<T>>);

/// The caller's end.
#[derive(Debug)]
pub(crate) struct Receiver<T>(Arc<Shared<T>>);

#[derive(Debug)]
struct Shared<T> {
    queue: Mutex<Queue<T>>,
    changed: Notify,
}

#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    closed: bool,
}

impl<T> Shared<T> {
    fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Sender<T> {
    /// Puts `item` at the end, in place of the last one if the mailbox is full.
    pub(crate) fn post(&self, item: T) {
        let mut queue = self.0.queue();
        if queue.items.len() == CAPACITY {
            queue.items.pop_back();
        }
        queue.items.push_back(item);
        drop(queue);
        self.0.changed.notify_one();
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        self.0.queue().closed = true;
        self.0.changed.notify_one();
    }
}

impl<T> Receiver<T> {
    /// The oldest message, or `None` when the mailbox is empty and closed. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<T> {
        loop {
            {
                let mut queue = self.0.queue();
                if let Some(item) = queue.items.pop_front() {
                    return Some(item);
                }
                if queue.closed {
                    return None;
                }
            }
            self.0.changed.notified().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_caller_gets_the_first_and_the_last() {
        let (sender, mut receiver) = mailbox();
        for n in 0..1000 {
            sender.post(n);
        }
        drop(sender);
        let mut got = Vec::new();
        while let Some(n) = receiver.next().await {
            got.push(n);
        }
        assert_eq!(got.len(), CAPACITY);
        assert_eq!((got[0], got[CAPACITY - 1]), (0, 999));
    }

    #[tokio::test]
    async fn closing_wakes_the_caller() {
        let (sender, mut receiver) = mailbox::<()>();
        let waiting = tokio::spawn(async move { receiver.next().await });
        tokio::task::yield_now().await;
        drop(sender);
        assert_eq!(waiting.await.expect("no panic"), None);
    }
}
