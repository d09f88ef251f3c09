//! What jobs made goes to the blob store, off the driver's loop; the outcome that names it follows.

use std::sync::Arc;
use std::time::Duration;

use gpusched_core::Input;
use gpusched_shared::{BlobRef, JobId, Outcome, RoundImage, Size, Usage};
use tokio::sync::mpsc;

use super::{Driver, DriverError};
use crate::blobs::{Blobs, Hold, StoreError};

/// How often a result that cannot be stored just now is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What has become of a result, or of a job that could have none yet.
pub(super) enum Stored {
    /// It is in the store, where the hold keeps it until its outcome is on record.
    Kept(JobId, Outcome, Hold),
    /// What the job's picture is about to become is in the store, where the hold keeps it until the job has ended.
    Previewed(JobId, RoundImage, Hold),
    /// The disk fails.
    Failed(String),
    /// The job's pictures could not be read just now.
    NotBegun(JobId),
}

impl Driver {
    /// Keeps the file that a job made, of which `outcome` tells.
    pub(super) fn store(&self, job: JobId, png: Vec<u8>, outcome: impl FnOnce(BlobRef) -> Outcome + Send + 'static) {
        let (blobs, stored) = (Arc::clone(&self.blobs), self.stored.0.clone());
        tokio::spawn(async move {
            let said = match put(job, &blobs, Arc::new(png), &stored).await {
                Some(Ok((blob, hold))) => Stored::Kept(job, outcome(blob), hold),
                Some(Err(why)) => Stored::Failed(why),
                None => return,
            };
            let _ = stored.send(said).await;
        });
    }

    /// Keeps what a job's picture is about to become. Nobody waits for it: where there is no room for it, there is none.
    pub(super) fn store_preview(&self, job: JobId, png: Vec<u8>, size: Size) {
        let (blobs, stored) = (Arc::clone(&self.blobs), self.stored.0.clone());
        tokio::spawn(async move {
            match tokio::task::spawn_blocking(move || blobs.put_input(&png)).await {
                Ok(Ok((blob, hold))) => {
                    let image = RoundImage { blob, size, truncated_tokens: 0 };
                    let _ = stored.send(Stored::Previewed(job, image, hold)).await;
                }
                // Of a disk that fails the journal says so.
                Ok(Err(e)) => tracing::debug!(JOB_ID = job.0, "no preview: {e}"),
                Err(e) => tracing::error!(JOB_ID = job.0, "no preview: {e}"),
            }
        });
    }

    /// # Errors
    /// [`DriverError::Disk`] if the disk failed.
    pub(super) fn stored(&mut self, stored: Stored) -> Result<(), DriverError> {
        match stored {
            Stored::Kept(job, outcome, hold) => {
                self.holds.entry(job).or_default().push(hold);
                self.input(Input::Stored(job, outcome));
                Ok(())
            }
            Stored::Previewed(job, image, hold) => {
                // Else its end is on record, and nobody would let go of it.
                if self.scheduler.class_of(job).is_some() {
                    self.holds.entry(job).or_default().push(hold);
                    self.input(Input::Previewed(job, image));
                }
                Ok(())
            }
            Stored::Failed(why) => Err(DriverError::Disk(why)),
            Stored::NotBegun(job) => {
                self.input(Input::Interrupted(job, Usage::default()));
                Ok(())
            }
        }
    }
}

/// Keeps the bytes; on a full disk, or without a descriptor left, as soon as that is over. The work is done, so it is not
/// given up. `None` if nobody wants to know any more.
async fn put(
    job: JobId,
    blobs: &Arc<Blobs>,
    png: Arc<Vec<u8>>,
    stored: &mpsc::Sender<Stored>,
) -> Option<Result<(BlobRef, Hold), String>> {
    let mut told = false;
    loop {
        let (blobs, bytes) = (Arc::clone(blobs), Arc::clone(&png));
        let put = tokio::task::spawn_blocking(move || blobs.put_result(&bytes)).await;
        match put {
            Ok(Ok(kept)) => return Some(Ok(kept)),
            Ok(Err(passing @ (StoreError::Full { .. } | StoreError::Quota { .. } | StoreError::Passing(_)))) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(JOB_ID = job.0, "cannot store a result yet: {passing}");
                }
            }
            Ok(Err(StoreError::Io(e))) => return Some(Err(format!("cannot store the result of job {job}: {e}"))),
            Err(e) => return Some(Err(e.to_string())),
        }
        tokio::select! {
            () = tokio::time::sleep(AGAIN) => {}
            () = stored.closed() => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::atomic::{AtomicU32, Ordering};

    use nix::errno::Errno;

    use super::*;
    use crate::config::{Size as Bytes, StorageConfig};
    use crate::disk::{Change, Disk, Witness};

    /// Once the store has been opened, has no descriptor for the next file.
    #[derive(Debug, Default)]
    struct Starved(AtomicU32);

    impl Witness for Starved {
        fn before(&self, change: Change<'_>) -> io::Result<()> {
            let is_first = matches!(change, Change::Create(_)) && self.0.fetch_add(1, Ordering::Relaxed) == 0;
            if is_first { Err(Errno::EMFILE.into()) } else { Ok(()) }
        }

        fn free_bytes(&self, measured: u64) -> u64 {
            measured
        }
    }

    #[test]
    fn a_result_waits_for_a_descriptor() {
        let root = tempfile::tempdir().expect("a directory");
        let config = StorageConfig { reserve: Bytes(0), ..StorageConfig::default() };
        let starved = Arc::new(Starved::default());
        let disk = Disk::open(root.path(), &config, Some(Arc::clone(&starved) as Arc<dyn Witness>)).expect("a disk");
        let blobs = Arc::new(Blobs::open(Arc::new(disk)).expect("a store"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let (stored, _listens) = mpsc::channel(1);
        let put = runtime.block_on(put(JobId(1), &blobs, Arc::new(b"result".to_vec()), &stored));
        let (blob, _hold) = put.expect("somebody wants to know").expect("stored");
        blobs.verify(blob.hash).expect("there");
        assert_eq!((blobs.broken(), starved.0.load(Ordering::Relaxed)), (None, 2), "it was refused once");
    }
}
