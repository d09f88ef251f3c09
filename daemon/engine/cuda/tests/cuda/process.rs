//! The executable itself, as the daemon starts it: at the other end of a link, confined, and gone when its device is.

use std::os::fd::{AsFd as _, OwnedFd};
use std::process::{Child, Command as Program, Stdio};

use gpusched_engine::device::LOST_EXIT;
use gpusched_engine::link::{self, Reader, Writer};
use gpusched_engine::protocol::{Order, Report, receive_report, send_order};
use gpusched_engine::{Command, Event, GateKind, Product, Setup, Stage};
use gpusched_shared::{JobId, JobSpec};

use crate::rig::{MIB, pictures, setup, txt2img, vqa};

/// An engine in a process of its own. Its link closes as this is dropped, and then it ends.
struct Process {
    child: Child,
    reader: Reader,
    writer: Writer,
}

impl Process {
    /// Starts it, with these settings of the software driver.
    fn start(setup: &Setup, settings: &[(&str, &str)]) -> Self {
        let (ours, theirs) = link::pair().expect("a pair");
        let mut program = Program::new(env!("CARGO_BIN_EXE_gpusched-engine-cuda"));
        program.arg("engine").stdin(Stdio::from(theirs)).env_remove("JOURNAL_STREAM");
        let child = program.envs(settings.iter().copied()).spawn().expect("it starts");
        drop(program);
        let (reader, writer) = link::open(ours);
        let lock: OwnedFd = tempfile().into();
        let Setup { lanes, partitions, models, faults, device } = setup.clone();
        let models = models.iter().map(|path| path.to_str().expect("text").as_bytes().to_vec()).collect();
        let begin = Order::Begin { lanes, partitions, models, faults, device, heartbeat_ms: 1000 };
        send_order(&writer, &begin, &[lock.as_fd()]).expect("sent");
        Self { child, reader, writer }
    }

    /// What it says next, but for signs of life; `None` when it is gone.
    fn next(&mut self) -> Option<Report> {
        loop {
            match receive_report(&mut self.reader) {
                Ok(Some(Report::Beat(_))) => {}
                Ok(report) => return report,
                // A process that ends in the middle of a message is gone, too.
                Err(_) => return None,
            }
        }
    }

    fn ready(&mut self) {
        let report = self.next();
        assert!(matches!(&report, Some(Report::Ready(models)) if models.len() == 6), "{report:?}");
    }

    fn run(&self, job: u64, lane: usize, spec: JobSpec) {
        let files = pictures(&spec);
        let stage = Stage { spec, pictures: files.len(), preview_after: None };
        let run = Command::Run { job: JobId(job), attempt: 1, lane, stage, lease_bytes: 1 << 40, flush: true };
        let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
        send_order(&self.writer, &Order::Command(run), &files).expect("sent");
    }

    /// How the stage under way ends; `None` if the process does first.
    fn ended(&mut self) -> Option<Event> {
        loop {
            match self.next()? {
                Report::Event(event @ (Event::Finished(..) | Event::Interrupted(..))) => return Some(event),
                Report::Event(_) => {}
                report @ (Report::Ready(_) | Report::Failed(_) | Report::Beat(_)) => panic!("{report:?}"),
            }
        }
    }

    fn code(mut self) -> Option<i32> {
        drop((self.reader, self.writer));
        self.child.wait().expect("it ends").code()
    }
}

/// A file without a name, as a lock.
fn tempfile() -> std::fs::File {
    let name = nix::sys::memfd::memfd_create(c"lock", nix::sys::memfd::MFdFlags::empty());
    name.expect("memory").into()
}

fn usual() -> Setup {
    setup(GateKind::Kernel, 1, [1 << 30, 512 * MIB])
}

#[test]
fn the_executable_runs_jobs_and_ends_with_its_link() {
    let mut engine = Process::start(&usual(), &[]);
    engine.ready();
    engine.run(1, 0, txt2img(64, 1));
    let made = engine.ended();
    assert!(matches!(made, Some(Event::Finished(JobId(1), Ok(Product::Image { .. }), _))), "{made:?}");
    engine.run(2, 1, vqa());
    let made = engine.ended();
    assert!(matches!(made, Some(Event::Finished(JobId(2), Ok(Product::Answers(_)), _))), "{made:?}");
    assert_eq!(engine.code(), Some(0));
}

#[test]
fn a_device_that_is_lost_ends_the_process_with_a_code_of_its_own() {
    for fault in ["illegal-address", "assert", "launch-failed"] {
        let mut engine = Process::start(&usual(), &[("SOFTCUDA_FAULT_AT", "500+"), ("SOFTCUDA_FAULT", fault)]);
        engine.ready();
        engine.run(1, 0, txt2img(64, 4));
        let ended = engine.ended();
        assert_eq!(ended, None, "{fault}: nobody is told of the stage but by the end of the process");
        assert_eq!(engine.code(), Some(LOST_EXIT), "{fault}");
    }
}

#[test]
fn what_is_missing_is_said_before_there_is_work() {
    for (settings, why) in [
        (("SOFTCUDA_CAP", "ignored"), "the driver does not keep the cap of class heavy"),
        (("SOFTCUDA_POOLS", "0"), "has no memory pools"),
        (("SOFTCUDA_DRIVER", "12010"), "NVIDIA's driver is too old: it knows CUDA 12.1"),
        (("SOFTCUDA_DEVICES", "0"), "there is no GPU"),
    ] {
        let mut engine = Process::start(&usual(), &[settings]);
        let report = engine.next();
        let Some(Report::Failed(said)) = report else { panic!("{settings:?}: {report:?}") };
        assert!(said.contains(why), "{said}");
        assert_eq!(engine.code(), Some(1));
    }
}

#[test]
fn a_partition_that_cannot_be_reserved_is_refused() {
    let mut wanted = usual();
    wanted.device.reserve = true;
    let mut engine = Process::start(&wanted, &[("SOFTCUDA_MEMORY", "2G"), ("SOFTCUDA_OTHERS", "1G")]);
    let Some(Report::Failed(said)) = engine.next() else { panic!("it started") };
    assert!(said.contains("cannot reserve") && said.contains("make its partition smaller"), "{said}");
}
