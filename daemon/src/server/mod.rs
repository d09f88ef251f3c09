//! The side that clients see: accepts connections, tells who they are, turns frames into questions for the driver.

mod complaints;
mod listener;
mod older;
mod outbox;
mod peer;
mod pictures;
mod session;

pub use listener::{BindError, Endpoint, bind, serve};
pub use peer::Peer;
pub use session::greeting;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use gpusched_core::{Picture, SessionId};
use gpusched_shared::{
    AttemptView, BlobRef, Cursor, Explanation, JobId, JobSpec, JobView, QualityView, QueueView, Rejection, RouteView,
    Size, StageView, StatusView, TimelineView, Track, Uid, Update,
};
use tokio::sync::{Semaphore, oneshot, watch};

use crate::blobs::{Blobs, Hold};
use crate::config::Limits;

/// A question of a session to the driver, with the place for the answer.
#[derive(Debug)]
pub enum Ask {
    /// Asks what a stored picture is; the answer is its size in pixels, or what is wrong with it, for a person.
    Inspect(OwnedFd, Reply<Result<Size, String>>),
    /// Asks for a job; its pictures are stored and known to be pictures.
    Submit {
        /// Who asks.
        peer: Peer,
        /// The connection.
        session: SessionId,
        /// What to do.
        spec: JobSpec,
        /// The stored pictures.
        pictures: Vec<Picture>,
        /// What keeps them in the store until the job is on record.
        holds: Vec<Hold>,
        /// Whether the job ends with the connection.
        attached: bool,
        /// The client's name for the submission.
        key: Option<String>,
        /// Gets the job's number.
        reply: Reply<JobId>,
    },
    /// Asks for news of a job until it has ended.
    Watch(Peer, JobId, Reply<watch::Receiver<Update>>),
    /// Asks to end a job; the answer is its news, as for `Watch`.
    Cancel(Peer, JobId, Reply<watch::Receiver<Update>>),
    /// Asks for one job.
    Show(Peer, JobId, Reply<JobView>),
    /// Asks for a page of jobs.
    List {
        /// Who asks.
        peer: Peer,
        /// Whether to include those that have ended.
        ended: bool,
        /// Only jobs before this one.
        before: Option<JobId>,
        /// At most so many.
        limit: u32,
        /// Gets the page, newest first.
        reply: Reply<Vec<JobView>>,
    },
    /// Asks for a job's picture file.
    Fetch {
        /// Who asks.
        peer: Peer,
        /// The job.
        job: JobId,
        /// The picture of this round; default: the one that the job ended with.
        round: Option<u8>,
        /// Gets the file.
        reply: Reply<(BlobRef, File)>,
    },
    /// Asks how the daemon is.
    Status(Peer, Reply<StatusView>),
    /// Asks why a job is where it is.
    Explain(Peer, JobId, Reply<Explanation>),
    /// Asks what became of each attempt at a job.
    History(Peer, JobId, Reply<Vec<AttemptView>>),
    /// Asks for the stages of a job, in the order in which they were made.
    Stages(Peer, JobId, Reply<Vec<StageView>>),
    /// Asks how well pictures show what was asked for, over everyone's jobs.
    Quality {
        /// Only jobs that ended at or after this.
        since_unix_ms: u64,
        /// How many jobs the recent rate covers at most.
        window: u32,
        /// The most points of the trend.
        points: u32,
        /// Gets the numbers.
        reply: Reply<QualityView>,
    },
    /// Asks for a page of what ran when, or of what memory was in use.
    Timeline {
        /// Who asks.
        peer: Peer,
        /// Which of the two.
        track: Track,
        /// Only what began at or after this and before that, in milliseconds since the Unix epoch.
        between_unix_ms: (u64, u64),
        /// Where the page before ended.
        before: Option<Cursor>,
        /// At most so many entries.
        limit: u32,
        /// Gets the page, newest first.
        reply: Reply<TimelineView>,
    },
    /// Asks what waits and runs.
    Queue(Peer, Reply<Vec<QueueView>>),
    /// Asks where a job would go.
    Route(Peer, JobSpec, Reply<RouteView>),
    /// Asks to change a job's priority among its owner's.
    SetPriority(Peer, JobId, i8, Reply<JobView>),
    /// Asks not to start jobs of a class any more, or to start them again.
    Pause {
        /// Who asks.
        peer: Peer,
        /// The class.
        class: String,
        /// Whether it is to be paused.
        paused: bool,
        /// Gets what has become of the daemon.
        reply: Reply<StatusView>,
    },
    /// Asks to take no new jobs, or to take them again.
    Drain(Peer, bool, Reply<StatusView>),
    /// A connection has ended.
    Closed(SessionId),
}

/// Where the driver puts an answer.
pub type Reply<T> = oneshot::Sender<Result<T, Rejection>>;

/// What every session needs.
#[derive(Clone)]
pub struct Context {
    /// Bounds on clients.
    pub limits: Limits,
    /// Where pictures go.
    pub blobs: Arc<Blobs>,
    /// Places for reading picture files.
    pub readers: Arc<Semaphore>,
    /// Places for having the engine look at them: fewer than it lets wait.
    pub inspections: Arc<Semaphore>,
    /// Becomes true when the daemon is about to end.
    pub closing: watch::Receiver<bool>,
    /// Told of each submission that comes to nothing.
    pub refused: Arc<dyn Fn(&Rejection) + Send + Sync>,
    /// The daemon's own uid; it may see and end everyone's jobs, as root may.
    pub own_uid: Uid,
}

impl Context {
    /// Returns when the daemon is about to end.
    async fn closes(&self) {
        // An error means that the daemon has ended already.
        let _ = self.closing.clone().wait_for(|closing| *closing).await;
    }
}
