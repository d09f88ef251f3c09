//! The metrics: names, units and labels. All begin with `gpusched_`, but for those that every process has.

use std::sync::atomic::AtomicU64;
use std::time::{SystemTime, UNIX_EPOCH};

use gpusched_shared::{AttemptEnd, ClassView};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

/// Labels with their values.
type Labels<const N: usize> = [(&'static str, String); N];
type Class = Labels<1>;
/// A label whose values are words of ours.
type Word = [(&'static str, &'static str); 1];
/// A gauge that has fractions.
type Fraction = Gauge<f64, AtomicU64>;
/// A counter of seconds.
type Seconds = Counter<f64, AtomicU64>;
/// Makes a family's histograms.
type Make = fn() -> Histogram;

/// What waiting and running take: from a light answer to a queue of a night.
const JOB_SECONDS: [f64; 20] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0,
    1000.0, 5000.0,
];
/// What making way takes: from a block of a small model to a step of a large one.
const PREEMPTION_SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 1.0, 5.0];
/// What a commit takes: from memory to a disk that is busy.
const COMMIT_SECONDS: [f64; 13] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// How attempts end, in words.
const ATTEMPT_ENDS: [AttemptEnd; 5] =
    [AttemptEnd::Done, AttemptEnd::Failed, AttemptEnd::Stopped, AttemptEnd::OutOfMemory, AttemptEnd::EngineLost];

/// All metrics, each for all its labels. Those with a class or a lane are at hand as [`OfClass`] and [`OfLane`].
#[derive(Debug, Clone)]
pub struct Families {
    device: Family<Labels<4>, Gauge>,
    pub(super) draining: Gauge,
    pub(super) engine_up: Gauge,
    pub(super) engine_deaths: Counter,
    pub(super) disk_free: Gauge,
    pub(super) disk_low_water: Gauge,
    pub(super) journal_size: Gauge,
    pub(super) blobs_size: Gauge,
    pub(super) blobs_quota: Gauge,
    pub(super) journal_commit: Histogram,
    pub(super) lines_dropped: Counter,
    pub(super) reflections: Counter,
    pub(super) reflection_rounds: Counter,
    reflections_passed: Family<Word, Counter>,
    self_success: Family<Word, Fraction>,
    checks: Family<Word, Counter>,
    refused: Family<Word, Counter>,
    accepted: Family<Class, Counter>,
    ended: Family<Labels<2>, Counter>,
    attempts: Family<Labels<2>, Counter>,
    queued: Family<Class, Gauge>,
    running: Family<Class, Gauge>,
    backing_off: Family<Class, Gauge>,
    paused: Family<Class, Gauge>,
    wait: Family<Class, Histogram, Make>,
    run: Family<Class, Histogram, Make>,
    parked: Family<Class, Seconds>,
    preemption: Family<Class, Histogram, Make>,
    preemptions_missed: Family<Class, Counter>,
    preemptions_refused: Family<Class, Counter>,
    cap: Family<Class, Gauge>,
    reserved: Family<Class, Gauge>,
    used: Family<Class, Gauge>,
    flushes: Family<Class, Counter>,
    flushed: Family<Class, Counter>,
    out_of_memory: Family<Class, Counter>,
    retries: Family<Class, Counter>,
    busy: Family<Labels<2>, Seconds>,
    on_device: Family<Labels<2>, Seconds>,
}

/// The metrics of one class.
#[derive(Debug, Clone)]
pub struct OfClass {
    /// Its name.
    pub name: String,
    /// Jobs accepted.
    pub accepted: Counter,
    /// How long its jobs waited, in seconds.
    pub wait: Histogram,
    /// How long lanes held them, in seconds.
    pub run: Histogram,
    /// How long they were parked, in seconds.
    pub parked: Seconds,
    /// How long its jobs took to make way, in seconds.
    pub preemption: Histogram,
    /// How often lighter work was over before.
    pub preemptions_missed: Counter,
    /// How often its minimum share was due.
    pub preemptions_refused: Counter,
    /// How often its partition was flushed.
    pub flushes: Counter,
    /// What that gave back, in bytes.
    pub flushed: Counter,
    /// How often a job of it ran out of memory.
    pub out_of_memory: Counter,
    /// How often one is tried again for that.
    pub retries: Counter,
    attempts: [Counter; 5],
    queued: Gauge,
    running: Gauge,
    backing_off: Gauge,
    paused: Gauge,
    cap: Gauge,
    reserved: Gauge,
    used: Gauge,
}

/// The metrics of one lane.
#[derive(Debug, Clone)]
pub struct OfLane {
    /// How long it held jobs, in seconds.
    pub busy: Seconds,
    /// How long the device itself was at them, in seconds.
    pub on_device: Seconds,
}

/// Registers metrics one after the other.
struct Register<'a>(&'a mut Registry);

impl Register<'_> {
    fn add<M: Metric + Clone>(&mut self, name: &str, help: &str, metric: M) -> M {
        self.0.register(name, help, metric.clone());
        metric
    }

    fn fresh<M: Metric + Clone + Default>(&mut self, name: &str, help: &str) -> M {
        self.add(name, help, M::default())
    }

    fn histograms(&mut self, name: &str, help: &str, make: Make) -> Family<Class, Histogram, Make> {
        self.add(name, help, Family::new_with_constructor(make))
    }
}

impl Families {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let process_start: Fraction = Gauge::default();
        process_start.set(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64());
        registry.register(
            "process_start_time_seconds",
            "When the daemon started, in seconds since the Unix epoch",
            process_start,
        );
        let mut r = Register(registry.sub_registry_with_prefix("gpusched"));
        let build: Family<Class, Gauge> = r.fresh("build_info", "Always 1; which version this is");
        build.get_or_create(&[("version", env!("CARGO_PKG_VERSION").to_owned())]).set(1);
        let job: Make = || Histogram::new(JOB_SECONDS);
        let families = Self {
            device: r.fresh("device_info", "Always 1; what the engine computes on, and with which driver"),
            draining: r.fresh("draining", "1 while no new jobs are taken"),
            engine_up: r.fresh("engine_up", "1 while there is an engine that can run something"),
            engine_deaths: r.fresh("engine_deaths", "How often the engine's process died"),
            disk_free: r.fresh("disk_free_bytes", "What is free on the disk of the state directory"),
            disk_low_water: r.fresh("disk_low_water_bytes", "Below this much free, no jobs are taken"),
            journal_size: r.fresh("journal_size_bytes", "Size of the journal"),
            blobs_size: r.fresh("blobs_size_bytes", "Size of all stored files"),
            blobs_quota: r.fresh("blobs_quota_bytes", "The most that stored files may take"),
            journal_commit: r.add(
                "journal_commit_seconds",
                "How long the journal takes to commit a group of entries",
                Histogram::new(COMMIT_SECONDS),
            ),
            lines_dropped: r.fresh("log_lines_dropped", "Lines of the log that came faster than they could be written"),
            reflections: r.fresh("reflections", "Reflecting jobs that came to a verdict"),
            reflection_rounds: r.fresh("reflection_rounds", "Rounds of reflecting jobs that came to a verdict"),
            reflections_passed: r
                .fresh("reflections_passed", "Of these, those whose first, or final, picture passed its checks"),
            self_success: r.fresh(
                "self_success_ratio",
                "Share of reflecting jobs since the start whose first, or final, picture passed its checks",
            ),
            checks: r.fresh("checks", "Questions asked about pictures of reflecting jobs"),
            refused: r.fresh("submissions_refused", "Submissions that came to nothing"),
            accepted: r.fresh("jobs_accepted", "Jobs that clients were promised an outcome for"),
            ended: r.fresh("jobs_ended", "Jobs that have ended, those that clients asked for"),
            attempts: r.fresh("attempts_ended", "Tries at jobs and their stages that lanes are done with"),
            queued: r.fresh("queue_depth", "Jobs and stages that wait for a lane"),
            running: r.fresh("jobs_running", "Jobs and stages on lanes"),
            backing_off: r
                .fresh("jobs_backing_off", "Jobs and stages that ran out of memory and wait to be tried again"),
            paused: r.fresh("class_paused", "1 while no jobs of the class are started"),
            wait: r.histograms("job_wait_seconds", "How long jobs waited for a lane", job),
            run: r.histograms("job_run_seconds", "How long lanes held jobs, time parked included", job),
            parked: r.fresh("parked_seconds", "How long jobs were parked while lighter work ran"),
            preemption: r.histograms(
                "preemption_seconds",
                "How long heavy work took to make way, from the closing of its gate to being parked",
                || Histogram::new(PREEMPTION_SECONDS),
            ),
            preemptions_missed: r
                .fresh("preemptions_missed", "How often lighter work was over before heavy work came to a yield point"),
            preemptions_refused: r
                .fresh("preemptions_refused", "How often heavy work went on because its minimum share was due"),
            cap: r.fresh("partition_cap_bytes", "The most that the partition may hold"),
            reserved: r.fresh(
                "partition_reserved_bytes",
                "What is promised of the partition: weights of resident models, and leases",
            ),
            used: r.fresh("partition_used_bytes", "What the partition holds, as the engine counts"),
            flushes: r.fresh("flushes", "How often free memory was given back to the device"),
            flushed: r.fresh("flushed_bytes", "How much memory that gave back"),
            out_of_memory: r.fresh("out_of_memory", "Attempts that ran out of memory"),
            retries: r.fresh("retries", "How often a job that ran out of memory was put off to be tried again"),
            busy: r.fresh("lane_busy_seconds", "How long the lane held jobs, time parked included"),
            on_device: r.fresh(
                "lane_device_seconds",
                "How long the device itself was at the lane's jobs, by its own clock, time parked included; 0 on a CPU",
            ),
        };
        for when in ["first", "final"] {
            // Of no jobs there is no share.
            families.self_success(when).set(f64::NAN);
            families.reflections_passed(when);
        }
        for result in ["pass", "fail"] {
            families.checked(result);
        }
        for reason in REASONS {
            families.refused(reason);
        }
        families
    }

    pub(super) fn of_class(&self, name: &str) -> OfClass {
        let class = [("class", name.to_owned())];
        for outcome in OUTCOMES {
            self.ended(name, outcome);
        }
        let attempt =
            |end| self.attempts.get_or_create_owned(&[("class", name.to_owned()), ("end", end_word(end).to_owned())]);
        OfClass {
            accepted: self.accepted.get_or_create_owned(&class),
            wait: self.wait.get_or_create_owned(&class),
            run: self.run.get_or_create_owned(&class),
            parked: self.parked.get_or_create_owned(&class),
            preemption: self.preemption.get_or_create_owned(&class),
            preemptions_missed: self.preemptions_missed.get_or_create_owned(&class),
            preemptions_refused: self.preemptions_refused.get_or_create_owned(&class),
            flushes: self.flushes.get_or_create_owned(&class),
            flushed: self.flushed.get_or_create_owned(&class),
            out_of_memory: self.out_of_memory.get_or_create_owned(&class),
            retries: self.retries.get_or_create_owned(&class),
            attempts: ATTEMPT_ENDS.map(attempt),
            queued: self.queued.get_or_create_owned(&class),
            running: self.running.get_or_create_owned(&class),
            backing_off: self.backing_off.get_or_create_owned(&class),
            paused: self.paused.get_or_create_owned(&class),
            cap: self.cap.get_or_create_owned(&class),
            reserved: self.reserved.get_or_create_owned(&class),
            used: self.used.get_or_create_owned(&class),
            name: name.to_owned(),
        }
    }

    pub(super) fn of_lane(&self, class: &str, lane: &str) -> OfLane {
        let lane = [("class", class.to_owned()), ("lane", lane.to_owned())];
        OfLane { busy: self.busy.get_or_create_owned(&lane), on_device: self.on_device.get_or_create_owned(&lane) }
    }

    pub(super) fn device(&self, labels: &Labels<4>) -> Gauge {
        self.device.get_or_create_owned(labels)
    }

    pub(super) fn ended(&self, class: &str, outcome: &'static str) -> Counter {
        self.ended.get_or_create_owned(&[("class", class.to_owned()), ("outcome", outcome.to_owned())])
    }

    pub(super) fn refused(&self, reason: &'static str) -> Counter {
        self.refused.get_or_create_owned(&[("reason", reason)])
    }

    pub(super) fn checked(&self, result: &'static str) -> Counter {
        self.checks.get_or_create_owned(&[("result", result)])
    }

    pub(super) fn reflections_passed(&self, when: &'static str) -> Counter {
        self.reflections_passed.get_or_create_owned(&[("when", when)])
    }

    pub(super) fn self_success(&self, when: &'static str) -> Fraction {
        self.self_success.get_or_create_owned(&[("when", when)])
    }
}

/// How jobs end.
const OUTCOMES: [&str; 5] = ["done", "failed", "cancelled", "expired", "quarantined"];

/// Why submissions are refused.
pub(super) const REASONS: [&str; 10] = [
    "queue_full",
    "quota",
    "never_fits",
    "disk",
    "engine_down",
    "draining",
    "key_conflict",
    "no_model",
    "internal",
    "request",
];

impl OfClass {
    /// A lane is done with an attempt at a job of the class.
    pub fn attempt_ended(&self, end: AttemptEnd) {
        if let Some(counter) = ATTEMPT_ENDS.iter().position(|other| *other == end).and_then(|at| self.attempts.get(at))
        {
            counter.inc();
        }
    }

    pub(super) fn take_down(&self, class: &ClassView) {
        self.queued.set(i64::from(class.queued));
        self.running.set(i64::from(class.running));
        self.backing_off.set(i64::from(class.backing_off));
        self.paused.set(i64::from(class.paused));
        let partition = &class.partition;
        self.cap.set(super::signed(partition.cap_bytes));
        self.reserved.set(super::signed(partition.weights_bytes.saturating_add(partition.leased_bytes)));
        self.used.set(super::signed(partition.live_bytes));
    }
}

fn end_word(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Done => "done",
        AttemptEnd::Failed => "failed",
        AttemptEnd::Stopped => "stopped",
        AttemptEnd::OutOfMemory => "out_of_memory",
        AttemptEnd::EngineLost => "engine_lost",
    }
}
