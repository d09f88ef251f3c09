//! What the daemon says.

use crate::blob::BlobRef;
use crate::codec::{Decode, Encode};
use crate::edit::StageView;
use crate::explain::{Explanation, QueueView, RouteView};
use crate::id::JobId;
use crate::quality::QualityView;
use crate::rejection::Rejection;
use crate::timeline::TimelineView;
use crate::view::{AttemptView, JobView, StatusView, Update};

/// A response; its request id is that of the request it answers.
#[derive(Debug, Clone, PartialEq, Encode, Decode)]
pub enum Response {
    /// To Hello: the version both sides speak from here on, and what a client should know.
    Welcome {
        /// The protocol version.
        version: u16,
        /// The daemon's name and version.
        server: String,
        /// The most requests the connection may have open.
        max_open_requests: u32,
    },
    /// Refused. Nothing has changed.
    Rejected(Rejection),
    /// To Submit: the job is on record and will have an outcome.
    Accepted(JobId),
    /// To Watch, as often as there is news.
    Update(Update),
    /// To Cancel, Show and SetPriority.
    Job(JobView),
    /// To List, newest first; reflections come without their rounds.
    Jobs(Vec<JobView>),
    /// To Fetch: one read-only descriptor travels with this frame.
    File(BlobRef),
    /// To Status, Pause and Drain.
    Status(StatusView),
    /// To Explain.
    Explanation(Explanation),
    /// To Queue.
    Queue(Vec<QueueView>),
    /// To Route.
    Route(RouteView),
    /// To History, oldest first; of many attempts the last ones.
    History(Vec<AttemptView>),
    /// To Quality.
    Quality(QualityView),
    /// To Timeline.
    Timeline(TimelineView),
    /// To Stages. Since version 5.
    Stages(Vec<StageView>),
}
