//! Jobs in words.

use std::collections::BTreeSet;
use std::time::Duration;

use gpusched_client::shared::{Activity, Bytes, EditStep, Found, Usage};
use gpusched_client::{FailureKind, JobState, JobView, Outcome};

use super::asked;
use super::reflection::{self, budget, phase, round};
use super::units::{ago, moment, span};
use super::{clean, fields, shorten, table};

/// Characters of a prompt that a list shows.
const TEXT_WIDTH: usize = 48;

/// One column of a list: its title, whether it is shown, and what it says of a job, given the present time.
type Column = (&'static str, bool, fn(&JobView, u64) -> String);

/// A list of jobs, one a line. Whose they are is told if they are not all of one user, and columns that say nothing are
/// left out.
pub(crate) fn list(jobs: &[JobView], now_unix_ms: u64) -> String {
    let owners: BTreeSet<_> = jobs.iter().map(|job| job.uid).collect();
    let prioritised = jobs.iter().any(|job| job.spec.priority != 0);
    let parked = jobs.iter().any(|job| job.usage.yields > 0);
    let columns: [Column; 11] = [
        ("ID", true, |job, _| job.id.to_string()),
        ("OWNER", owners.len() > 1, |job, _| format!("uid {}", job.uid)),
        ("TASK", true, |job, _| job.spec.task.kind().to_string()),
        ("MODEL", true, |job, _| job.spec.model.as_deref().map_or_else(|| "-".to_owned(), clean)),
        ("PRIORITY", prioritised, |job, _| job.spec.priority.to_string()),
        ("STATE", true, |job, _| judged_state(job)),
        ("SUBMITTED", true, |job, now_unix_ms| ago(job.submitted_unix_ms, now_unix_ms)),
        ("WAITED", true, |job, _| micros(job.wait_us)),
        ("RAN", true, |job, _| micros(job.run_us)),
        ("PARKED", parked, |job, _| micros(job.usage.parked_us)),
        ("TEXT", true, |job, _| shorten(job.spec.task.text(), TEXT_WIDTH)),
    ];
    let columns: Vec<_> = columns.into_iter().filter(|(_, shown, _)| *shown).collect();
    let header: Vec<_> = columns.iter().map(|(title, ..)| *title).collect();
    let rows = jobs.iter().map(|job| columns.iter().map(|(.., cell)| cell(job, now_unix_ms)).collect());
    table(&header, rows.collect())
}

/// Where a job is, in a few words; of a picture that was checked, what came of that, too.
fn judged_state(job: &JobView) -> String {
    match job.reflection.as_ref().and_then(|reflection| reflection.verdict) {
        Some(verdict) => format!("{}, {verdict}", state(&job.state)),
        None => state(&job.state),
    }
}

/// Where a job is, in a few words.
pub(crate) fn state(state: &JobState) -> String {
    match state {
        JobState::Queued { ahead } => queued(*ahead),
        JobState::BackingOff { retry, within_ms } => backing_off(*retry, *within_ms),
        JobState::Running { activity, parked, .. } => running(*activity, *parked),
        JobState::Reflecting { round: number, of, .. } => round(*number, *of),
        JobState::Editing { step: at, .. } => step(*at),
        JobState::Done(outcome) => outcome.word().to_owned(),
    }
}

/// Where a job is, in a few words more.
pub(crate) fn full_state(of: &JobState) -> String {
    match of {
        JobState::Queued { .. } | JobState::BackingOff { .. } => state(of),
        JobState::Running { lane, .. } => format!("{}, on lane {lane}", state(of)),
        JobState::Reflecting { phase: at, .. } | JobState::Editing { phase: at, .. } => {
            format!("{}: {}", state(of), phase(*at))
        }
        JobState::Done(Outcome::Expired { limit }) => format!("{}: its {limit} passed", state(of)),
        JobState::Done(_) => state(of),
    }
}

/// Why a job failed.
pub(crate) fn failed(kind: &FailureKind, message: &str) -> String {
    let (kind, message) = (kind.to_string(), message.trim());
    clean(&if message.is_empty() || message == kind { kind } else { format!("{kind}: {message}") })
}

/// What an order to cancel has come to.
pub(crate) fn cancelled(view: &JobView) -> String {
    match &view.state {
        JobState::Done(outcome @ (Outcome::Cancelled | Outcome::Expired { .. })) => outcome.word().to_owned(),
        JobState::Done(outcome) => format!("had ended before: {}", outcome.word()),
        JobState::Queued { .. }
        | JobState::BackingOff { .. }
        | JobState::Running { .. }
        | JobState::Reflecting { .. }
        | JobState::Editing { .. } => "is being cancelled".to_owned(),
    }
}

/// That a job waits.
pub(crate) fn queued(ahead: u32) -> String {
    if ahead == 0 { "queued, next".to_owned() } else { format!("queued, {ahead} ahead") }
}

/// That a job ran out of memory and waits to be tried again.
pub(crate) fn backing_off(retry: u32, within_ms: u64) -> String {
    format!("ran out of memory; retry {retry} in up to {}", span(Duration::from_millis(within_ms)))
}

/// What an edit is at.
pub(crate) fn step(at: EditStep) -> String {
    format!("{at} ({}/{})", at.number(), EditStep::ALL.len())
}

/// What a lane does for a job.
pub(crate) fn running(activity: Activity, parked: bool) -> String {
    let doing = match activity {
        Activity::Starting => "starting".to_owned(),
        Activity::Loading { done, of } => format!("loading, file {done} of {of}"),
        Activity::Working { done, of } => format!("step {done} of {of}"),
    };
    if parked { format!("{doing}, parked") } else { doing }
}

/// Everything about one job.
pub(crate) fn full(job: &JobView) -> String {
    let mut lines = vec![
        ("job", job.id.to_string()),
        ("state", full_state(&job.state)),
        ("task", job.spec.task.kind().to_string()),
        ("model", job.spec.model.as_deref().map_or_else(|| "not chosen yet".to_owned(), clean)),
        ("class", clean(&job.class)),
    ];
    asked::asked(&job.spec.task, &mut lines);
    if job.spec.priority != 0 {
        lines.push(("priority", job.spec.priority.to_string()));
    }
    let limits = [
        ("deadline", job.spec.deadline_ms, "after it was submitted"),
        ("limit", job.spec.queue_timeout_ms, "to wait"),
        ("limit", job.spec.run_timeout_ms, "to run"),
    ];
    for (name, ms, what) in limits {
        lines.extend(ms.map(|ms| (name, format!("{} {what}", span(Duration::from_millis(ms))))));
    }
    lines.extend(job.spec.reflect.as_ref().map(|reflect| ("reflects", budget(reflect))));
    lines.push(("submitted", moment(job.submitted_unix_ms)));
    lines.push(("by", format!("uid {}, {}", job.uid, if job.attached { "attached" } else { "detached" })));
    lines.push(("waited", micros(job.wait_us)));
    lines.push(("ran", micros(job.run_us)));
    usage(&job.usage, &mut lines);
    if job.attempts > 1 {
        lines.push(("attempts", job.attempts.to_string()));
    }
    if job.retries > 0 {
        let times = if job.retries == 1 { "once".to_owned() } else { format!("{} times", job.retries) };
        lines.push(("retried", format!("{times} after it ran out of memory, {} of waiting", micros(job.backoff_us))));
    }
    if let JobState::Done(outcome) = &job.state {
        result(outcome, &mut lines);
    }
    let Some(reflection) = &job.reflection else { return fields(&lines) };
    lines.push(("checked", reflection::result(reflection)));
    let parts = std::iter::once(fields(&lines)).chain(reflection::tables(reflection));
    parts.collect::<Vec<_>>().join("\n\n")
}

pub(super) type Lines = Vec<(&'static str, String)>;

pub(super) fn micros(us: u64) -> String {
    span(Duration::from_micros(us))
}

/// What was measured; what was not, or never happened, is left out.
fn usage(usage: &Usage, lines: &mut Lines) {
    let times = |n| if n == 1 { "once".to_owned() } else { format!("{n} times") };
    if usage.yields > 0 {
        lines.push(("parked", format!("{}, {}", micros(usage.parked_us), times(usage.yields))));
    }
    if usage.longest_gap_us > 0 {
        lines.push(("yielded", format!("at least every {}", micros(usage.longest_gap_us))));
    }
    if usage.peak_bytes > 0 {
        lines.push(("memory", format!("{} at most, beside the model", Bytes(usage.peak_bytes))));
    }
}

fn result(outcome: &Outcome, lines: &mut Lines) {
    match outcome {
        Outcome::Image { blob, size, truncated_tokens } => {
            lines.push(("picture", format!("{size} pixels, {}", Bytes(blob.bytes))));
            lines.push(("blake3", blob.hash.to_string()));
            if *truncated_tokens > 0 {
                lines.push(("ignored", format!("the last {truncated_tokens} tokens of the prompt")));
            }
        }
        Outcome::Answers(answers) => {
            lines.extend(answers.iter().map(|a| ("answer", format!("{:.3}  {}", a.score, clean(&a.label)))));
        }
        Outcome::Found(found) => {
            lines.extend(found.iter().map(|Found { area, score }| ("found", format!("{score:.3}  {area}"))));
        }
        Outcome::Mask { blob, size, inside, score } => {
            lines.push(("mask", format!("{inside} of {size} pixels, {}", Bytes(blob.bytes))));
            lines.push(("score", format!("{score:.3}")));
            lines.push(("blake3", blob.hash.to_string()));
        }
        Outcome::Text { text, tokens, complete, truncated_tokens } => {
            lines.push(("text", clean(text)));
            lines.push(("tokens", format!("{tokens}{}", if *complete { "" } else { ", cut short" })));
            if *truncated_tokens > 0 {
                lines.push(("ignored", format!("the last {truncated_tokens} tokens of the prompt")));
            }
        }
        Outcome::Score(score) => lines.push(("score", format!("{score:.4}"))),
        Outcome::Failed { kind, message } => lines.push(("because", failed(kind, message))),
        Outcome::Cancelled | Outcome::Expired { .. } => {}
    }
}

#[cfg(test)]
pub(super) mod tests {
    use gpusched_client::shared::{OutOfMemory, Phase};
    use gpusched_client::{BlobHash, BlobRef, JobId, Reflect, Reflection, Size, TimeLimit, txt2img};

    use super::super::reflection::tests::passed;
    use super::*;

    pub(in super::super) fn job(state: JobState) -> JobView {
        JobView {
            id: JobId(7),
            uid: 1000,
            class: "interactive".to_owned(),
            spec: txt2img("a red\ncircle").steps(20).seed(1).size(64, 32).model("flux").into(),
            attached: true,
            state,
            attempts: 1,
            submitted_unix_ms: 0,
            wait_us: 12_340,
            run_us: 65_000_000,
            usage: Usage::default(),
            retries: 0,
            backoff_us: 0,
            reflection: None,
        }
    }

    fn step(parked: bool) -> JobState {
        JobState::Running { lane: 0, activity: Activity::Working { done: 4, of: 20 }, parked }
    }

    #[test]
    fn a_list_is_a_table() {
        assert_eq!(
            list(&[job(step(false))], 180_000),
            "ID  TASK     MODEL  STATE         SUBMITTED  WAITED   RAN        TEXT\n\
             7   txt2img  flux   step 4 of 20  3 min ago  12.3 ms  1 min 5 s  a red circle"
        );
    }

    #[test]
    fn a_list_has_the_columns_it_needs() {
        let mut jobs = [job(step(true)), job(JobState::Done(Outcome::Cancelled))];
        jobs[0].usage = Usage { parked_us: 1500, yields: 2, ..Usage::default() };
        (jobs[1].uid, jobs[1].spec.priority) = (1001, -5);
        assert_eq!(
            list(&jobs, 0),
            "ID  OWNER     TASK     MODEL  PRIORITY  STATE                 SUBMITTED  WAITED   RAN        PARKED  TEXT\n\
             7   uid 1000  txt2img  flux   0         step 4 of 20, parked  just now   12.3 ms  1 min 5 s  1.5 ms  a red circle\n\
             7   uid 1001  txt2img  flux   -5        cancelled             just now   12.3 ms  1 min 5 s  0 ms    a red circle"
        );
    }

    #[test]
    fn one_job_tells_all() {
        let blob = BlobRef { hash: BlobHash([0xab; 32]), bytes: 1500 };
        let size = Size { width: 64, height: 32 };
        let mut job = job(JobState::Done(Outcome::Image { blob, size, truncated_tokens: 3 }));
        job.usage = Usage { parked_us: 2_400_000, yields: 5, longest_gap_us: 4800, peak_bytes: 300 << 20 };
        (job.spec.priority, job.spec.deadline_ms, job.spec.run_timeout_ms) = (10, Some(90_000), Some(500));
        let expected = "\
job        7
state      done
task       txt2img
model      flux
class      interactive
prompt     a red\\ncircle
size       64x32
steps      20
seed       1
priority   10
deadline   1 min 30 s after it was submitted
limit      500 ms to run
submitted  1970-01-01 00:00:00 UTC
by         uid 1000, attached
waited     12.3 ms
ran        1 min 5 s
parked     2.4 s, 5 times
yielded    at least every 4.8 ms
memory     300 MiB at most, beside the model
picture    64x32 pixels, 1.5 KiB
blake3     abababababababababababababababababababababababababababababababab
ignored    the last 3 tokens of the prompt";
        assert_eq!(full(&job), expected);
    }

    #[test]
    fn a_job_that_reflects_tells_its_rounds() {
        let phase = Phase::Checking { done: 3, of: 5 };
        let mut job = job(JobState::Reflecting { round: 2, of: 4, phase });
        job.spec.reflect = Some(Box::new(Reflect { rounds: Some(4), ..Reflect::default() }));
        let undecided = Reflection { rounds: Vec::new(), best: None, verdict: None, end: None };
        job.reflection = Some(undecided.clone());
        assert!(list(&[job.clone()], 0).contains("  round 2/4  "));
        let text = full(&job);
        assert!(text.contains("\nstate      round 2/4: 3 of 5 checks\n"), "{text}");
        assert!(text.contains("\nreflects   up to 4 rounds\n"), "{text}");
        assert!(text.ends_with("\nchecked    not decided yet"), "{text}");

        let blob = BlobRef { hash: BlobHash([0xab; 32]), bytes: 1500 };
        let size = Size { width: 64, height: 32 };
        job.state = JobState::Done(Outcome::Image { blob, size, truncated_tokens: 0 });
        // A list brings no rounds.
        job.reflection = Some(Reflection { rounds: Vec::new(), ..passed() });
        assert!(list(&[job.clone()], 0).contains("  done, PASS  "));
        job.reflection = Some(passed());
        let text = full(&job);
        assert!(text.contains("\nchecked    round 2 is the result: PASS\n\nROUND  VERDICT"), "{text}");
        assert!(text.contains("\n\nROUND  CHECK "), "{text}");
    }

    #[test]
    fn cancelling_says_what_it_came_to() {
        assert_eq!(cancelled(&job(JobState::Queued { ahead: 0 })), "is being cancelled");
        assert_eq!(cancelled(&job(JobState::Done(Outcome::Cancelled))), "cancelled");
        assert_eq!(cancelled(&job(JobState::Done(Outcome::Answers(Vec::new())))), "had ended before: done");
    }

    #[test]
    fn time_that_ran_out_has_a_name() {
        let expired = JobState::Done(Outcome::Expired { limit: TimeLimit::QueueTimeout });
        assert_eq!(full_state(&expired), "expired: its queue timeout passed");
    }

    #[test]
    fn retries_are_told() {
        let waiting = JobState::BackingOff { retry: 2, within_ms: 12_000 };
        assert_eq!(state(&waiting), "ran out of memory; retry 2 in up to 12.0 s");
        let mut job = job(waiting);
        (job.retries, job.backoff_us, job.attempts) = (1, 8_200_000, 2);
        let text = full(&job);
        assert!(
            text.contains("\nattempts   2\nretried    once after it ran out of memory, 8.2 s of waiting"),
            "{text}"
        );
        job.retries = 3;
        assert!(full(&job).contains("\nretried    3 times after"));
    }

    #[test]
    fn failures_are_told_once() {
        let oom = OutOfMemory {
            partition: "heavy".to_owned(),
            requested_bytes: 3 << 30,
            used_bytes: 1 << 30,
            cap_bytes: 2 << 30,
        };
        let said = oom.to_string();
        assert_eq!(failed(&FailureKind::OutOfMemory(oom), &said), said);
        assert_eq!(failed(&FailureKind::Engine, "it \u{7}died"), "the engine failed: it \\u{7}died");
        assert_eq!(failed(&FailureKind::Engine, ""), "the engine failed");
    }
}
