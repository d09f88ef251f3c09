//! What a client says.

use crate::codec::{Decode, Encode};
use crate::id::JobId;
use crate::spec::JobSpec;
use crate::timeline::{Cursor, Track};

/// A request. Each gets at least one [`Response`](crate::Response) with its request id.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Request {
    /// The first message of a connection. Its encoding is the same in every protocol version.
    Hello {
        /// Oldest version the client speaks.
        least: u16,
        /// Newest version the client speaks.
        most: u16,
        /// The client's name and version, for the log.
        client: String,
    },
    /// Asks for a job. Answered with `Accepted` once the job is on record.
    Submit {
        /// The job.
        spec: JobSpec,
        /// How many descriptors of picture files travel with this frame.
        pictures: u8,
        /// If true the job is cancelled when this connection ends.
        attached: bool,
        /// Makes it safe to ask again: while the daemon remembers the job that the caller's uid submitted with this key, the
        /// same request is answered with that job, and another one refused. At most
        /// [`MAX_KEY_BYTES`](crate::spec::MAX_KEY_BYTES). An attached job is then attached to the connection that asked last.
        key: Option<String>,
    },
    /// Asks for `Update`s of a job until it has ended.
    Watch(JobId),
    /// Asks to end a job. Answered with `Job`: a job that had already finished stays finished.
    Cancel(JobId),
    /// Asks for a `Job`.
    Show(JobId),
    /// Asks for the caller's `Jobs`, newest first.
    List {
        /// True for those that have ended, too.
        ended: bool,
        /// Only jobs before this one, to page on.
        before: Option<JobId>,
        /// At most so many; the daemon may give fewer.
        limit: u32,
    },
    /// Asks for a descriptor of a job's picture file.
    Fetch {
        /// The job.
        job: JobId,
        /// The picture of this round, from 1, if the job reflects; of an edit, what its stage with this number made (see
        /// [`EditStep::number`](crate::EditStep::number)); default: the one that the job ended with.
        round: Option<u8>,
    },
    /// Asks for a `Status`.
    Status,
    /// Asks for an `Explanation` of a job: why it waits, when it is likely to start and to finish.
    Explain(JobId),
    /// Asks for a `Queue`: what waits and runs, in the order in which it is likely to.
    Queue,
    /// Asks which class a job would go to, and why. Answered with `Route`; no job is made.
    Route(JobSpec),
    /// Sets a job's priority among its owner's jobs. Answered with `Job`.
    SetPriority {
        /// The job.
        job: JobId,
        /// Its new priority.
        priority: i8,
    },
    /// For admins: stops starting jobs of a class, or starts them again. Answered with `Status`.
    Pause {
        /// The class.
        class: String,
        /// Whether it is to be paused.
        paused: bool,
    },
    /// For admins: takes no new jobs, or takes them again; what has been accepted runs on. Answered with `Status`.
    Drain(bool),
    /// Asks for a `History`: what became of each attempt at a job.
    History(JobId),
    /// Asks for a `Quality`: how well pictures show what was asked for, over everyone's reflecting jobs.
    Quality {
        /// Only jobs that ended at or after this, in milliseconds since the Unix epoch.
        since_unix_ms: u64,
        /// How many jobs the recent rate covers at most.
        window: u32,
        /// The most points of the trend, at most [`MAX_POINTS`](crate::quality::MAX_POINTS).
        points: u32,
    },
    /// From version 4 on. Asks for a `Timeline`: a page of what ran when, or of what memory was in use, newest first.
    Timeline {
        /// Which of the two.
        track: Track,
        /// Only what began at or after this, in milliseconds since the Unix epoch.
        since_unix_ms: u64,
        /// Only what began before this, likewise.
        until_unix_ms: u64,
        /// Where the page before ended; none for the first one.
        before: Option<Cursor>,
        /// At most so many entries, and at most [`MAX_PAGE`](crate::timeline::MAX_PAGE).
        limit: u32,
    },
    /// From version 5 on. Asks for the `Stages` of a job that takes several, in the order in which they were made.
    Stages(JobId),
}
