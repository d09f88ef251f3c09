//! What ran when, and what memory was in use: the record that reports and traces are made from.
//!
//! It is told in pages, newest first. Everybody may know when lanes were busy and how full partitions were, as with the
//! status; what others' jobs were about is theirs.

use serde::{Deserialize, Serialize};

use crate::codec::{Decode, Encode};
use crate::id::JobId;
use crate::spec::TaskKind;
use crate::view::AttemptEnd;

/// The version of the protocol that this came with.
pub const TIMELINE_SINCE: u16 = 4;

/// The most entries of a page.
pub const MAX_PAGE: u32 = 400;

/// The most stays at the gate that are told of one attempt, the first ones.
pub const MAX_PARKS: usize = 100;

/// Which record to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum Track {
    /// What lanes ran.
    Lanes,
    /// What partitions held.
    Memory,
}

/// Where a page ended. Of use only to ask for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
pub struct Cursor {
    /// When the last entry of the page was, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// What tells it from others of that moment.
    pub id: u64,
    /// Likewise.
    pub attempt: u32,
}

/// A page of a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct TimelineView {
    /// How the daemon starts waiting jobs: `multi-queue` or `fifo`.
    pub policy: String,
    /// The entries, newest first.
    pub page: TimelinePage,
    /// Where to go on; `None` if there is no more.
    pub next: Option<Cursor>,
}

/// The entries of a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum TimelinePage {
    /// What lanes ran.
    Lanes(Vec<LaneSpan>),
    /// What partitions held.
    Memory(Vec<MemorySample>),
}

/// One attempt, where it was and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct LaneSpan {
    /// The lane, such as `heavy-0`: its class, and its number within the class.
    pub lane: String,
    /// When the lane took it, in milliseconds since the Unix epoch.
    pub started_unix_ms: u64,
    /// When the lane was done with it; `None` while it is not, and where the daemon died before it was.
    pub ended_unix_ms: Option<u64>,
    /// How; `None` likewise.
    pub end: Option<AttemptEnd>,
    /// When it was parked, in the order of time; known once it has ended. At most [`MAX_PARKS`], the first ones.
    pub parked: Vec<Parked>,
    /// What it was about; `None` if it was someone else's.
    pub about: Option<About>,
}

/// A stay at the gate, counted from the start of its attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct Parked {
    /// When it began, in microseconds.
    pub from_us: u64,
    /// When it ended, in microseconds.
    pub until_us: u64,
}

/// What an attempt was about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct About {
    /// The job that was asked for.
    pub job: JobId,
    /// Which try at it, or at its stage, from 1.
    pub attempt: u32,
    /// What it did for that job.
    pub role: StageRole,
    /// In which round, from 1, if the job reflects; else 0.
    pub round: u8,
    /// What was done.
    pub kind: TaskKind,
    /// With which model.
    pub model: String,
    /// The most memory it used beside the model's weights, in bytes; 0 if that was not measured.
    pub peak_bytes: u64,
}

/// What a stage does for its job.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum StageRole {
    /// It is the whole job.
    Whole,
    /// It makes the picture of a round.
    Image,
    /// It checks that picture.
    Check,
    /// It looks at what that picture is about to become.
    Glance,
    /// It looks for what is to be changed. Since version 5, as all that follow.
    Detect,
    /// It tells its pixels from the rest.
    Segment,
    /// It makes them anew.
    Inpaint,
}

/// What a partition held at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
pub struct MemorySample {
    /// When, in milliseconds since the Unix epoch.
    pub unix_ms: u64,
    /// The partition: the name of its class.
    pub class: String,
    /// Why it was looked at then.
    pub event: MemoryEvent,
    /// In use, as the engine counted last, in bytes.
    pub used_bytes: u64,
    /// Promised: weights of resident models, and what the jobs on its lanes may use, in bytes.
    pub reserved_bytes: u64,
    /// The most that may be in use, in bytes.
    pub cap_bytes: u64,
    /// What the engine's process held of the machine's memory, in bytes; told of flushes, else 0.
    pub resident_bytes: u64,
}

/// Why a partition was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Encode, Decode)]
#[serde(rename_all = "snake_case")]
pub enum MemoryEvent {
    /// A lane has been given an attempt.
    Began,
    /// A lane is done with one.
    Ended,
    /// An attempt ran out of memory.
    OutOfMemory,
    /// A model has been loaded.
    Loaded,
    /// A model has been dropped.
    Unloaded,
    /// Free memory is about to be given back.
    Flushing,
    /// It has been.
    Flushed,
    /// Nothing; it was looked at while something ran, or after that.
    Looked,
}

impl LaneSpan {
    /// The lane's class and its number in the class; `None` if its name is not made of these.
    pub fn place(&self) -> Option<(&str, u32)> {
        let (class, index) = self.lane.rsplit_once('-')?;
        Some((class, index.parse().ok()?))
    }
}

impl StageRole {
    /// One word.
    pub fn word(self) -> &'static str {
        match self {
            Self::Whole => "whole",
            Self::Image => "image",
            Self::Check => "check",
            Self::Glance => "glance",
            Self::Detect => "detect",
            Self::Segment => "segment",
            Self::Inpaint => "inpaint",
        }
    }
}

impl MemoryEvent {
    /// Every event, in the order of the tags.
    pub const ALL: [Self; 8] = [
        Self::Began,
        Self::Ended,
        Self::OutOfMemory,
        Self::Loaded,
        Self::Unloaded,
        Self::Flushing,
        Self::Flushed,
        Self::Looked,
    ];

    /// One word, the same in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Ended => "ended",
            Self::OutOfMemory => "out_of_memory",
            Self::Loaded => "loaded",
            Self::Unloaded => "unloaded",
            Self::Flushing => "flushing",
            Self::Flushed => "flushed",
            Self::Looked => "looked",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lane_is_a_class_and_a_number() {
        let span = |lane: &str| LaneSpan {
            lane: lane.to_owned(),
            started_unix_ms: 1,
            ended_unix_ms: None,
            end: None,
            parked: Vec::new(),
            about: None,
        };
        assert_eq!(span("very-heavy-3").place(), Some(("very-heavy", 3)));
        assert_eq!((span("heavy").place(), span("heavy-x").place()), (None, None));
    }

    #[test]
    fn every_event_has_a_word_of_its_own() {
        let words: std::collections::BTreeSet<_> = MemoryEvent::ALL.map(MemoryEvent::word).into();
        assert_eq!(words.len(), MemoryEvent::ALL.len());
    }
}
