//! The vocabulary of gpusched and the bytes it travels in: what clients and the daemon say to each other. No IO, but
//! for [`socket`], which carries frames and descriptors, and for `manual`, which writes man pages and completions; each is
//! behind a feature of that name.
//!
//! Read in this order: [`spec`] and [`edit`] (what a client asks for), [`outcome`] and [`reflect`] (what it gets), [`view`] and [`explain`] (what it
//! sees meanwhile), [`timeline`] (what is on record of it afterwards), [`request`] and [`response`] (the messages), [`frame`] and [`codec`] (their bytes). The format is
//! written down in `shared/PROTOCOL.md`, with examples that a test compares byte for byte.

pub mod blob;
pub mod codec;
pub mod edit;
pub mod explain;
pub mod frame;
pub mod id;
#[cfg(feature = "manual")]
pub mod manual;
pub mod mix;
pub mod model;
pub mod outcome;
pub mod quality;
pub mod reflect;
pub mod rejection;
pub mod request;
pub mod response;
#[cfg(feature = "socket")]
pub mod socket;
pub mod spec;
pub mod timeline;
pub mod units;
pub mod view;

pub use blob::{BlobHash, BlobRef};
pub use edit::{
    AnalyzeSpec, Area, DetectSpec, EditSpec, EditStep, Found, InpaintSpec, Point, ScoreSpec, SegmentSpec, StageView,
};
pub use explain::{Explanation, QueueView, Reason, RouteView, RuleView};
pub use id::{JobId, RequestId, Uid};
pub use model::{Declared, ModelInfo};
pub use outcome::{Answer, FailureKind, OutOfMemory, Outcome, TimeLimit};
pub use quality::{ModelSuccess, QualityView, Success, TrendPoint};
pub use reflect::{Check, Checked, Claim, Phase, Reflect, ReflectEnd, Reflection, Round, RoundImage, Verdict};
pub use rejection::{Quota, Rejection};
pub use request::Request;
pub use response::Response;
pub use spec::{ImageSpec, JobSpec, Size, Task, TaskKind, VqaSpec};
pub use timeline::{
    About, Cursor, LaneSpan, MemoryEvent, MemorySample, Parked, StageRole, TimelinePage, TimelineView, Track,
};
pub use units::Bytes;
pub use view::{
    Activity, AttemptEnd, AttemptView, ClassView, EngineView, JobState, JobView, LaneView, ModelView, PartitionView,
    PreemptionView, StatusView, StorageView, Update, Usage,
};

/// The oldest protocol version this build speaks.
pub const VERSION_MIN: u16 = 3;
/// The newest protocol version this build speaks.
pub const VERSION_MAX: u16 = 5;
/// Environment variable that names the socket, for clients and for the daemon.
pub const SOCKET_ENV: &str = "GPUSCHED_SOCKET";
/// Where the system's daemon listens.
pub const SYSTEM_SOCKET: &str = "/run/gpusched/gpusched.sock";
