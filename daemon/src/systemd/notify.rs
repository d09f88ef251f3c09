//! What the daemon says of itself to the service manager.
//!
//! A thread of its own says it, in the order in which it is told to, because systemd may be slow to listen and the driver
//! waits for nobody. It says nothing by itself. Where systemd listens to nothing any more, what does not fit into the queue
//! is dropped.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use sd_notify::NotifyState;

use super::inherited::STORED;

/// Messages that systemd may be behind.
const QUEUE: usize = 64;

/// The most bytes of a status line; it comes from class names and errors, and is read in a terminal.
const MAX_STATUS: usize = 400;

/// A handle; all of them go the same way.
#[derive(Debug, Clone)]
pub struct Manager {
    messages: SyncSender<Message>,
}

#[derive(Debug)]
enum Message {
    /// Lines of one datagram.
    Say(String),
    /// A socket to keep for the next daemon, in the place of one before it.
    Store(OwnedFd),
    /// All before it has been sent.
    Answer(SyncSender<()>),
}

impl Manager {
    /// The service manager, or `None` if the daemon was not started by one.
    ///
    /// # Errors
    /// There is one, and no thread to talk with it.
    pub fn find() -> io::Result<Option<Self>> {
        if std::env::var_os("NOTIFY_SOCKET").is_none() {
            return Ok(None);
        }
        let (messages, queue) = sync_channel(QUEUE);
        std::thread::Builder::new().name("manager".to_owned()).spawn(move || pass_on(&queue))?;
        Ok(Some(Self { messages }))
    }

    /// Clients can connect. The first of all messages: some wait for any message at all.
    pub fn ready(&self, status: &str) {
        self.say(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
    }

    /// The configuration is being read anew, until [`ready`](Self::ready) is said again.
    pub fn reloading(&self) {
        // Both in one datagram, or systemd 253 and later take it for a reload without a beginning.
        match NotifyState::monotonic_usec_now() {
            Ok(now) => self.say(&[NotifyState::Reloading, now]),
            Err(_) => self.say(&[NotifyState::Reloading]),
        }
    }

    /// The daemon is about to end.
    pub fn stopping(&self) {
        self.say(&[NotifyState::Stopping]);
    }

    /// How it is, in a line.
    pub fn status(&self, line: &str) {
        self.say(&[NotifyState::Status(&one_line(line))]);
    }

    /// The driver gets on.
    pub fn alive(&self) {
        self.say(&[NotifyState::Watchdog]);
    }

    /// To start or to stop may take so much longer, from now.
    pub fn needs_time(&self, seconds: u32) {
        self.say(&[NotifyState::ExtendTimeoutUsec(seconds.saturating_mul(1_000_000))]);
    }

    /// Has the clients' socket kept for the next daemon, should this one crash.
    pub fn store(&self, socket: BorrowedFd<'_>) {
        // Without a copy nothing is kept; clients of a daemon that crashes then get an error for a moment.
        if let Ok(copy) = socket.try_clone_to_owned() {
            let _ = self.messages.try_send(Message::Store(copy));
        }
    }

    /// Has it kept no longer.
    pub fn unstore(&self) {
        self.say(&[NotifyState::FdStoreRemove, NotifyState::FdName(STORED)]);
    }

    /// Waits until all that it was told has been sent, but no longer than `patience`.
    pub fn flush(&self, patience: Duration) {
        let (answer, heard) = sync_channel(1);
        if self.messages.try_send(Message::Answer(answer)).is_ok() {
            // However it ends, the daemon goes on to end.
            let _ = heard.recv_timeout(patience);
        }
    }

    fn say(&self, states: &[NotifyState<'_>]) {
        let lines: Vec<_> = states.iter().map(ToString::to_string).collect();
        let _ = self.messages.try_send(Message::Say(lines.join("\n")));
    }
}

/// Sends until there is nobody left to send for. An error means that nobody listens.
fn pass_on(queue: &Receiver<Message>) {
    for message in queue {
        match message {
            Message::Say(lines) => drop(sd_notify::notify(&[NotifyState::Custom(&lines)])),
            Message::Store(socket) => {
                let name = NotifyState::FdName(STORED);
                let _ = sd_notify::notify(&[NotifyState::FdStoreRemove, name.clone()]);
                let _ = sd_notify::notify_with_fds(&[NotifyState::FdStore, name], &[socket.as_fd()]);
            }
            Message::Answer(answer) => drop(answer.send(())),
        }
    }
}

/// A line break would begin a message of its own.
fn one_line(text: &str) -> String {
    let mut line = text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
        .collect::<Vec<_>>()
        .join(" ");
    if line.len() > MAX_STATUS {
        let cut = line.floor_char_boundary(MAX_STATUS);
        line.truncate(cut);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_that_ends() {
        assert_eq!(one_line("no such key\n  READY=1\r\n"), "no such key READY=1");
        assert_eq!(one_line(&"é".repeat(1000)).len(), MAX_STATUS + '…'.len_utf8());
    }
}
