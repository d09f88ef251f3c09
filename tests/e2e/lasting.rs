//! What clients notice of a daemon that is killed and comes back: a delay.

use std::process::Stdio;

use gpusched_client::blocking::Session;
use gpusched_client::{
    Error, JobId, JobState, Notice, Outcome, Picture, Reconnect, Rejection, Submission, Update, vqa,
};

use crate::harness::daemon::{Daemon, Ended};
use crate::harness::{outcome, picture, quick, until_working};

/// The job that runs, once one does.
fn running(daemon: &Daemon) -> JobId {
    let client = daemon.client();
    loop {
        let jobs = client.list(false, None, 1).expect("listed");
        if let [job] = jobs.as_slice()
            && matches!(job.state, JobState::Running { .. })
        {
            return job.id;
        }
    }
}

#[test]
fn gpuctl_outlives_the_daemon() {
    let daemon = Daemon::start();
    let args = ["submit", "txt2img", "a red circle", "--steps", "40", "--seed", "1", "--key", "poster-17"];
    let mut command = daemon.home().gpuctl_command(&args);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let job = running(&daemon);
    until_working(&daemon.client(), job);
    let daemon = daemon.kill().start();
    let ended = Ended::from(child.wait_with_output().expect("it ends")).expect(0);
    assert_eq!(ended.text(), format!("gpusched-{job}.png\n"));
    let said = |text: &str| assert!(ended.stderr.contains(text), "{text:?}: {}", ended.stderr);
    said("gpuctl: the daemon went away; waiting for it (up to 60 s)…\n");
    said("gpuctl: the daemon is back\n");

    // The same again is that job, though it has ended; another is refused.
    let again = daemon.gpuctl(&args).expect(0);
    assert_eq!(again.text(), format!("gpusched-{job}-2.png\n"));
    let mut other = args;
    other[4] = "41";
    let refused = daemon.gpuctl(&other).expect(4);
    assert!(refused.stderr.starts_with(&format!("gpuctl: key was used for job {job}, ")), "{}", refused.stderr);

    let history = daemon.gpuctl(&["jobs", "--history"]).expect(0);
    let lines: Vec<_> = history.text().lines().collect();
    assert_eq!(lines.len(), 3, "two attempts: {}", history.text());
    assert!(lines[2].ends_with("done"), "{}", history.text());
}

#[test]
fn a_session_keeps_its_attached_job_and_its_pictures() {
    let daemon = Daemon::start();
    let (told, notices) = std::sync::mpsc::channel();
    let session = Session::connect(daemon.home().socket(), Reconnect::default(), move |notice| {
        // Nobody listens at the end.
        let _ = told.send(notice);
    });
    let session = session.expect("connected");
    let question = || vqa("what color is the shape?");
    let circle = Picture::from_bytes(&picture::red_circle()).expect("a memory file");
    // Behind something that takes a while, so that it waits when the daemon dies.
    let mut long = session.submit(Submission::new(quick().steps(60))).expect("accepted");
    let mut job = session.submit(Submission::new(question()).pictures(vec![circle]).key("mine")).expect("accepted");
    let daemon = daemon.kill().start();
    let view = job.wait().expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Answers(answers) if answers[0].label == "red"), "{:?}", view.state);
    let Some(Ok(Update::Done(_) | Update::Queued { .. } | Update::Running { .. })) = long.next() else {
        panic!("the other job is lost")
    };
    let view = long.wait().expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Image { .. }), "{:?}", view.state);
    let notices: Vec<_> = notices.try_iter().collect();
    assert_eq!(notices, [Notice::Lost { within: Reconnect::default().within }, Notice::Back]);

    // Another picture is another request.
    let square = Picture::from_bytes(&picture::png(64, 64, |_, _| [0, 0, 255])).expect("a memory file");
    let other = session.submit(Submission::new(question()).pictures(vec![square]).key("mine"));
    match other {
        Err(Error::Rejected(Rejection::KeyConflict { job: of })) => assert_eq!(of, job.id()),
        other => panic!("{other:?}"),
    }
    drop(daemon);
}
