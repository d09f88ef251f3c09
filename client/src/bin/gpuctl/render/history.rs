//! What became of each attempt at a job.

use std::time::Duration;

use gpusched_client::{AttemptEnd, AttemptView, JobState, JobView};

use super::job::state;
use super::units::{moment, span};
use super::{clean, table};

/// Jobs and their attempts, one attempt a line. What is said of a job stands in the line of its first one.
pub(crate) fn list(jobs: &[(JobView, Vec<AttemptView>)]) -> String {
    let rows = jobs.iter().flat_map(|(job, attempts)| {
        let of_job = [
            job.id.to_string(),
            job.spec.task.kind().to_string(),
            state(&job.state),
            job.retries.to_string(),
            span(Duration::from_micros(job.backoff_us)),
        ];
        // A job that no lane took has a line, too.
        let lines = attempts.iter().map(Some).chain(attempts.is_empty().then_some(None)).enumerate();
        let rows: Vec<Vec<String>> = lines
            .map(|(n, attempt)| {
                let left = of_job.iter().map(|cell| if n == 0 { cell.clone() } else { String::new() });
                // One that is over and has no end on record ended with the daemon.
                let over = n + 1 < attempts.len() || matches!(job.state, JobState::Done(_));
                left.chain(attempt.map_or_else(|| vec!["none".to_owned()], |attempt| cells(attempt, over))).collect()
            })
            .collect();
        rows
    });
    let header = ["ID", "TASK", "STATE", "RETRIES", "BACKED OFF", "ATTEMPT", "LANE", "STARTED", "TOOK", "ENDED"];
    table(&header, rows.collect())
}

fn cells(attempt: &AttemptView, over: bool) -> Vec<String> {
    let took =
        attempt.ended_unix_ms.map(|ended| span(Duration::from_millis(ended - attempt.started_unix_ms.min(ended))));
    vec![
        attempt.attempt.to_string(),
        clean(&attempt.lane),
        moment(attempt.started_unix_ms),
        took.unwrap_or_else(|| "-".to_owned()),
        attempt.end.map_or(if over { "the daemon died" } else { "-" }, end).to_owned(),
    ]
}

fn end(end: AttemptEnd) -> &'static str {
    match end {
        AttemptEnd::Done => "done",
        AttemptEnd::Failed => "failed",
        AttemptEnd::Stopped => "stopped",
        AttemptEnd::OutOfMemory => "out of memory",
        AttemptEnd::EngineLost => "the engine died",
    }
}

#[cfg(test)]
mod tests {
    use gpusched_client::Outcome;

    use super::super::job::tests::job;
    use super::*;

    #[test]
    fn each_attempt_has_a_line() {
        let attempt = |attempt, end, ended_unix_ms| AttemptView {
            attempt,
            lane: "heavy-0".to_owned(),
            started_unix_ms: 1_795_362_071_000,
            ended_unix_ms,
            end,
        };
        let attempts = vec![
            attempt(1, Some(AttemptEnd::OutOfMemory), Some(1_795_362_074_500)),
            attempt(2, Some(AttemptEnd::EngineLost), Some(1_795_362_071_900)),
            // The clock was set back meanwhile; the daemon died before it ended.
            attempt(3, Some(AttemptEnd::Stopped), Some(1_795_362_000_000)),
            attempt(4, None, None),
        ];
        let mut first = job(JobState::Done(Outcome::Answers(Vec::new())));
        (first.retries, first.backoff_us) = (1, 8_200_000);
        let expected = "\
ID  TASK     STATE      RETRIES  BACKED OFF  ATTEMPT  LANE     STARTED                  TOOK    ENDED
7   txt2img  done       1        8.2 s       1        heavy-0  2026-11-22 15:41:11 UTC  3.5 s   out of memory
                                             2        heavy-0  2026-11-22 15:41:11 UTC  900 ms  the engine died
                                             3        heavy-0  2026-11-22 15:41:11 UTC  0 ms    stopped
                                             4        heavy-0  2026-11-22 15:41:11 UTC  -       the daemon died
7   txt2img  cancelled  0        0 ms        none";
        assert_eq!(list(&[(first, attempts), (job(JobState::Done(Outcome::Cancelled)), Vec::new())]), expected);
    }
}
