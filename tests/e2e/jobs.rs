//! What becomes of jobs.

use std::time::Duration;

use gpusched_client::blocking::Client;
use gpusched_client::shared::view::Activity;
use gpusched_client::shared::{ModelView, Request, Response};
use gpusched_client::{JobState, Outcome, Picture, Size, TimeLimit, Update, img2img, txt2img, vqa};

use crate::harness::daemon::Daemon;
use crate::harness::raw::Raw;
use crate::harness::{assert_well, long, made, outcome, picture, quick, until_working};

fn circle() -> Vec<Picture> {
    vec![Picture::from_bytes(&picture::red_circle()).expect("a memory file")]
}

#[test]
fn a_picture_is_made_step_by_step() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job =
        client.submit(txt2img("a red circle").seed(7).steps(4).size(256, 128), Vec::new(), true).expect("accepted");
    let mut steps = Vec::new();
    let mut done = None;
    for update in client.watch(job).expect("watched") {
        let update = update.expect("an update");
        if let Update::Running { activity: Activity::Working { done, of }, .. } = update {
            steps.push((done, of));
        } else if let Update::Done(view) = update {
            done = Some(view);
        }
    }
    assert!(steps.is_sorted_by_key(|(done, _)| *done), "{steps:?}");
    assert!(steps.iter().all(|(done, of)| done <= of && *of == 4), "{steps:?}");
    assert_eq!(steps.last(), Some(&(4, 4)));

    let view = done.expect("the last update");
    assert_eq!(view.spec.model.as_deref(), Some("flux2-klein-tiny"));
    let Outcome::Image { blob, size, truncated_tokens: 0 } = *outcome(&view) else { panic!("{:?}", view.state) };
    assert_eq!(size, Size { width: 256, height: 128 });
    let png = client.fetch_bytes(job).expect("fetched");
    assert_eq!(png.len() as u64, blob.bytes);
    let read = picture::read(&png);
    assert_eq!(read.size, (256, 128));
    let text = |keyword: &str| read.texts.get(keyword).map(String::as_str);
    let expected = [("prompt", "a red circle"), ("seed", "7"), ("model", "flux2-klein-tiny"), ("steps", "4")];
    for (keyword, value) in expected {
        assert_eq!(text(keyword), Some(value), "{keyword}");
    }
    // Only gpuctl knows whose file it writes; the daemon keeps the same picture once.
    assert_eq!(text("gpusched:job"), None);
}

#[test]
fn the_same_seed_makes_the_same_picture_and_another_another() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let run = |seed| {
        let job = client.submit(quick().seed(seed), Vec::new(), false).expect("accepted");
        outcome(&made(&client, job)).blob()
    };
    let (first, again, other) = (run(1), run(1), run(2));
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn what_is_left_open_is_filled_in_and_shown() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(txt2img("a red circle").deadline(Duration::from_secs(100)), Vec::new(), true);
    let view = made(&client, job.expect("accepted"));
    let gpusched_client::Task::Txt2Img(image) = &view.spec.task else { panic!("{:?}", view.spec) };
    assert!(image.seed.is_some() && image.steps.is_some() && image.guidance.is_some());
    assert_eq!(image.size, Some(Size { width: 64, height: 64 }));
    assert_eq!(view.spec.deadline_ms, Some(100_000));
    assert_eq!((view.attached, view.attempts, view.class.as_str()), (true, 1, "heavy"));
}

#[test]
fn a_picture_is_made_from_another() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let spec = || img2img("make it blue").seed(1).steps(2).size(64, 64);
    let run = |pictures| made(&client, client.submit(spec(), pictures, true).expect("accepted"));
    let view = run(circle());
    assert_eq!(picture::read(&client.fetch_bytes(view.id).expect("fetched")).size, (64, 64));
    let white = picture::png(64, 64, |_, _| [255, 255, 255]);
    let other = run(vec![Picture::from_bytes(&white).expect("a memory file")]);
    assert_ne!(outcome(&view).blob(), outcome(&other).blob(), "the reference makes a difference");
    let both = run(circle().into_iter().chain(circle()).collect());
    assert_ne!(outcome(&view).blob(), outcome(&both).blob(), "and so does a second one");
}

#[test]
fn a_question_is_answered_best_first() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(vqa("what color is the shape?").top(100), circle(), true).expect("accepted");
    let view = client.wait(job).expect("waited for");
    let Outcome::Answers(answers) = outcome(&view) else { panic!("{:?}", view.state) };
    assert_eq!(answers[0].label, "red");
    assert!(answers.is_sorted_by(|a, b| a.score >= b.score), "{answers:?}");
    let sum: f32 = answers.iter().map(|answer| answer.score).sum();
    assert!((0.99..=1.001).contains(&sum), "{sum} for all answers there are");
    let refused = client.fetch(job).expect_err("an answer is no picture").to_string();
    assert_eq!(refused, format!("job {job} has no picture: it is an answer, see `gpuctl show`"));
}

#[test]
fn a_prompt_longer_than_the_model_reads_is_counted() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let run = |prompt: String| {
        let job = client.submit(txt2img(prompt).seed(1).steps(1).size(64, 64), Vec::new(), true).expect("accepted");
        let view = made(&client, job);
        let Outcome::Image { truncated_tokens, .. } = outcome(&view) else { panic!("{:?}", view.state) };
        *truncated_tokens
    };
    assert_eq!(run("a red circle".to_owned()), 0);
    let (more, most) = (run("a red circle and ".repeat(60)), run("a red circle and ".repeat(120)));
    assert!(more > 0 && most > more, "{more} {most}");
}

#[test]
fn a_waiting_job_is_cancelled_at_once_and_a_running_one_leaves_its_lane() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), false).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(long(), Vec::new(), false).expect("accepted");
    let last = client.submit(quick(), Vec::new(), false).expect("accepted");
    let mut news = client.watch(last).expect("watched");
    let queued = |update: Option<Result<_, _>>| match update {
        Some(Ok(Update::Queued { ahead })) => ahead,
        other => panic!("{other:?}"),
    };
    assert_eq!(queued(news.next()), 1);

    let view = client.cancel(waiting).expect("cancelled");
    assert_eq!((outcome(&view), view.attempts, view.run_us), (&Outcome::Cancelled, 0, 0));
    assert_eq!(queued(news.next()), 0, "it has moved up");
    assert!(matches!(client.show(running).expect("shown").state, JobState::Running { .. }));

    let view = client.cancel(running).expect("cancelled");
    assert_eq!((outcome(&view), view.attempts), (&Outcome::Cancelled, 1));
    made(&client, last);
}

#[test]
fn finished_beats_cancelled() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(quick(), Vec::new(), true).expect("accepted");
    let view = made(&client, job);
    assert_eq!(client.cancel(job).expect("no error"), view);
    assert_eq!(client.show(job).expect("shown"), view);
}

#[test]
fn nobody_gets_the_news_of_others() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let mut watchers: Vec<_> = (0..2)
        .map(|_| {
            let job = client.submit(quick().steps(8), Vec::new(), false).expect("accepted");
            let mut raw = Raw::greet(&daemon.home().socket());
            (job, raw.send(&Request::Watch(job), &[]), raw)
        })
        .collect();
    for (job, asked, raw) in &mut watchers {
        loop {
            let (id, response) = raw.receive().expect("an update");
            assert_eq!(id, *asked);
            let Response::Update(update) = response else { panic!("{response:?}") };
            if let Update::Done(view) = update {
                assert_eq!(view.id, *job);
                break;
            }
        }
    }
    for (_, _, mut raw) in watchers {
        let status = raw.ask(&Request::Status, &[]);
        assert!(matches!(status, Response::Status(_)), "nothing else was on its way: {status:?}");
    }
}

#[test]
fn a_client_takes_its_attached_jobs_along() {
    let daemon = Daemon::start();
    let other = daemon.client();
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(long(), Vec::new(), true).expect("accepted");
    let detached = client.submit(quick(), Vec::new(), false).expect("accepted");
    drop(client);
    for (job, attempts) in [(running, 1), (waiting, 0)] {
        let view = other.wait(job).expect("waited for");
        assert_eq!((outcome(&view), view.attempts), (&Outcome::Cancelled, attempts));
    }
    made(&other, detached);
}

#[test]
fn light_jobs_overtake_heavy_ones() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let heavy = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, heavy);
    let light = client.submit(vqa("what shape is it?"), circle(), true).expect("accepted");
    let view = client.wait(light).expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Answers(_)), "{:?}", view.state);
    let status = client.status().expect("status");
    let running = |class: &str| status.classes.iter().find(|c| c.name == class).map(|c| (c.running, c.finished));
    assert_eq!((running("heavy"), running("light")), (Some((1, 0)), Some((0, 1))));
    assert_eq!(status.lanes[0].job, Some(heavy));
    let resident = |model: &ModelView| model.resident.clone();
    let resident: Vec<_> = status.models.iter().flat_map(resident).collect();
    assert_eq!(resident, ["heavy", "light"], "{:?}", status.models);
}

#[test]
fn deadlines_end_jobs_wherever_they_are() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let expired = |client: &Client, job| {
        let view = client.wait(job).expect("waited for");
        assert_eq!(outcome(&view), &Outcome::Expired { limit: TimeLimit::Deadline });
        view
    };
    let warm = client.submit(quick(), Vec::new(), true).expect("accepted");
    made(&client, warm);
    // Time enough to take a step, and not nearly enough to finish.
    let running = client.submit(long().deadline(Duration::from_millis(1500)), Vec::new(), true).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick().deadline(Duration::from_millis(100)), Vec::new(), true).expect("accepted");
    let view = expired(&client, waiting);
    assert_eq!(view.attempts, 0);
    assert!(view.wait_us >= 100_000, "{view:?}");
    let view = expired(&client, running);
    assert_eq!(view.attempts, 1);
    // So far off that no clock can count it.
    let never = client.submit(quick().deadline(Duration::MAX), Vec::new(), true).expect("accepted");
    made(&client, never);
    assert_well(&daemon);
}

#[test]
fn lists_come_in_pages_that_fit_a_frame() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let first = client.submit(long(), Vec::new(), false).expect("accepted");
    until_working(&client, first);
    let prompt = "x".repeat(gpusched_client::shared::spec::MAX_TEXT_BYTES);
    for _ in 0..120 {
        client.submit(txt2img(prompt.as_str()), Vec::new(), false).expect("accepted");
    }
    let mut seen = Vec::new();
    loop {
        let page = client.list(true, seen.last().copied(), u32::MAX).expect("a page");
        if page.is_empty() {
            break;
        }
        seen.extend(page.iter().map(|job| job.id));
    }
    assert_eq!(seen.len(), 121);
    assert!(seen.is_sorted_by(|a, b| a > b), "newest first");
}
