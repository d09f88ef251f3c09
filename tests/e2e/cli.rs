//! gpuctl with a real daemon: exit codes, documents, files.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use gpusched_client::{JobId, Outcome};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

use crate::harness::daemon::{Daemon, Ended, Home, Setup};
use crate::harness::programs::{models, program};
use crate::harness::{assert_well, long, made, outcome, picture, quick, until_working};

const QUICK: [&str; 7] = ["submit", "txt2img", "a red circle", "--steps=2", "--size=64", "--seed=1", "--guidance=1"];

fn with<'a>(args: &[&'a str], more: &[&'a str]) -> Vec<&'a str> {
    [args, more].concat()
}

#[test]
fn two_pictures_of_one_seed_differ_in_the_job_they_name() {
    let daemon = Daemon::start();
    let client = daemon.client();
    for name in ["1.png", "2.png"] {
        let ended = daemon.gpuctl(&with(&QUICK, &["-o", name])).expect(0);
        assert_eq!(ended.text(), format!("{name}\n"));
    }
    let [first, second] = ["1.png", "2.png"].map(|name| fs::read(daemon.home().file(name)).expect("written"));
    assert_ne!(first, second);
    for (job, png) in [(1, &first), (2, &second)] {
        assert_eq!(picture::without_job(png), client.fetch_bytes(JobId(job)).expect("fetched"));
        let read = picture::read(png);
        assert_eq!(read.size, (64, 64));
        assert_eq!(read.texts["gpusched:job"], job.to_string());
        assert_eq!((read.texts["prompt"].as_str(), read.texts["seed"].as_str()), ("a red circle", "1"));
    }
    assert_eq!(picture::without_job(&first), picture::without_job(&second));
    // Fetched later, it is the same file; without -o it gets a name of its own; with -o - it goes to standard output.
    let ended = daemon.gpuctl(&["fetch", "1"]).expect(0);
    assert_eq!(ended.text(), "gpusched-1.png\n");
    assert_eq!(fs::read(daemon.home().file("gpusched-1.png")).expect("written"), first);
    assert_eq!(daemon.gpuctl(&["fetch", "2", "-o", "-"]).expect(0).stdout, second);
    let ended = daemon.gpuctl(&with(&QUICK, &["-o", "-", "--quiet"])).expect(0);
    assert_eq!(picture::read(&ended.stdout).texts["gpusched:job"], "3");
    assert_eq!(ended.stderr, "");
}

#[test]
fn questions_are_answered_on_standard_output() {
    let daemon = Daemon::start();
    fs::write(daemon.home().file("circle.png"), picture::red_circle()).expect("written");
    let ask = ["submit", "vqa", "circle.png", "what color is the shape?"];
    assert_eq!(daemon.gpuctl(&ask).expect(0).text(), "red\n");
    let ended = daemon.gpuctl(&with(&ask, &["--top", "3"])).expect(0);
    let table: Vec<_> = ended.text().lines().collect();
    assert!(table.len() == 4 && table[0].starts_with("ANSWER") && table[1].starts_with("red"), "{table:?}");
    let mut piped = daemon.home().gpuctl_command(&["submit", "vqa", "-", "what shape is it?"]);
    piped.stdin(fs::File::open(daemon.home().file("circle.png")).expect("it is there"));
    assert_eq!(Ended::of(piped).expect(0).text(), "circle\n");
}

#[test]
fn a_prompt_cut_short_is_a_warning() {
    let daemon = Daemon::start();
    let prompt = "a red circle and ".repeat(100);
    let ended = daemon.gpuctl(&["submit", "txt2img", &prompt, "--steps=1", "--size=64"]).expect(0);
    assert!(ended.stderr.contains("tokens longer than the model reads"), "{}", ended.stderr);
}

#[test]
fn exit_codes_tell_what_happened() {
    let home = Home::new(&Setup::default());
    // A model whose weights end in the middle: known, and cannot be loaded.
    let damaged = home.file("models/damaged");
    fs::create_dir(&damaged).expect("a directory");
    for entry in fs::read_dir(models().join("vilt-tiny")).expect("a directory") {
        let path = entry.expect("an entry").path();
        let bytes = fs::read(&path).expect("readable");
        let end = if path.extension().is_some_and(|e| e == "safetensors") { bytes.len() / 2 } else { bytes.len() };
        fs::write(damaged.join(path.file_name().expect("a name")), &bytes[..end]).expect("written");
    }
    let daemon = home.start();
    let client = daemon.client();
    fs::write(daemon.home().file("circle.png"), picture::red_circle()).expect("written");

    let vqa = ["submit", "vqa", "circle.png", "what?", "--model"];
    daemon.gpuctl(&with(&vqa, &["vilt-tiny"])).expect(0);
    let failed = daemon.gpuctl(&with(&vqa, &["damaged"])).expect(1);
    assert!(failed.stderr.contains("the model could not be loaded"), "{}", failed.stderr);
    assert!(failed.stderr.contains("see to the models directory"), "{}", failed.stderr);

    daemon.gpuctl(&["submit", "txt2img"]).expect(2);
    let usage = daemon.gpuctl(&["submit", "vqa", "missing.png", "what?"]).expect(2);
    assert!(usage.stderr.contains("missing.png: No such file"), "{}", usage.stderr);
    daemon.gpuctl(&with(&QUICK, &["-o", "/nonexistent/x.png"])).expect(2);

    let refused = daemon.gpuctl(&with(&vqa, &["nobody"])).expect(4);
    assert!(refused.stderr.contains("no model \"nobody\" here; there is damaged, vilt-tiny"), "{}", refused.stderr);
    daemon.gpuctl(&["show", "999"]).expect(4);
    daemon.gpuctl(&["fetch", "1"]).expect(4);

    let long = client.submit(long(), Vec::new(), false).expect("accepted");
    until_working(&client, long);
    let expired = daemon.gpuctl(&with(&QUICK, &["--deadline", "50ms"])).expect(5);
    assert!(expired.stderr.contains("its deadline passed"), "{}", expired.stderr);
    let cancelled = daemon.gpuctl(&["cancel", &long.to_string()]).expect(0);
    assert_eq!(cancelled.text(), format!("job {long}: cancelled\n"));
    daemon.gpuctl(&["watch", &long.to_string()]).expect(5);
    let late = daemon.gpuctl(&["cancel", "1"]).expect(0);
    assert_eq!(late.text(), "job 1: had ended before: done\n");

    let home = daemon.stop();
    for args in [&["status"][..], &["jobs"], &["show", "1"], &["cancel", "1"], &["watch", "1"], &["fetch", "1"], &QUICK]
    {
        let ended = home.gpuctl(args).expect(3);
        assert!(ended.stderr.contains("start it with `systemctl start gpusched`"), "{}", ended.stderr);
    }
}

#[test]
fn every_verb_speaks_json() {
    let daemon = Daemon::start();
    let gpuctl = |args: &[&str]| daemon.gpuctl(&with(&["--json"], args)).expect(0).documents();
    let one = |args: &[&str]| -> Value {
        let [document] = gpuctl(args).try_into().expect("one document");
        document
    };
    let documents = gpuctl(&with(&QUICK, &["-o", "1.png"]));
    assert_eq!(documents[0]["job"], 1);
    let [first @ .., last] = &documents[1..] else { panic!("{documents:?}") };
    assert!(first.iter().all(|document| document["update"].is_object()), "{documents:?}");
    assert_eq!((&last["file"], &last["result"]["id"]), (&"1.png".into(), &1.into()));
    let blob = &last["result"]["state"]["done"]["image"]["blob"];
    assert_eq!(blob["hash"].as_str().map(str::len), Some(64));

    assert_eq!(one(&with(&QUICK, &["--detach"]))["job"], 2);
    let watched = gpuctl(&["watch", "2"]);
    assert_eq!(watched.last().map(|document| &document["result"]["state"]["done"]["image"]["blob"]), Some(blob));
    assert_eq!(&one(&["fetch", "2", "-o", "2.png"])["blob"], blob);
    assert_eq!(&one(&["show", "1"]), &last["result"]);
    assert_eq!(&one(&["cancel", "1"]), &last["result"]);
    let jobs = one(&["jobs", "--all"]);
    assert_eq!((&jobs[0]["id"], &jobs[1]["id"], &jobs[2]), (&2.into(), &1.into(), &Value::Null));
    assert_eq!(one(&["jobs"]), Value::Array(Vec::new()));
    let status = one(&["status"]);
    assert_eq!((&status["draining"], &status["classes"][0]["finished"]), (&false.into(), &2.into()));

    let error = |args: &[&str], code| {
        let documents = daemon.gpuctl(&with(&["--json"], args)).expect(code).documents();
        documents.last().map(|document| document["error"]["code"].clone())
    };
    assert_eq!(error(&["show", "9"], 4), Some("no_such_job".into()));
    assert_eq!(error(&with(&QUICK, &["--model", "x"]), 4), Some("unknown_model".into()));
    assert_eq!(error(&["status", "--socket", "/nonexistent"], 3), Some("not_running".into()));
}

#[test]
fn an_interrupt_cancels_and_a_kill_does_too() {
    let daemon = Daemon::start();
    let client = daemon.client();
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let mut command =
            daemon.home().gpuctl_command(&["submit", "txt2img", "x", "--steps=500", "--size=256", "--json"]);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map(|line| line.expect("text"));
        let job: Value = serde_json::from_str(&lines.next().expect("a line")).expect("JSON");
        let job = JobId(job["job"].as_u64().expect("a number"));
        until_working(&client, job);
        kill(Pid::from_raw(child.id().cast_signed()), signal).expect("it lives");
        assert_eq!(outcome(&client.wait(job).expect("waited for")), &Outcome::Cancelled);
        let last = lines.last();
        assert_eq!(child.wait().expect("a status").code(), code);
        assert_eq!(last.is_some_and(|line| line.contains("\"state\":{\"done\":\"cancelled\"}")), code.is_some());
    }
    assert_well(&daemon);
}

#[test]
fn others_see_nothing_of_ones_jobs() {
    if !geteuid().is_root() {
        println!("skipped: only root can run gpuctl as somebody else");
        return;
    }
    let daemon = Daemon::start();
    let home = daemon.home();
    let mode = |path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permitted");
    mode(home.file(""), 0o755);
    mode(home.socket(), 0o666);
    // Somebody else may have no way to where it was built.
    fs::copy(program("gpuctl"), home.file("gpuctl")).expect("copied");
    let theirs = |args: &[&str]| {
        let mut command = std::process::Command::new(home.file("gpuctl"));
        command.args(args).env("GPUSCHED_SOCKET", home.socket()).current_dir("/tmp").uid(65_533).gid(65_533);
        Ended::of(command)
    };
    let client = daemon.client();
    let ended = client.submit(quick(), Vec::new(), false).expect("accepted");
    made(&client, ended);
    let running = client.submit(long(), Vec::new(), false).expect("accepted");
    until_working(&client, running);
    let waiting = client.submit(quick(), Vec::new(), false).expect("accepted");

    assert_eq!(theirs(&["jobs", "--all", "--json"]).expect(0).text(), "[]\n");
    for job in [ended, running, waiting] {
        for verb in ["show", "cancel", "fetch", "watch"] {
            let refused = theirs(&[verb, &job.to_string()]).expect(4);
            assert_eq!(refused.stderr, format!("gpuctl: no job {job} of yours; list yours with `gpuctl jobs`\n"));
        }
    }
    let [status] = theirs(&["status", "--json"]).expect(0).documents().try_into().expect("one document");
    assert_eq!(status["lanes"][0]["job"], 0, "busy, but not their business");

    // Of the queues they see that there is something, and nothing of it that is theirs to move.
    let [queue] = theirs(&["queue", "--json"]).expect(0).documents().try_into().expect("one document");
    assert_eq!((&queue[0]["job"], &queue[0]["model"], &queue[2]), (&0.into(), &"".into(), &Value::Null));
    for verb in [&["pause", "heavy"][..], &["resume", "heavy"], &["drain"]] {
        let refused = theirs(verb).expect(4);
        assert!(refused.stderr.contains("only root and the daemon's own user may"), "{}", refused.stderr);
    }
    for verb in [&["explain"][..], &["set-priority", "100"]] {
        let job = waiting.to_string();
        let args = [&verb[..1], &[job.as_str()], &verb[1..]].concat();
        assert!(theirs(&args).expect(4).stderr.contains("no job"));
    }

    // What is theirs, they see; and so does root.
    let submitted = theirs(&with(&QUICK, &["--detach"])).expect(0);
    let [job] = theirs(&["jobs", "--json"]).expect(0).documents().try_into().expect("one document");
    assert_eq!((&job[0]["uid"], &job[1]), (&65_533.into(), &Value::Null));
    let job: JobId = submitted.text().trim().parse().expect("a number");
    client.cancel(running).expect("cancelled");
    assert_eq!(made(&client, job).uid, 65_533);
    made(&client, waiting);
    theirs(&["fetch", &job.to_string(), "-o", "-"]).expect(0);
}
