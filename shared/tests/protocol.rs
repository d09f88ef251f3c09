//! `PROTOCOL.md` against the code: every example in it is what the code writes, and reads back as what it says.

#[path = "protocol/edit.rs"]
mod edit;
#[path = "protocol/timeline.rs"]
mod timeline;

use std::collections::BTreeMap;
use std::fmt::Debug;

use gpusched_shared::codec::{Bounded, Decode, Encode, decode, encode};
use gpusched_shared::frame::{Frame, Frames, MAX_RESPONSE};
use gpusched_shared::{
    Activity, Answer, AttemptEnd, AttemptView, BlobHash, BlobRef, Check, Checked, ClassView, Cursor, EditStep,
    EngineView, Explanation, ImageSpec, JobId, JobSpec, JobState, JobView, LaneView, ModelSuccess, ModelView, Outcome,
    PartitionView, Phase, PreemptionView, QualityView, QueueView, Quota, Reason, Reflect, Reflection, Rejection,
    Request, Response, Round, RoundImage, RouteView, RuleView, Size, StatusView, StorageView, Success, Task, Track,
    TrendPoint, Update, Usage, Verdict, VqaSpec,
};

const DOCUMENT: &str = include_str!("../PROTOCOL.md");

/// The document's blocks by name.
fn blocks() -> BTreeMap<&'static str, Vec<u8>> {
    let mut blocks = BTreeMap::new();
    let mut lines = DOCUMENT.lines();
    while let Some(line) = lines.next() {
        let Some(name) = line.strip_prefix("```hex ") else { continue };
        let body = lines.by_ref().take_while(|line| *line != "```");
        let digits = body.flat_map(|line| line.split(';').next().unwrap_or_default().split_whitespace());
        let bytes = digits.map(|byte| u8::from_str_radix(byte, 16).expect("a byte in hexadecimal")).collect();
        assert!(blocks.insert(name, bytes).is_none(), "two blocks are named {name}");
    }
    blocks
}

/// The document's examples that no message has claimed yet.
struct Examples(BTreeMap<&'static str, Vec<u8>>);

impl Examples {
    fn is<T>(&mut self, name: &str, id: u64, message: &T)
    where
        T: Encode<Bounded, Src = T> + for<'de> Decode<'de, Bounded, Dst = T> + Debug + PartialEq,
    {
        let expected = self.0.remove(name).unwrap_or_else(|| panic!("no block is named {name}"));
        let frame = Frame { id, payload: encode(message).expect("encodable") };
        assert_eq!(hex(&frame.to_bytes()), hex(&expected), "{name}");
        let mut frames = Frames::new(MAX_RESPONSE);
        frames.push(&expected);
        let read = frames.next_frame().expect("within the limit").expect("a whole frame");
        assert_eq!(read, frame, "{name}");
        assert!(!frames.is_mid_frame(), "{name} has bytes left over");
        assert_eq!(&decode::<T>(&read.payload).expect("decodable"), message, "{name}");
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

fn question() -> JobSpec {
    JobSpec::new(Task::Vqa(VqaSpec { question: "what colour?".to_owned(), top: 3 }))
}

fn waiting() -> JobView {
    JobView {
        id: JobId(7),
        uid: 1000,
        class: "interactive".to_owned(),
        spec: question(),
        attached: true,
        state: JobState::Queued { ahead: 3 },
        attempts: 0,
        submitted_unix_ms: 1_795_362_071_000,
        wait_us: 10_400,
        run_us: 0,
        usage: Usage::default(),
        retries: 0,
        backoff_us: 0,
        reflection: None,
    }
}

fn reflecting() -> JobSpec {
    let reflect = Reflect {
        rounds: Some(4),
        checks: vec![Check::new("is there a red circle?", "yes")],
        judge: Some("vilt".to_owned()),
        confidence: Some(0.5),
        lane_ms: Some(30_000),
        strict: true,
        early: Some(0.5),
    };
    JobSpec { reflect: Some(Box::new(reflect)), ..JobSpec::new(Task::Txt2Img(ImageSpec::new("a red circle"))) }
}

/// In its second round, after one that failed.
fn second_round() -> JobView {
    let hash = BlobHash(std::array::from_fn(|n| n as u8));
    let size = Size { width: 64, height: 32 };
    let first = Round {
        number: 1,
        prompt: "a red circle".to_owned(),
        seed: 1,
        steps: 20,
        guidance: None,
        image: Some(RoundImage { blob: BlobRef { hash, bytes: 1500 }, size, truncated_tokens: 0 }),
        checks: vec![Checked {
            question: "is there a red circle?".to_owned(),
            expected: "yes".to_owned(),
            answer: Some("no".to_owned()),
            confidence: 0.25,
            passed: false,
        }],
        verdict: Some(Verdict::Fail),
        score: 0.25,
        image_us: 480_000,
        check_us: 60_000,
        rejected_early: false,
    };
    let phase = Phase::Making { activity: Activity::Working { done: 4, of: 20 }, parked: false };
    JobView {
        id: JobId(9),
        class: "batch".to_owned(),
        spec: reflecting(),
        state: JobState::Reflecting { round: 2, of: 4, phase },
        run_us: 250_300,
        reflection: Some(Reflection { rounds: vec![first], best: None, verdict: None, end: None }),
        ..waiting()
    }
}

fn quality() -> QualityView {
    let success = Success {
        jobs: 40,
        first_passed: 24,
        passed: 36,
        rounds: 60,
        checks: 180,
        image_us: 28_800_000,
        check_us: 1_800_000,
    };
    QualityView {
        overall: success,
        recent: success,
        window: 100,
        models: vec![ModelSuccess { model: "flux".to_owned(), success }],
        trend: vec![TrendPoint { until_unix_ms: 1_795_362_090_000, success }],
    }
}

fn answered() -> JobView {
    JobView {
        state: JobState::Done(Outcome::Answers(vec![Answer { label: "red".to_owned(), score: 0.75 }])),
        attempts: 1,
        run_us: 250_300,
        usage: Usage { longest_gap_us: 1800, peak_bytes: 50 << 20, ..Usage::default() },
        ..waiting()
    }
}

#[test]
fn every_example_is_what_the_code_says() {
    let mut examples = Examples(blocks());
    requests(&mut examples);
    responses(&mut examples);
    assert!(examples.0.is_empty(), "no message claims {:?}", examples.0.keys());
}

fn requests(examples: &mut Examples) {
    let key = |key: &str| Some(key.to_owned());
    let submit = |spec, pictures, attached, key| Request::Submit { spec, pictures, attached, key };
    examples.is("hello", 0, &Request::Hello { least: 3, most: 4, client: "demo 1".to_owned() });
    let circle = JobSpec {
        task: Task::Txt2Img(ImageSpec {
            prompt: "a red circle".to_owned(),
            seed: Some(1),
            steps: Some(20),
            size: Some(Size { width: 64, height: 32 }),
            guidance: Some(1.5),
        }),
        model: Some("flux".to_owned()),
        priority: -5,
        deadline_ms: Some(30_000),
        queue_timeout_ms: Some(20_000),
        run_timeout_ms: Some(10_000),
        reflect: None,
    };
    examples.is("submit-txt2img", 1, &submit(circle, 0, true, key("4f1c9a")));
    let blue = JobSpec::new(Task::Img2Img(ImageSpec::new("blue")));
    examples.is("submit-img2img", 2, &submit(blue, 2, false, None));
    examples.is("submit-vqa", 3, &submit(question(), 1, true, None));
    examples.is("watch", 4, &Request::Watch(JobId(7)));
    examples.is("cancel", 5, &Request::Cancel(JobId(7)));
    examples.is("show", 6, &Request::Show(JobId(7)));
    examples.is("list", 7, &Request::List { ended: true, before: Some(JobId(7)), limit: 20 });
    examples.is("fetch", 8, &Request::Fetch { job: JobId(9), round: None });
    examples.is("status", 9, &Request::Status);
    examples.is("explain", 10, &Request::Explain(JobId(7)));
    examples.is("queue", 11, &Request::Queue);
    examples.is("route", 12, &Request::Route(question()));
    examples.is("set-priority", 13, &Request::SetPriority { job: JobId(7), priority: 10 });
    examples.is("pause", 14, &Request::Pause { class: "batch".to_owned(), paused: true });
    examples.is("drain", 15, &Request::Drain(true));
    examples.is("history", 16, &Request::History(JobId(7)));
    examples.is("submit-reflect", 17, &submit(reflecting(), 0, true, None));
    examples.is("fetch-round", 18, &Request::Fetch { job: JobId(9), round: Some(1) });
    let since_unix_ms = 1_795_362_071_000;
    examples.is("quality", 19, &Request::Quality { since_unix_ms, window: 100, points: 10 });
    let before = Some(Cursor { unix_ms: 1_795_362_090_000, id: 9, attempt: 1 });
    let until_unix_ms = since_unix_ms + 3_600_000;
    let page = |track, before| Request::Timeline { track, since_unix_ms, until_unix_ms, before, limit: 400 };
    examples.is("timeline-lanes", 20, &page(Track::Lanes, before));
    examples.is("timeline-memory", 21, &page(Track::Memory, None));
    examples.is("submit-edit", 22, &submit(edit::asked(), 1, true, None));
    examples.is("stages", 23, &Request::Stages(JobId(7)));
}

fn responses(examples: &mut Examples) {
    let server = "gpuschedd 0.1.0".to_owned();
    examples.is("welcome", 0, &Response::Welcome { version: 4, server, max_open_requests: 32 });
    examples.is("rejected-version", 0, &Response::Rejected(Rejection::Version { least: 5, most: 6 }));
    examples.is("accepted", 3, &Response::Accepted(JobId(7)));
    let full = Rejection::QueueFull { class: "interactive".to_owned(), limit: 64, retry_after_ms: 2500 };
    examples.is("rejected-queue-full", 3, &Response::Rejected(full));
    examples.is("update-queued", 4, &Response::Update(Update::Queued { ahead: 3 }));
    let activity = Activity::Working { done: 4, of: 20 };
    examples.is("update-running", 4, &Response::Update(Update::Running { lane: 0, activity, parked: true }));
    let waits = Update::BackingOff { retry: 2, within_ms: 12_000 };
    examples.is("update-backing-off", 4, &Response::Update(waits));
    let checking = Update::Reflecting { round: 2, of: 4, phase: Phase::Checking { done: 3, of: 5 } };
    examples.is("update-reflecting", 4, &Response::Update(checking));
    examples.is("update-done", 4, &Response::Update(Update::Done(answered())));
    examples.is("rejected-no-such-job", 5, &Response::Rejected(Rejection::NoSuchJob { job: JobId(7) }));
    examples.is("job", 6, &Response::Job(waiting()));
    examples.is("job-reflecting", 6, &Response::Job(second_round()));
    examples.is("jobs", 7, &Response::Jobs(Vec::new()));
    let hash = BlobHash(std::array::from_fn(|n| n as u8));
    examples.is("file", 8, &Response::File(BlobRef { hash, bytes: 1500 }));
    examples.is("status-view", 9, &Response::Status(status()));
    let reasons = vec![
        Reason::LanesBusy { class: "interactive".to_owned(), lanes: 4 },
        Reason::Behind { jobs: 3, lane_ms: 3600 },
    ];
    let explanation = Explanation { job: waiting(), reasons, starts_in_ms: Some(900), ends_in_ms: Some(2100) };
    examples.is("explanation", 10, &Response::Explanation(explanation));
    examples.is("queue-view", 11, &Response::Queue(queue()));
    examples.is("route-view", 12, &Response::Route(route()));
    examples.is("history-view", 16, &Response::History(attempts()));
    examples.is("quality-view", 19, &Response::Quality(quality()));
    examples.is("timeline-lanes-view", 20, &Response::Timeline(timeline::lanes()));
    examples.is("timeline-memory-view", 21, &Response::Timeline(timeline::memory()));
    let editing = Update::Editing { step: EditStep::Segment, phase: Phase::Waiting };
    examples.is("update-editing", 22, &Response::Update(editing));
    examples.is("stages-view", 23, &edit::stages());
}

fn status() -> StatusView {
    let batch = || "batch".to_owned();
    let lane = |index, job| LaneView { class: batch(), index, job };
    let partition = PartitionView {
        cap_bytes: 34 << 30,
        weights_bytes: 8 << 30,
        leased_bytes: 2 << 30,
        live_bytes: 9 << 30,
        peak_bytes: 11 << 30,
    };
    StatusView {
        version: "0.1.0".to_owned(),
        uptime_ms: 60_000,
        draining: false,
        classes: vec![ClassView {
            name: batch(),
            queued: 3,
            running: 1,
            backing_off: 2,
            finished: 40,
            out_of_memory: 5,
            paused: false,
            partition,
        }],
        lanes: vec![lane(0, Some(JobId(7))), lane(1, None)],
        models: vec![ModelView {
            name: "flux".to_owned(),
            kind: "flux2-klein".to_owned(),
            bytes: 7_800_000_000,
            resident: vec![batch()],
        }],
        preemption: vec![PreemptionView {
            class: batch(),
            parked: 120,
            p50_us: 900,
            p99_us: 4100,
            max_us: 5200,
            missed: 6,
            refused: 2,
            longest_gap_us: 4800,
        }],
        engine: EngineView { up: true, pid: Some(4711), deaths: 1 },
        storage: StorageView {
            journal_bytes: 3 << 20,
            blob_bytes: 120 << 20,
            blob_quota_bytes: 4 << 30,
            free_bytes: 90 << 30,
            low_water_bytes: 256 << 20,
        },
    }
}

/// Someone else's job on a lane, and one's own that waits.
fn queue() -> Vec<QueueView> {
    let others = QueueView {
        class: "interactive".to_owned(),
        job: JobId(0),
        lane: Some(2),
        priority: 0,
        model: String::new(),
        waited_ms: 5,
        starts_in_ms: None,
        ends_in_ms: Some(900),
    };
    let own = QueueView {
        job: JobId(7),
        lane: None,
        priority: 10,
        model: "vilt".to_owned(),
        waited_ms: 10,
        starts_in_ms: Some(900),
        ends_in_ms: Some(2100),
        ..others.clone()
    };
    vec![others, own]
}

/// One that ran out of memory, and one that still runs.
fn attempts() -> Vec<AttemptView> {
    let first = AttemptView {
        attempt: 1,
        lane: "batch-0".to_owned(),
        started_unix_ms: 1_795_362_071_000,
        ended_unix_ms: Some(1_795_362_074_500),
        end: Some(AttemptEnd::OutOfMemory),
    };
    let second =
        AttemptView { attempt: 2, started_unix_ms: 1_795_362_090_000, ended_unix_ms: None, end: None, ..first.clone() };
    vec![first, second]
}

fn route() -> RouteView {
    let rule = |rule: &str, fails: Option<&str>| RuleView { rule: rule.to_owned(), fails: fails.map(str::to_owned) };
    RouteView {
        class: Some("interactive".to_owned()),
        rules: vec![rule("1: task txt2img, class batch", Some("task is vqa")), rule("2: class interactive", None)],
        run_bytes: 50 << 20,
        weights_bytes: 470_000_000,
        run_ms: Some(1200),
    }
}

/// One of the document's tables against the code: the name and the tag of every row, in order.
fn has_tags(heading: &str, messages: &[(&str, Vec<u8>)]) {
    let table = DOCUMENT.split(heading).nth(1).unwrap_or_else(|| panic!("{heading:?} is missing"));
    let rows = table.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let rows = rows.filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows: Vec<(u32, &str)> =
        rows.filter_map(|(tag, rest)| Some((tag.parse().ok()?, rest.split([' ', ':']).next()?))).collect();
    assert_eq!(rows.len(), messages.len(), "{heading}");
    for ((tag, in_table), (name, bytes)) in rows.into_iter().zip(messages) {
        assert_eq!((in_table, &bytes[..4]), (*name, &tag.to_le_bytes()[..]), "{heading}");
    }
}

fn bytes<T: Encode<Bounded, Src = T>>(message: T) -> Vec<u8> {
    encode(&message).expect("encodable")
}

#[test]
fn refusals_have_the_tags_of_the_table() {
    let text = String::new;
    let job = JobId(1);
    let refusals = [
        ("Version", Rejection::Version { least: 1, most: 1 }),
        ("Handshake", Rejection::Handshake),
        ("Malformed", Rejection::Malformed { reason: text() }),
        ("FrameTooLarge", Rejection::FrameTooLarge { bytes: 1, limit: 1 }),
        ("EmptyText", Rejection::EmptyText { task: text() }),
        ("TextTooLong", Rejection::TextTooLong { bytes: 1, limit: 1 }),
        ("BadSpec", Rejection::BadSpec { field: text(), reason: text() }),
        ("WrongImageCount", Rejection::WrongImageCount { task: text(), least: 1, most: 1, got: 0 }),
        ("BadImage", Rejection::BadImage { index: 0, reason: text() }),
        ("UnknownModel", Rejection::UnknownModel { name: text(), available: text() }),
        ("WrongModel", Rejection::WrongModel { model: text(), task: text(), available: text() }),
        ("NoRoute", Rejection::NoRoute { task: text() }),
        ("QueueFull", Rejection::QueueFull { class: text(), limit: 1, retry_after_ms: 1 }),
        ("QuotaExceeded", Rejection::QuotaExceeded { quota: Quota::QueuedPerUid, limit: 1 }),
        (
            "NeverFits",
            Rejection::NeverFits { class: text(), model: text(), weights_bytes: 1, run_bytes: 1, cap_bytes: 1 },
        ),
        ("NotAllowed", Rejection::NotAllowed { action: text() }),
        ("NoSuchClass", Rejection::NoSuchClass { name: text(), available: text() }),
        ("HasEnded", Rejection::HasEnded { job, state: text() }),
        ("TooManyRequests", Rejection::TooManyRequests { limit: 1 }),
        ("TooManyConnections", Rejection::TooManyConnections { limit: 1 }),
        ("NoSuchJob", Rejection::NoSuchJob { job }),
        ("NothingToFetch", Rejection::NothingToFetch { job, state: text() }),
        ("KeyConflict", Rejection::KeyConflict { job }),
        ("DiskFull", Rejection::DiskFull { free_bytes: 1, low_water_bytes: 1 }),
        ("StoreFull", Rejection::StoreFull { quota_bytes: 1 }),
        ("EngineDown", Rejection::EngineDown),
        ("Draining", Rejection::Draining),
        ("Internal", Rejection::Internal { reason: text() }),
    ];
    has_tags("## Refusals", &refusals.map(|(name, refusal)| (name, bytes(refusal))));
}

#[test]
fn reasons_have_the_tags_of_the_table() {
    let (text, job) = (String::new, JobId(1));
    let reasons = [
        ("Behind", Reason::Behind { jobs: 1, lane_ms: 1 }),
        ("LanesBusy", Reason::LanesBusy { class: text(), lanes: 1 }),
        ("OneAtATime", Reason::OneAtATime { job }),
        ("Memory", Reason::Memory { class: text(), needs_bytes: 1, free_bytes: 1, cap_bytes: 1 }),
        ("Evicting", Reason::Evicting { model: text(), evicts: Vec::new() }),
        ("Batching", Reason::Batching { model: text(), at_most_ms: 1 }),
        ("RunningQuota", Reason::RunningQuota { limit: 1 }),
        ("Paused", Reason::Paused { class: text() }),
        ("Stopping", Reason::Stopping),
        ("BackingOff", Reason::BackingOff { retry: 1, budget: 1, within_ms: 1 }),
        ("EngineDown", Reason::EngineDown),
        ("Suspect", Reason::Suspect { job }),
        ("Parked", Reason::Parked { classes: Vec::new() }),
    ];
    has_tags("`Reason` is one of:", &reasons.map(|(name, reason)| (name, bytes(reason))));
}
