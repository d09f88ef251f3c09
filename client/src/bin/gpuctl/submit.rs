//! `gpuctl submit`.

use std::io;
use std::path::Path;
use std::time::Duration;

use gpusched_client::{
    Error, Job, JobId, JobState, JobView, Outcome, Picture, Rejection, Retry, Session, Submission, Task,
};
use serde_json::json;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cli::{Global, SubmissionOptions, Submit};
use crate::commands::connect_lasting;
use crate::failure::{Exit, Failure};
use crate::follow::{conclude, follow};
use crate::output::Output;
use crate::render::asked::stage;
use crate::render::clean;
use crate::render::progress::Progress;
use crate::render::units::span;
use crate::save;

/// How long an interrupted gpuctl waits to hear that its job has ended.
const CANCEL_PATIENCE: Duration = Duration::from_secs(3);

/// Hands in a job and, unless told otherwise, waits for its result.
pub(crate) async fn run(submit: Submit, global: &Global, output: &Output) -> Result<Exit, Failure> {
    submit.check().map_err(Failure::Usage)?;
    if let Some(picture) = submit.picture() {
        save::check(&picture.target, output)?;
    }
    let pictures = submit.images().into_iter().map(|path| open(path)).collect::<Result<_, _>>()?;
    let progress = Progress::new(output);
    let session = connect_lasting(global, submit.submission().absence.reconnect(), &progress).await?;
    // An interrupt up to here ends this process, and with it the connection and an attached job.
    let mut job = hand_in(&session, &submit, pictures, output).await?;
    if output.json {
        output.document(&json!({ "job": job.id() }))?;
    }
    if submit.submission().detach {
        if !output.json {
            output.text(&job.id().to_string())?;
        }
        return Ok(Exit::Done);
    }
    let mut interrupts = signal(SignalKind::interrupt()).map_err(Failure::System)?;
    tokio::select! {
        result = finish(&mut job, &submit, progress, output) => result,
        _ = interrupts.recv() => interrupted(&mut job, &mut interrupts, output).await,
    }
}

/// Hands the job in; when the queue is full, again and again if so told.
async fn hand_in(session: &Session, submit: &Submit, pictures: Vec<Picture>, output: &Output) -> Result<Job, Failure> {
    let SubmissionOptions { detach, retry, key, absence: _ } = submit.submission();
    let mut submission = Submission::new(submit.spec()).pictures(pictures);
    if *detach {
        submission = submission.detached();
    }
    if let Some(key) = key {
        submission = submission.key(key);
    }
    let Some(within) = *retry else { return Ok(session.submit(submission).await?) };
    // The user said how long: how often is no matter.
    let retry = Retry { within, tries: u32::MAX, ..Retry::default() };
    let mut told = Ok(());
    let notice = |refusal: &Rejection, wait| {
        if told.is_ok() {
            told = tell(refusal, wait, output);
        }
    };
    let job = session.submit_retrying(submission, retry, notice).await?;
    told.map(|()| job)
}

/// Says why the job waits here, and for how long.
fn tell(refusal: &Rejection, wait: Duration, output: &Output) -> Result<(), Failure> {
    if output.json {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        return output.document(&json!({ "retry": { "wait_ms": wait_ms, "because": refusal } }));
    }
    let why = if let Rejection::QueueFull { class, limit, .. } = refusal {
        format!("the queue of class {class} is full ({limit} jobs)")
    } else {
        refusal.to_string()
    };
    output.note(&format!("{}; trying again in {}", clean(&why), span(wait)));
    Ok(())
}

fn open(path: &Path) -> Result<Picture, Error> {
    if path == Path::new("-") {
        Picture::from_reader(io::stdin().lock()).map_err(|source| Error::Picture { path: path.to_owned(), source })
    } else {
        Picture::open(path)
    }
}

/// Waits for the job, and writes what it made.
async fn finish(job: &mut Job, submit: &Submit, progress: Progress, output: &Output) -> Result<Exit, Failure> {
    let view = follow(job, progress).await?;
    let exit = conclude(&view, output)?;
    let mut result = json!({ "result": view });
    if let Task::Edit(_) = view.spec.task {
        let stages = job.stages().await?;
        stages.iter().filter_map(stage).for_each(|line| output.note(&line));
        result["stages"] = json!(stages);
    }
    let made = matches!(&view.state, JobState::Done(outcome) if outcome.blob().is_some());
    if let Some(picture) = submit.picture().filter(|_| made) {
        let png = job.fetch_bytes().await?;
        if let Some(file) = save::write(&png, job.id(), None, &picture.target, output)? {
            if output.json {
                result["file"] = json!(file.to_string_lossy());
            } else {
                output.text(&file.display().to_string())?;
            }
            // The file is safe: not being able to show it is no failure.
            #[cfg(feature = "preview")]
            if picture.preview && !output.json {
                crate::preview::show(&png, output)?;
            }
        }
    }
    if output.json {
        output.document(&result)?;
    }
    Ok(exit)
}

/// Cancels the job, and waits a little to hear of it; a second interrupt ends the waiting.
async fn interrupted(job: &mut Job, interrupts: &mut Signal, output: &Output) -> Result<Exit, Failure> {
    let id = job.id();
    let ended = async {
        job.cancel().await?;
        job.wait().await
    };
    let ended = tokio::select! {
        view = ended => view.ok(),
        _ = interrupts.recv() => None,
        () = tokio::time::sleep(CANCEL_PATIENCE) => None,
    };
    if output.json {
        if let Some(view) = ended {
            output.document(&json!({ "result": view }))?;
        }
    } else {
        output.note(&format!("interrupted: {}", fate(id, ended.as_ref())));
    }
    Ok(Exit::Interrupted)
}

fn fate(job: JobId, ended: Option<&JobView>) -> String {
    match ended.map(|view| &view.state) {
        Some(JobState::Done(Outcome::Cancelled)) => format!("job {job} is cancelled"),
        Some(JobState::Done(outcome)) => {
            format!("job {job} had ended before: {}; see `gpuctl show {job}`", outcome.word())
        }
        // The daemon cancels what is attached to a closed connection.
        Some(
            JobState::Queued { .. }
            | JobState::BackingOff { .. }
            | JobState::Running { .. }
            | JobState::Reflecting { .. }
            | JobState::Editing { .. },
        )
        | None => format!("job {job} is being cancelled"),
    }
}
