//! The record of a real daemon. What is asserted is what must hold however fast the machine is.

#[path = "../../client/tests/report/chromium.rs"]
mod chromium;

use std::collections::BTreeMap;
use std::fs;

use gpusched_client::shared::{Check, Reflect, Request, Response, StageRole, TimelinePage, Track};
use gpusched_client::{AttemptEnd, JobId, Rejection, txt2img};
use serde_json::Value;

use crate::harness::daemon::Daemon;
use crate::harness::raw::{Raw, hello};
use crate::harness::{made, picture, quick};
use chromium::{Browser, find};

/// A daemon that has made two pictures, one of them checked in one round, and answered a question.
fn busy() -> (Daemon, [JobId; 3]) {
    let daemon = Daemon::start();
    fs::write(daemon.home().file("circle.png"), picture::red_circle()).expect("written");
    let client = daemon.client();
    let image = client.submit(quick(), Vec::new(), false).expect("accepted");
    made(&client, image);
    daemon.gpuctl(&["submit", "vqa", "circle.png", "what color is the shape?"]).expect(0);
    let checks = vec![Check::new("is there a red circle?", "yes")];
    let reflect = Reflect { rounds: Some(1), checks, ..Reflect::default() };
    let reflecting = txt2img("a red circle").seed(1).steps(4).size(64, 64).reflect(reflect);
    let reflecting = client.submit(reflecting, Vec::new(), false).expect("accepted");
    client.wait(reflecting).expect("waited for");
    (daemon, [image, JobId(2), reflecting])
}

#[test]
fn what_ran_is_on_record() {
    let (daemon, [image, question, reflecting]) = busy();
    let view = daemon.client().timeline(Track::Lanes, (0, u64::MAX), None, 100).expect("told");
    assert_eq!((view.policy.as_str(), view.next), ("multi-queue", None));
    let TimelinePage::Lanes(spans) = view.page else { panic!("lanes were asked for") };
    let about: Vec<_> =
        spans.iter().rev().map(|span| span.about.as_ref().expect("own")).map(|a| (a.job, a.role, a.round)).collect();
    let expected = [
        (image, StageRole::Whole, 0),
        (question, StageRole::Whole, 0),
        (reflecting, StageRole::Image, 1),
        (reflecting, StageRole::Check, 1),
    ];
    assert_eq!(about, expected);
    for span in &spans {
        assert_eq!(span.end, Some(AttemptEnd::Done));
        assert!(span.ended_unix_ms >= Some(span.started_unix_ms));
        assert!(span.about.as_ref().is_some_and(|about| about.peak_bytes > 0), "{span:?}");
    }
    let view = daemon.client().timeline(Track::Memory, (0, u64::MAX), None, 400).expect("told");
    let TimelinePage::Memory(samples) = view.page else { panic!("memory was asked for") };
    for class in ["heavy", "light"] {
        let of_class = || samples.iter().filter(|sample| sample.class == class);
        assert!(of_class().any(|sample| sample.event.word() == "began" && sample.reserved_bytes > 0));
        assert!(of_class().all(|sample| sample.cap_bytes > 0));
    }
    let nothing = daemon.client().timeline(Track::Lanes, (0, 1), None, 100).expect("told");
    assert_eq!(nothing.page, TimelinePage::Lanes(Vec::new()));
}

#[test]
fn a_client_of_version_3_is_served_and_knows_no_timeline() {
    let daemon = Daemon::start();
    let mut raw = Raw::connect(&daemon.home().socket());
    assert!(matches!(raw.ask(&hello(3, 3), &[]), Response::Welcome { version: 3, .. }));
    let timeline =
        Request::Timeline { track: Track::Lanes, since_unix_ms: 0, until_unix_ms: 1, before: None, limit: 1 };
    assert!(matches!(raw.refused(&timeline, &[]), Rejection::Malformed { .. }));
    assert!(matches!(raw.ask(&Request::Status, &[]), Response::Status(_)), "the connection goes on");
}

#[test]
fn the_trace_is_one_that_perfetto_reads() {
    let (daemon, _) = busy();
    let ended = daemon.gpuctl(&["export", "--format", "chrome-trace", "-o", "trace.json"]).expect(0);
    assert_eq!(ended.text(), "trace.json\n");
    let trace: Value =
        serde_json::from_slice(&fs::read(daemon.home().file("trace.json")).expect("written")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let mut lanes: BTreeMap<(u64, u64), Vec<(u64, u64)>> = BTreeMap::new();
    let number = |event: &Value, field: &str| event[field].as_u64().unwrap_or_else(|| panic!("{field} of {event}"));
    for event in events {
        let at = (number(event, "pid"), number(event, "tid"));
        match event["ph"].as_str() {
            Some("X") if event["name"] != "parked" => {
                lanes.entry(at).or_default().push((number(event, "ts"), number(event, "dur")));
            }
            Some("M" | "X" | "C" | "i") => {}
            other => panic!("{other:?} is no event"),
        }
    }
    assert_eq!(lanes.values().map(Vec::len).sum::<usize>(), 4, "two pictures, a question, a check");
    for stays in lanes.values_mut() {
        stays.sort_unstable();
        assert!(stays.windows(2).all(|pair| pair[0].0 + pair[0].1 <= pair[1].0), "a lane does one thing at a time");
    }
    let names = |kind: &str| -> Vec<&Value> {
        events.iter().filter(|event| event["name"] == kind).map(|event| &event["args"]["name"]).collect()
    };
    assert_eq!(names("process_name"), ["class heavy", "class light"]);
    assert_eq!(names("thread_name"), ["heavy-0", "light-0", "light-1", "light-2", "light-3"]);
    assert!(events.iter().any(|event| event["ph"] == "C" && event["args"]["used"].is_u64()));
}

#[test]
fn records_are_written_as_lines() {
    let (daemon, _) = busy();
    let csv = daemon.gpuctl(&["export", "--format", "csv"]).expect(0);
    let lines: Vec<_> = csv.text().lines().collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    assert!(lines[0].starts_with("lane,started_unix_ms,") && lines[1].starts_with("heavy-0,"));
    let documents = daemon.gpuctl(&["export", "--format", "jsonl", "--since", "24h"]).expect(0).documents();
    let count = |kind: &str| documents.iter().filter(|document| document.get(kind).is_some()).count();
    assert_eq!(["record", "class", "job", "attempt"].map(count), [1, 2, 3, 4]);
    assert!(count("memory") > 0);
    // Nothing has happened yet in the year 3000, and that is no failure.
    let none =
        daemon.gpuctl(&["export", "--format", "csv", "--since", "2999-01-01", "--until", "2999-01-02"]).expect(0);
    assert_eq!(none.text().lines().count(), 1);
    let wrong = daemon.gpuctl(&["export", "--since", "1h", "--until", "2h"]).expect(2);
    assert!(wrong.stderr.contains("--until is not after --since"), "{}", wrong.stderr);
    daemon.gpuctl(&["report", "-o", "nowhere/report.html"]).expect(2);
}

#[test]
fn a_browser_opens_the_report() {
    let (daemon, _) = busy();
    assert_eq!(daemon.gpuctl(&["report"]).expect(0).text(), "report.html\n");
    let file = daemon.home().file("report.html");
    let page = fs::read_to_string(&file).expect("written");
    for section in ["lanes", "latency", "stages", "outcomes", "memory-0", "memory-1", "trend", "rounds", "published"] {
        assert!(page.contains(&format!("<section id=\"{section}\">")), "{section} is missing");
    }
    let Some(program) = find() else { return };
    let mut browser = Browser::start(&program);
    browser.open(&file, 1400, "light");
    assert_eq!(browser.count("#lanes tbody tr"), 4);
    assert_eq!(browser.count("#rounds img"), 1);
    assert!(browser.count("#lanes svg.wide rect") >= 2);
    assert_eq!(browser.count("#trend svg.small circle"), 2);
    assert!(image::load_from_memory(&browser.screenshot()).is_ok_and(|picture| picture.width() == 1400));
    assert!(browser.print().starts_with(b"%PDF"));
    assert_eq!(browser.complaints(), [""; 0]);
}
