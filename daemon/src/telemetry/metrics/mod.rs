//! What can be counted of the daemon, in the way of Prometheus.
//!
//! `families` are the metrics; [`Metrics`] counts what happens and takes down how things stand; [`page`] hands both out over
//! HTTP. Labels are classes, lanes and words of ours: nothing that clients choose, so that there is a bound on the series.

mod families;
pub mod page;

use std::sync::Arc;

use gpusched_shared::{FailureKind, Outcome, Reflection, Rejection, StatusView, Verdict};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

pub use families::{Families, OfClass, OfLane};

/// All that is counted. Clones count the same.
#[derive(Debug, Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    families: Families,
    classes: Arc<[OfClass]>,
    lanes: Arc<[OfLane]>,
}

impl Metrics {
    /// Nothing counted yet, for classes and lanes (each with its class, by its place, and its name).
    pub fn new(classes: &[String], lanes: &[(usize, String)]) -> Self {
        let mut registry = Registry::default();
        let families = Families::register(&mut registry);
        let of_lane =
            |(class, name): &(usize, String)| families.of_lane(classes.get(*class).map_or("", String::as_str), name);
        Self {
            classes: classes.iter().map(|name| families.of_class(name)).collect(),
            lanes: lanes.iter().map(of_lane).collect(),
            registry: Arc::new(registry),
            families,
        }
    }

    /// This is what the engine computes on.
    pub fn computes_on(&self, labels: &[(&'static str, String); 4]) {
        self.families.device(labels).set(1);
    }

    /// How long the journal takes to commit, in seconds.
    pub fn commits(&self) -> Histogram {
        self.families.journal_commit.clone()
    }

    /// The metrics of a class, by its place.
    pub fn of_class(&self, class: usize) -> Option<&OfClass> {
        self.classes.get(class)
    }

    /// The metrics of a lane, by its place.
    pub fn of_lane(&self, lane: usize) -> Option<&OfLane> {
        self.lanes.get(lane)
    }

    /// A submission came to nothing.
    pub fn refused(&self, rejection: &Rejection) {
        self.families.refused(reason(rejection)).inc();
    }

    /// A job that a client asked for has ended.
    pub fn ended(&self, class: usize, outcome: &Outcome, wait_us: u64, run_us: u64) {
        let Some(of_class) = self.classes.get(class) else { return };
        self.families.ended(&of_class.name, word(outcome)).inc();
        of_class.wait.observe(seconds(wait_us));
        // Of one that no lane ever had there is nothing to say.
        if run_us > 0 {
            of_class.run.observe(seconds(run_us));
        }
    }

    /// A check was made of a picture.
    pub fn checked(&self, passed: bool) {
        self.families.checked(if passed { "pass" } else { "fail" }).inc();
    }

    /// A reflecting job of which something can be learnt has ended.
    pub fn reflected(&self, reflection: &Reflection) {
        let families = &self.families;
        families.reflections.inc();
        families.reflection_rounds.inc_by(reflection.rounds.len() as u64);
        let passed = [reflection.first_verdict(), reflection.verdict].map(|verdict| verdict == Some(Verdict::Pass));
        for (when, passed) in ["first", "final"].into_iter().zip(passed) {
            let counter = families.reflections_passed(when);
            counter.inc_by(u64::from(passed));
            let share = counter.get() as f64 / families.reflections.get() as f64;
            families.self_success(when).set(share);
        }
    }

    /// The engine died.
    pub fn engine_died(&self) {
        self.families.engine_deaths.inc();
    }

    /// Takes down how things stand.
    pub fn take_down(&self, status: &StatusView, lines_dropped: u64) {
        let families = &self.families;
        for (class, of_class) in status.classes.iter().zip(self.classes.iter()) {
            of_class.take_down(class);
        }
        for preemption in &status.preemption {
            if let Some(of_class) = self.classes.iter().find(|class| *class.name == *preemption.class) {
                raise(&of_class.preemptions_refused, preemption.refused);
            }
        }
        families.draining.set(i64::from(status.draining));
        families.engine_up.set(i64::from(status.engine.up));
        let storage = &status.storage;
        families.disk_free.set(signed(storage.free_bytes));
        families.disk_low_water.set(signed(storage.low_water_bytes));
        families.journal_size.set(signed(storage.journal_bytes));
        families.blobs_size.set(signed(storage.blob_bytes));
        families.blobs_quota.set(signed(storage.blob_quota_bytes));
        raise(&families.lines_dropped, lines_dropped);
    }

    /// All of it, in Prometheus' text format.
    pub fn text(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        // Writing to a string does not fail.
        let _ = prometheus_text::encode(&mut text, &self.registry);
        text
    }
}

/// Brings a counter to what something else has counted.
fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// Microseconds as seconds.
pub fn seconds(us: u64) -> f64 {
    us as f64 / 1e6
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// How a job ended, in one word; what was quarantined is told apart from what failed otherwise.
pub fn word(outcome: &Outcome) -> &'static str {
    let is_quarantined = matches!(outcome, Outcome::Failed { kind: FailureKind::Quarantined { .. }, .. });
    if is_quarantined { "quarantined" } else { outcome.word() }
}

/// Why a submission was refused, in one word.
fn reason(rejection: &Rejection) -> &'static str {
    match rejection {
        Rejection::QueueFull { .. } => "queue_full",
        Rejection::QuotaExceeded { .. } => "quota",
        Rejection::NeverFits { .. } => "never_fits",
        Rejection::DiskFull { .. } | Rejection::StoreFull { .. } => "disk",
        Rejection::EngineDown => "engine_down",
        Rejection::Draining => "draining",
        Rejection::KeyConflict { .. } => "key_conflict",
        Rejection::UnknownModel { .. } | Rejection::WrongModel { .. } | Rejection::NoRoute { .. } => "no_model",
        Rejection::Internal { .. } => "internal",
        Rejection::Version { .. }
        | Rejection::Handshake
        | Rejection::Malformed { .. }
        | Rejection::FrameTooLarge { .. }
        | Rejection::EmptyText { .. }
        | Rejection::TextTooLong { .. }
        | Rejection::BadSpec { .. }
        | Rejection::WrongImageCount { .. }
        | Rejection::BadImage { .. }
        | Rejection::NotAllowed { .. }
        | Rejection::NoSuchClass { .. }
        | Rejection::HasEnded { .. }
        | Rejection::TooManyRequests { .. }
        | Rejection::TooManyConnections { .. }
        | Rejection::NoSuchJob { .. }
        | Rejection::NothingToFetch { .. } => "request",
    }
}
