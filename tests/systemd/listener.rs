//! A service manager that only listens.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::PATIENCE;

/// Where it listens.
pub(crate) struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

/// A datagram.
#[derive(Debug)]
pub(crate) struct Message {
    /// Its lines, such as `READY=1`.
    pub(crate) lines: Vec<String>,
    /// What came with it.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Message {
    /// The value of a variable in it.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        self.lines.iter().find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
    }

    pub(crate) fn says(&self, line: &str) -> bool {
        self.lines.iter().any(|said| said == line)
    }
}

impl Manager {
    pub(crate) fn listen(path: PathBuf) -> Self {
        Self { socket: UnixDatagram::bind(&path).expect("bound"), path }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The next message, or `None` if none comes within that time.
    pub(crate) fn next(&self, within: Duration) -> Option<Message> {
        self.socket.set_read_timeout(Some(within)).expect("set");
        let (mut text, mut space) = ([0; 4096], nix::cmsg_space!([i32; 4]));
        let mut parts = [IoSliceMut::new(&mut text)];
        let received = recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC);
        let received = received.ok()?;
        let descriptors = received.cmsgs().expect("whole").flat_map(|message| {
            // SAFETY: the kernel has just made them for us.
            let own = |raw| unsafe { OwnedFd::from_raw_fd(raw) };
            if let ControlMessageOwned::ScmRights(raw) = message {
                raw.into_iter().map(own).collect::<Vec<_>>()
            } else {
                Vec::new()
            }
        });
        let (descriptors, bytes) = (descriptors.collect(), received.bytes);
        let lines = String::from_utf8_lossy(&text[..bytes]).lines().map(str::to_owned).collect();
        Some(Message { lines, descriptors })
    }

    /// The first message that is as wanted; those before it are dropped.
    #[track_caller]
    pub(crate) fn until(&self, what: &str, is_wanted: impl Fn(&Message) -> bool) -> Message {
        let end = Instant::now() + PATIENCE;
        let mut dropped = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            match self.next(left) {
                Some(message) if is_wanted(&message) => return message,
                Some(message) => dropped.push(message.lines),
                None => {}
            }
        }
        panic!("no message {what}; there were {dropped:?}")
    }

    #[track_caller]
    pub(crate) fn until_said(&self, line: &str) -> Message {
        self.until(line, |message| message.says(line))
    }

    /// The first message with a status that is as wanted.
    #[track_caller]
    pub(crate) fn until_status(&self, what: &str, is_wanted: impl Fn(&str) -> bool) -> Message {
        self.until(what, |message| message.value("STATUS").is_some_and(&is_wanted))
    }
}
