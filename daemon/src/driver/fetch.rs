//! The files that jobs made, handed out.

use std::fs::File;
use std::sync::Arc;

use gpusched_shared::{BlobRef, JobId, JobState, JobView, Rejection, StageView, Task};
use tokio::sync::oneshot;

use super::Driver;
use crate::blobs::Blobs;
use crate::journal::Query;
use crate::server::{Peer, Reply};

impl Driver {
    /// Hands out what a job made, or what was made in one of its rounds or by one of its stages.
    pub(super) fn fetch(&self, peer: Peer, job: JobId, number: Option<u8>, reply: Reply<(BlobRef, File)>) {
        let blobs = Arc::clone(&self.blobs);
        // Asked for before it is known whether the job has stages that are fetched by their numbers: that needs a look at it.
        let (ask, answer) = oneshot::channel();
        if number.is_some() {
            self.journal.ask(Query::Stages(job, ask));
        }
        let then = move |found: Result<JobView, Rejection>| {
            let view = match found {
                Ok(view) => view,
                Err(rejection) => return drop(reply.send(Err(rejection))),
            };
            let stage = number.filter(|_| matches!(view.spec.task, Task::Edit(_)));
            let Some(stage) = stage else { return drop(reply.send(open(&blobs, &view, number))) };
            tokio::spawn(async move {
                if let Ok(stages) = answer.await {
                    let _ = reply.send(file(&blobs, job, of_stage(&stages, stage)));
                }
            });
        };
        match self.live(peer, job) {
            // Opening a file of our own directory is no wait to speak of.
            Some(found) => then(found),
            None => self.ask_ended(peer, job, then),
        }
    }
}

/// The picture of a round of a job, or the one that the job ended with.
fn open(blobs: &Blobs, view: &JobView, round: Option<u8>) -> Result<(BlobRef, File), Rejection> {
    let blob = match round {
        Some(round) => picture_of(view, round),
        None => picture(view),
    };
    file(blobs, view.id, blob)
}

fn file(blobs: &Blobs, job: JobId, blob: Result<BlobRef, String>) -> Result<(BlobRef, File), Rejection> {
    let blob = blob.map_err(|state| Rejection::NothingToFetch { job, state })?;
    let file = blobs.get(blob.hash);
    file.map(|file| (blob, file)).map_err(|e| Rejection::Internal { reason: format!("picture of job {job}: {e}") })
}

/// What the stage with this number made, from 1, or what the job is instead.
fn of_stage(stages: &[StageView], number: u8) -> Result<BlobRef, String> {
    let stage = usize::from(number).checked_sub(1).and_then(|index| stages.get(index));
    let Some(stage) = stage else {
        return Err(format!("a job of {} stages so far, so there is no stage {number}", stages.len()));
    };
    let role = stage.role.word();
    let outcome = stage.outcome.as_ref().ok_or_else(|| format!("still at its stage {number} ({role})"))?;
    outcome.blob().ok_or_else(|| format!("a job whose stage {number} ({role}) made none"))
}

/// The picture that a job ended with, or what it is instead.
fn picture(view: &JobView) -> Result<BlobRef, String> {
    let state = match &view.state {
        JobState::Done(outcome) => match outcome.blob() {
            Some(blob) => return Ok(blob),
            None if outcome.is_done() => "an answer, see `gpuctl show`",
            None => outcome.word(),
        },
        JobState::Running { .. } | JobState::Reflecting { .. } | JobState::Editing { .. } => "still running",
        JobState::Queued { .. } | JobState::BackingOff { .. } => "still queued",
    };
    Err(state.to_owned())
}

/// The picture of a round of a job, or what the job is instead.
fn picture_of(view: &JobView, round: u8) -> Result<BlobRef, String> {
    let Some(reflection) = &view.reflection else {
        return Err(format!("a job without rounds, so there is no round {round}; leave the round out"));
    };
    if let Some(image) = reflection.image(round) {
        return Ok(image.blob);
    }
    let has_ended = matches!(view.state, JobState::Done(_));
    Err(if reflection.rounds.iter().any(|other| other.number == round) {
        if has_ended { format!("a job whose round {round} made none") } else { format!("still in round {round}") }
    } else {
        let so_far = if has_ended { "" } else { " so far" };
        format!("a job of {} rounds{so_far}, so there is no round {round}", reflection.rounds.len())
    })
}

#[cfg(test)]
mod tests {
    use gpusched_shared::BlobHash;

    use super::*;

    /// A job in a state, with two rounds of which the first has a picture.
    fn view(state: &str) -> JobView {
        let hash = BlobHash([1; 32]);
        let round = r#""prompt":"x","seed":1,"steps":4,"guidance":null,"checks":[],"verdict":null,"score":0,"image_us":1,"check_us":0"#;
        let text = format!(
            r#"{{"id":3,"uid":7,"class":"heavy","spec":{{"task":{{"txt2img":{{"prompt":"x"}}}}}},"attached":false,"state":{state},
            "attempts":0,"submitted_unix_ms":9,"wait_us":0,"run_us":0,"retries":0,"backoff_us":0,
            "usage":{{"parked_us":0,"yields":0,"longest_gap_us":0,"peak_bytes":0}},
            "reflection":{{"best":null,"verdict":null,"end":null,"rounds":[
                {{"number":1,{round},"image":{{"blob":{{"hash":"{hash}","bytes":8}},"size":{{"width":8,"height":8}},"truncated_tokens":0}}}},
                {{"number":2,{round},"image":null}}]}}}}"#
        );
        serde_json::from_str(&text).expect("a view")
    }

    #[test]
    fn a_round_s_picture_is_there_whatever_becomes_of_the_job() {
        let live = view(r#"{"reflecting":{"round":2,"of":3,"phase":"waiting"}}"#);
        let ended = view(r#"{"done":"cancelled"}"#);
        for view in [&live, &ended] {
            assert_eq!(picture_of(view, 1).map(|blob| blob.hash), Ok(BlobHash([1; 32])));
        }
        let why = |view: &JobView, round| {
            let state = picture_of(view, round).expect_err("none");
            Rejection::NothingToFetch { job: view.id, state }.to_string()
        };
        assert_eq!(why(&live, 2), "job 3 has no picture: it is still in round 2");
        assert_eq!(why(&ended, 2), "job 3 has no picture: it is a job whose round 2 made none");
        assert_eq!(why(&live, 3), "job 3 has no picture: it is a job of 2 rounds so far, so there is no round 3");
        assert_eq!(why(&ended, 0), "job 3 has no picture: it is a job of 2 rounds, so there is no round 0");
        let plain = JobView { reflection: None, ..ended };
        assert!(why(&plain, 1).ends_with("a job without rounds, so there is no round 1; leave the round out"));
        assert_eq!([picture(&live), picture(&plain)], [Err("still running".to_owned()), Err("cancelled".to_owned())]);
    }
}
