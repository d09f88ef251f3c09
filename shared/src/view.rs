//! What a client may see of a job and of the daemon.

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};
use crate::id::{JobId, Uid};
use crate::outcome::Outcome;
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
    /// Ended.
    Done(Outcome),
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
    /// It ended.
    Done(JobView),
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
}

/// One service class.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct ClassView {
    /// Its name.
    pub name: String,
    /// Jobs waiting.
    pub queued: u32,
    /// Jobs on lanes.
    pub running: u32,
    /// Jobs ended since the daemon started.
    pub finished: u64,
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
