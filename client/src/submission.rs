//! What is handed in: a job, its pictures, whether it ends with its client, and the key that makes asking again safe.

use std::io;

use gpusched_shared::JobSpec;

use crate::attachment::Picture;

/// A job to hand in. It can be handed in again: with a key, that is still one job.
///
/// ```
/// use gpusched_client::{Submission, txt2img};
///
/// let overnight = Submission::new(txt2img("a red circle")).detached().key("poster-17");
/// ```
#[derive(Debug)]
#[must_use = "hand it in"]
pub struct Submission {
    pub(crate) spec: JobSpec,
    pub(crate) pictures: Vec<Picture>,
    pub(crate) attached: bool,
    pub(crate) key: Option<String>,
}

impl Submission {
    /// A job without pictures, cancelled when its client goes away.
    pub fn new(spec: impl Into<JobSpec>) -> Self {
        Self { spec: spec.into(), pictures: Vec::new(), attached: true, key: None }
    }

    /// With these pictures, in this order.
    pub fn pictures(mut self, pictures: Vec<Picture>) -> Self {
        self.pictures = pictures;
        self
    }

    /// The job goes on when its client goes away.
    pub fn detached(mut self) -> Self {
        self.attached = false;
        self
    }

    /// What tells this job from others of the same user: as long as the daemon remembers a job with this key, handing in
    /// the same once more gives that job, and handing in another is refused
    /// ([`KeyConflict`](gpusched_shared::Rejection::KeyConflict)). At most
    /// [`MAX_KEY_BYTES`](gpusched_shared::spec::MAX_KEY_BYTES) printable ASCII characters. A
    /// [`Session`](crate::Session) makes up a random one where none is given.
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// The same, with a random key if it has none.
    pub(crate) fn with_key(mut self) -> io::Result<Self> {
        if self.key.is_none() {
            let mut bytes = [0; 16];
            getrandom::fill(&mut bytes).map_err(|e| io::Error::other(format!("no random number for a key: {e}")))?;
            self.key = Some(format!("{:032x}", u128::from_ne_bytes(bytes)));
        }
        Ok(self)
    }

    /// Its pictures once more, for one more try: nothing is copied.
    pub(crate) fn pictures_again(&self) -> io::Result<Vec<Picture>> {
        self.pictures.iter().map(Picture::try_clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use gpusched_shared::spec::check_key;

    use super::*;
    use crate::txt2img;

    #[test]
    fn keys_are_random_unless_given() {
        let key = |submission: Submission| submission.with_key().expect("random numbers").key.expect("a key");
        let made: Vec<_> = (0..2).map(|_| key(Submission::new(txt2img("x")))).collect();
        assert_ne!(made[0], made[1]);
        assert!(made.iter().all(|key| key.len() == 32 && check_key(key).is_ok()), "{made:?}");
        assert_eq!(key(Submission::new(txt2img("x")).key("mine")), "mine");
    }
}
