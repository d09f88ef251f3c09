//! Jobs that outlive the daemon: when it goes away, a [`Session`] waits for it, connects again, and goes on.
//!
//! That is safe because each submission has a key. Whether the daemon died before it had the request, after it had put the
//! job on record, or after it had run it: the same request with the same key is the same job. An attached job is handed in
//! again whenever the connection is new, which attaches it to that connection; the daemon keeps attached jobs of an earlier
//! run for a while (`reattach_grace_s`) so that there is time for it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use gpusched_shared::{JobId, JobView, Rejection, StageView, Update};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

use crate::client::{Client, Watch};
use crate::error::Error;
use crate::reconnect::{Reconnect, Waits};
use crate::retry::{Retry, Tries};
use crate::submission::Submission;

/// How long a daemon that took the connection may take to say who it is: one that hangs counts as away.
const GREETING: Duration = Duration::from_secs(5);

/// A connection to the daemon that is opened again when it is lost. Clones share it, as the [`Job`]s do.
///
/// ```no_run
/// # async fn example() -> Result<(), gpusched_client::Error> {
/// use gpusched_client::{Reconnect, Session, Submission, default_socket, txt2img};
///
/// let session = Session::connect(default_socket(), Reconnect::default(), |notice| eprintln!("{notice:?}")).await?;
/// let mut job = session.submit(Submission::new(txt2img("a red circle"))).await?;
/// println!("{:?}", job.wait().await?.state);
/// let png = job.fetch_bytes().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Session {
    link: Arc<Link>,
}

/// What becomes of the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Notice {
    /// The daemon went away, and is waited for.
    Lost {
        /// How long at most.
        within: Duration,
    },
    /// It is back.
    Back,
}

impl Session {
    /// Connects to the daemon that listens at `socket`; that there is none is said at once. `notice` is told when it goes
    /// away later, and when it is back.
    ///
    /// # Errors
    /// Those of [`Client::connect`].
    pub async fn connect(
        socket: impl AsRef<Path>,
        reconnect: Reconnect,
        notice: impl Fn(Notice) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let socket = socket.as_ref().to_owned();
        let client = Client::connect(&socket).await?;
        let current = Mutex::new(Current { client, number: 0 });
        let link = Link { socket, reconnect, notice: Box::new(notice), missed: AtomicBool::new(false), current };
        Ok(Self { link: Arc::new(link) })
    }

    /// The connection as it is now, for everything else that a daemon can be asked. It does not come back by itself: ask
    /// for it again.
    ///
    /// # Errors
    /// Those of [`Client::connect`], if it was lost and cannot be opened right now.
    pub async fn client(&self) -> Result<Client, Error> {
        Ok(self.link.current().await?.0)
    }

    /// Hands in a job, again if the daemon goes away meanwhile. A random key is made up where none is given.
    ///
    /// # Errors
    /// [`Error::Rejected`] as for [`Client::submit`], and if the key was used for another job; [`Error::Gone`] if the daemon
    /// does not come back in time.
    pub async fn submit(&self, submission: Submission) -> Result<Job, Error> {
        let submission = submission.with_key()?;
        let (id, number) = self.hand_in(&submission).await?;
        Ok(self.job(id, number, submission))
    }

    /// As [`submit`](Self::submit), but while the queue of the job's class is full, waits and tries again as `retry` says.
    ///
    /// # Errors
    /// As there; [`Rejection::QueueFull`] once `retry` gives up.
    pub async fn submit_retrying(
        &self,
        submission: Submission,
        retry: Retry,
        notice: impl FnMut(&Rejection, Duration),
    ) -> Result<Job, Error> {
        let submission = submission.with_key()?;
        let mut tries = Tries::new(retry, notice);
        loop {
            match self.hand_in(&submission).await {
                Ok((id, number)) => return Ok(self.job(id, number, submission)),
                Err(error) => tries.outlast(error).await?,
            }
        }
    }

    /// A job that was handed in before, by its number. It is not attached to this session.
    pub fn attend(&self, job: JobId) -> Job {
        Job { id: job, session: self.clone(), number: 0, submission: None, watch: None, absence: None, ended: false }
    }

    fn job(&self, id: JobId, number: u64, submission: Submission) -> Job {
        let submission = submission.attached.then_some(submission);
        Job { number, submission, ..self.attend(id) }
    }

    /// The job's number, and that of the connection it was handed in on.
    async fn hand_in(&self, submission: &Submission) -> Result<(JobId, u64), Error> {
        let mut absence = None;
        loop {
            let handed_in = async {
                let (client, number) = self.link.current().await?;
                Ok((client.hand_in(submission).await?, number))
            };
            match handed_in.await {
                Ok(done) => return Ok(done),
                Err(error) => self.link.outlast(&mut absence, error, away).await?,
            }
        }
    }
}

/// A job of a [`Session`]. An attached one is the daemon's for as long as this is asked for news, or the connection holds:
/// dropped, it stays with the connection, but is not handed in again when that is lost.
#[derive(Debug)]
pub struct Job {
    id: JobId,
    session: Session,
    /// The connection that it is attached to.
    number: u64,
    /// What to hand in again, if it is attached.
    submission: Option<Submission>,
    watch: Option<Watch>,
    absence: Option<Absence>,
    ended: bool,
}

impl Job {
    /// Its number. It changes only if the daemon comes back without its memory, and gets the job anew.
    pub fn id(&self) -> JobId {
        self.id
    }

    /// The next update, as from [`Watch::next`]; after the daemon was away the present state comes first. Cancel-safe.
    ///
    /// # Errors
    /// [`Error::Gone`] if the daemon does not come back in time, [`Error::Rejected`] if it no longer knows the job; after an
    /// error comes `None`.
    pub async fn next(&mut self) -> Result<Option<Update>, Error> {
        if self.ended {
            return Ok(None);
        }
        loop {
            match self.try_next().await {
                Ok(update) => {
                    self.absence = None;
                    self.ended = matches!(update, Update::Done(_));
                    return Ok(Some(update));
                }
                Err(error) => {
                    self.watch = None;
                    if let Err(error) = self.session.link.outlast(&mut self.absence, error, away_with_a_job).await {
                        self.ended = true;
                        return Err(error);
                    }
                }
            }
        }
    }

    async fn try_next(&mut self) -> Result<Update, Error> {
        let watch = match &mut self.watch {
            Some(watch) => watch,
            none => {
                let (client, number) = self.session.link.current().await?;
                if number != self.number {
                    if let Some(submission) = &self.submission {
                        self.id = client.hand_in(submission).await?;
                    }
                    self.number = number;
                }
                none.insert(client.watch(self.id).await?)
            }
        };
        watch.next().await?.ok_or(Error::Disconnected)
    }

    /// Waits until the job has ended; however it did, that is no error of this call.
    ///
    /// # Errors
    /// Those of [`next`](Self::next).
    pub async fn wait(&mut self) -> Result<JobView, Error> {
        while let Some(update) = self.next().await? {
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
        // It was told before.
        self.session.client().await?.show(self.id).await
    }

    /// The bytes of the picture file (PNG), once the job is done.
    ///
    /// # Errors
    /// Those of [`Client::fetch_bytes`]; [`Error::Gone`].
    pub async fn fetch_bytes(&self) -> Result<Vec<u8>, Error> {
        self.lasting(async |client| client.fetch_bytes(self.id).await).await
    }

    /// Its stages, if it takes several.
    ///
    /// # Errors
    /// Those of [`Client::stages`]; [`Error::Gone`].
    pub async fn stages(&self) -> Result<Vec<StageView>, Error> {
        self.lasting(async |client| client.stages(self.id).await).await
    }

    /// What a daemon says that may go away meanwhile and come back.
    async fn lasting<T>(&self, ask: impl AsyncFn(&Client) -> Result<T, Error>) -> Result<T, Error> {
        let mut absence = None;
        loop {
            let asked = async { ask(&self.session.client().await?).await };
            match asked.await {
                Err(error) => self.session.link.outlast(&mut absence, error, away).await?,
                said => return said,
            }
        }
    }

    /// Ends the job, and returns it once it has ended; see [`Client::cancel`]. A daemon that is away is not waited for: it
    /// cancels an attached job whose client does not come back.
    ///
    /// # Errors
    /// Those of [`Client::cancel`].
    pub async fn cancel(&self) -> Result<JobView, Error> {
        self.session.client().await?.cancel(self.id).await
    }
}

/// The connection as it is now, and how to get the next.
struct Link {
    socket: PathBuf,
    reconnect: Reconnect,
    notice: Box<dyn Fn(Notice) + Send + Sync>,
    missed: AtomicBool,
    current: Mutex<Current>,
}

#[derive(Debug)]
struct Current {
    client: Client,
    number: u64,
}

/// A time without the daemon.
#[derive(Debug)]
struct Absence {
    since: Instant,
    waits: Waits,
}

impl Link {
    /// The connection and its number; a new one, if the last was lost.
    async fn current(&self) -> Result<(Client, u64), Error> {
        // Held while connecting: of many callers one connects, and the others get what it got.
        let mut current = self.current.lock().await;
        if current.client.is_lost() {
            let opened = timeout(GREETING, Client::connect(&self.socket)).await;
            current.client = opened.unwrap_or(Err(Error::Disconnected))?;
            current.number += 1;
            if self.missed.swap(false, Ordering::Relaxed) {
                (self.notice)(Notice::Back);
            }
        }
        Ok((current.client.clone(), current.number))
    }

    /// Waits a while if `error` says, as `away` has it, that the daemon is away and it may still come back.
    async fn outlast(
        &self,
        absence: &mut Option<Absence>,
        error: Error,
        away: fn(&Error, bool) -> Option<Away>,
    ) -> Result<(), Error> {
        let Some(away) = away(&error, absence.is_some()) else { return Err(error) };
        let since = Instant::now();
        let absence = absence.get_or_insert_with(|| Absence { since, waits: self.reconnect.start() });
        let within = self.reconnect.within;
        match absence.waits.wait(absence.since.elapsed()) {
            Some(wait) => {
                if away == Away::Gone && !self.missed.swap(true, Ordering::Relaxed) {
                    (self.notice)(Notice::Lost { within });
                }
                sleep(wait).await;
                Ok(())
            }
            None if within.is_zero() || matches!(error, Error::Rejected(_)) => Err(error),
            None => Err(Error::Gone { within, last: Box::new(error) }),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("socket", &self.socket).field("current", &self.current).finish_non_exhaustive()
    }
}

/// What is away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Away {
    /// The daemon, from this client.
    Gone,
    /// A part of it: it answers, but not this.
    Busy,
}

/// Whether an error passes by itself: there was a connection, so that there is none now means that the daemon is away. It
/// may refuse those who come back because it is still stopping; one that was never lost means what it says.
fn away(error: &Error, absent: bool) -> Option<Away> {
    match error {
        Error::Disconnected | Error::NotRunning { .. } | Error::PermissionDenied { .. } => Some(Away::Gone),
        Error::Io(_) => absent.then_some(Away::Gone),
        Error::Rejected(Rejection::EngineDown | Rejection::TooManyConnections { .. }) => Some(Away::Busy),
        Error::Rejected(Rejection::Draining) => absent.then_some(Away::Busy),
        Error::Rejected(_)
        | Error::Gone { .. }
        | Error::Protocol(_)
        | Error::Damaged { .. }
        | Error::Picture { .. } => None,
    }
}

/// As [`away`], for a job that has been accepted and so will have an outcome: that a daemon cannot tell it, or cannot take
/// the submission again that it has on record, passes.
fn away_with_a_job(error: &Error, absent: bool) -> Option<Away> {
    let Error::Rejected(rejection) = error else { return away(error, absent) };
    if *rejection == Rejection::Draining {
        Some(Away::Gone)
    } else if matches!(
        rejection,
        Rejection::DiskFull { .. }
            | Rejection::StoreFull { .. }
            | Rejection::Internal { .. }
            // They were taken once: it is busy with others, or the engine died as it looked at them.
            | Rejection::BadImage { .. }
    ) {
        Some(Away::Busy)
    } else {
        away(error, absent)
    }
}
