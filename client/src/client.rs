//! The verbs, asynchronous.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use gpusched_shared::edit::{STAGES_SINCE, StageView};
use gpusched_shared::spec::check_key;
use gpusched_shared::timeline::TIMELINE_SINCE;
use gpusched_shared::{
    AttemptView, BlobHash, BlobRef, Cursor, Explanation, JobId, JobSpec, JobView, QualityView, QueueView, Rejection,
    Request, Response, RouteView, StatusView, TimelineView, Track, Update,
};

use crate::attachment::Picture;
use crate::connection::{Connection, Reply, unexpected};
use crate::error::Error;
use crate::mailbox::Receiver;
use crate::path::default_socket;
use crate::retry::{Retry, Tries};
use crate::submission::Submission;

/// A connection to the daemon. Clones share it; it closes when the last of them and of their [`Watch`]es is dropped.
///
/// Every method fails with [`Error::Rejected`] if the daemon refuses, with [`Error::Disconnected`] if the connection ends
/// first, and with [`Error::Protocol`] if the daemon makes no sense. All may be called at the same time, and given up
/// (dropped) at any time: a request that was sent is then still carried out.
#[derive(Debug, Clone)]
pub struct Client {
    connection: Arc<Connection>,
}

impl Client {
    /// Connects to the daemon that listens at `socket`. Must be called within a tokio runtime, which then drives the
    /// connection.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::PermissionDenied`], [`Error::Rejected`] if the versions do not match or there are
    /// too many connections.
    pub async fn connect(socket: impl AsRef<Path>) -> Result<Self, Error> {
        Ok(Self { connection: Arc::new(Connection::open(socket.as_ref()).await?) })
    }

    /// Connects to the daemon at [`default_socket`].
    ///
    /// # Errors
    /// Those of [`connect`](Self::connect).
    pub async fn connect_default() -> Result<Self, Error> {
        Self::connect(default_socket()).await
    }

    /// The daemon's name and version.
    pub fn server(&self) -> &str {
        self.connection.server()
    }

    /// Hands in a job. Once this returns it is on record and will have an outcome. If it is `attached` the daemon cancels
    /// it when this connection closes.
    ///
    /// # Errors
    /// [`Error::Rejected`], for what is wrong with the job itself without asking the daemon.
    pub async fn submit(
        &self,
        spec: impl Into<JobSpec>,
        pictures: Vec<Picture>,
        attached: bool,
    ) -> Result<JobId, Error> {
        self.hand_in(&Submission { spec: spec.into(), pictures, attached, key: None }).await
    }

    /// As [`submit`](Self::submit). With a key, the same submission may be handed in again, here or on a later connection,
    /// when its answer was lost: it is still one job. [`Session`](crate::Session) does that.
    ///
    /// # Errors
    /// As there; [`Rejection::KeyConflict`] if the key was used for another job.
    pub async fn hand_in(&self, submission: &Submission) -> Result<JobId, Error> {
        let Submission { spec, pictures, attached, key } = submission;
        spec.validate(pictures.len())?;
        key.as_deref().map_or(Ok(()), check_key)?;
        let (kind, version) = (spec.task.kind(), self.connection.version());
        if version < kind.since() {
            return Err(too_old(version, &format!("does {kind}"), kind.since()));
        }
        // Validation leaves at most a handful.
        let count = u8::try_from(pictures.len()).unwrap_or(u8::MAX);
        let descriptors = submission.pictures_again()?.into_iter().map(Into::into).collect();
        let request = Request::Submit { spec: spec.clone(), pictures: count, attached: *attached, key: key.clone() };
        let response = self.connection.call(&request, descriptors).await?.response;
        let Response::Accepted(job) = response else { return Err(unexpected(&response)) };
        Ok(job)
    }

    /// As [`submit`](Self::submit), but while the queue of the job's class is full, waits and tries again as `retry` says.
    /// Before each wait `notice` is called with the refusal and the time that will be waited.
    ///
    /// # Errors
    /// As there; [`Rejection::QueueFull`] once `retry` gives up.
    pub async fn submit_retrying(
        &self,
        spec: impl Into<JobSpec>,
        pictures: Vec<Picture>,
        attached: bool,
        retry: Retry,
        notice: impl FnMut(&Rejection, Duration),
    ) -> Result<JobId, Error> {
        let submission = Submission { spec: spec.into(), pictures, attached, key: None };
        let mut tries = Tries::new(retry, notice);
        loop {
            match self.hand_in(&submission).await {
                Err(error) => tries.outlast(error).await?,
                accepted => return accepted,
            }
        }
    }

    /// True once the connection is over: every further call fails.
    pub fn is_lost(&self) -> bool {
        self.connection.is_over()
    }

    /// Watches a job: its present state at once, then what changes, until it has ended.
    ///
    /// ```no_run
    /// # async fn example(client: gpusched_client::Client, job: gpusched_client::JobId) -> Result<(), gpusched_client::Error> {
    /// let mut watch = client.watch(job).await?;
    /// while let Some(update) = watch.next().await? {
    ///     println!("{update:?}");
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`Error::Disconnected`]; that there is no such job is said by [`Watch::next`].
    pub async fn watch(&self, job: JobId) -> Result<Watch, Error> {
        let replies = self.connection.ask(&Request::Watch(job), Vec::new()).await?;
        Ok(Watch { connection: Arc::clone(&self.connection), replies, ended: false })
    }

    /// Waits until a job has ended; however it did, that is no error of this call.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job.
    pub async fn wait(&self, job: JobId) -> Result<JobView, Error> {
        let mut watch = self.watch(job).await?;
        while let Some(update) = watch.next().await? {
            match update {
                Update::Done(view) => return Ok(view),
                Update::Queued { .. }
                | Update::Running { .. }
                | Update::BackingOff { .. }
                | Update::Reflecting { .. }
                | Update::Editing { .. }
                | Update::Writing { .. } => {}
            }
        }
        Err(Error::Disconnected)
    }

    /// The picture file of a finished job: its name and length, and a read-only descriptor of it.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the job has none.
    pub async fn fetch(&self, job: JobId) -> Result<(BlobRef, File), Error> {
        self.file(job, None).await
    }

    /// As [`fetch`](Self::fetch), of the picture of one round, from 1, of a job that reflects; the job may still be at it.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is none.
    pub async fn fetch_round(&self, job: JobId, round: u8) -> Result<(BlobRef, File), Error> {
        self.file(job, Some(round)).await
    }

    async fn file(&self, job: JobId, round: Option<u8>) -> Result<(BlobRef, File), Error> {
        let Reply { response, descriptor } = self.connection.call(&Request::Fetch { job, round }, Vec::new()).await?;
        match (response, descriptor) {
            (Response::File(blob), Some(descriptor)) => Ok((blob, descriptor.into())),
            (Response::File(_), None) => Err(Error::Protocol("File came without its descriptor".to_owned())),
            (other, _) => Err(unexpected(&other)),
        }
    }

    /// The bytes of the picture file (PNG) of a finished job.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the job has none, [`Error::Damaged`] if they are not those the daemon stored.
    pub async fn fetch_bytes(&self, job: JobId) -> Result<Vec<u8>, Error> {
        self.bytes(job, None).await
    }

    /// As [`fetch_bytes`](Self::fetch_bytes), of the picture of one round, from 1, of a job that reflects.
    ///
    /// # Errors
    /// As there.
    pub async fn fetch_round_bytes(&self, job: JobId, round: u8) -> Result<Vec<u8>, Error> {
        self.bytes(job, Some(round)).await
    }

    async fn bytes(&self, job: JobId, round: Option<u8>) -> Result<Vec<u8>, Error> {
        let (blob, file) = self.file(job, round).await?;
        let read = move || -> io::Result<_> {
            let mut bytes = Vec::new();
            // One byte more than promised is enough to see that it is another file.
            file.take(blob.bytes.saturating_add(1)).read_to_end(&mut bytes)?;
            Ok((BlobHash::of(&bytes) == blob.hash).then_some(bytes))
        };
        let bytes = tokio::task::spawn_blocking(read).await.map_err(io::Error::other)??;
        bytes.ok_or(Error::Damaged { job })
    }

    /// Ends a job and returns it once it has ended, which on a lane takes until the next yield point. A job that had already
    /// ended is unchanged.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job.
    pub async fn cancel(&self, job: JobId) -> Result<JobView, Error> {
        self.job(&Request::Cancel(job)).await
    }

    /// A job as it is now.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job.
    pub async fn show(&self, job: JobId) -> Result<JobView, Error> {
        self.job(&Request::Show(job)).await
    }

    /// The caller's jobs, newest first: those that have not ended, or all if `ended`; only those before `before`, to page
    /// on; at most `limit`, and perhaps fewer. An empty page is the last.
    ///
    /// # Errors
    /// Those of every method.
    pub async fn list(&self, ended: bool, before: Option<JobId>, limit: u32) -> Result<Vec<JobView>, Error> {
        let response = self.connection.call(&Request::List { ended, before, limit }, Vec::new()).await?.response;
        let Response::Jobs(jobs) = response else { return Err(unexpected(&response)) };
        Ok(jobs)
    }

    /// The daemon at a glance.
    ///
    /// # Errors
    /// Those of every method.
    pub async fn status(&self) -> Result<StatusView, Error> {
        self.daemon(&Request::Status).await
    }

    /// Why a job waits, and when it is likely to start and to end.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job.
    pub async fn explain(&self, job: JobId) -> Result<Explanation, Error> {
        let response = self.connection.call(&Request::Explain(job), Vec::new()).await?.response;
        let Response::Explanation(explanation) = response else { return Err(unexpected(&response)) };
        Ok(explanation)
    }

    /// What became of each attempt at a job, oldest first; of many attempts the last ones.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job.
    pub async fn history(&self, job: JobId) -> Result<Vec<AttemptView>, Error> {
        let response = self.connection.call(&Request::History(job), Vec::new()).await?.response;
        let Response::History(attempts) = response else { return Err(unexpected(&response)) };
        Ok(attempts)
    }

    /// How well pictures show what was asked for, by their judge: over everyone's reflecting jobs that ended at or after
    /// `since_unix_ms` (milliseconds since the Unix epoch); the last `window` of them by themselves; and as a trend of at
    /// most `points` points, and never more than [`MAX_POINTS`](gpusched_shared::quality::MAX_POINTS).
    ///
    /// # Errors
    /// [`Error`] if the daemon cannot be asked.
    pub async fn quality(&self, since_unix_ms: u64, window: u32, points: u32) -> Result<QualityView, Error> {
        let request = Request::Quality { since_unix_ms, window, points };
        let response = self.connection.call(&request, Vec::new()).await?.response;
        let Response::Quality(quality) = response else { return Err(unexpected(&response)) };
        Ok(quality)
    }

    /// A page of what ran when, or of what memory was in use: what began within these times (milliseconds since the Unix
    /// epoch; the second one is not among them), newest first; `before` is where the page before ended. At most `limit`
    /// entries, and never more than [`MAX_PAGE`](gpusched_shared::timeline::MAX_PAGE).
    ///
    /// # Errors
    /// [`Error::Protocol`] if the daemon is older than this.
    pub async fn timeline(
        &self,
        track: Track,
        (since_unix_ms, until_unix_ms): (u64, u64),
        before: Option<Cursor>,
        limit: u32,
    ) -> Result<TimelineView, Error> {
        let version = self.connection.version();
        if version < TIMELINE_SINCE {
            return Err(too_old(version, "tells what ran when", TIMELINE_SINCE));
        }
        let request = Request::Timeline { track, since_unix_ms, until_unix_ms, before, limit };
        let response = self.connection.call(&request, Vec::new()).await?.response;
        let Response::Timeline(view) = response else { return Err(unexpected(&response)) };
        Ok(view)
    }

    /// The stages of a job that takes several, in the order in which they were made: what each was asked to do, what it came to, and
    /// how long that took. None of a job that is one stage itself.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job; [`Error::Protocol`] if the daemon is older than this.
    pub async fn stages(&self, job: JobId) -> Result<Vec<StageView>, Error> {
        let version = self.connection.version();
        if version < STAGES_SINCE {
            return Err(too_old(version, "tells the stages of a job", STAGES_SINCE));
        }
        let response = self.connection.call(&Request::Stages(job), Vec::new()).await?.response;
        let Response::Stages(stages) = response else { return Err(unexpected(&response)) };
        Ok(stages)
    }

    /// The jobs on lanes and those that wait, class by class in the order in which they are likely to start; the first few
    /// thousand. Those of others have no number.
    ///
    /// # Errors
    /// Those of every method.
    pub async fn queue(&self) -> Result<Vec<QueueView>, Error> {
        let response = self.connection.call(&Request::Queue, Vec::new()).await?.response;
        let Response::Queue(queue) = response else { return Err(unexpected(&response)) };
        Ok(queue)
    }

    /// Which class a job would go to, and by which rule. No job is made; pictures are not needed, and any text will do.
    ///
    /// # Errors
    /// [`Error::Rejected`], for example if there is no such model. That no rule takes the job is said by the view.
    pub async fn route(&self, spec: impl Into<JobSpec>) -> Result<RouteView, Error> {
        let response = self.connection.call(&Request::Route(spec.into()), Vec::new()).await?.response;
        let Response::Route(route) = response else { return Err(unexpected(&response)) };
        Ok(route)
    }

    /// Sets a job's priority among its owner's jobs; higher goes first.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job, it has ended, or the priority is out of range.
    pub async fn set_priority(&self, job: JobId, priority: i8) -> Result<JobView, Error> {
        self.job(&Request::SetPriority { job, priority }).await
    }

    /// Stops starting jobs of a class; those on lanes go on. For admins.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such class, or the caller is no admin.
    pub async fn pause(&self, class: impl Into<String>) -> Result<StatusView, Error> {
        self.daemon(&Request::Pause { class: class.into(), paused: true }).await
    }

    /// Starts jobs of a paused class again. For admins.
    ///
    /// # Errors
    /// As for [`pause`](Self::pause).
    pub async fn resume(&self, class: impl Into<String>) -> Result<StatusView, Error> {
        self.daemon(&Request::Pause { class: class.into(), paused: false }).await
    }

    /// Makes the daemon refuse new jobs, or take them again; those it has accepted run. For admins.
    ///
    /// # Errors
    /// [`Error::Rejected`] if the caller is no admin.
    pub async fn drain(&self, on: bool) -> Result<StatusView, Error> {
        self.daemon(&Request::Drain(on)).await
    }

    async fn daemon(&self, request: &Request) -> Result<StatusView, Error> {
        let response = self.connection.call(request, Vec::new()).await?.response;
        let Response::Status(status) = response else { return Err(unexpected(&response)) };
        Ok(status)
    }

    async fn job(&self, request: &Request) -> Result<JobView, Error> {
        let response = self.connection.call(request, Vec::new()).await?.response;
        let Response::Job(view) = response else { return Err(unexpected(&response)) };
        Ok(view)
    }
}

/// The updates of one job. Dropping it ends the watching on this side; the daemon counts the request as open until the
/// job has ended.
#[derive(Debug)]
pub struct Watch {
    connection: Arc<Connection>,
    replies: Receiver<Reply>,
    ended: bool,
}

impl Watch {
    /// The next update: [`Update::Done`] is the last, then comes `None`. Who asks too rarely skips updates, never the
    /// last. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Rejected`] if there is no such job; after an error comes `None`.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        if self.ended {
            return Ok(None);
        }
        match self.connection.next(&mut self.replies).await {
            Ok(Reply { response: Response::Update(update), .. }) => {
                self.ended = matches!(update, Update::Done(_));
                Ok(Some(update))
            }
            other => {
                self.ended = true;
                Err(other.map_or_else(|e| e, |reply| unexpected(&reply.response)))
            }
        }
    }
}

/// The error for a daemon that does not know of something yet.
fn too_old(version: u16, what: &str, since: u16) -> Error {
    Error::Protocol(format!(
        "it speaks version {version} of the protocol, and {what} from version {since} on; install the newer gpuschedd and start it again"
    ))
}
