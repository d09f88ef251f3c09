//! What a client may see of a job and of the daemon.

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};
use crate::edit::EditStep;
use crate::id::{JobId, Uid};
use crate::outcome::Outcome;
use crate::reflect::{Phase, Reflection};
use crate::spec::JobSpec;

/// A job as its owner sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct JobView {
    /// Its number.
    pub id: JobId,
    /// Whose it is.
    pub uid: Uid,
    /// The service class it was routed to.
    pub class: String,
    /// What was asked for, with everything the daemon filled in.
    pub spec: JobSpec,
    /// True if it ends when its client goes away.
    pub attached: bool,
    /// Where it is.
    pub state: JobState,
    /// How often a lane has started it.
    pub attempts: u32,
    /// When it was accepted, in milliseconds since the Unix epoch.
    pub submitted_unix_ms: u64,
    /// How long it waited for a lane, so far or in all, in microseconds; counted anew when the daemon starts again.
    pub wait_us: u64,
    /// How long lanes held it, so far or in all, in microseconds, parked time included; counted anew likewise.
    pub run_us: u64,
    /// What its lanes measured, so far or in all.
    pub usage: Usage,
    /// How often it was tried again after it ran out of memory.
    pub retries: u32,
    /// How long it waited to be tried again, so far or in all, in microseconds; a part of `wait_us`.
    pub backoff_us: u64,
    /// What its rounds came to, so far or in all, if it reflects.
    pub reflection: Option<Reflection>,
}

/// What lanes measured of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
pub struct Usage {
    /// How long it was parked at yield points while lighter work ran, in microseconds.
    pub parked_us: u64,
    /// How often it was.
    pub yields: u32,
    /// The longest time between two yield points, in microseconds; time parked does not count. 0 while it runs.
    pub longest_gap_us: u64,
    /// The most memory it used beside the model's weights, in bytes. 0 while it runs.
    pub peak_bytes: u64,
}

/// Where a job is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// Waiting for a lane of its class.
    Queued {
        /// How many jobs of its class go before it, as things stand.
        ahead: u32,
    },
    /// On a lane.
    Running {
        /// Which lane of the class, from 0.
        lane: u32,
        /// How far it is.
        activity: Activity,
        /// True while it is parked at a yield point for lighter work.
        parked: bool,
    },
    /// It ran out of memory, and waits to be tried again.
    BackingOff {
        /// Which retry comes next, from 1.
        retry: u32,
        /// When at the latest; sooner if memory is freed before.
        within_ms: u64,
    },
    /// It reflects: its pictures and their checks are made one after the other.
    Reflecting {
        /// Which round, from 1.
        round: u8,
        /// The most rounds there will be.
        of: u8,
        /// How far that is.
        phase: Phase,
    },
    /// Ended.
    Done(Outcome),
    /// It edits a picture, in stages. Since version 5.
    Editing {
        /// What it is at.
        step: EditStep,
        /// How far that is.
        phase: Phase,
    },
}

/// What a lane does for a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Activity {
    /// Nothing that could be counted yet.
    Starting,
    /// Reads weight files.
    Loading {
        /// Files read.
        done: u32,
        /// Files to read.
        of: u32,
    },
    /// Takes diffusion steps.
    Working {
        /// Steps taken.
        done: u32,
        /// Steps to take.
        of: u32,
    },
}

/// News of a watched job. The last one is [`Update::Done`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
#[expect(clippy::large_enum_variant, reason = "short-lived, few at a time; a box would burden every reader")]
pub enum Update {
    /// It waits.
    Queued {
        /// How many jobs of its class go before it, as things stand.
        ahead: u32,
    },
    /// A lane took it, or got further with it.
    Running {
        /// Which lane of the class, from 0.
        lane: u32,
        /// How far it is.
        activity: Activity,
        /// True while it is parked at a yield point for lighter work.
        parked: bool,
    },
    /// It ran out of memory, and waits to be tried again.
    BackingOff {
        /// Which retry comes next, from 1.
        retry: u32,
        /// When at the latest, from when it was told to wait; sooner if memory is freed before.
        within_ms: u64,
    },
    /// A round of it got further.
    Reflecting {
        /// Which round, from 1.
        round: u8,
        /// The most rounds there will be.
        of: u8,
        /// How far that is.
        phase: Phase,
    },
    /// It ended.
    Done(JobView),
    /// An edit got further. Since version 5.
    Editing {
        /// What it is at.
        step: EditStep,
        /// How far that is.
        phase: Phase,
    },
    /// A text got longer. Since version 5.
    Writing {
        /// All of it so far. Of several that follow each other fast a client may get the last only.
        text: String,
        /// Its tokens.
        tokens: u32,
    },
}

/// One attempt at a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct AttemptView {
    /// Which one, from 1.
    pub attempt: u32,
    /// The lane that took it, such as `heavy-0`.
    pub lane: String,
    /// When, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// When the lane was done with it; `None` while it is not, and where the daemon died before it was.
    pub ended_unix_ms: Option<u64>,
    /// How; `None` likewise.
    pub end: Option<AttemptEnd>,
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum AttemptEnd {
    /// It made what it was to make.
    Done,
    /// It failed for good.
    Failed,
    /// It was told to stop.
    Stopped,
    /// It ran out of memory.
    OutOfMemory,
    /// The engine died under it.
    EngineLost,
}

/// The daemon at a glance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, Encode, Decode)]
pub struct StatusView {
    /// The daemon's version.
    pub version: String,
    /// How long it has been up.
    pub uptime_ms: u64,
    /// True if it takes no new jobs.
    pub draining: bool,
    /// Its service classes.
    pub classes: Vec<ClassView>,
    /// Its lanes.
    pub lanes: Vec<LaneView>,
    /// Its models.
    pub models: Vec<ModelView>,
    /// How fast heavy work makes way, for each class that does.
    pub preemption: Vec<PreemptionView>,
    /// The engine.
    pub engine: EngineView,
    /// The journal and the stored files.
    pub storage: StorageView,
}

/// The engine, which runs the stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
pub struct EngineView {
    /// True if it can run something.
    pub up: bool,
    /// Its process; `None` while there is none, and where it is threads of the daemon's own.
    pub pid: Option<u32>,
    /// How often it died since the daemon started.
    pub deaths: u64,
}

/// The daemon's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
pub struct StorageView {
    /// The journal.
    pub journal_bytes: u64,
    /// Stored files.
    pub blob_bytes: u64,
    /// The most that stored files may take.
    pub blob_quota_bytes: u64,
    /// What is free on the disk.
    pub free_bytes: u64,
    /// Below this, no new jobs are taken.
    pub low_water_bytes: u64,
}

/// One service class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClassView {
    /// Its name.
    pub name: String,
    /// Jobs waiting, and stages of jobs.
    pub queued: u32,
    /// Jobs on lanes, and stages of jobs.
    pub running: u32,
    /// Jobs that wait to be tried again after they ran out of memory.
    pub backing_off: u32,
    /// Jobs ended since the daemon started, stages not counted.
    pub finished: u64,
    /// How often one of its jobs ran out of memory since the daemon started.
    pub out_of_memory: u64,
    /// True if none of its jobs is started until it is resumed.
    pub paused: bool,
    /// Its memory.
    pub partition: PartitionView,
}

/// The memory of one service class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, Encode, Decode)]
pub struct PartitionView {
    /// The most that may be in use.
    pub cap_bytes: u64,
    /// Weights of resident models.
    pub weights_bytes: u64,
    /// Promised to the jobs on its lanes.
    pub leased_bytes: u64,
    /// In use, as the engine counts.
    pub live_bytes: u64,
    /// The most that was in use at once, as the engine counts.
    pub peak_bytes: u64,
}

/// How fast the jobs of a class park when lighter work becomes runnable, since the daemon started.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct PreemptionView {
    /// The class that makes way.
    pub class: String,
    /// How often one of its running jobs parked. The percentiles are of the last few thousand of these: the time from the
    /// lighter job becoming runnable to the heavy one being parked.
    pub parked: u64,
    /// Half of them took at most this, in microseconds.
    pub p50_us: u64,
    /// 99 of 100 took at most this, in microseconds.
    pub p99_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// How often lighter work was over before the heavy job came to a yield point.
    pub missed: u64,
    /// How often the class went on beside lighter work because its minimum share was due; these are not in the percentiles.
    pub refused: u64,
    /// The longest time between two yield points of its jobs that have left their lanes, in microseconds, model loading
    /// excepted.
    pub longest_gap_us: u64,
}

/// One lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct LaneView {
    /// Its class.
    pub class: String,
    /// Its number within the class, from 0.
    pub index: u32,
    /// The job on it; hidden (0) where that is someone else's.
    pub job: Option<JobId>,
}

/// One model of the catalog.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ModelView {
    /// Its name: that of its directory.
    pub name: String,
    /// Its architecture, for example `flux2-klein`.
    pub kind: String,
    /// Bytes of its weight files.
    pub bytes: u64,
    /// The classes whose partitions hold it.
    pub resident: Vec<String>,
}
