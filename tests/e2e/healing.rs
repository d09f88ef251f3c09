//! What happens when the engine hangs or dies, and when the ground gives way: the disk, the socket, the clock.

use std::fs;
use std::time::Duration;

use gpusched_client::blocking::Client;
use gpusched_client::{
    AttemptEnd, Error, FailureKind, JobId, JobState, Outcome, Rejection, Submission, TimeLimit, txt2img,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::harness::daemon::{Daemon, Ended, Home, Setup, gpuschedd_command, refusal};
use crate::harness::disk::Tmpfs;
use crate::harness::{assert_well, long, made, outcome, quick, until_working};

/// An engine that is missed soon and comes back soon.
const QUICK: &str =
    "[engine]\nheartbeat_ms = 20\nheartbeat_timeout_ms = 400\nrestart_base_ms = 10\nrestart_ceiling_s = 1\n";

/// How the attempts at a job ended.
fn ends(client: &Client, job: JobId) -> Vec<Option<AttemptEnd>> {
    client.history(job).expect("told").into_iter().map(|attempt| attempt.end).collect()
}

/// True if a process has ended, whether or not somebody has asked how.
fn is_gone(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"));
    stat.map_or(true, |stat| stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

#[test]
fn an_engine_that_stands_still_is_replaced() {
    let daemon = Daemon::start_with(&Setup { more: QUICK, ..Setup::default() });
    let client = daemon.client();
    let job = client.submit(quick().steps(150), Vec::new(), false).expect("accepted");
    until_working(&client, job);
    let engine = daemon.engine();
    kill(engine, Signal::SIGSTOP).expect("it lives");
    daemon.until_logged("the engine is ready again");
    assert!(daemon.log().contains("the engine is gone"), "{}", daemon.log());
    assert_eq!(made(&client, job).attempts, 2);
    assert_eq!(ends(&client, job), [Some(AttemptEnd::EngineLost), Some(AttemptEnd::Done)]);
    assert!(is_gone(engine), "the one that stood still is gone");
    let status = client.status().expect("status");
    assert_eq!((status.engine.up, status.engine.deaths), (true, 1));
}

#[test]
fn an_engine_killed_from_outside_costs_an_attempt_and_nothing_else() {
    let daemon = Daemon::start_with(&Setup { more: QUICK, ..Setup::default() });
    let client = daemon.client();
    let job = client.submit(quick().steps(200), Vec::new(), false).expect("accepted");
    for attempt in 1..=3 {
        until_working(&client, job);
        kill(daemon.engine(), Signal::SIGKILL).expect("it lives");
        // Its progress starts anew.
        while client.show(job).expect("shown").attempts == attempt {}
    }
    assert_eq!(made(&client, job).attempts, 4, "nobody is to blame, however often");
}

#[test]
fn poison_is_quarantined_and_the_others_finish() {
    let more =
        "[engine]\nheartbeat_ms = 50\nrestart_base_ms = 10\nrestart_ceiling_s = 1\n\n[faults]\ncrash_on = \"poison\"\n";
    let daemon = Daemon::start_with(&Setup { more, heavy: "partition = \"50%\"\nlanes = 2", ..Setup::default() });
    let client = daemon.client();
    let submit = |job| client.submit(job, Vec::new(), false).expect("accepted");
    // Each kills the engine twice when it is alone, and perhaps once beside another.
    let mut poison = Vec::new();
    let mut others = Vec::new();
    for seed in 0..5 {
        poison.push(submit(txt2img("poison").seed(seed).steps(2).size(64, 64)));
        others.push(submit(quick().seed(seed)));
    }
    for job in &poison {
        let view = client.wait(*job).expect("waited for");
        let Outcome::Failed { kind: FailureKind::Quarantined { deaths: 2 }, message } = outcome(&view) else {
            panic!("job {job}: {:?}", view.state)
        };
        assert!(message.contains("the engine died of it 2 times"), "{message}");
    }
    for job in others {
        made(&client, job);
    }
    assert!(client.status().expect("status").engine.deaths >= 10);
    let said = daemon.gpuctl(&["show", &poison[0].to_string()]).expect(0);
    assert!(said.text().contains("quarantined"), "{}", said.text());
    assert_well(&daemon);
}

#[test]
fn a_lane_that_hangs_costs_its_own_job_only() {
    let more = "[engine]\nheartbeat_ms = 50\nrunning_timeout_s = 1\nrestart_base_ms = 10\nrestart_ceiling_s = 1\n\n\
                [faults]\nhang_on = \"abyss\"\n";
    let daemon = Daemon::start_with(&Setup { more, ..Setup::default() });
    let client = daemon.client();
    let stuck = client.submit(txt2img("abyss").seed(1).steps(2).size(64, 64), Vec::new(), false).expect("accepted");
    let behind = client.submit(quick(), Vec::new(), false).expect("accepted");
    let view = client.wait(stuck).expect("waited for");
    assert!(
        matches!(outcome(&view), Outcome::Failed { kind: FailureKind::Quarantined { .. }, .. }),
        "{:?}",
        view.state
    );
    assert_eq!(made(&client, behind).attempts, 1);
}

#[test]
fn an_engine_of_the_daemons_own_threads_does_the_same() {
    let daemon = Daemon::start_with(&Setup { more: "[engine]\nin_process = true\n", ..Setup::default() });
    let client = daemon.client();
    let apart = Daemon::start();
    let job = |client: &Client| {
        let job = client.submit(quick(), Vec::new(), false).expect("accepted");
        outcome(&made(client, job)).blob()
    };
    assert_eq!(job(&client), job(&apart.client()), "the very same picture");
    let engine = client.status().expect("status").engine;
    assert_eq!((engine.up, engine.pid, engine.deaths), (true, None, 0));
}

#[test]
fn faults_must_be_asked_for_twice() {
    let home = Home::new(&Setup { more: "[faults]\noom_percent = 1\n", ..Setup::default() });
    let config = home.file("gpusched.toml");
    let ended = Ended::of(gpuschedd_command(&["serve", "--config", &config.to_string_lossy()])).expect(1);
    assert!(ended.stderr.contains("--allow-faults"), "{}", ended.stderr);
}

#[test]
fn an_orphaned_engine_is_gone_before_the_next_daemon_works() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(quick().steps(100), Vec::new(), false).expect("accepted");
    until_working(&client, job);
    let engine = daemon.engine();
    // Stopped, it does not see that its daemon is gone.
    kill(engine, Signal::SIGSTOP).expect("it lives");
    let daemon = daemon.kill().start();
    assert!(is_gone(engine), "there is one engine");
    made(&daemon.client(), job);
}

#[test]
fn repeated_submissions_are_one_job_over_restarts() {
    let daemon = Daemon::start();
    let again = |daemon: &Daemon, prompt: &str| {
        let session = gpusched_client::blocking::Session::connect(
            daemon.home().socket(),
            gpusched_client::Reconnect::OFF,
            |_| {},
        )
        .expect("connected");
        let job = txt2img(prompt).seed(1).steps(2).size(64, 64);
        session.submit(Submission::new(job).detached().key("poster-17")).map(|job| job.id())
    };
    let job = again(&daemon, "a red circle").expect("accepted");
    assert_eq!(again(&daemon, "a red circle").expect("the same"), job);
    made(&daemon.client(), job);
    assert_eq!(again(&daemon, "a red circle").expect("the same, though it has ended"), job);
    let daemon = daemon.kill().start();
    assert_eq!(again(&daemon, "a red circle").expect("the same, though the daemon has died"), job);
    match again(&daemon, "a blue square") {
        Err(Error::Rejected(rejection)) => assert_eq!(rejection, Rejection::KeyConflict { job }),
        other => panic!("{other:?}"),
    }
}

#[test]
fn on_a_full_disk_jobs_are_refused_and_what_was_accepted_finishes() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(tmpfs) = Tmpfs::mount(directory.path().join("disk"), "size=48m") else { return };
    let more = "[storage]\nlow_water = \"8MiB\"\nreserve = \"4MiB\"\n";
    let state = Some(tmpfs.file("state"));
    let daemon = Daemon::start_with(&Setup { more, state, ..Setup::default() });
    let client = daemon.client();
    let running = client.submit(quick().steps(300), Vec::new(), false).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick().seed(5), Vec::new(), false).expect("accepted");
    let ballast = tmpfs.fill();
    match client.submit(quick().seed(6), Vec::new(), false) {
        Err(Error::Rejected(Rejection::DiskFull { free_bytes, low_water_bytes })) => {
            assert!(free_bytes < low_water_bytes && low_water_bytes == 8 << 20);
        }
        other => panic!("{other:?}"),
    }
    let refused = daemon.gpuctl(&["submit", "txt2img", "a red circle"]).expect(4);
    assert!(refused.stderr.contains("make room"), "{}", refused.stderr);
    made(&client, running);
    made(&client, waiting);
    fs::remove_file(&ballast).expect("removed");
    // As soon as the journal has noticed.
    let job = loop {
        match client.submit(quick().seed(7), Vec::new(), false) {
            Ok(job) => break job,
            Err(Error::Rejected(Rejection::DiskFull { .. })) => {}
            Err(e) => panic!("{e}"),
        }
    };
    made(&client, job);
    daemon.stop();
}

#[test]
fn a_state_directory_that_cannot_be_written_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let Some(tmpfs) = Tmpfs::mount(directory.path().join("disk"), "size=48m") else { return };
    let state = tmpfs.file("state");
    let setup = Setup {
        more: "[storage]\nlow_water = \"8MiB\"\nreserve = \"4MiB\"\n",
        state: Some(state.clone()),
        ..Setup::default()
    };
    let daemon = Daemon::start_with(&setup);
    let job = daemon.client().submit(quick(), Vec::new(), false).expect("accepted");
    made(&daemon.client(), job);
    let home = daemon.stop();
    tmpfs.remount("ro");
    let said = refusal(&home.file("gpusched.toml"));
    assert!(said.contains(&*state.to_string_lossy()) && said.to_lowercase().contains("read-only"), "{said}");
    tmpfs.remount("rw");
    assert_well(&home.start());
}

#[test]
fn a_deleted_socket_comes_back() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(quick().steps(100), Vec::new(), true).expect("accepted");
    fs::remove_file(daemon.home().socket()).expect("removed");
    daemon.until_logged("the socket was gone");
    // Connections that there were have lost nothing, and new ones are possible.
    made(&client, job);
    assert_well(&daemon);
}

#[test]
fn the_wall_clock_may_jump() {
    for offset_s in [3600, -3600] {
        let daemon = Daemon::start();
        let client = daemon.client();
        let running = client.submit(long(), Vec::new(), false).expect("accepted");
        until_working(&client, running);
        let hasty = quick().deadline(Duration::from_secs(600));
        let waiting = client.submit(hasty, Vec::new(), false).expect("accepted");
        let home: Home = daemon.kill();
        let path = home.file("gpusched.toml");
        let text = fs::read_to_string(&path).expect("read");
        let faults = format!("{text}\n[faults]\nwall_clock_offset_s = {offset_s}\n");
        fs::write(&path, faults).expect("written");

        let daemon = home.start();
        let client = daemon.client();
        until_working(&client, running);
        client.cancel(running).expect("cancelled");
        let view = made(&client, waiting);
        assert_eq!(view.attempts, 1, "its ten minutes are not over, whatever the clock on the wall says");
        let over = client.submit(long().deadline(Duration::from_millis(1)), Vec::new(), false).expect("accepted");
        let view = client.wait(over).expect("waited for");
        assert_eq!(outcome(&view), &Outcome::Expired { limit: TimeLimit::Deadline });
        assert!(matches!(client.show(waiting).expect("shown").state, JobState::Done(_)));
    }
}
