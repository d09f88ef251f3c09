//! `gpuctl top` in a real terminal, with a real daemon.

use gpusched_client::{Outcome, txt2img};
use nix::sys::signal::{Signal, kill};

use crate::harness::daemon::{Daemon, Home};
use crate::harness::programs::program;
use crate::harness::tmux::{Terminal, available};
use crate::harness::{long, made, outcome, quick, until_working};

/// Runs it between two lines that stay on the screen.
fn top(home: &Home, size: (u16, u16)) -> Terminal {
    let gpuctl = program("gpuctl");
    let variables = [("GPUSCHED_SOCKET", home.socket()), ("GPUCTL", gpuctl)];
    let variables: Vec<_> = variables.iter().map(|(name, path)| (*name, path.as_path())).collect();
    Terminal::run("echo before; \"$GPUCTL\" top --interval 250ms; echo ended with $?", size, &variables)
}

/// Looks, filters, reorders, cancels and leaves.
fn drive(size: (u16, u16)) {
    if !available() {
        return;
    }
    let daemon = Daemon::start();
    let client = daemon.client();
    // So long that it is still there when it is to be cancelled, whatever else the machine does.
    let running = client.submit(long().size(512, 512), Vec::new(), false).expect("accepted");
    until_working(&client, running);
    let circle = client.submit(quick(), Vec::new(), false).expect("accepted");
    let triangle = txt2img("a green triangle").seed(3).steps(2).size(64, 64).guidance(1.0);
    let triangle = client.submit(triangle, Vec::new(), false).expect("accepted");

    let terminal = top(daemon.home(), size);
    // All of it, for a screen may be seen while it is being drawn.
    let status = ["gpuschedd ", "engine up", "heavy/0", "/500", "a blue", "light/3", "MEMORY"];
    let jobs = ["WAITING 2", "a red circle", "a green triangle", "ENDED 0", "none yet", "q quit"];
    let screen = terminal.until(&[&status[..], &jobs[..]].concat());
    assert!(!screen.contains("before"), "it has the screen for itself\n{screen}");
    assert!(screen.lines().all(|line| line.chars().count() <= size.0.into()), "{screen}");
    // Headings are where they belong on a screen of this height: the last line is the keys'.
    assert_eq!(screen.lines().count(), usize::from(size.1), "{screen}");
    assert!(screen.lines().last().is_some_and(|line| line.contains("q quit")), "{screen}");

    terminal.type_text("/triangle");
    terminal.until(&["filter: triangle"]);
    terminal.press(&["Enter"]);
    terminal.until_so("only the triangle is shown", |screen| {
        let wanted = ["WAITING 1/2", " filter: triangle ", "q quit", "a green triangle"];
        wanted.iter().all(|text| screen.contains(text)) && !screen.contains("a red circle")
    });
    // Under the filter the triangle is all there is to select.
    terminal.type_text("j+");
    terminal.until(&[&format!("job {triangle}: priority 1")]);
    assert_eq!(client.show(triangle).expect("shown").spec.priority, 1);
    terminal.press(&["Escape"]);
    terminal.until(&["WAITING 2", "a red circle"]);

    terminal.type_text("gc");
    terminal.until(&[&format!("Cancel job {running}?"), "a blue square", "y yes"]);
    terminal.type_text("n");
    terminal.until_so("the question has gone", |screen| !screen.contains("Cancel job"));
    terminal.type_text("c");
    terminal.until(&[&format!("Cancel job {running}?")]);
    terminal.type_text("y");
    terminal.until(&[&format!("job {running}: cancelled")]);
    assert_eq!(outcome(&client.wait(running).expect("waited for")), &Outcome::Cancelled);

    made(&client, circle);
    made(&client, triangle);
    terminal.until(&["ENDED 3", "cancelled", "WAITING 0", "nobody"]);
    terminal.type_text("?");
    terminal.until(&["any key goes back"]);
    terminal.type_text("x");
    terminal.until_so("the help has gone", |screen| !screen.contains("any key goes back"));
    terminal.type_text("q");
    let screen = terminal.until(&["ended with"]);
    assert_eq!(screen.trim_end(), "before\nended with 0", "the screen is as it was");
}

#[test]
fn a_small_screen_is_enough() {
    drive((80, 24));
}

#[test]
fn a_large_screen_is_used() {
    drive((200, 50));
}

#[test]
fn it_outlives_the_daemon_and_leaves_the_terminal_well_when_told_to() {
    if !available() {
        return;
    }
    let daemon = Daemon::start();
    let terminal = top(daemon.home(), (100, 30));
    terminal.until(&["engine up"]);
    let home = daemon.stop();
    terminal.until(&["DAEMON LOST, trying again"]);
    let daemon = home.start();
    terminal.until_so("the daemon is back", |screen| {
        screen.contains("the daemon is back") && !screen.contains("DAEMON LOST")
    });
    // It serves as before.
    let job = daemon.client().submit(quick(), Vec::new(), false).expect("accepted");
    made(&daemon.client(), job);
    terminal.until(&["ENDED 1", "a red circle"]);
    kill(terminal.child("gpuctl"), Signal::SIGTERM).expect("it lives");
    let screen = terminal.until(&["ended with"]);
    assert_eq!(screen.trim_end(), "before\nended with 130", "the screen is as it was");
    daemon.stop();
}

#[test]
fn without_a_terminal_it_prints_one_frame() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    made(&client, job);
    let ended = daemon.gpuctl(&["top"]).expect(0);
    assert!(ended.stderr.contains("standard output is not a terminal"), "{}", ended.stderr);
    for text in ["gpuschedd ", "heavy/0", "light/3", "WAITING 0", "ENDED 1", "a red circle"] {
        assert!(ended.text().contains(text), "{text}\n{}", ended.text());
    }
    assert!(!ended.text().contains('\u{1b}') && !ended.text().contains("q quit"), "{}", ended.text());
    let ended = daemon.gpuctl(&["top", "--once"]).expect(0);
    assert_eq!(ended.stderr, "");
    let [document] = daemon.gpuctl(&["top", "--json"]).expect(0).documents().try_into().expect("one document");
    assert_eq!(document["ended"][0]["id"], job.0);
    assert_eq!((&document["waiting_count"], &document["status"]["draining"]), (&0.into(), &false.into()));
    let home = daemon.stop();
    home.gpuctl(&["top"]).expect(3);
}
