//! Who is on the other side, as the kernel says.

use gpusched_shared::Uid;
use tokio::net::UnixStream;

/// The uid that user namespaces show for ids they do not map: nobody in particular, so nobody's jobs.
const OVERFLOW_UID: Uid = 65_534;

/// A client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Whose jobs it submits.
    pub uid: Uid,
    /// True if it may see and end everyone's jobs.
    pub admin: bool,
}

impl Peer {
    /// Who is on the other side of `stream` (`SO_PEERCRED`, which cannot be forged).
    ///
    /// # Errors
    /// When the kernel does not say, or says the overflow uid.
    pub fn of(stream: &UnixStream, own_uid: Uid) -> std::io::Result<Self> {
        let uid = stream.peer_cred()?.uid();
        if uid == OVERFLOW_UID {
            return Err(std::io::Error::new(
                std::io::ErrorKind::PermissionDenied,
                "the client's uid is not mapped here (65534)",
            ));
        }
        Ok(Self { uid, admin: uid == 0 || uid == own_uid })
    }

    /// True if this client may see and end jobs of `owner`.
    pub fn may_touch(&self, owner: Uid) -> bool {
        self.admin || self.uid == owner
    }
}
