//! Jobs in words.

use gpusched_client::shared::view::Activity;
use gpusched_client::{ImageSpec, JobState, JobView, Outcome, Task};

use super::units::{ago, bytes, moment, span};
use super::{clean, shorten, table};

/// Characters of a prompt that a list shows.
const TEXT_WIDTH: usize = 48;

/// A list of jobs, one a line.
pub(crate) fn list(jobs: &[JobView], now_unix_ms: u64) -> String {
    let rows = jobs.iter().map(|job| {
        vec![
            job.id.to_string(),
            job.spec.task.kind().to_string(),
            job.spec.model.as_deref().map_or_else(|| "-".to_owned(), clean),
            state(&job.state),
            ago(job.submitted_unix_ms, now_unix_ms),
            span(job.wait_ms),
            span(job.run_ms),
            shorten(job.spec.task.text(), TEXT_WIDTH),
        ]
    });
    table(&["ID", "TASK", "MODEL", "STATE", "SUBMITTED", "WAITED", "RAN", "TEXT"], rows.collect())
}

/// Where a job is, in a few words.
pub(crate) fn state(state: &JobState) -> String {
    match state {
        JobState::Queued { ahead } => queued(*ahead),
        JobState::Running { activity, .. } => doing(*activity),
        JobState::Done(outcome) => outcome.word().to_owned(),
    }
}

/// What an order to cancel has come to.
pub(crate) fn cancelled(view: &JobView) -> String {
    match &view.state {
        JobState::Done(outcome @ (Outcome::Image { .. } | Outcome::Answers(_) | Outcome::Failed { .. })) => {
            format!("had ended before: {}", outcome.word())
        }
        JobState::Done(outcome @ (Outcome::Cancelled | Outcome::Expired)) => outcome.word().to_owned(),
        JobState::Queued { .. } | JobState::Running { .. } => "is being cancelled".to_owned(),
    }
}

/// That a job waits.
pub(crate) fn queued(ahead: u32) -> String {
    if ahead == 0 { "queued, next".to_owned() } else { format!("queued, {ahead} ahead") }
}

/// What a lane does for a job.
pub(crate) fn doing(activity: Activity) -> String {
    match activity {
        Activity::Starting => "starting".to_owned(),
        Activity::Loading { done, of } => format!("loading, file {done} of {of}"),
        Activity::Working { done, of } => format!("step {done} of {of}"),
    }
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
    match &job.spec.task {
        Task::Txt2Img(image) | Task::Img2Img(image) => picture(image, &mut lines),
        Task::Vqa(vqa) => lines.push(("question", clean(&vqa.question))),
    }
    if let Some(ms) = job.spec.deadline_ms {
        lines.push(("deadline", format!("{} after it was submitted", span(ms))));
    }
    lines.push(("submitted", moment(job.submitted_unix_ms)));
    lines.push(("by", format!("uid {}, {}", job.uid, if job.attached { "attached" } else { "detached" })));
    lines.push(("waited", span(job.wait_ms)));
    lines.push(("ran", span(job.run_ms)));
    if job.attempts > 1 {
        lines.push(("attempts", job.attempts.to_string()));
    }
    if let JobState::Done(outcome) = &job.state {
        result(outcome, &mut lines);
    }
    lines.iter().map(|(name, value)| format!("{name:<10} {value}")).collect::<Vec<_>>().join("\n")
}

type Lines = Vec<(&'static str, String)>;

fn full_state(of: &JobState) -> String {
    match of {
        JobState::Running { lane, .. } => format!("{}, on lane {lane}", state(of)),
        JobState::Queued { .. } | JobState::Done(_) => state(of),
    }
}

fn picture(image: &ImageSpec, lines: &mut Lines) {
    lines.push(("prompt", clean(&image.prompt)));
    lines.extend(image.size.map(|size| ("size", size.to_string())));
    lines.extend(image.steps.map(|steps| ("steps", steps.to_string())));
    lines.extend(image.seed.map(|seed| ("seed", seed.to_string())));
    lines.extend(image.guidance.map(|guidance| ("guidance", guidance.to_string())));
}

fn result(outcome: &Outcome, lines: &mut Lines) {
    match outcome {
        Outcome::Image { blob, size, truncated_tokens } => {
            lines.push(("picture", format!("{size} pixels, {}", bytes(blob.bytes))));
            lines.push(("blake3", blob.hash.to_string()));
            if *truncated_tokens > 0 {
                lines.push(("ignored", format!("the last {truncated_tokens} tokens of the prompt")));
            }
        }
        Outcome::Answers(answers) => {
            lines.extend(answers.iter().map(|a| ("answer", format!("{:.3}  {}", a.score, clean(&a.label)))));
        }
        Outcome::Failed { kind, message } => lines.push(("because", format!("{kind}: {}", clean(message)))),
        Outcome::Cancelled | Outcome::Expired => {}
    }
}

#[cfg(test)]
mod tests {
    use gpusched_client::{BlobHash, BlobRef, JobId, Size, txt2img};

    use super::*;

    fn job(state: JobState) -> JobView {
        JobView {
            id: JobId(7),
            uid: 1000,
            class: "interactive".to_owned(),
            spec: txt2img("a red\ncircle").steps(20).seed(1).size(64, 32).model("flux").into(),
            attached: true,
            state,
            attempts: 1,
            submitted_unix_ms: 0,
            wait_ms: 1200,
            run_ms: 65_000,
        }
    }

    #[test]
    fn a_list_is_a_table() {
        let running = JobState::Running { lane: 0, activity: Activity::Working { done: 4, of: 20 } };
        assert_eq!(
            list(&[job(running)], 180_000),
            "ID  TASK     MODEL  STATE         SUBMITTED  WAITED  RAN        TEXT\n\
             7   txt2img  flux   step 4 of 20  3 min ago  1.2 s   1 min 5 s  a red circle"
        );
    }

    #[test]
    fn one_job_tells_all() {
        let blob = BlobRef { hash: BlobHash([0xab; 32]), bytes: 1500 };
        let size = Size { width: 64, height: 32 };
        let text = full(&job(JobState::Done(Outcome::Image { blob, size, truncated_tokens: 3 })));
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
submitted  1970-01-01 00:00:00 UTC
by         uid 1000, attached
waited     1.2 s
ran        1 min 5 s
picture    64x32 pixels, 1.5 kB
blake3     abababababababababababababababababababababababababababababababab
ignored    the last 3 tokens of the prompt";
        assert_eq!(text, expected);
    }

    #[test]
    fn cancelling_says_what_it_came_to() {
        assert_eq!(cancelled(&job(JobState::Queued { ahead: 0 })), "is being cancelled");
        assert_eq!(cancelled(&job(JobState::Done(Outcome::Cancelled))), "cancelled");
        assert_eq!(cancelled(&job(JobState::Done(Outcome::Answers(Vec::new())))), "had ended before: done");
    }
}
