//! The socket, and who may connect how often.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::os::unix::net::{UnixListener as BlockingListener, UnixStream as BlockingStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use gpusched_core::SessionId;
use gpusched_shared::frame::{Frame, MAX_REQUEST};
use gpusched_shared::socket::split;
use gpusched_shared::{Rejection, Response, Uid, codec};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::complaints::complain;
use super::outbox::LONG_PER_UID;
use super::peer::Peer;
use super::{Ask, Context, session};

/// How often to look whether the socket is still there.
const LOOK: std::time::Duration = std::time::Duration::from_secs(1);

/// Where clients connect. What waits for a connection does not block.
#[derive(Debug)]
pub struct Endpoint {
    /// The socket.
    pub listener: BlockingListener,
    /// Where it is.
    pub path: PathBuf,
    /// Whether the file is the daemon's to make and to remove, and not that of who handed the socket over.
    pub ours: bool,
}

/// Why the socket cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody answers there.
    #[error("another daemon listens on {}; stop it, or choose another socket with --socket", .0.display())]
    Taken(PathBuf),
    /// The system refuses.
    #[error("cannot listen on {}: {source}; choose another socket with --socket", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Binds the socket, replacing one that a dead daemon left. Members of its group may connect. What waits for a connection
/// does not block.
///
/// # Errors
/// [`BindError`].
pub fn bind(path: &Path) -> Result<Endpoint, BindError> {
    if BlockingStream::connect(path).is_ok() {
        return Err(BindError::Taken(path.into()));
    }
    let listen = || {
        if let Some(parent) = path.parent().filter(|parent| !parent.exists()) {
            std::fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        }
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            Ok(()) | Err(_) => {}
        }
        let listener = BlockingListener::bind(path)?;
        listener.set_nonblocking(true)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
        Ok(listener)
    };
    match listen() {
        Ok(listener) => Ok(Endpoint { listener, path: path.into(), ours: true }),
        Err(source) => Err(BindError::Io { path: path.into(), source }),
    }
}

/// What accepts connections until the daemon is about to end, and is done when all of them have ended too. Each works by the
/// context that there is when it is made. A socket of ours that somebody removes is made anew, and `anew` told of it.
///
/// # Errors
/// The listener cannot be waited for.
pub fn serve(
    Endpoint { listener, path, ours }: Endpoint,
    contexts: watch::Receiver<Arc<Context>>,
    asks: mpsc::Sender<Ask>,
    anew: impl Fn(BorrowedFd<'_>) + Send + 'static,
) -> io::Result<impl Future<Output = ()> + Send> {
    let listener = UnixListener::from_std(listener)?;
    Ok(accept(listener, (path, ours), contexts, asks, anew))
}

async fn accept(
    mut listener: UnixListener,
    (path, ours): (PathBuf, bool),
    contexts: watch::Receiver<Arc<Context>>,
    asks: mpsc::Sender<Ask>,
    anew: impl Fn(BorrowedFd<'_>) + Send + 'static,
) {
    let closing = Arc::clone(&contexts.borrow());
    let counts = Arc::new(Counts::default());
    let mut sessions = JoinSet::new();
    let mut look = tokio::time::interval(LOOK);
    for number in 0.. {
        let accepted = loop {
            tokio::select! {
                accepted = listener.accept() => break Some(accepted),
                () = closing.closes() => break None,
                _ = look.tick(), if ours => {
                    if let Some(restored) = restore(&path) {
                        anew(restored.as_fd());
                        listener = restored;
                    }
                }
            }
        };
        let Some(accepted) = accepted else { break };
        while sessions.try_join_next().is_some() {}
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors, most likely: leave the connection in the backlog until some have closed.
                complain(format_args!("accept: {e}"));
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let context = Arc::clone(&contexts.borrow());
        let peer = match Peer::of(&stream, context.own_uid) {
            Ok(peer) => peer,
            Err(e) => {
                complain(format_args!("connection refused: {e}"));
                continue;
            }
        };
        match counts.admit(peer.uid, &context) {
            Ok(place) => {
                let asks = asks.clone();
                sessions.spawn(async move {
                    session::run(stream, peer, SessionId(number), Arc::clone(&place.long), &context, asks).await;
                    drop(place);
                });
            }
            Err(rejection) => refuse(stream, peer.uid, rejection),
        }
    }
    while sessions.join_next().await.is_some() {}
}

/// The socket, if it was gone. Without it nobody new finds the daemon, though those who are connected stay so.
fn restore(path: &Path) -> Option<UnixListener> {
    if path.exists() {
        return None;
    }
    let io = |source| BindError::Io { path: path.into(), source };
    match bind(path).and_then(|endpoint| UnixListener::from_std(endpoint.listener).map_err(io)) {
        Ok(listener) => {
            tracing::warn!("the socket was gone; listening on {} again", path.display());
            Some(listener)
        }
        Err(e) => {
            complain(format_args!("the socket is gone: {e}"));
            None
        }
    }
}

/// Says why, without waiting: the socket's buffer is empty, so one frame fits.
fn refuse(stream: UnixStream, uid: Uid, rejection: Rejection) {
    complain(format_args!("connection of uid {uid} refused: {rejection}"));
    if let Ok(payload) = codec::encode(&Response::Rejected(rejection)) {
        tokio::spawn(async move {
            let (_, writer) = split(stream, MAX_REQUEST);
            let _ = writer.send(&Frame { id: 0, payload }, &[]).await;
        });
    }
}

/// How many connections there are, in all and of each uid.
#[derive(Debug, Default)]
struct Counts(Mutex<HashMap<Uid, Share>>);

/// What the connections of one uid share.
#[derive(Debug)]
struct Share {
    connections: u32,
    /// Leaves to make long answers.
    long: Arc<Semaphore>,
}

/// A connection's place in the count; given back when dropped.
#[derive(Debug)]
struct Place {
    uid: Uid,
    long: Arc<Semaphore>,
    counts: Arc<Counts>,
}

impl Counts {
    fn admit(self: &Arc<Self>, uid: Uid, context: &Context) -> Result<Place, Rejection> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limits = &context.limits;
        if counts.values().map(|share| share.connections).sum::<u32>() >= limits.connections {
            return Err(Rejection::TooManyConnections { limit: limits.connections });
        }
        let fresh = || Share { connections: 0, long: Arc::new(Semaphore::new(LONG_PER_UID)) };
        let share = counts.entry(uid).or_insert_with(fresh);
        if share.connections >= limits.connections_per_uid {
            return Err(Rejection::TooManyConnections { limit: limits.connections_per_uid });
        }
        share.connections += 1;
        Ok(Place { uid, long: Arc::clone(&share.long), counts: Arc::clone(self) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(share) = counts.get_mut(&self.uid) {
            share.connections -= 1;
            if share.connections == 0 {
                counts.remove(&self.uid);
            }
        }
    }
}
