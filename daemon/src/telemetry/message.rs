//! What the daemon says that a program may look for: each kind of message has a number that never changes, the
//! `MESSAGE_ID` of the journal. `systemd/gpusched.catalog` explains each, and `journalctl -x` shows that.
//!
//! The fields that messages have, where they apply:
//!
//! | field | what |
//! | --- | --- |
//! | `JOB_ID` | the job that a client asked for, also where the message is about a stage of it |
//! | `CLIENT_UID` | whose it is; of what an admin does, the admin |
//! | `CLASS`, `LANE`, `MODEL` | where it runs, and with what |
//! | `STAGE` | of a job with several stages, which one: `image 2` is the picture of round 2, `check 2.1` the first question about it, `glance 2.1` about what it was about to become |
//! | `ATTEMPT` | which try, from 1 |
//! | `OUTCOME` | how it ended, in one word |
//! | `WAIT_MS`, `RUN_MS` | how long it waited for lanes, and how long they held it, in milliseconds |
//! | `PARKED_MS` | of that, how long it made way |
//! | `DEVICE_MS` | how long the device itself was at it, by its own clock, in milliseconds; not said by a CPU |
//! | `PEAK_BYTES` | the most memory that it used beside its model's weights |
//!
//! What a job is about, its prompt and the questions about its picture, is never among them.

use tracing::Level;

/// The name of the field with the number.
pub const MESSAGE_ID: &str = "MESSAGE_ID";

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident = $level:ident $id:literal,)*) => {
        /// A kind of message.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Message {
            $($(#[$doc])* $name,)*
        }

        impl Message {
            /// All there are.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// Its number: 128 bits in hexadecimal.
            pub const fn id(self) -> &'static str {
                match self {
                    $(Self::$name => $id,)*
                }
            }

            /// How much it matters.
            pub const fn level(self) -> Level {
                match self {
                    $(Self::$name => Level::$level,)*
                }
            }
        }
    };
}

messages! {
    /// A job is on record and will end exactly once.
    JobAccepted = INFO "fd24da7ec4074b52b750575857b9edf6",
    /// A job of an earlier run of the daemon goes on.
    JobRestored = INFO "75d0edb7872e43c48419f570d3b776d2",
    /// A lane takes a job, or a stage of one.
    JobStarted = INFO "df49171c145847928e760a2ff529eec9",
    /// A job makes way for lighter work.
    JobParked = INFO "10e3c96e524c4d5b9052ea426ebfabc1",
    /// A job that made way goes on.
    JobResumed = INFO "3370b2ee0eab4950aa45f7a6714286cd",
    /// An attempt at a job ran out of memory.
    JobOutOfMemory = WARN "3d169f8d07274e66bcac792efdb0ebe6",
    /// A job waits to be tried again.
    JobBacksOff = INFO "51a29dfab8a64238a9e0cd64252fbc4a",
    /// Free memory of a class went back to the device.
    MemoryFlushed = INFO "4d35db30043843579e05cd88fe0a01af",
    /// A lane lost a job, which runs again.
    JobInterrupted = WARN "3f83b45870584e35b1f50a575e77832e",
    /// A picture of a reflecting job was asked a question.
    JobChecked = INFO "865c5703026d47cb913730a2daf8ca8f",
    /// A stage of a reflecting job has ended.
    JobStageEnded = INFO "dfff3a2b086d4c2ca5a5ce238753e988",
    /// A round of a reflecting job has its verdict.
    JobRound = INFO "b9edd6864be34d769be3e2ded311527e",
    /// A job has ended with what it was to make.
    JobDone = INFO "a59eedf4e3cf4ab59c397beabd3005eb",
    /// A job has ended without it.
    JobFailed = WARN "e55ff3dd0e314245b7a04b93389594f8",
    /// A job was cancelled.
    JobCancelled = INFO "853faa2d74394fcbbc9cca3c49d30303",
    /// A job ran out of time.
    JobExpired = INFO "d4b64e4740474d8ea0f63644b2dd1ade",
    /// A job is not run any more, because the engine died of it.
    JobQuarantined = ERROR "b25439bf098b4a558c21bd750644c377",
    /// Somebody asks for a job to be cancelled.
    JobCancelAsked = INFO "0eff00bacf474fd0bfc3344ea7c9e7b6",
    /// Somebody changes a job's priority.
    JobPriority = INFO "561ce46c96ce4966ab5cb1315915e9de",
    /// An admin pauses a class.
    ClassPaused = INFO "56ed8a734fd24783b4fa463523590920",
    /// An admin resumes a class.
    ClassResumed = INFO "a6a59c8068a54824a8fee1e4426c8fea",
    /// An admin has the daemon take no more jobs.
    DrainOn = INFO "c5e97028c2734915bfce03a10b2d50d8",
    /// An admin has the daemon take jobs again.
    DrainOff = INFO "adb3c02335584a78bc55917681d259dc",
    /// Clients can connect.
    DaemonStarted = INFO "090766740ed0429c80e67ff457003068",
    /// The daemon was told to stop.
    DaemonStopping = INFO "8c62f1b741444c649800b865ce8b9cd8",
    /// The daemon has ended as it was told to.
    DaemonStopped = INFO "264b8a284eaa4e8cb738a17e99dbabb4",
    /// The journal or the store of results failed, and the daemon ends.
    JournalPoisoned = ERROR "58fa757d92d8428cb76fe2357d10eabd",
    /// A thread of the daemon is gone, and the daemon ends.
    ThreadDied = ERROR "1032eab3824f47d198824be6eff0a7b9",
    /// Too little is free on the disk to take jobs.
    DiskLow = WARN "cda50ab23ce0474bbdab9336742b7727",
    /// There is room on the disk again.
    DiskRecovered = INFO "d26582fe8a2f413c9c9292a8f342f077",
    /// The first engine is ready.
    EngineStarted = INFO "84ad9e908ed346fa980f282d5c2314d4",
    /// The engine's process is gone.
    EngineLost = ERROR "da65ecdbb9ae4fa192e42fe19f42093e",
    /// A fresh engine is ready.
    EngineReplaced = INFO "2687ac7ad0614baf9e60dd463e88ee8f",
    /// A model is in a partition.
    ModelLoaded = INFO "b3163df582f84c508ad6e3cd1570a41b",
    /// A model has left a partition.
    ModelUnloaded = INFO "7b4f8cd92d0c4ccb88b2f89de5c97386",
    /// Lines of the log were dropped.
    LinesDropped = WARN "f88a99471f6e477b9e9de7a4fbf5e7de",
}

/// Logs a message with its number, at its level: `say!(message, FIELD = value, "text {with} what it needs")`.
macro_rules! say {
    ($message:expr, $($rest:tt)+) => {{
        let message: $crate::telemetry::message::Message = $message;
        match message.level() {
            tracing::Level::ERROR => tracing::error!(MESSAGE_ID = message.id(), $($rest)+),
            tracing::Level::WARN => tracing::warn!(MESSAGE_ID = message.id(), $($rest)+),
            tracing::Level::INFO => tracing::info!(MESSAGE_ID = message.id(), $($rest)+),
            tracing::Level::DEBUG | tracing::Level::TRACE => tracing::debug!(MESSAGE_ID = message.id(), $($rest)+),
        }
    }};
}
pub(crate) use say;

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn numbers_are_of_128_bits_and_no_two_are_the_same() {
        let ids: BTreeSet<&str> = Message::ALL.iter().map(|message| message.id()).collect();
        assert_eq!(ids.len(), Message::ALL.len());
        let well_formed = |id: &&str| id.len() == 32 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        assert!(ids.iter().all(well_formed), "{ids:?}");
    }
}
