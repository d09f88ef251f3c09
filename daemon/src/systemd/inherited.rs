//! Sockets that were opened before the daemon started.
//!
//! With `gpusched.socket` systemd opens the clients' socket and keeps it for as long as that unit is up, over any number of
//! daemons: it is not ours to remove. Without it the daemon makes the socket, and leaves a copy in systemd's store of
//! descriptors, from which the next one gets it if this one crashes: clients wait meanwhile instead of being refused. It is
//! ours, and a daemon that stops well removes it.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsFd, FromRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt};

/// The name of the clients' socket, in `FileDescriptorName=`.
const CONTROL: &str = "control";
/// The name of sockets to read metrics from.
const METRICS: &str = "metrics";
/// The name under which a socket of our own is stored.
pub(super) const STORED: &str = "stored-control";

/// Sockets to read metrics from: one on the file system and one on the network would do.
const MAX_METRICS: usize = 8;

/// What the daemon was given as it started.
#[derive(Debug, Default)]
pub struct Inherited {
    /// Where clients connect.
    pub control: Option<Control>,
    /// Where metrics are read.
    pub metrics: Vec<Listening>,
    /// Within what time the daemon must say that it gets on.
    pub watchdog: Option<Duration>,
    /// What was given and is of no use, for the log.
    pub useless: Vec<String>,
}

/// The clients' socket. What waits for a connection does not block.
#[derive(Debug)]
pub struct Control {
    /// The socket.
    pub listener: UnixListener,
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub origin: Origin,
}

/// Whose a socket is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A socket unit's, which keeps it.
    Unit,
    /// That of an earlier daemon, which made it.
    Store,
}

/// A socket on which connections can be accepted. What waits for one does not block.
#[derive(Debug)]
pub enum Listening {
    /// On the file system.
    Unix(UnixListener),
    /// On the network.
    Tcp(TcpListener),
}

impl Inherited {
    /// Takes what was given, and removes from the environment all that says so, or the processes that the daemon starts would
    /// take it to be for them.
    ///
    /// # Safety
    /// The environment changes, so there must be no other thread yet. Nobody else may use the descriptors.
    #[must_use]
    pub unsafe fn take() -> Self {
        // SAFETY: as the caller promises.
        let watchdog = unsafe { sd_notify::watchdog_enabled_and_unset_env() };
        let mut inherited = Self { watchdog, ..Self::default() };
        // SAFETY: as the caller promises.
        match unsafe { sd_notify::listen_fds_with_names_and_unset_env() } {
            Ok(given) => {
                for (raw, name) in given {
                    // SAFETY: the variables say, for this very process, that it was started with this descriptor open, and
                    // fcntl has just found it so; nobody else knows of it.
                    inherited.sort(&name, unsafe { OwnedFd::from_raw_fd(raw) });
                }
            }
            Err(e) => inherited.useless.push(format!("the descriptors in LISTEN_FDS: {e}")),
        }
        inherited
    }

    /// Puts a descriptor where it belongs, or closes it.
    fn sort(&mut self, name: &str, descriptor: OwnedFd) {
        let sorted = match name {
            CONTROL => self.put_control(descriptor, Origin::Unit),
            STORED => self.put_control(descriptor, Origin::Store),
            METRICS if self.metrics.len() < MAX_METRICS => {
                Listening::try_from(descriptor).map(|listening| self.metrics.push(listening))
            }
            METRICS => Err(io::Error::other(format!("there are {MAX_METRICS} of that name already"))),
            _ => Err(io::Error::other(format!("its FileDescriptorName= is none of {CONTROL} and {METRICS}"))),
        };
        if let Err(e) = sorted {
            self.useless.push(format!("descriptor {name:?}: {e}"));
        }
    }

    fn put_control(&mut self, descriptor: OwnedFd, origin: Origin) -> io::Result<()> {
        let control = Control::of(descriptor, origin)?;
        match (&self.control, origin) {
            (Some(Control { origin: Origin::Unit, .. }), Origin::Unit) => {
                Err(io::Error::other(format!("there is one of that name already; give {CONTROL} one ListenStream=")))
            }
            // Clients look for the unit's.
            (Some(Control { origin: Origin::Unit, .. }), Origin::Store) => Ok(()),
            (Some(Control { origin: Origin::Store, .. }) | None, _) => {
                self.control = Some(control);
                Ok(())
            }
        }
    }
}

impl Control {
    fn of(descriptor: OwnedFd, origin: Origin) -> io::Result<Self> {
        let Listening::Unix(listener) = Listening::try_from(descriptor)? else {
            return Err(io::Error::other("clients connect by a Unix socket, and this is none"));
        };
        let address = listener.local_addr()?;
        let path = address.as_pathname().map(Path::to_owned);
        let path = path.ok_or_else(|| io::Error::other("clients look for a file, and this socket has none"))?;
        // A stored one whose file is gone is of no use: nobody can find it.
        if origin == Origin::Store && !path.exists() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "its file is gone; another is made"));
        }
        Ok(Self { listener, path, origin })
    }
}

impl TryFrom<OwnedFd> for Listening {
    type Error = io::Error;

    fn try_from(descriptor: OwnedFd) -> io::Result<Self> {
        let is_stream = getsockopt(&descriptor, sockopt::SockType)? == nix::sys::socket::SockType::Stream;
        if !is_stream || !getsockopt(&descriptor.as_fd(), sockopt::AcceptConn)? {
            return Err(io::Error::other("it is no stream socket that listens (ListenStream=, Accept=no)"));
        }
        let unix = UnixListener::from(descriptor);
        if unix.local_addr().is_ok() {
            unix.set_nonblocking(true)?;
            return Ok(Self::Unix(unix));
        }
        let tcp = TcpListener::from(OwnedFd::from(unix));
        tcp.local_addr()?;
        tcp.set_nonblocking(true)?;
        Ok(Self::Tcp(tcp))
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    #[test]
    fn each_descriptor_goes_where_its_name_says() {
        let directory = tempfile::tempdir().expect("a directory");
        let bind = |name: &str| OwnedFd::from(UnixListener::bind(directory.path().join(name)).expect("bound"));
        let mut inherited = Inherited::default();
        inherited.sort(STORED, bind("of-an-earlier-daemon"));
        inherited.sort(CONTROL, bind("of-the-unit"));
        inherited.sort(STORED, bind("late"));
        inherited.sort(METRICS, bind("metrics"));
        inherited.sort(METRICS, TcpListener::bind("127.0.0.1:0").expect("bound").into());
        assert_eq!(inherited.useless, [""; 0]);
        let control = inherited.control.expect("it is there");
        assert_eq!((control.path, control.origin), (directory.path().join("of-the-unit"), Origin::Unit));
        assert!(matches!(inherited.metrics[..], [Listening::Unix(_), Listening::Tcp(_)]));
        let waits = control.listener.accept().map(drop).map_err(|e| e.kind());
        assert_eq!(waits, Err(io::ErrorKind::WouldBlock));
    }

    #[test]
    fn what_is_of_no_use_is_named() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("socket");
        let mut inherited = Inherited::default();
        inherited.sort(CONTROL, TcpListener::bind("127.0.0.1:0").expect("bound").into());
        inherited.sort(METRICS, UdpSocket::bind("127.0.0.1:0").expect("bound").into());
        inherited.sort(METRICS, tempfile::tempfile().expect("a file").into());
        inherited.sort("connection", UnixListener::bind(&file).expect("bound").into());
        std::fs::remove_file(&file).expect("removed");
        let gone = UnixListener::bind(&file).expect("bound");
        std::fs::remove_file(&file).expect("removed");
        inherited.sort(STORED, gone.into());
        assert!(inherited.control.is_none() && inherited.metrics.is_empty());
        let whys =
            ["clients connect by a Unix", "no stream socket", "Socket operation", "is none of", "its file is gone"];
        assert_eq!(inherited.useless.len(), whys.len(), "{:?}", inherited.useless);
        for (said, why) in inherited.useless.iter().zip(whys) {
            assert!(said.contains(why), "{said} does not say {why:?}");
        }
    }
}
