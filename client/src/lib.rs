//! Client library of gpusched: image and VQA jobs for the daemon on this machine.
//!
//! ```no_run
//! # async fn example() -> Result<(), gpusched_client::Error> {
//! use gpusched_client::{Client, txt2img};
//!
//! let client = Client::connect_default().await?;
//! let job = client.submit(txt2img("a red circle").steps(20).seed(1), Vec::new(), true).await?;
//! let view = client.wait(job).await?;
//! println!("job {job}: {:?}", view.state);
//! let png = client.fetch_bytes(job).await?;
//! # Ok(())
//! # }
//! ```
//!
//! [`Client`] is asynchronous and needs a tokio runtime; [`blocking::Client`] has the same verbs and needs none. Both may
//! be cloned and shared: every clone speaks over the one connection, and any number of calls may be open on it. A lost
//! connection is not opened again: its calls fail with [`Error::Disconnected`], and the caller connects anew. A [`Session`]
//! ([`blocking::Session`]) does that by itself: its jobs survive that the daemon is restarted, or dies.
//!
//! Where to look: [`client`] has the verbs, [`session`] what goes on when the daemon goes away, [`submission`] what is
//! handed in, [`attachment`] how pictures reach the daemon, [`spec`] short ways to write a job, [`retry`] how to go on when
//! the queue is full, [`reconnect`] when the daemon is away, [`path`] how the socket is found, and, behind the feature of that name, `report` what is made of a daemon's record. The vocabulary is that of
//! [`gpusched_shared`], re-exported here.

pub mod attachment;
pub mod blocking;
pub mod client;
mod connection;
pub mod error;
mod mailbox;
pub mod path;
pub mod reconnect;
#[cfg(feature = "report")]
pub mod report;
pub mod retry;
pub mod session;
pub mod spec;
pub mod submission;

pub use attachment::Picture;
pub use client::{Client, Watch};
pub use error::Error;
pub use gpusched_shared as shared;
pub use gpusched_shared::{
    Answer, AttemptEnd, AttemptView, BlobHash, BlobRef, Check, Cursor, Explanation, FailureKind, ImageSpec, JobId,
    JobSpec, JobState, JobView, Outcome, QualityView, QueueView, Reflect, Reflection, Rejection, RouteView, Size,
    StatusView, Task, TimeLimit, TimelineView, Track, Update, Verdict, VqaSpec,
};
pub use path::default_socket;
pub use reconnect::Reconnect;
pub use retry::Retry;
pub use session::{Job, Notice, Session};
pub use spec::{edit, img2img, task, txt2img, vqa};
pub use submission::Submission;
