//! Why a call failed.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use gpusched_shared::{JobId, Rejection};

/// Why a call failed: what happened, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens on the socket.
    #[error(
        "no daemon at {}: start it with `systemctl start gpusched` or `gpuschedd serve`, or name another with --socket \
         or ${}",
        path.display(),
        gpusched_shared::SOCKET_ENV
    )]
    NotRunning {
        /// The socket.
        path: PathBuf,
    },
    /// The socket is there, but not for this user.
    #[error("no permission to use {}: join the group that owns it (`ls -l` shows which), then log in again", path.display())]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon closed the connection, before or during the call.
    #[error(
        "the daemon closed the connection: see `journalctl -u gpusched`; a detached job goes on, `gpuctl jobs` finds it"
    )]
    Disconnected,
    /// The daemon went away, and did not come back in time.
    #[error(
        "the daemon went away and was not back within {}: start it with `systemctl start gpusched` (`journalctl -u gpusched` \
         says why it ended); what it accepted is on record, `gpuctl jobs --all` finds it",
        seconds(*within)
    )]
    Gone {
        /// How long it was waited for.
        within: Duration,
        /// What the last try came to.
        #[source]
        last: Box<Error>,
    },
    /// The daemon refused. Nothing has changed.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// The daemon said something this library does not understand.
    #[error("the daemon broke the protocol: {0}; install matching versions of client and daemon")]
    Protocol(String),
    /// The bytes of a job's file are not those that its name promises.
    #[error("the file of job {job} is damaged: submit the job again")]
    Damaged {
        /// The job.
        job: JobId,
    },
    /// A picture could not be read.
    #[error("cannot read picture {}: {source}; name a PNG, JPEG or WebP file", path.display())]
    Picture {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system failed otherwise.
    #[error(transparent)]
    Io(#[from] io::Error),
}

fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds.fract() == 0.0 { format!("{seconds} s") } else { format!("{seconds:.1} s") }
}
