//! What a record adds up to.

use std::collections::BTreeMap;

use gpusched_shared::{AttemptEnd, JobState, JobView, LaneSpan, StageRole};

use super::record::{Latency, Record};

/// How long jobs that were done took, class by class in the order of the configuration; classes without any are left out. Jobs
/// with rounds are many stages one after the other, and are not among them.
pub fn latencies(record: &Record) -> Vec<Latency> {
    let of_class = |name: &str| {
        let done = |job: &&JobView| job.class == name && job.reflection.is_none() && word(job) == "done";
        latency(name, record.jobs.iter().filter(done).map(|job| (job.wait_us, job.run_us)))
    };
    record.classes.iter().map(|class| of_class(&class.name)).filter(|latency| latency.jobs > 0).collect()
}

/// Of waits and runs in microseconds.
pub fn latency(class: &str, times: impl Iterator<Item = (u64, u64)>) -> Latency {
    let times: Vec<(u64, u64)> = times.collect();
    let mut sums: Vec<u64> = times.iter().map(|(wait, run)| wait.saturating_add(*run)).collect();
    sums.sort_unstable();
    // The smallest that 99 of 100 do not exceed.
    let rank = (sums.len() * 99).div_ceil(100);
    let mean = |of: fn(&(u64, u64)) -> u64| {
        times.iter().map(|times| of(times) as f64).sum::<f64>() / times.len().max(1) as f64
    };
    Latency {
        class: class.to_owned(),
        jobs: times.len() as u64,
        wait_mean_us: mean(|times| times.0),
        run_mean_us: mean(|times| times.1),
        p99_us: rank.checked_sub(1).and_then(|at| sums.get(at)).copied().unwrap_or(0),
    }
}

/// What the stages of a kind took.
#[derive(Debug, Clone, PartialEq)]
pub struct StageFigures {
    /// The kind, in words.
    pub stage: String,
    /// The class it ran in.
    pub class: String,
    /// With which model.
    pub model: String,
    /// How many were done.
    pub runs: u64,
    /// The average of their peaks, in bytes, beside the model's weights.
    pub mean_bytes: f64,
    /// The highest of them, in bytes.
    pub peak_bytes: u64,
    /// How long a lane had them on average, in microseconds, parked time included.
    pub mean_us: f64,
    /// How long they were parked in all, in microseconds.
    pub parked_us: u64,
}

/// Memory and time of stages by what they do, the most memory first: of those that were done, whose memory was measured and
/// that may be told of.
pub fn stages(record: &Record) -> Vec<StageFigures> {
    // By stage, class and model.
    type Kind = (String, String, String);
    let mut kinds: BTreeMap<Kind, Vec<(&LaneSpan, u64)>> = BTreeMap::new();
    for span in record.spans.iter().filter(|span| span.end == Some(AttemptEnd::Done)) {
        if let (Some(about), Some((class, _))) = (&span.about, span.place())
            && about.peak_bytes > 0
        {
            let stage = match about.role {
                StageRole::Whole => about.kind.to_string(),
                StageRole::Image | StageRole::Check | StageRole::Glance => {
                    format!("{} ({})", about.kind, about.role.word())
                }
                StageRole::Detect | StageRole::Segment | StageRole::Inpaint => format!("{} (edit)", about.kind),
            };
            kinds.entry((stage, class.to_owned(), about.model.clone())).or_default().push((span, about.peak_bytes));
        }
    }
    let mut figures: Vec<StageFigures> = kinds
        .into_iter()
        .map(|((stage, class, model), runs)| {
            let count = runs.len() as f64;
            let took = |span: &LaneSpan| span.ended_unix_ms.unwrap_or(0).saturating_sub(span.started_unix_ms) * 1000;
            let parked = runs.iter().flat_map(|(span, _)| &span.parked);
            StageFigures {
                stage,
                class,
                model,
                runs: runs.len() as u64,
                mean_bytes: runs.iter().map(|(_, bytes)| *bytes as f64).sum::<f64>() / count,
                peak_bytes: runs.iter().map(|(_, bytes)| *bytes).max().unwrap_or(0),
                mean_us: runs.iter().map(|(span, _)| took(span) as f64).sum::<f64>() / count,
                parked_us: parked.map(|stay| stay.until_us.saturating_sub(stay.from_us)).sum(),
            }
        })
        .collect();
    figures.sort_by_key(|figures| std::cmp::Reverse(figures.peak_bytes));
    figures
}

/// What a job comes to, in a word.
pub(super) const OUTCOMES: [&str; 5] = ["done", "failed", "cancelled", "expired", "unfinished"];

/// How jobs ended, and how many have not: those of which there are any, in this order.
pub fn outcomes(record: &Record) -> Vec<(&'static str, u64)> {
    let count = |name: &str| record.jobs.iter().filter(|job| word(job) == name).count() as u64;
    OUTCOMES.into_iter().map(|name| (name, count(name))).filter(|(_, count)| *count > 0).collect()
}

/// How a job ended, in a word; `unfinished` if it has not.
pub fn word(job: &JobView) -> &'static str {
    match &job.state {
        JobState::Done(outcome) => outcome.word(),
        JobState::Queued { .. }
        | JobState::Running { .. }
        | JobState::BackingOff { .. }
        | JobState::Reflecting { .. }
        | JobState::Editing { .. } => "unfinished",
    }
}

/// Attempts that ran out of memory.
pub fn out_of_memory(record: &Record) -> usize {
    record.spans.iter().filter(|span| span.end == Some(AttemptEnd::OutOfMemory)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_waits_and_runs() {
        let latency = latency("light", (1..=100).map(|n| (n, 2 * n)));
        assert_eq!((latency.jobs, latency.wait_mean_us, latency.run_mean_us), (100, 50.5, 101.0));
        assert_eq!((latency.p99_us, latency.mean_us()), (297, 151.5));
        let none = super::latency("light", std::iter::empty());
        assert_eq!((none.jobs, none.mean_us(), none.p99_us), (0, 0.0, 0));
    }
}
