//! `PROTOCOL.md` against the code: every example in it is what the code writes, and reads back as what it says.

use std::collections::BTreeMap;
use std::fmt::Debug;

use gpusched_shared::codec::{Bounded, Decode, Encode, decode, encode};
use gpusched_shared::frame::{Frame, Frames, MAX_RESPONSE};
use gpusched_shared::view::{Activity, ClassView, LaneView, ModelView};
use gpusched_shared::{
    Answer, BlobHash, BlobRef, ImageSpec, JobId, JobSpec, JobState, JobView, Outcome, Rejection, Request, Response,
    Size, StatusView, Task, Update, VqaSpec,
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
    let vqa = VqaSpec { question: "what colour?".to_owned(), top: 3 };
    JobSpec { task: Task::Vqa(vqa), model: None, deadline_ms: None }
}

fn answered() -> JobView {
    JobView {
        id: JobId(7),
        uid: 1000,
        class: "interactive".to_owned(),
        spec: question(),
        attached: true,
        state: JobState::Done(Outcome::Answers(vec![Answer { label: "red".to_owned(), score: 0.75 }])),
        attempts: 1,
        submitted_unix_ms: 1_795_362_071_000,
        wait_ms: 10,
        run_ms: 250,
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
    let submit = |spec, pictures, attached| Request::Submit { spec, pictures, attached };
    examples.is("hello", 0, &Request::Hello { least: 1, most: 1, client: "demo 1".to_owned() });
    let circle = JobSpec {
        task: Task::Txt2Img(ImageSpec {
            prompt: "a red circle".to_owned(),
            seed: Some(1),
            steps: Some(20),
            size: Some(Size { width: 64, height: 32 }),
            guidance: Some(1.5),
        }),
        model: Some("flux".to_owned()),
        deadline_ms: Some(30_000),
    };
    examples.is("submit-txt2img", 1, &submit(circle, 0, true));
    let blue = ImageSpec { prompt: "blue".to_owned(), seed: None, steps: None, size: None, guidance: None };
    let blue = JobSpec { task: Task::Img2Img(blue), model: None, deadline_ms: None };
    examples.is("submit-img2img", 2, &submit(blue, 2, false));
    examples.is("submit-vqa", 3, &submit(question(), 1, true));
    examples.is("watch", 4, &Request::Watch(JobId(7)));
    examples.is("cancel", 5, &Request::Cancel(JobId(7)));
    examples.is("show", 6, &Request::Show(JobId(7)));
    examples.is("list", 7, &Request::List { ended: true, before: Some(JobId(7)), limit: 20 });
    examples.is("fetch", 8, &Request::Fetch(JobId(9)));
    examples.is("status", 9, &Request::Status);
}

fn responses(examples: &mut Examples) {
    let server = "gpuschedd 0.1.0".to_owned();
    examples.is("welcome", 0, &Response::Welcome { version: 1, server, max_open_requests: 32 });
    examples.is("rejected-version", 0, &Response::Rejected(Rejection::Version { least: 2, most: 3 }));
    examples.is("accepted", 3, &Response::Accepted(JobId(7)));
    examples.is("update-queued", 4, &Response::Update(Update::Queued { ahead: 3 }));
    let activity = Activity::Working { done: 4, of: 20 };
    examples.is("update-running", 4, &Response::Update(Update::Running { lane: 0, activity }));
    examples.is("update-done", 4, &Response::Update(Update::Done(answered())));
    examples.is("rejected-no-such-job", 5, &Response::Rejected(Rejection::NoSuchJob { job: JobId(7) }));
    examples.is("job", 6, &Response::Job(answered()));
    examples.is("jobs", 7, &Response::Jobs(Vec::new()));
    let hash = BlobHash(std::array::from_fn(|n| n as u8));
    examples.is("file", 8, &Response::File(BlobRef { hash, bytes: 1500 }));
    let lane = |index, job| LaneView { class: "batch".to_owned(), index, job };
    let status = StatusView {
        version: "0.1.0".to_owned(),
        uptime_ms: 60_000,
        draining: false,
        classes: vec![ClassView { name: "batch".to_owned(), queued: 3, running: 1, finished: 40 }],
        lanes: vec![lane(0, Some(JobId(7))), lane(1, None)],
        models: vec![ModelView {
            name: "flux".to_owned(),
            kind: "flux2-klein".to_owned(),
            bytes: 7_800_000_000,
            resident: true,
        }],
    };
    examples.is("status-view", 9, &Response::Status(status));
}

/// The document's table of refusals against the code: name and tag of each.
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
        ("QueueFull", Rejection::QueueFull { class: text(), limit: 1 }),
        ("TooManyRequests", Rejection::TooManyRequests { limit: 1 }),
        ("TooManyConnections", Rejection::TooManyConnections { limit: 1 }),
        ("NoSuchJob", Rejection::NoSuchJob { job }),
        ("NothingToFetch", Rejection::NothingToFetch { job, state: text() }),
        ("Draining", Rejection::Draining),
        ("Internal", Rejection::Internal { reason: text() }),
    ];
    let table = DOCUMENT.split("## Refusals").nth(1).expect("a section on refusals");
    let rows = table.lines().filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let rows: Vec<(u32, &str)> =
        rows.filter_map(|(tag, rest)| Some((tag.parse().ok()?, rest.split(' ').next()?))).collect();
    assert_eq!(rows.len(), refusals.len());
    for ((tag, in_table), (name, refusal)) in rows.into_iter().zip(refusals) {
        assert_eq!(in_table, name);
        let bytes = encode(&refusal).expect("encodable");
        assert_eq!(bytes[..4], tag.to_le_bytes(), "{name}");
    }
}
