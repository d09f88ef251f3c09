//! The verbs, blocking: the same as those of [`crate::Client`], for programs without an asynchronous runtime.
//!
//! ```no_run
//! use gpusched_client::{Picture, blocking::Client, vqa};
//!
//! # fn main() -> Result<(), gpusched_client::Error> {
//! let client = Client::connect_default()?;
//! let job = client.submit(vqa("what colour is the car?"), vec![Picture::open("car.jpg")?], true)?;
//! println!("{:?}", client.wait(job)?.state);
//! # Ok(())
//! # }
//! ```

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpusched_shared::{
    AttemptView, BlobRef, Cursor, Explanation, JobId, JobSpec, JobView, QualityView, QueueView, Rejection, RouteView,
    StageView, StatusView, TimelineView, Track, Update,
};
use tokio::runtime::{Builder, Runtime};

use crate::attachment::Picture;
use crate::error::Error;
use crate::path::default_socket;
use crate::reconnect::Reconnect;
use crate::retry::Retry;
use crate::session::Notice;
use crate::submission::Submission;

/// A connection to the daemon, with a runtime of its own. Clones share both, from any thread.
///
/// Errors are those of the asynchronous methods.
///
/// # Panics
/// The methods panic if called from asynchronous code, as tokio runtimes do not nest: use [`crate::Client`] there.
#[derive(Debug, Clone)]
pub struct Client {
    // Before the runtime: the connection closes first.
    client: crate::Client,
    runtime: Arc<Runtime>,
}

impl Client {
    /// See [`crate::Client::connect`].
    ///
    /// # Errors
    /// As there, and [`Error::Io`] if the system gives no runtime.
    pub fn connect(socket: impl AsRef<Path>) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(crate::Client::connect(socket))?;
        Ok(Self { client, runtime: Arc::new(runtime) })
    }

    /// See [`crate::Client::connect_default`].
    ///
    /// # Errors
    /// As for [`connect`](Self::connect).
    pub fn connect_default() -> Result<Self, Error> {
        Self::connect(default_socket())
    }

    /// The daemon's name and version.
    pub fn server(&self) -> &str {
        self.client.server()
    }

    /// See [`crate::Client::submit`].
    ///
    /// # Errors
    /// As there.
    pub fn submit(&self, spec: impl Into<JobSpec>, pictures: Vec<Picture>, attached: bool) -> Result<JobId, Error> {
        self.runtime.block_on(self.client.submit(spec, pictures, attached))
    }

    /// See [`crate::Client::hand_in`].
    ///
    /// # Errors
    /// As there.
    pub fn hand_in(&self, submission: &Submission) -> Result<JobId, Error> {
        self.runtime.block_on(self.client.hand_in(submission))
    }

    /// See [`crate::Client::submit_retrying`].
    ///
    /// # Errors
    /// As there.
    pub fn submit_retrying(
        &self,
        spec: impl Into<JobSpec>,
        pictures: Vec<Picture>,
        attached: bool,
        retry: Retry,
        notice: impl FnMut(&Rejection, Duration),
    ) -> Result<JobId, Error> {
        self.runtime.block_on(self.client.submit_retrying(spec, pictures, attached, retry, notice))
    }

    /// See [`crate::Client::watch`].
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self, job: JobId) -> Result<Watch, Error> {
        let watch = self.runtime.block_on(self.client.watch(job))?;
        Ok(Watch { watch, runtime: Arc::clone(&self.runtime) })
    }

    /// See [`crate::Client::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&self, job: JobId) -> Result<JobView, Error> {
        self.runtime.block_on(self.client.wait(job))
    }

    /// See [`crate::Client::fetch`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch(&self, job: JobId) -> Result<(BlobRef, File), Error> {
        self.runtime.block_on(self.client.fetch(job))
    }

    /// See [`crate::Client::fetch_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch_bytes(&self, job: JobId) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.client.fetch_bytes(job))
    }

    /// See [`crate::Client::fetch_round`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch_round(&self, job: JobId, round: u8) -> Result<(BlobRef, File), Error> {
        self.runtime.block_on(self.client.fetch_round(job, round))
    }

    /// See [`crate::Client::fetch_round_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch_round_bytes(&self, job: JobId, round: u8) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.client.fetch_round_bytes(job, round))
    }

    /// See [`crate::Client::cancel`].
    ///
    /// # Errors
    /// As there.
    pub fn cancel(&self, job: JobId) -> Result<JobView, Error> {
        self.runtime.block_on(self.client.cancel(job))
    }

    /// See [`crate::Client::show`].
    ///
    /// # Errors
    /// As there.
    pub fn show(&self, job: JobId) -> Result<JobView, Error> {
        self.runtime.block_on(self.client.show(job))
    }

    /// See [`crate::Client::list`].
    ///
    /// # Errors
    /// As there.
    pub fn list(&self, ended: bool, before: Option<JobId>, limit: u32) -> Result<Vec<JobView>, Error> {
        self.runtime.block_on(self.client.list(ended, before, limit))
    }

    /// See [`crate::Client::status`].
    ///
    /// # Errors
    /// As there.
    pub fn status(&self) -> Result<StatusView, Error> {
        self.runtime.block_on(self.client.status())
    }

    /// See [`crate::Client::explain`].
    ///
    /// # Errors
    /// As there.
    pub fn explain(&self, job: JobId) -> Result<Explanation, Error> {
        self.runtime.block_on(self.client.explain(job))
    }

    /// See [`crate::Client::history`].
    ///
    /// # Errors
    /// As there.
    pub fn history(&self, job: JobId) -> Result<Vec<AttemptView>, Error> {
        self.runtime.block_on(self.client.history(job))
    }

    /// See [`crate::Client::stages`].
    ///
    /// # Errors
    /// As there.
    pub fn stages(&self, job: JobId) -> Result<Vec<StageView>, Error> {
        self.runtime.block_on(self.client.stages(job))
    }

    /// See [`crate::Client::quality`].
    ///
    /// # Errors
    /// As there.
    pub fn quality(&self, since_unix_ms: u64, window: u32, points: u32) -> Result<QualityView, Error> {
        self.runtime.block_on(self.client.quality(since_unix_ms, window, points))
    }

    /// See [`crate::Client::timeline`].
    ///
    /// # Errors
    /// As there.
    pub fn timeline(
        &self,
        track: Track,
        between_unix_ms: (u64, u64),
        before: Option<Cursor>,
        limit: u32,
    ) -> Result<TimelineView, Error> {
        self.runtime.block_on(self.client.timeline(track, between_unix_ms, before, limit))
    }

    /// See [`crate::Client::queue`].
    ///
    /// # Errors
    /// As there.
    pub fn queue(&self) -> Result<Vec<QueueView>, Error> {
        self.runtime.block_on(self.client.queue())
    }

    /// See [`crate::Client::route`].
    ///
    /// # Errors
    /// As there.
    pub fn route(&self, spec: impl Into<JobSpec>) -> Result<RouteView, Error> {
        self.runtime.block_on(self.client.route(spec))
    }

    /// See [`crate::Client::set_priority`].
    ///
    /// # Errors
    /// As there.
    pub fn set_priority(&self, job: JobId, priority: i8) -> Result<JobView, Error> {
        self.runtime.block_on(self.client.set_priority(job, priority))
    }

    /// See [`crate::Client::pause`].
    ///
    /// # Errors
    /// As there.
    pub fn pause(&self, class: impl Into<String>) -> Result<StatusView, Error> {
        self.runtime.block_on(self.client.pause(class))
    }

    /// See [`crate::Client::resume`].
    ///
    /// # Errors
    /// As there.
    pub fn resume(&self, class: impl Into<String>) -> Result<StatusView, Error> {
        self.runtime.block_on(self.client.resume(class))
    }

    /// See [`crate::Client::drain`].
    ///
    /// # Errors
    /// As there.
    pub fn drain(&self, on: bool) -> Result<StatusView, Error> {
        self.runtime.block_on(self.client.drain(on))
    }
}

/// The updates of one job; see [`crate::Watch`].
#[derive(Debug)]
pub struct Watch {
    watch: crate::Watch,
    runtime: Arc<Runtime>,
}

impl Iterator for Watch {
    type Item = Result<Update, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.watch.next()).transpose()
    }
}

/// A connection that is opened again when it is lost; see [`crate::Session`].
///
/// ```no_run
/// use gpusched_client::{Reconnect, Submission, blocking::Session, default_socket, txt2img};
///
/// # fn main() -> Result<(), gpusched_client::Error> {
/// let session = Session::connect(default_socket(), Reconnect::default(), |notice| eprintln!("{notice:?}"))?;
/// let mut job = session.submit(Submission::new(txt2img("a red circle")))?;
/// println!("{:?}", job.wait()?.state);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    session: crate::Session,
    runtime: Arc<Runtime>,
}

impl Session {
    /// See [`crate::Session::connect`].
    ///
    /// # Errors
    /// As there, and [`Error::Io`] if the system gives no runtime.
    pub fn connect(
        socket: impl AsRef<Path>,
        reconnect: Reconnect,
        notice: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let session = runtime.block_on(crate::Session::connect(socket, reconnect, notice))?;
        Ok(Self { session, runtime: Arc::new(runtime) })
    }

    /// See [`crate::Session::client`].
    ///
    /// # Errors
    /// As there.
    pub fn client(&self) -> Result<Client, Error> {
        let client = self.runtime.block_on(self.session.client())?;
        Ok(Client { client, runtime: Arc::clone(&self.runtime) })
    }

    /// See [`crate::Session::submit`].
    ///
    /// # Errors
    /// As there.
    pub fn submit(&self, submission: Submission) -> Result<Job, Error> {
        let job = self.runtime.block_on(self.session.submit(submission))?;
        Ok(Job { job, runtime: Arc::clone(&self.runtime) })
    }

    /// See [`crate::Session::submit_retrying`].
    ///
    /// # Errors
    /// As there.
    pub fn submit_retrying(
        &self,
        submission: Submission,
        retry: Retry,
        notice: impl FnMut(&Rejection, Duration),
    ) -> Result<Job, Error> {
        let job = self.runtime.block_on(self.session.submit_retrying(submission, retry, notice))?;
        Ok(Job { job, runtime: Arc::clone(&self.runtime) })
    }

    /// See [`crate::Session::attend`].
    pub fn attend(&self, job: JobId) -> Job {
        Job { job: self.session.attend(job), runtime: Arc::clone(&self.runtime) }
    }
}

/// A job of a [`Session`]; see [`crate::Job`]. Its updates are what it iterates over.
#[derive(Debug)]
pub struct Job {
    job: crate::Job,
    runtime: Arc<Runtime>,
}

impl Job {
    /// See [`crate::Job::id`].
    pub fn id(&self) -> JobId {
        self.job.id()
    }

    /// See [`crate::Job::wait`].
    ///
    /// # Errors
    /// As there.
    pub fn wait(&mut self) -> Result<JobView, Error> {
        self.runtime.block_on(self.job.wait())
    }

    /// See [`crate::Job::fetch_bytes`].
    ///
    /// # Errors
    /// As there.
    pub fn fetch_bytes(&self) -> Result<Vec<u8>, Error> {
        self.runtime.block_on(self.job.fetch_bytes())
    }

    /// See [`crate::Job::cancel`].
    ///
    /// # Errors
    /// As there.
    pub fn cancel(&self) -> Result<JobView, Error> {
        self.runtime.block_on(self.job.cancel())
    }
}

impl Iterator for Job {
    type Item = Result<Update, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.runtime.block_on(self.job.next()).transpose()
    }
}
