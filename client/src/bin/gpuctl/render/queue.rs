//! The queues in words.

use std::time::Duration;

use gpusched_client::QueueView;

use super::units::span;
use super::{clean, job_or_hidden, table};

/// What runs and what waits, one a line.
pub(crate) fn list(queue: &[QueueView]) -> String {
    let rows = queue.iter().map(|entry| {
        vec![
            clean(&entry.class),
            entry.lane.map_or_else(|| "waits".to_owned(), |lane| lane.to_string()),
            job_or_hidden(entry.job),
            entry.priority.to_string(),
            if entry.model.is_empty() { "-".to_owned() } else { clean(&entry.model) },
            span(Duration::from_millis(entry.waited_ms)),
            forecast(entry.starts_in_ms),
            forecast(entry.ends_in_ms),
        ]
    });
    let rows = rows.collect();
    table(&["CLASS", "LANE", "JOB", "PRIORITY", "MODEL", "WAITED", "STARTS IN", "ENDS IN"], rows)
}

fn forecast(in_ms: Option<u64>) -> String {
    in_ms.map_or_else(|| "-".to_owned(), |ms| span(Duration::from_millis(ms)))
}

#[cfg(test)]
mod tests {
    use gpusched_client::JobId;

    use super::*;

    #[test]
    fn what_runs_has_a_lane_and_what_waits_a_forecast() {
        let entry = |class: &str, job, lane, model: &str, starts_in_ms| QueueView {
            class: class.to_owned(),
            job: JobId(job),
            lane,
            priority: 0,
            model: model.to_owned(),
            waited_ms: 5,
            starts_in_ms,
            ends_in_ms: Some(2100),
        };
        let queue = [
            entry("light", 0, Some(2), "", None),
            entry("light", 8, None, "vilt", Some(900)),
            entry("heavy", 7, None, "flux", None),
        ];
        let expected = "\
CLASS  LANE   JOB             PRIORITY  MODEL  WAITED  STARTS IN  ENDS IN
light  2      someone else's  0         -      5 ms    -          2.1 s
light  waits  job 8           0         vilt   5 ms    900 ms     2.1 s
heavy  waits  job 7           0         flux   5 ms    -          2.1 s";
        assert_eq!(list(&queue), expected);
    }
}
