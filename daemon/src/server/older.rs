//! What clients are told that speak an older version of the protocol: nothing that they could not read.

use gpusched_shared::{JobView, Rejection, Response, TimelinePage, Update};

/// A response as a client of `version` can read it. Of jobs that its version does not know a list says nothing and a timeline not
/// what they were; whoever asks for one by its number is refused.
pub(super) fn fit(response: Response, version: u16) -> Response {
    let is_known = |job: &JobView| job.spec.task.kind().since() <= version;
    match response {
        Response::Job(ref job) | Response::Update(Update::Done(ref job)) if !is_known(job) => {
            refused(job.spec.task.kind().since(), version)
        }
        Response::Update(Update::Editing { .. } | Update::Writing { .. }) if version < SINCE => refused(SINCE, version),
        Response::Jobs(mut jobs) => {
            jobs.retain(is_known);
            Response::Jobs(jobs)
        }
        Response::Timeline(mut view) => {
            if let TimelinePage::Lanes(spans) = &mut view.page {
                for span in spans {
                    span.about.take_if(|about| about.kind.since() > version);
                }
            }
            Response::Timeline(view)
        }
        Response::Welcome { .. }
        | Response::Rejected(_)
        | Response::Accepted(_)
        | Response::Update(_)
        | Response::Job(_)
        | Response::File(_)
        | Response::Status(_)
        | Response::Explanation(_)
        | Response::Queue(_)
        | Response::Route(_)
        | Response::History(_)
        | Response::Quality(_)
        | Response::Stages(_) => response,
    }
}

/// The version that tasks of several kinds came with.
const SINCE: u16 = gpusched_shared::edit::STAGES_SINCE;

fn refused(since: u16, version: u16) -> Response {
    let reason =
        format!("the job is of a kind of version {since}, and version {version} is spoken; install the newer client");
    Response::Rejected(Rejection::Malformed { reason })
}

#[cfg(test)]
mod tests {
    use gpusched_shared::{EditSpec, EditStep, ImageSpec, JobSpec, Phase, Task};

    use super::*;

    fn job(spec: JobSpec) -> JobView {
        let text = r#"{"id":3,"uid":7,"class":"heavy","spec":{"task":{"txt2img":{"prompt":"x"}}},"attached":false,
            "state":{"queued":{"ahead":0}},"attempts":0,"submitted_unix_ms":9,"wait_us":0,"run_us":0,"retries":0,"backoff_us":0,
            "usage":{"parked_us":0,"yields":0,"longest_gap_us":0,"peak_bytes":0},"reflection":null}"#;
        JobView { spec, ..serde_json::from_str(text).expect("a view") }
    }

    #[test]
    fn an_older_client_hears_of_what_it_knows() {
        let old = job(JobSpec::new(Task::Txt2Img(ImageSpec::new("x"))));
        let new = job(JobSpec::new(Task::Edit(Box::new(EditSpec::new("make the cat blue")))));
        let jobs = Response::Jobs(vec![old.clone(), new.clone()]);
        assert_eq!(fit(jobs.clone(), 4), Response::Jobs(vec![old.clone()]));
        assert_eq!(fit(jobs.clone(), 5), jobs);
        assert_eq!(fit(Response::Job(old.clone()), 3), Response::Job(old));
        let editing = Update::Editing { step: EditStep::Detect, phase: Phase::Waiting };
        for said in [Response::Job(new.clone()), Response::Update(Update::Done(new)), Response::Update(editing)] {
            assert!(matches!(fit(said.clone(), 4), Response::Rejected(Rejection::Malformed { .. })), "{said:?}");
            assert_eq!(fit(said.clone(), 5), said);
        }
    }
}
