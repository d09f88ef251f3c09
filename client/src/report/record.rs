//! What is known of a stretch of time: plain data, whoever collected it.

use gpusched_shared::{JobView, LaneSpan, MemorySample, QualityView};

/// Everything that a report says is made from this.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Whose record it is, in a line.
    pub title: String,
    /// How waiting jobs were started: `multi-queue` or `fifo`.
    pub policy: String,
    /// The stretch of time, in milliseconds since the Unix epoch.
    pub since_unix_ms: u64,
    /// Its end, likewise.
    pub until_unix_ms: u64,
    /// The classes, in the order of the configuration.
    pub classes: Vec<ClassInfo>,
    /// Attempts, the oldest first.
    pub spans: Vec<LaneSpan>,
    /// Memory, the oldest first.
    pub memory: Vec<MemorySample>,
    /// Jobs that were accepted in that time and may be told of, the oldest first. Their reflections have no rounds.
    pub jobs: Vec<JobView>,
    /// How well pictures show what was asked for.
    pub quality: Option<QualityView>,
    /// Jobs whose rounds are shown.
    pub shown: Vec<Shown>,
    /// The same jobs in one queue and in several, if somebody measured that.
    pub comparison: Option<Comparison>,
    /// What is not in here and why, a sentence each.
    pub left_out: Vec<String>,
}

/// A class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassInfo {
    /// Its name, which is also that of its partition.
    pub name: String,
    /// Its lanes.
    pub lanes: u32,
    /// The most its partition may hold, in bytes.
    pub cap_bytes: u64,
    /// Whether its work makes way for lighter work.
    pub makes_way: bool,
}

/// A job that reflects, with pictures of its rounds.
#[derive(Debug, Clone)]
pub struct Shown {
    /// The job, rounds included.
    pub job: JobView,
    /// Pictures by the number of their round, each a PNG or JPEG file.
    pub pictures: Vec<(u8, Vec<u8>)>,
}

/// The same jobs under two policies.
#[derive(Debug, Clone, Default)]
pub struct Comparison {
    /// What was run, in a line.
    pub title: String,
    /// Class by class, in one queue.
    pub fifo: Vec<Latency>,
    /// Class by class, in several.
    pub multi_queue: Vec<Latency>,
    /// What ran in one queue, to be shown beside the record, which is of several.
    pub baseline: Option<Box<Record>>,
}

/// How long jobs of a class took, in microseconds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Latency {
    /// The class.
    pub class: String,
    /// How many jobs.
    pub jobs: u64,
    /// How long they waited for a lane, on average.
    pub wait_mean_us: f64,
    /// How long lanes had them, on average.
    pub run_mean_us: f64,
    /// What 99 of 100 took at most, waiting and running.
    pub p99_us: u64,
}

impl Latency {
    /// Waiting and running, on average, in microseconds.
    pub fn mean_us(&self) -> f64 {
        self.wait_mean_us + self.run_mean_us
    }
}

impl Comparison {
    /// The class that gains most by several queues, with how many times less it takes; `None` if none gains.
    pub fn gain(&self) -> Option<(&str, f64)> {
        let gains = self.multi_queue.iter().filter_map(|several| {
            let one = self.fifo.iter().find(|one| one.class == several.class)?;
            (several.mean_us() > 0.0).then(|| (several.class.as_str(), one.mean_us() / several.mean_us()))
        });
        gains.filter(|(_, times)| *times > 1.0).max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_class_that_gains_most_is_named() {
        let latency = |class: &str, wait_mean_us| Latency {
            class: class.to_owned(),
            jobs: 5,
            wait_mean_us,
            run_mean_us: 100.0,
            p99_us: 0,
        };
        let compared = Comparison {
            title: String::new(),
            fifo: vec![latency("heavy", 900.0), latency("light", 900.0)],
            multi_queue: vec![latency("heavy", 950.0), latency("light", 0.0)],
            baseline: None,
        };
        assert_eq!(compared.gain(), Some(("light", 10.0)));
        assert_eq!(Comparison { fifo: Vec::new(), ..compared }.gain(), None);
    }
}
