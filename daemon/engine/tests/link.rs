//! The link between front and engine: whatever is sent arrives, and what is nonsense is refused for little memory.

use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixStream;

use gpusched_engine::link::{self, MAX_DESCRIPTORS, MAX_PAYLOAD, ReceiveError, SendError};
use gpusched_engine::protocol::{Order, ProtocolError, Report, receive_order, receive_report, send_order, send_report};
use gpusched_engine::{
    Beat, Command, DeviceSpec, Event, Failure, Faults, GateKind, LaneBeat, LaneSpec, MemoryUse, PartitionSpec, Phase,
    Product, Stage,
};
use gpusched_shared::frame::Frame;
use gpusched_shared::{Activity, Answer, FailureKind, ImageSpec, JobId, JobSpec, Size, Task, Usage};
use proptest::prelude::*;

fn file(text: &str) -> OwnedFd {
    let mut file = tempfile::tempfile().expect("a file");
    file.write_all(text.as_bytes()).expect("written");
    file.into()
}

fn text(file: OwnedFd) -> String {
    use std::os::unix::fs::FileExt as _;
    let file = File::from(file);
    let mut bytes = vec![0; usize::try_from(file.metadata().expect("it is a file").len()).expect("short")];
    file.read_exact_at(&mut bytes, 0).expect("read");
    String::from_utf8(bytes).expect("text")
}

fn orders() -> impl Strategy<Value = Order> {
    let stage = (".{0,200}", 0..=4_usize, any::<Option<u32>>()).prop_map(|(prompt, pictures, preview_after)| {
        let image = ImageSpec { seed: Some(1), ..ImageSpec::new(&prompt) };
        Stage { spec: JobSpec::new(Task::Img2Img(image)), pictures, preview_after }
    });
    let run = (any::<u64>(), any::<u32>(), 0..300_usize, stage, any::<u64>(), any::<bool>()).prop_map(
        |(job, attempt, lane, stage, lease_bytes, flush)| Command::Run {
            job: JobId(job),
            attempt,
            lane,
            stage,
            lease_bytes,
            flush,
        },
    );
    let command = prop_oneof![
        run,
        any::<u64>().prop_map(|job| Command::Stop(JobId(job))),
        (0..9_usize, any::<bool>()).prop_map(|(class, closed)| Command::Gate { class, closed }),
        (0..9_usize, ".{0,40}").prop_map(|(class, model)| Command::Unload { class, model }),
        (0..9_usize, any::<u64>()).prop_map(|(class, job)| Command::Flush { class, job: JobId(job) }),
        any::<u64>().prop_map(|ticket| Command::Inspect { ticket }),
    ];
    let begin = (prop::collection::vec("[a-z]{1,9}", 0..5), any::<u64>()).prop_map(|(names, seed)| Order::Begin {
        lanes: names.iter().map(|name| lane(name)).collect(),
        partitions: names.iter().map(|name| partition(name)).collect(),
        models: names.into_iter().map(String::into_bytes).collect(),
        faults: Faults { seed, oom_percent: 1, hang_on: Some("x".to_owned()), ..Faults::default() },
        device: DeviceSpec { overhead_bytes: seed, reserve: true, ..DeviceSpec::default() },
        heartbeat_ms: seed,
    });
    prop_oneof![4 => command.prop_map(Order::Command), 1 => begin]
}

fn lane(class: &str) -> LaneSpec {
    LaneSpec { class: class.to_owned(), class_index: 1, index: 2, threads: 3, nice: -4 }
}

fn partition(name: &str) -> PartitionSpec {
    PartitionSpec { name: name.to_owned(), cap_bytes: 5, gate: GateKind::Block }
}

fn files_of(order: &Order) -> usize {
    match order {
        Order::Begin { .. } => 1,
        Order::Command(command) => command.files(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn orders_arrive_in_order_each_with_its_own_files(sent in prop::collection::vec(orders(), 1..40)) {
        let (here, there) = link::pair().expect("a pair");
        let (_, writer) = link::open(here);
        let (mut reader, _) = link::open(there);
        let expected = sent.clone();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for (n, order) in sent.iter().enumerate() {
                    let files: Vec<_> = (0..files_of(order)).map(|k| file(&format!("{n}.{k}"))).collect();
                    let files: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
                    send_order(&writer, order, &files).expect("sent");
                }
                writer.close();
            });
            for (n, order) in expected.iter().enumerate() {
                let (received, files) = receive_order(&mut reader).expect("received").expect("one more");
                assert_eq!(&received, order);
                let texts: Vec<_> = files.into_iter().map(text).collect();
                assert_eq!(texts, (0..files_of(order)).map(|k| format!("{n}.{k}")).collect::<Vec<_>>());
            }
            assert!(receive_order(&mut reader).expect("an end").is_none());
        });
    }

    #[test]
    fn chunks_do_not_matter(payloads in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 1..20), size in 1..50_usize) {
        let (here, there) = UnixStream::pair().expect("a pair");
        let (mut reader, _) = link::open(there.into());
        let bytes: Vec<u8> =
            payloads.iter().flat_map(|payload| Frame { id: 0, payload: payload.clone() }.to_bytes()).collect();
        std::thread::scope(|scope| {
            scope.spawn(move || bytes.chunks(size).for_each(|chunk| (&here).write_all(chunk).expect("sent")));
            for payload in &payloads {
                assert_eq!(&reader.receive().expect("received").expect("one more").payload, payload);
            }
            assert!(reader.receive().expect("an end").is_none());
        });
    }

    #[test]
    fn garbage_is_refused_and_never_waited_for(bytes in prop::collection::vec(any::<u8>(), 0..4000)) {
        let (here, there) = UnixStream::pair().expect("a pair");
        let (mut reader, _) = link::open(there.into());
        (&here).write_all(&bytes).expect("it fits");
        drop(here);
        // It may hold frames by chance; but it ends.
        let frames = (0..=bytes.len()).take_while(|_| matches!(receive_order(&mut reader), Ok(Some(_)))).count();
        prop_assert!(frames <= bytes.len() / 12, "more frames than bytes");
    }
}

/// What comes of these bytes.
fn received(bytes: &[u8]) -> ReceiveError {
    let (here, there) = UnixStream::pair().expect("a pair");
    let (mut reader, _) = link::open(there.into());
    (&here).write_all(bytes).expect("it fits");
    drop(here);
    reader.receive().expect_err("it is nonsense")
}

#[test]
fn nonsense_has_its_reasons() {
    let long = [&u32::MAX.to_le_bytes()[..], &0_u64.to_le_bytes()].concat();
    assert!(matches!(received(&long), ReceiveError::TooLarge(error) if error.limit == MAX_PAYLOAD));
    let greedy = Frame { id: 3, payload: Vec::new() }.to_bytes();
    assert!(matches!(received(&greedy), ReceiveError::Missing { wanted: 3, there: 0 }));
    assert!(matches!(received(&greedy[..7]), ReceiveError::Cut));
    let (here, there) = UnixStream::pair().expect("a pair");
    (&here).write_all(&Frame { id: 0, payload: vec![9; 9] }.to_bytes()).expect("it fits");
    let (mut reader, _) = link::open(there.into());
    assert!(matches!(receive_order(&mut reader), Err(ProtocolError::Codec(_))));
}

#[test]
fn descriptors_are_counted() {
    let (here, there) = link::pair().expect("a pair");
    let (_, writer) = link::open(here);
    let (mut reader, _) = link::open(there);
    let stop = Order::Command(Command::Stop(JobId(1)));
    let one = file("x");
    let many: Vec<_> = (0..=MAX_DESCRIPTORS).map(|_| one.as_fd()).collect();
    assert!(matches!(send_order(&writer, &stop, &many), Err(SendError::TooLarge { .. })));
    assert!(matches!(writer.send(vec![0; MAX_PAYLOAD + 1], &[]), Err(SendError::TooLarge { .. })));
    send_order(&writer, &stop, &[one.as_fd()]).expect("sent");
    let refused = receive_order(&mut reader);
    assert!(matches!(refused, Err(ProtocolError::Descriptors { there: 1, wanted: 0 })), "{refused:?}");
}

#[test]
fn whoever_is_gone_is_noticed_at_either_end() {
    let (here, there) = link::pair().expect("a pair");
    let (mut reader, writer) = link::open(here);
    drop(there);
    assert!(receive_report(&mut reader).expect("an end").is_none());
    assert!(matches!(writer.send(vec![1], &[]), Err(SendError::Io(_))));
    // And by whoever waits: a send that the other end does not read, until the link is closed.
    let (here, there) = link::pair().expect("a pair");
    let (_, writer) = link::open(here);
    std::thread::scope(|scope| {
        let sending = scope.spawn(|| while writer.send(vec![0; MAX_PAYLOAD], &[]).is_ok() {});
        writer.close();
        sending.join().expect("it has ended");
    });
    drop(there);
}

fn reports() -> Vec<Report> {
    let usage = Usage { parked_us: 1, yields: 2, longest_gap_us: 3, peak_bytes: 4 };
    let image = |png| Product::Image { png, size: Size { width: 16, height: 32 }, truncated_tokens: 5 };
    let failure = Failure { kind: FailureKind::Engine, message: "no".to_owned() };
    let answers = vec![Answer { label: "red".to_owned(), score: 0.5 }];
    vec![
        Report::Ready(Vec::new()),
        Report::Failed("no".to_owned()),
        Report::Beat(Beat {
            lanes: vec![LaneBeat { phase: Phase::Parked, still_ms: 7 }],
            memory: vec![MemoryUse { live_bytes: 1, peak_bytes: 2, weights_bytes: 3 }],
        }),
        Report::Event(Event::Started(JobId(1))),
        Report::Event(Event::Progress(JobId(1), Activity::Working { done: 1, of: 2 })),
        // Larger than any frame.
        Report::Event(Event::Finished(JobId(1), Ok(image(vec![7; 3 * MAX_PAYLOAD])), usage)),
        Report::Event(Event::Finished(JobId(2), Ok(image(Vec::new())), usage)),
        Report::Event(Event::Previewed { job: JobId(2), png: vec![7; 9], size: Size { width: 16, height: 32 } }),
        Report::Event(Event::Finished(JobId(3), Ok(Product::Answers(answers)), usage)),
        Report::Event(Event::Finished(JobId(4), Err(failure), usage)),
        Report::Event(Event::Inspected { ticket: 1, result: Err("no picture".to_owned()) }),
    ]
}

#[test]
fn reports_arrive_pictures_included() {
    let (here, there) = link::pair().expect("a pair");
    let (_, writer) = link::open(here);
    let (mut reader, _) = link::open(there);
    for report in reports() {
        send_report(&writer, report.clone()).expect("it fits");
        assert_eq!(receive_report(&mut reader).expect("received"), Some(report));
    }
}

#[test]
fn a_picture_that_could_still_change_is_refused() {
    let (here, there) = link::pair().expect("a pair");
    let (_, writer) = link::open(here);
    let (mut reader, _) = link::open(there);
    let image = Product::Image { png: Vec::new(), size: Size { width: 1, height: 1 }, truncated_tokens: 0 };
    let report = Report::Event(Event::Finished(JobId(1), Ok(image), Usage::default()));
    let payload = gpusched_shared::codec::encode(&report).expect("encoded");
    writer.send(payload.clone(), &[file("png").as_fd()]).expect("sent");
    assert!(matches!(receive_report(&mut reader), Err(ProtocolError::Sealed(_))));
    writer.send(payload, &[]).expect("sent");
    assert!(matches!(receive_report(&mut reader), Err(ProtocolError::Descriptors { there: 0, wanted: 1 })));
}
