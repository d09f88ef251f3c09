//! Watching a job until it ends, and telling how it did.

use gpusched_client::{FailureKind, Job, JobState, JobView, Outcome, Update, Verdict};

use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::render::growing::Growing;
use crate::render::progress::Progress;
use crate::render::{asked, clean, job, reflection, table};

/// Shows a job's progress until it has ended, and a text as it comes; how the job then is.
pub(crate) async fn follow(job: &mut Job, mut progress: Progress) -> Result<JobView, Failure> {
    let mut written = Growing::default();
    loop {
        match job.next().await? {
            Some(Update::Done(view)) => {
                let text = if let JobState::Done(Outcome::Text { text, .. }) = &view.state { Some(text) } else { None };
                let rest = match text {
                    Some(text) => written.end(text),
                    None => written.stop().to_owned(),
                };
                if !rest.is_empty() {
                    progress.make_way().map_or(Ok(()), |output| output.bytes(rest.as_bytes()))?;
                }
                return Ok(view);
            }
            Some(Update::Writing { text, tokens }) => match progress.make_way() {
                Some(output) => output.bytes(written.grow(&text).as_bytes())?,
                None => progress.show(job.id(), &Update::Writing { text, tokens })?,
            },
            Some(
                update @ (Update::Queued { .. }
                | Update::Running { .. }
                | Update::BackingOff { .. }
                | Update::Reflecting { .. }
                | Update::Editing { .. }),
            ) => progress.show(job.id(), &update)?,
            None => return Err(gpusched_client::Error::Disconnected.into()),
        }
    }
}

/// Says what there is to say about an ended job, but for its picture or text.
pub(crate) fn conclude(view: &JobView, output: &Output) -> Result<Exit, Failure> {
    let JobState::Done(outcome) = &view.state else {
        return Err(gpusched_client::Error::Protocol(format!("job {} is done, but has no outcome", view.id)).into());
    };
    if !output.json {
        if let Some(of) = &view.reflection {
            reflection::rounds(of).iter().for_each(|line| output.note(line));
        }
        tell(view, outcome, output)?;
    }
    Ok(outcome.into())
}

fn tell(view: &JobView, outcome: &Outcome, output: &Output) -> Result<(), Failure> {
    let id = view.id;
    match outcome {
        Outcome::Image { truncated_tokens, .. } => {
            if *truncated_tokens > 0 {
                let n = truncated_tokens;
                output.note(&format!("the prompt is {n} tokens longer than the model reads; the end was ignored"));
            }
            match &view.reflection {
                Some(of) if of.verdict == Some(Verdict::Pass) => output.note(&reflection::result(of)),
                // The job is done, but who asked for checks is to know, even one who wants to hear little.
                Some(of) => output.complain(&reflection::result(of)),
                None => {}
            }
        }
        Outcome::Answers(answers) => match answers.as_slice() {
            [] => output.note(&format!("job {id} has no answer")),
            [best] => output.text(&clean(&best.label))?,
            answers => {
                let rows = answers.iter().map(|a| vec![clean(&a.label), format!("{:.3}", a.score)]).collect();
                output.text(&table(&["ANSWER", "SCORE"], rows))?;
            }
        },
        Outcome::Found(found) => match found.as_slice() {
            [] => output.note(&format!("job {id} found nothing of the kind; --threshold asks it to be less sure")),
            found => output.text(&asked::found(found))?,
        },
        Outcome::Mask { inside: 0, .. } => output.note(&format!("job {id} found nothing there that stands out")),
        Outcome::Mask { .. } => {}
        // The text itself has been shown.
        Outcome::Text { complete, truncated_tokens, tokens, .. } => {
            if *truncated_tokens > 0 {
                output.note(&format!(
                    "the model reads {truncated_tokens} tokens less; the end of the prompt was ignored"
                ));
            }
            if !complete {
                output.note(&format!(
                    "cut short after {tokens} tokens: as --max-tokens says, or all that the model has room for"
                ));
            }
        }
        Outcome::Score(score) => output.text(&format!("{score:.4}"))?,
        Outcome::Failed { kind, message } => {
            let remedy = match kind {
                FailureKind::Input => "change the request",
                FailureKind::Model => "see to the models directory",
                FailureKind::Engine => "see `journalctl -u gpusched`, or submit it again",
                FailureKind::OutOfMemory(_) => "ask for less (a smaller size), or give the class a larger partition",
                FailureKind::Quarantined { .. } => "it is not run any more: report it, with the daemon's log",
                FailureKind::Storage => "submit it again",
                FailureKind::ChecksFailed => "its rounds are kept: see `gpuctl show`, and `gpuctl fetch --round`",
            };
            output.complain(&format!("job {id} failed: {}; {remedy}", job::failed(kind, message)));
        }
        Outcome::Cancelled => output.complain(&format!("job {id} was cancelled")),
        Outcome::Expired { limit } => {
            output.complain(&format!("job {id} expired: its {limit} passed; give it more time"));
        }
    }
    Ok(())
}
