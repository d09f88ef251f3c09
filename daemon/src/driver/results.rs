//! What jobs made goes to the blob store, off the driver's loop; the outcome that names it follows.

use std::sync::Arc;
use std::time::Duration;

use gpusched_core::Input;
use gpusched_shared::{JobId, Outcome, Size, Usage};
use tokio::sync::mpsc;

use super::{Driver, DriverError};
use crate::blobs::{Blobs, Hold, StoreError};

/// How often a result that does not fit on the disk is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// What has become of a result, or of a job that could have none yet.
pub(super) enum Stored {
    /// It is in the store, where the hold keeps it until its outcome is on record.
    Kept(JobId, Outcome, Hold),
    /// The disk fails.
    Failed(String),
    /// The job's pictures could not be read just now.
    NotBegun(JobId),
}

impl Driver {
    pub(super) fn store(&self, job: JobId, png: Vec<u8>, size: Size, truncated_tokens: u32) {
        let (blobs, stored) = (Arc::clone(&self.blobs), self.stored.0.clone());
        tokio::spawn(async move {
            let said = match put(job, &blobs, Arc::new(png), &stored).await {
                Some(Ok((blob, hold))) => Stored::Kept(job, Outcome::Image { blob, size, truncated_tokens }, hold),
                Some(Err(why)) => Stored::Failed(why),
                None => return,
            };
            let _ = stored.send(said).await;
        });
    }

    /// # Errors
    /// [`DriverError::Disk`] if the disk failed.
    pub(super) fn stored(&mut self, stored: Stored) -> Result<(), DriverError> {
        match stored {
            Stored::Kept(job, outcome, hold) => {
                self.holds.insert(job, hold);
                self.input(Input::Stored(job, outcome));
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

/// Keeps the bytes; on a full disk, as soon as there is room. The work is done, so it is not given up. `None` if nobody
/// wants to know any more.
async fn put(
    job: JobId,
    blobs: &Arc<Blobs>,
    png: Arc<Vec<u8>>,
    stored: &mpsc::Sender<Stored>,
) -> Option<Result<(gpusched_shared::BlobRef, Hold), String>> {
    let mut told = false;
    loop {
        let (blobs, bytes) = (Arc::clone(blobs), Arc::clone(&png));
        let put = tokio::task::spawn_blocking(move || blobs.put_result(&bytes)).await;
        match put {
            Ok(Ok(kept)) => return Some(Ok(kept)),
            Ok(Err(full @ (StoreError::Full { .. } | StoreError::Quota { .. }))) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(JOB_ID = job.0, "cannot store a result yet: {full}");
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
