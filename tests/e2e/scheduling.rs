//! Who goes when: policies, priorities, making way, quotas, partitions, and the answers to "why".

use std::os::unix::fs::symlink;
use std::time::Duration;

use gpusched_client::blocking::Client;
use gpusched_client::shared::view::Activity;
use gpusched_client::shared::{Quota, Reason, Rejection};
use gpusched_client::{Error, JobId, JobState, Outcome, Picture, TimeLimit, Update, txt2img, vqa};

use crate::harness::daemon::{Daemon, Home, Setup};
use crate::harness::programs::models;
use crate::harness::{assert_well, long, made, outcome, picture, quick, until_working};

fn ask(client: &Client) -> JobId {
    let picture = Picture::from_bytes(&picture::red_circle()).expect("a memory file");
    client.submit(vqa("what color is the shape?"), vec![picture], true).expect("accepted")
}

fn answered(client: &Client, job: JobId) {
    let view = client.wait(job).expect("waited for");
    assert!(matches!(outcome(&view), Outcome::Answers(_)), "{:?}", view.state);
}

fn rejection<T: std::fmt::Debug>(result: Result<T, Error>) -> Rejection {
    match result {
        Err(Error::Rejected(rejection)) => rejection,
        other => panic!("{other:?}"),
    }
}

#[test]
fn heavy_work_makes_way_and_loses_nothing_by_it() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let spec = || txt2img("a red circle").seed(3).steps(60).size(128, 128);
    let undisturbed = made(&client, client.submit(spec(), Vec::new(), true).expect("accepted"));
    assert_eq!((undisturbed.usage.yields, undisturbed.usage.parked_us), (0, 0));
    assert!(undisturbed.usage.longest_gap_us > 0 && undisturbed.usage.peak_bytes > 0, "{:?}", undisturbed.usage);

    let heavy = client.submit(spec().steps(500), Vec::new(), true).expect("accepted");
    until_working(&client, heavy);
    // A question may be over before the image comes to a yield point, but not every time.
    while client.show(heavy).expect("shown").usage.parked_us == 0 {
        answered(&client, ask(&client));
    }
    client.cancel(heavy).expect("cancelled");
    let status = client.status().expect("status");
    let preemption = &status.preemption[0];
    assert_eq!((preemption.class.as_str(), preemption.refused), ("heavy", 0));
    assert!(preemption.parked >= 1 && preemption.max_us >= preemption.p50_us, "{preemption:?}");
    assert!(preemption.longest_gap_us >= undisturbed.usage.longest_gap_us, "{preemption:?}");

    let disturbed = client.submit(spec(), Vec::new(), true).expect("accepted");
    until_working(&client, disturbed);
    while matches!(client.show(disturbed).expect("shown").state, JobState::Running { .. }) {
        answered(&client, ask(&client));
    }
    let disturbed = made(&client, disturbed);
    assert_eq!(outcome(&disturbed).blob(), outcome(&undisturbed).blob(), "the picture is the same");
    assert!(disturbed.usage.yields > 0 && disturbed.usage.parked_us > 0, "{:?}", disturbed.usage);
    assert!(disturbed.usage.parked_us < disturbed.run_us);
}

#[test]
fn without_a_gate_nothing_is_parked() {
    let daemon = Daemon::start_with(&Setup { heavy: "partition = \"50%\"", ..Setup::default() });
    let client = daemon.client();
    let heavy = client.submit(quick().steps(60), Vec::new(), true).expect("accepted");
    until_working(&client, heavy);
    answered(&client, ask(&client));
    assert_eq!(made(&client, heavy).usage.yields, 0);
    assert_eq!(client.status().expect("status").preemption, []);
}

#[test]
fn one_queue_runs_one_job_at_a_time_in_order() {
    let daemon = Daemon::start_with(&Setup { policy: "fifo", ..Setup::default() });
    let client = daemon.client();
    let image = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, image);
    let question = ask(&client);
    let explained = client.explain(question).expect("explained");
    assert_eq!(explained.reasons, [Reason::OneAtATime { job: image }]);
    let mut news = client.watch(question).expect("watched");
    assert!(matches!(news.next(), Some(Ok(Update::Queued { ahead: 0 }))));
    client.cancel(image).expect("cancelled");
    answered(&client, question);
    assert_eq!(client.show(image).expect("shown").usage.yields, 0);
}

#[test]
fn a_paused_class_keeps_its_jobs_and_priorities_order_them() {
    let daemon = Daemon::start();
    let client = daemon.client();
    assert!(daemon.gpuctl(&["pause", "heavy"]).expect(0).text().contains("heavy"));
    let submit = |priority| client.submit(quick().priority(priority), Vec::new(), false).expect("accepted");
    let (first, second, urgent) = (submit(0), submit(0), submit(5));
    let queue = |client: &Client| -> Vec<JobId> { client.queue().expect("a queue").iter().map(|p| p.job).collect() };
    assert_eq!(queue(&client), [urgent, first, second]);
    let explained = client.explain(second).expect("explained");
    assert_eq!(explained.reasons[0], Reason::Paused { class: "heavy".to_owned() });
    assert!(matches!(explained.reasons[1], Reason::Behind { jobs: 2, .. }), "{explained:?}");
    let text = daemon.gpuctl(&["explain", &second.to_string()]).expect(0);
    assert!(text.text().contains("class heavy is paused"), "{}", text.text());

    daemon.gpuctl(&["set-priority", &second.to_string(), "9"]).expect(0);
    assert_eq!(queue(&client), [second, urgent, first]);
    // The light class goes on.
    answered(&client, ask(&client));
    // What was changed outlives the daemon; a pause does not.
    let daemon = daemon.stop().start();
    let client = daemon.client();
    let ends = [second, urgent, first].map(|job| {
        let view = made(&client, job);
        view.wait_us
    });
    assert!(ends.is_sorted(), "{ends:?}");
    assert_eq!(client.show(second).expect("shown").spec.priority, 9);
    let over = rejection(client.set_priority(first, 1));
    assert!(matches!(&over, Rejection::HasEnded { job, state } if *job == first && state == "done"), "{over}");
    assert!(matches!(rejection(client.pause("medium")), Rejection::NoSuchClass { .. }));
}

#[test]
fn a_drained_daemon_runs_what_it_has_and_takes_nothing_new() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick(), Vec::new(), true).expect("accepted");
    assert!(client.drain(true).expect("drained").draining);
    assert_eq!(rejection(client.submit(quick(), Vec::new(), true)), Rejection::Draining);
    client.cancel(running).expect("cancelled");
    made(&client, waiting);
    assert!(!client.drain(false).expect("taken back").draining);
    assert_well(&daemon);
}

#[test]
fn quotas_refuse_or_hold_back() {
    let limits = "queued_per_uid = 2\nrunning_per_uid = 1\njobs_per_connection = 3";
    let daemon = Daemon::start_with(&Setup { limits, ..Setup::default() });
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, running);
    // There are lanes free for it, but its owner has had its share.
    let question = ask(&client);
    assert_eq!(client.explain(question).expect("explained").reasons, [Reason::RunningQuota { limit: 1 }]);
    let waiting = client.submit(quick(), Vec::new(), true).expect("accepted");
    let other = daemon.client();
    let refused = rejection(other.submit(quick(), Vec::new(), true));
    assert_eq!(refused, Rejection::QuotaExceeded { quota: Quota::QueuedPerUid, limit: 2 });
    client.cancel(waiting).expect("cancelled");
    let mine = client.submit(quick(), Vec::new(), false).expect("accepted");
    client.cancel(mine).expect("cancelled");
    let third = client.submit(quick(), Vec::new(), false).expect("accepted");
    client.cancel(question).expect("cancelled");
    let fourth = other.submit(quick(), Vec::new(), false).expect("accepted");
    client.cancel(fourth).expect("cancelled");
    client.cancel(running).expect("cancelled");
    made(&client, third);
}

#[test]
fn jobs_of_a_connection_are_bounded() {
    let daemon = Daemon::start_with(&Setup { limits: "jobs_per_connection = 1", ..Setup::default() });
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), false).expect("accepted");
    let refused = rejection(client.submit(quick(), Vec::new(), false));
    assert_eq!(refused, Rejection::QuotaExceeded { quota: Quota::JobsPerConnection, limit: 1 });
    daemon.client().submit(quick(), Vec::new(), false).expect("another connection has a place of its own");
    client.cancel(running).expect("cancelled");
    assert_well(&daemon);
}

#[test]
fn what_can_never_fit_is_refused_with_numbers() {
    let heavy = "partition = \"64MiB\"";
    let daemon = Daemon::start_with(&Setup { heavy, ..Setup::default() });
    let client = daemon.client();
    let large = txt2img("a red circle").size(1024, 1024);
    let refused = rejection(client.submit(large, Vec::new(), true));
    let Rejection::NeverFits { class, model, weights_bytes, run_bytes, cap_bytes } = refused else {
        panic!("{refused}")
    };
    assert_eq!((class.as_str(), model.as_str(), cap_bytes), ("heavy", "flux2-klein-tiny", 64 << 20));
    assert!(weights_bytes > 1 << 20 && weights_bytes + run_bytes > cap_bytes);
    let refused = daemon.gpuctl(&["submit", "txt2img", "a red circle", "--size", "1024"]).expect(4);
    assert!(refused.stderr.contains("partition heavy has 64.0 MiB"), "{}", refused.stderr);
    made(&client, client.submit(quick(), Vec::new(), true).expect("accepted"));
    // The engine tells now and then what it holds.
    let partition = loop {
        let partition = client.status().expect("status").classes[0].partition;
        if partition.live_bytes > 0 && partition.peak_bytes > partition.live_bytes {
            break partition;
        }
    };
    assert_eq!((partition.cap_bytes, partition.leased_bytes), (64 << 20, 0));
    assert!(partition.weights_bytes > 1 << 20 && partition.live_bytes >= partition.weights_bytes / 2, "{partition:?}");
    assert!(partition.peak_bytes > partition.live_bytes, "{partition:?}");
}

#[test]
fn models_leave_memory_to_make_room_and_come_back() {
    // Room for one model and a job, not for two models.
    let heavy = "partition = \"26MiB\"\nbatch_wait_s = 0";
    let home = Home::new(&Setup { heavy, ..Setup::default() });
    symlink(models().join("flux2-klein-tiny"), home.file("models/other")).expect("linked");
    let daemon = home.start();
    let client = daemon.client();
    let run = |model: &str| {
        let view = made(&client, client.submit(quick().model(model), Vec::new(), true).expect("accepted"));
        let status = client.status().expect("status");
        let partition = status.classes[0].partition;
        assert!(partition.peak_bytes <= partition.cap_bytes, "{partition:?}");
        let resident = status.models.iter().filter(|model| model.resident == ["heavy"]);
        (outcome(&view).blob(), resident.map(|model| model.name.clone()).collect::<Vec<_>>())
    };
    let (first, resident) = run("flux2-klein-tiny");
    assert_eq!(resident, ["flux2-klein-tiny"]);
    assert_eq!(run("other").1, ["other"]);
    let (again, resident) = run("flux2-klein-tiny");
    assert_eq!(resident, ["flux2-klein-tiny"]);
    assert_eq!(first, again, "the same picture from a model that has been away");
}

#[test]
fn measurements_outlive_the_daemon() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let spec = || quick().steps(4);
    let before = client.route(spec()).expect("a route");
    assert_eq!((before.class.as_deref(), before.run_ms), (Some("heavy"), None));
    // The first loads the model, which its time says nothing of.
    let warm = made(&client, client.submit(spec(), Vec::new(), true).expect("accepted"));
    made(&client, client.submit(spec(), Vec::new(), true).expect("accepted"));
    let daemon = daemon.stop().start();
    let after = daemon.client().route(spec()).expect("a route");
    assert!(after.run_ms.is_some_and(|ms| ms > 0), "{after:?}");
    assert!(after.run_bytes >= warm.usage.peak_bytes && after.run_bytes < before.run_bytes, "{before:?} {after:?}");
}

#[test]
fn routes_are_explained() {
    let daemon = Daemon::start();
    let said = daemon.gpuctl(&["route", "--explain", "txt2img", "--size", "64", "--steps", "4"]).expect(0);
    for part in ["task = vqa -> light", "its task is txt2img", "anything -> heavy"] {
        assert!(said.text().contains(part), "{part}: {}", said.text());
    }
    assert_eq!(daemon.gpuctl(&["route", "vqa"]).expect(0).text(), "light\n");
}

#[test]
fn time_limits_of_waiting_and_of_running() {
    let daemon = Daemon::start();
    let client = daemon.client();
    made(&client, client.submit(quick(), Vec::new(), true).expect("accepted"));
    let ends = |spec, limit| {
        let view = client.wait(client.submit(spec, Vec::new(), true).expect("accepted")).expect("waited for");
        assert_eq!(outcome(&view), &Outcome::Expired { limit });
        view
    };
    let view = ends(long().run_timeout(Duration::from_millis(300)), TimeLimit::RunTimeout);
    assert_eq!(view.attempts, 1);
    client.pause("heavy").expect("paused");
    let view = ends(quick().queue_timeout(Duration::from_millis(50)), TimeLimit::QueueTimeout);
    assert_eq!((view.attempts, view.run_us), (0, 0));
    client.resume("heavy").expect("resumed");
    // Once it has its lane the time for waiting does not matter any more.
    let spec = quick().steps(100).size(128, 128).queue_timeout(Duration::from_millis(200));
    assert!(made(&client, client.submit(spec, Vec::new(), true).expect("accepted")).run_us > 200_000);
}

#[test]
fn a_full_queue_is_tried_again_when_asked_to() {
    let daemon = Daemon::start_with(&Setup { queue: 1, ..Setup::default() });
    let client = daemon.client();
    let running = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick(), Vec::new(), true).expect("accepted");
    let mut command = daemon.home().gpuctl_command(&["submit", "txt2img", "a red circle", "--steps", "2", "--retry"]);
    let child = command.stderr(std::process::Stdio::piped()).stdout(std::process::Stdio::null());
    let mut child = child.spawn().expect("it runs");
    // It has been refused once when it says so.
    let mut said = [0; 1];
    std::io::Read::read_exact(child.stderr.as_mut().expect("a pipe"), &mut said).expect("a note");
    client.cancel(running).expect("cancelled");
    made(&client, waiting);
    assert!(child.wait().expect("a status").success());
}

#[test]
fn progress_says_when_a_job_is_parked() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let heavy = client.submit(long(), Vec::new(), true).expect("accepted");
    until_working(&client, heavy);
    let news = client.watch(heavy).expect("watched");
    let asking = std::thread::spawn({
        let client = daemon.client();
        move || {
            while client.show(heavy).is_ok_and(|view| matches!(view.state, JobState::Running { .. })) {
                answered(&client, ask(&client));
            }
        }
    });
    for update in news {
        let update = update.expect("an update");
        if let Update::Running { parked: true, activity, .. } = update {
            assert!(matches!(activity, Activity::Working { .. }));
            client.cancel(heavy).expect("cancelled");
        } else if let Update::Done(view) = update {
            assert_eq!(outcome(&view), &Outcome::Cancelled);
        }
    }
    asking.join().expect("well");
}
