//! Answers to "why" in words.

use std::time::Duration;

use gpusched_client::shared::Bytes;
use gpusched_client::{Explanation, JobState, RouteView};

use super::units::span;
use super::{clean, fields, job, table};

/// Why a job is where it is.
pub(crate) fn explanation(why: &Explanation) -> String {
    let mut lines = vec![("job", why.job.id.to_string()), ("state", job::full_state(&why.job.state))];
    lines.extend(why.reasons.iter().map(|reason| ("because", clean(&reason.to_string()))));
    match &why.job.state {
        JobState::Queued { .. } | JobState::BackingOff { .. } => {
            lines.push(("starts", forecast(why.starts_in_ms)));
            lines.push(("ends", forecast(why.ends_in_ms)));
        }
        JobState::Running { .. } | JobState::Reflecting { .. } | JobState::Editing { .. } => {
            lines.push(("ends", forecast(why.ends_in_ms)));
        }
        JobState::Done(_) => {}
    }
    fields(&lines)
}

fn forecast(in_ms: Option<u64>) -> String {
    match in_ms {
        Some(ms) => format!("in about {}", span(Duration::from_millis(ms))),
        None => "cannot be said: nothing like it has run yet, or nothing moves".to_owned(),
    }
}

/// Where a job would go, rule by rule.
pub(crate) fn route(route: &RouteView) -> String {
    let rules = route.rules.iter().map(|rule| {
        let verdict = rule.fails.as_ref().map_or_else(|| "yes".to_owned(), |fails| format!("no: {}", clean(fails)));
        vec![clean(&rule.rule), verdict]
    });
    let run = route.run_ms.map_or_else(
        || "not measured yet".to_owned(),
        |ms| format!("about {} on a lane", span(Duration::from_millis(ms))),
    );
    let facts = [
        ("class", route.class.as_deref().map_or_else(|| "none".to_owned(), clean)),
        ("memory", format!("{} to run, and {} for the model", Bytes(route.run_bytes), Bytes(route.weights_bytes))),
        ("time", run),
    ];
    format!("{}\n\n{}", table(&["RULE", "TAKES THE JOB"], rules.collect()), fields(&facts))
}

#[cfg(test)]
mod tests {
    use gpusched_client::shared::{Activity, Reason, RuleView};

    use super::super::job::tests::job;
    use super::*;

    #[test]
    fn a_waiting_job_has_reasons_and_a_forecast() {
        let why = Explanation {
            job: job(JobState::Queued { ahead: 3 }),
            reasons: vec![
                Reason::LanesBusy { class: "light".to_owned(), lanes: 4 },
                Reason::Behind { jobs: 3, lane_ms: 3600 },
            ],
            starts_in_ms: Some(900),
            ends_in_ms: None,
        };
        let expected = "\
job        7
state      queued, 3 ahead
because    all 4 lanes of class light are busy
because    3 jobs go first (3.6 s of lane time)
starts     in about 900 ms
ends       cannot be said: nothing like it has run yet, or nothing moves";
        assert_eq!(explanation(&why), expected);
    }

    #[test]
    fn a_parked_job_says_for_whom() {
        let state = JobState::Running { lane: 0, activity: Activity::Working { done: 4, of: 20 }, parked: true };
        let reasons = vec![Reason::Parked { classes: vec!["light".to_owned()] }];
        let why = Explanation { job: job(state), reasons, starts_in_ms: None, ends_in_ms: Some(12_000) };
        let expected = "\
job        7
state      step 4 of 20, parked, on lane 0
because    parked at a yield point while light works
ends       in about 12.0 s";
        assert_eq!(explanation(&why), expected);
    }

    #[test]
    fn a_route_shows_every_rule() {
        let rule =
            |rule: &str, fails: Option<&str>| RuleView { rule: rule.to_owned(), fails: fails.map(str::to_owned) };
        let mut view = RouteView {
            class: Some("light".to_owned()),
            rules: vec![rule("1: task txt2img", Some("the task is vqa")), rule("2: any", None)],
            run_bytes: 50 << 20,
            weights_bytes: 448 << 20,
            run_ms: Some(1200),
        };
        let expected = "\
RULE             TAKES THE JOB
1: task txt2img  no: the task is vqa
2: any           yes

class      light
memory     50.0 MiB to run, and 448 MiB for the model
time       about 1.2 s on a lane";
        assert_eq!(route(&view), expected);
        (view.class, view.run_ms) = (None, None);
        assert!(route(&view).contains("class      none\n") && route(&view).ends_with("not measured yet"));
    }
}
