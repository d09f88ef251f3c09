//! A daemon whose memory runs out again and again: every job is done in the end.
//!
//! A short form runs with all tests. The long one, of 1,000 jobs:
//! `GPUSCHED_JOBS=1000 cargo test -p gpusched-tests --test e2e stress -- --nocapture`

use gpusched_client::{FailureKind, JobView, Outcome, Picture, img2img, txt2img, vqa};

use crate::harness::daemon::{Daemon, Setup};
use crate::harness::{number, outcome, picture};

/// Of 100 attempts 10 are told that memory ran out, and 10 have their cap lowered so that it does. The default budget of
/// retries; waits of milliseconds instead of seconds.
const MORE: &str = "[retry]\nbase_ms = 20\nceiling_ms = 300\n\n\
    [faults]\nseed = 7\noom_percent = 10\nsqueeze_percent = 10\n\n[engine]\nheartbeat_ms = 50\n";

#[test]
fn stress() {
    let count = number("GPUSCHED_JOBS", 60);
    let daemon = Daemon::start_with(&Setup { more: MORE, limits: "open_requests = 1024", ..Setup::default() });
    let client = daemon.client();
    let circle = || vec![Picture::from_bytes(&picture::red_circle()).expect("a memory file")];
    let jobs: Vec<_> = (0..count)
        .map(|number| {
            let submitted = match number % 10 {
                0..3 => client.submit(txt2img("a blue square").seed(number).steps(2).size(64, 64), Vec::new(), false),
                3 => client.submit(img2img("make it blue").seed(number).steps(2).size(64, 64), circle(), false),
                _ => client.submit(vqa("what color is the shape?"), circle(), false),
            };
            submitted.expect("accepted")
        })
        .collect();
    let views: Vec<JobView> = jobs.into_iter().map(|job| client.wait(job).expect("waited for")).collect();
    for view in &views {
        let done = if let Outcome::Answers(answers) = outcome(view) {
            answers.first().is_some_and(|best| best.label == "red")
        } else {
            matches!(outcome(view), Outcome::Image { .. })
        };
        assert!(done, "job {}: {:?}", view.id, view.state);
        assert_eq!(view.attempts, 1 + view.retries, "a job is tried again only for lack of memory");
    }
    let retries: u64 = views.iter().map(|view| u64::from(view.retries)).sum();
    let attempts: u64 = views.iter().map(|view| u64::from(view.attempts)).sum();
    let status = client.status().expect("status");
    let ooms: u64 = status.classes.iter().map(|class| class.out_of_memory).sum();
    assert_eq!(ooms, retries, "each time memory ran out, and was tried again");
    // Or else nothing was tried.
    assert!(retries * 100 >= attempts * 8, "{retries} of {attempts}");
    let injected = daemon.log().matches("a fault on purpose: OutOfMemory").count() as u64;
    assert!(injected > 0 && injected < retries, "some were told so, others did run out of it: {injected} of {retries}");
    let waits: Vec<u64> = views.iter().map(|view| view.backoff_us).filter(|us| *us > 0).collect();
    let most = views.iter().map(|view| view.retries).max().unwrap_or(0);
    println!(
        "{count} jobs, all done: {attempts} attempts, {retries} of them out of memory ({:.1} %; {} by the allocator's count, \
         {injected} injected), at most {most} retries of one job; wait added to {} jobs: {:.1} ms on average, {:.1} ms at most",
        100.0 * retries as f64 / attempts as f64,
        retries - injected,
        waits.len(),
        waits.iter().sum::<u64>() as f64 / waits.len().max(1) as f64 / 1e3,
        waits.iter().max().copied().unwrap_or(0) as f64 / 1e3
    );
}

#[test]
fn with_the_budget_spent_the_job_fails_and_says_so() {
    let more = "[retry]\nbudget = 2\nbase_ms = 1\nceiling_ms = 2\n\n[faults]\noom_percent = 100\n";
    let daemon = Daemon::start_with(&Setup { more, ..Setup::default() });
    let client = daemon.client();
    let job =
        client.submit(txt2img("a red circle").seed(1).steps(2).size(64, 64), Vec::new(), false).expect("accepted");
    let view = client.wait(job).expect("waited for");
    let Outcome::Failed { kind: FailureKind::OutOfMemory(oom), message } = outcome(&view) else {
        panic!("{:?}", view.state)
    };
    assert_eq!((view.attempts, view.retries, oom.partition.as_str()), (3, 2, "heavy"));
    assert!(message.ends_with("(attempt 3, the last)"), "{message}");
    let history = client.history(job).expect("told");
    assert_eq!(history.iter().map(|attempt| attempt.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(history.iter().all(|attempt| attempt.end == Some(gpusched_client::AttemptEnd::OutOfMemory)), "{history:?}");
}
