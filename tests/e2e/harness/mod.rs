//! What the tests share: the real programs, a daemon in a directory of its own, a client without manners, pictures.
//!
//! Nothing here sleeps, but for the terminal, whose screen can only be looked at again and again. Tests wait for what happens: updates of a job, lines of the daemon's log, ends of processes. A
//! daemon that outlives [`PATIENCE`](daemon::PATIENCE) is killed, so every such wait has an end, and the test fails.

pub(crate) mod daemon;
pub(crate) mod disk;
pub(crate) mod journal;
pub(crate) mod metrics;
pub(crate) mod picture;
pub(crate) mod programs;
pub(crate) mod raw;
pub(crate) mod tmux;

use gpusched_client::blocking::Client;
use gpusched_client::shared::view::Activity;
use gpusched_client::spec::ImageJob;
use gpusched_client::{JobId, JobState, JobView, Outcome, Update, txt2img};

/// A number from the environment, or the usual one.
pub(crate) fn number(variable: &str, usual: u64) -> u64 {
    std::env::var(variable).map_or(usual, |number| number.parse().expect("a number"))
}

/// A job that is done in no time.
pub(crate) fn quick() -> ImageJob {
    txt2img("a red circle").seed(1).steps(2).size(64, 64).guidance(1.0)
}

/// A job that takes many seconds. It can be cancelled, interrupted and expired all the while.
pub(crate) fn long() -> ImageJob {
    txt2img("a blue square").seed(2).steps(500).size(256, 256)
}

/// Watches a job until it has taken a diffusion step.
pub(crate) fn until_working(client: &Client, job: JobId) {
    for update in client.watch(job).expect("watched") {
        let update = update.expect("an update");
        if matches!(update, Update::Running { activity: Activity::Working { done: 1.., .. }, .. }) {
            return;
        }
        assert!(!matches!(update, Update::Done(_)), "job {job} was not to end: {update:?}");
    }
    panic!("no more updates of job {job}");
}

/// How a job has ended.
pub(crate) fn outcome(view: &JobView) -> &Outcome {
    let JobState::Done(outcome) = &view.state else { panic!("job {} has not ended: {:?}", view.id, view.state) };
    outcome
}

/// Runs a job to its end, which must be a picture.
pub(crate) fn made(client: &Client, job: JobId) -> JobView {
    let view = client.wait(job).expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Image { .. }), "job {job}: {:?}", view.state);
    view
}

/// The daemon answers, and runs what it is given.
pub(crate) fn assert_well(daemon: &daemon::Daemon) {
    let client = daemon.client();
    assert!(!client.status().expect("status").draining);
    let job = client.submit(quick(), Vec::new(), true).expect("accepted");
    made(&client, job);
}
