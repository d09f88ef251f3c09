//! Who hands in what and when.

use gpusched_shared::Uid;
use serde::Deserialize;

use super::{ReflectSpec, Seconds};

/// Jobs of one client.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrivalSpec {
    /// What others may follow it by; default: the name of its kind.
    #[serde(default)]
    pub name: Option<String>,
    /// Their kind.
    pub kind: String,
    /// Whose they are.
    #[serde(default = "anyone")]
    pub uid: Uid,
    /// Their priority among the jobs of their uid, from −100 to 100.
    #[serde(default)]
    pub priority: i8,
    /// After how long in the queue they are worth nothing any more.
    #[serde(default)]
    pub queue_timeout_s: Option<Seconds>,
    /// How long lanes may work on them.
    #[serde(default)]
    pub run_timeout_s: Option<Seconds>,
    /// If they make pictures: whether these are checked and made again. `{}` is with all defaults.
    #[serde(default)]
    pub reflect: Option<ReflectSpec>,
    /// When they arrive.
    pub when: When,
}

/// When jobs arrive.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(tag = "pattern", rename_all = "snake_case", deny_unknown_fields)]
pub enum When {
    /// All at once.
    AtOnce {
        /// How many.
        count: u64,
        /// When.
        #[serde(default)]
        start_s: Seconds,
    },
    /// At even distances.
    Every {
        /// From one to the next.
        every_s: Seconds,
        /// How many.
        count: u64,
        /// When the first arrives.
        #[serde(default)]
        start_s: Seconds,
    },
    /// Independently of each other and of how things go.
    Poisson {
        /// How many in a second, on average.
        per_s: f64,
        /// From when on.
        #[serde(default)]
        start_s: Seconds,
        /// For how long.
        for_s: Seconds,
    },
    /// As `poisson`, so often that they would keep one lane busy for this share of the time, if nothing slowed them down.
    Load {
        /// The share; 1 is all of the time of one lane.
        load: f64,
        /// From when on.
        #[serde(default)]
        start_s: Seconds,
        /// For how long.
        for_s: Seconds,
    },
    /// One at a time: the next follows when the one before has ended.
    Closed {
        /// How many.
        count: u64,
        /// How long after the end of the one before.
        #[serde(default)]
        think_s: Seconds,
        /// When the first arrives.
        #[serde(default)]
        start_s: Seconds,
    },
    /// After jobs of other arrivals have ended.
    Follow {
        /// The name of the others.
        stream: String,
        /// After the first of them, and each time so many more have ended.
        every: u64,
        /// How many in all.
        count: u64,
        /// How long after the end.
        #[serde(default)]
        delay_s: Seconds,
    },
}

impl ArrivalSpec {
    /// The uid of whoever is not named.
    pub(crate) const ANYONE: Uid = 1000;

    /// Jobs of nobody in particular, without priority or limits.
    pub fn new(kind: impl Into<String>, when: When) -> Self {
        Self {
            name: None,
            kind: kind.into(),
            uid: Self::ANYONE,
            priority: 0,
            queue_timeout_s: None,
            run_timeout_s: None,
            reflect: None,
            when,
        }
    }

    /// What others may follow it by.
    pub fn stream(&self) -> &str {
        self.name.as_deref().unwrap_or(&self.kind)
    }
}

fn anyone() -> Uid {
    ArrivalSpec::ANYONE
}
