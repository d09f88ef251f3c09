//! What reaches the journal: a job's whole story, under its number, with nothing of what it is about.

use std::collections::BTreeSet;

use gpusched_client::shared::{Check, Reflect};
use gpusched_client::{JobId, txt2img, vqa};
use gpusched_daemon::telemetry::message::Message;

use crate::harness::daemon::{Daemon, Home, Setup};
use crate::harness::journal::{Entry, Journald, Received, can_be_had, gpuschedd_with};
use crate::harness::{long, made, metrics, picture, quick, until_working};

/// A daemon whose log goes to a journal that is read.
fn start(setup: &Setup) -> (Daemon, Received) {
    let home = Home::new(setup);
    let directory = home.file("journal");
    let journal = Received::bind(&directory);
    let command = gpuschedd_with(&directory, &home.file("gpusched.toml"));
    let daemon = home.start_as(command);
    journal.until(|entry| is(entry, Message::DaemonStarted));
    (daemon, journal)
}

fn is(entry: &Entry, message: Message) -> bool {
    entry.get("MESSAGE_ID").is_some_and(|id| id == message.id())
}

fn field<'a>(entry: &'a Entry, name: &str) -> &'a str {
    entry.get(name).map_or("", String::as_str)
}

/// What was said of a job, its end included.
fn story(journal: &Received, job: JobId, end: Message) -> Vec<Entry> {
    let id = job.to_string();
    let of_job = |entry: &Entry| field(entry, "JOB_ID") == id;
    journal.until(|entry| of_job(entry) && is(entry, end));
    journal.all().into_iter().filter(of_job).collect()
}

fn message(entry: &Entry) -> Option<Message> {
    Message::ALL.iter().copied().find(|message| is(entry, *message))
}

#[test]
fn a_job_s_story_is_under_its_number_and_tells_nothing_of_its_prompt() {
    if !can_be_had() {
        return;
    }
    let (daemon, journal) = start(&Setup::default());
    let client = daemon.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    let view = made(&client, job);
    let told = story(&journal, job, Message::JobDone);
    let messages: Vec<_> = told.iter().filter_map(message).collect();
    let all = [Message::JobAccepted, Message::JobStarted, Message::MemoryFlushed, Message::JobDone];
    assert_eq!(messages, all, "{told:#?}");
    let done = told.last().expect("the end");
    for (name, value) in [
        ("PRIORITY", "6"),
        ("CLIENT_UID", &nix::unistd::getuid().to_string()),
        ("CLASS", "heavy"),
        ("LANE", "heavy-0"),
        ("MODEL", "flux2-klein-tiny"),
        ("ATTEMPT", "1"),
        ("OUTCOME", "done"),
        ("WAIT_MS", &(view.wait_us / 1000).to_string()),
        ("RUN_MS", &(view.run_us / 1000).to_string()),
        ("PEAK_BYTES", &view.usage.peak_bytes.to_string()),
        ("MESSAGE", &format!("job {job} is done")),
        ("SYSLOG_IDENTIFIER", "gpuschedd"),
    ] {
        assert_eq!(field(done, name), value, "{name} of {done:#?}");
    }

    // One of several stages.
    let check = |question: &str, answer: &str| Check::new(question, answer);
    let checks = vec![check("is there a red circle?", "no")];
    let reflect = Reflect { rounds: Some(2), checks, strict: true, ..Reflect::default() };
    let spec = txt2img("a red circle").seed(1).steps(20).reflect(reflect);
    let job = client.submit(spec, Vec::new(), false).expect("accepted");
    client.wait(job).expect("waited for");
    let told = story(&journal, job, Message::JobFailed);
    let said: Vec<(Option<Message>, &str)> = told.iter().map(|entry| (message(entry), field(entry, "STAGE"))).collect();
    let round = |number: u8| {
        let stages = [format!("image {number}"), format!("check {number}.1")];
        let [image, check] = stages.map(|stage| &*stage.leak());
        [
            (Some(Message::JobStarted), image),
            (Some(Message::MemoryFlushed), image),
            (Some(Message::JobStageEnded), image),
            (Some(Message::JobStarted), check),
            (Some(Message::JobChecked), check),
            (Some(Message::JobRound), ""),
        ]
    };
    let all = [(Some(Message::JobAccepted), "")].into_iter().chain(round(1)).chain(round(2));
    let all: Vec<_> = all.chain([(Some(Message::JobFailed), "")]).collect();
    assert_eq!(said, all, "{told:#?}");

    // Light work that heavy work makes way for, which it does not if that is over too soon; and an end before its time.
    let heavy = client.submit(long(), Vec::new(), false).expect("accepted");
    until_working(&client, heavy);
    let (id, question) = (heavy.to_string(), || vqa("what color is the shape?"));
    let of_heavy = |entry: &Entry, message| field(entry, "JOB_ID") == id && is(entry, message);
    while !journal.all().iter().any(|entry| of_heavy(entry, Message::JobParked)) {
        let light = client.submit(question(), vec![picture::red_circle_file()], false).expect("accepted");
        client.wait(light).expect("waited for");
    }
    journal.until(|entry| of_heavy(entry, Message::JobResumed));
    client.cancel(heavy).expect("cancelled");
    let told = story(&journal, heavy, Message::JobCancelled);
    let messages: BTreeSet<_> = told.iter().filter_map(message).map(Message::id).collect();
    for expected in [Message::JobParked, Message::JobResumed, Message::JobCancelAsked] {
        assert!(messages.contains(expected.id()), "{expected:?} in {told:#?}");
    }
    daemon.stop();
    journal.until(|entry| is(entry, Message::DaemonStopped));

    for entry in journal.all() {
        let text = format!("{entry:?}").to_lowercase();
        for prompt in ["red circle", "blue square", "what color"] {
            assert!(!text.contains(prompt), "{entry:#?}");
        }
    }
}

#[test]
fn what_goes_wrong_is_told_also_by_the_engine() {
    if !can_be_had() {
        return;
    }
    let more = "[retry]\nbudget = 1\nbase_ms = 1\nceiling_ms = 2\n\n[faults]\noom_percent = 100\n";
    let (daemon, journal) = start(&Setup { more, ..Setup::default() });
    let client = daemon.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    client.wait(job).expect("waited for");
    let told = story(&journal, job, Message::JobFailed);
    let mut messages: Vec<_> = told.iter().filter_map(message).collect();
    // Memory is flushed before each attempt, and after the first by another thread, whenever that comes to it.
    let before = messages.len();
    messages.retain(|message| *message != Message::MemoryFlushed);
    assert!(before - messages.len() >= 2, "{told:#?}");
    let attempt = [Message::JobStarted, Message::JobOutOfMemory];
    let all = [vec![Message::JobAccepted], attempt.to_vec(), vec![Message::JobBacksOff], attempt.to_vec()].concat();
    assert_eq!(messages, [all, vec![Message::JobFailed]].concat(), "{told:#?}");
    // Its process has a log of its own, which goes the same way.
    let engine = journal.until(|entry| field(entry, "MESSAGE").starts_with("a fault on purpose"));
    assert_eq!((field(&engine, "JOB_ID"), field(&engine, "SYSLOG_IDENTIFIER")), (&*job.to_string(), "gpuschedd"));

    nix::sys::signal::kill(daemon.engine(), nix::sys::signal::Signal::SIGKILL).expect("it lives");
    let lost = journal.until(|entry| is(entry, Message::EngineLost));
    assert_eq!(field(&lost, "PRIORITY"), "3");
    journal.until(|entry| is(entry, Message::EngineReplaced));
}

#[test]
fn a_journal_that_nobody_reads_holds_up_nothing() {
    if !can_be_had() {
        return;
    }
    let (daemon, journal) = start(&Setup::default());
    journal.pause(true);
    let client = daemon.client();
    client.pause("heavy").expect("paused");
    let waits = client.submit(quick(), Vec::new(), false).expect("accepted");
    let dropped = || metrics::read(&daemon.home().file("metrics.sock")).value("gpusched_log_lines_dropped_total");
    for priority in (0..100).cycle() {
        // A line for each.
        client.set_priority(waits, priority).expect("set");
        if priority == 99 && dropped() >= 100.0 {
            break;
        }
    }
    // As if nothing were.
    let question = vqa("what color is the shape?");
    let light = client.submit(question, vec![picture::red_circle_file()], false).expect("accepted");
    client.wait(light).expect("waited for");
    client.resume("heavy").expect("resumed");
    made(&client, waits);

    // An engine is started as well, though it has a log, too.
    nix::sys::signal::kill(daemon.engine(), nix::sys::signal::Signal::SIGKILL).expect("it lives");
    made(&client, client.submit(quick(), Vec::new(), false).expect("accepted"));

    journal.pause(false);
    let told = journal.until(|entry| is(entry, Message::LinesDropped));
    assert!(field(&told, "LINES").parse::<u64>().expect("a number") >= 100, "{told:?}");
    assert_eq!(field(&told, "PRIORITY"), "4");
    // From here on all is told again.
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    story(&journal, job, Message::JobDone);
    daemon.stop();
}

#[test]
fn the_real_journal_finds_a_job_s_story() {
    if !can_be_had() {
        return;
    }
    let home = Home::new(&Setup::default());
    let (directory, log) = (home.file("journal"), home.file("log"));
    let mut journald = Journald::start(&directory, &log);
    let command = gpuschedd_with(&directory, &home.file("gpusched.toml"));
    let daemon = home.start_as(command);
    let client = daemon.client();
    let job = client.submit(quick(), Vec::new(), false).expect("accepted");
    made(&client, job);
    let of_job = format!("JOB_ID={job}");
    let lines = |text: &str| -> Option<Vec<serde_json::Value>> {
        let entries: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        entries.iter().any(|entry| entry["MESSAGE_ID"] == Message::JobDone.id()).then_some(entries)
    };
    let told = journald.until(&[&of_job, "-o", "json", "--all"], lines);
    let ids: Vec<&str> = told.iter().filter_map(|entry| entry["MESSAGE_ID"].as_str()).collect();
    let all = [Message::JobAccepted, Message::JobStarted, Message::MemoryFlushed, Message::JobDone];
    assert_eq!(ids, all.map(Message::id));
    // Written by whom, says the kernel.
    assert!(told.iter().all(|entry| entry["_TRANSPORT"] == "journal" && entry["_COMM"] == "gpuschedd"), "{told:?}");
    let by_id = format!("MESSAGE_ID={}", Message::JobDone.id());
    let printed = journald.until(&[&by_id, "-o", "cat"], |text| (!text.is_empty()).then(|| text.to_owned()));
    assert_eq!(printed.trim(), format!("job {job} is done"));
    // The journal is kept in its directory.
    let _home = daemon.stop();
    let stopped = format!("MESSAGE_ID={}", Message::DaemonStopped.id());
    journald.until(&[&stopped, "-o", "cat"], |text| (text.trim() == "stopped").then_some(()));
}
