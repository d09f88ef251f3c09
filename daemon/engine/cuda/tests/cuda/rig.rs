//! An engine on the software GPU, whose threads stand still at each event until the test has seen to it; and lanes without one.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpusched_engine::device::{Device, Opened, Stream};
use gpusched_engine::{
    Command, DeviceSpec, Engine, Event, Failure, GateKind, LaneSpec, MemoryUse, PartitionSpec, Product, Setup, Sink,
    Stage,
};
use gpusched_engine_cuda::{Cuda, Loss};
use gpusched_shared::{ImageSpec, JobId, JobSpec, Size, Task, Usage, VqaSpec};

pub(crate) const MIB: u64 = 1 << 20;
pub(crate) const HEAVY: usize = 0;
pub(crate) const LIGHT: usize = 1;

/// Only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../models/weights")
}

/// One lane `heavy` with this gate, number 0, and so many lanes `light` behind it.
pub(crate) fn setup(gate: GateKind, light: u32, caps: [u64; 2]) -> Setup {
    let lane =
        |class: &str, class_index, index| LaneSpec { class: class.to_owned(), class_index, index, threads: 1, nice: 0 };
    let partition = |name: &str, cap_bytes, gate| PartitionSpec { name: name.to_owned(), cap_bytes, gate };
    Setup {
        lanes: std::iter::once(lane("heavy", HEAVY, 0)).chain((0..light).map(|i| lane("light", LIGHT, i))).collect(),
        partitions: vec![partition("heavy", caps[0], gate), partition("light", caps[1], GateKind::None)],
        models: vec![weights()],
        device: DeviceSpec { overhead_bytes: 64 * MIB, ..DeviceSpec::default() },
        ..Setup::default()
    }
}

/// The lanes and partitions of a setup, without an engine.
pub(crate) fn open(setup: &Setup) -> Opened {
    Cuda::new(Loss::Stay).open(setup).expect("it opens")
}

/// A lane's place for tensors.
pub(crate) fn place(stream: &Arc<dyn Stream>) -> candle_core::Device {
    stream.device().clone()
}

pub(crate) struct Rig {
    /// Dropped to let the engine's thread go on that said the latest event.
    held: Option<Sender<()>>,
    // Before the engine, so that its threads need not wait for a test that has ended.
    events: Receiver<(Event, Sender<()>)>,
    engine: Engine,
    last: u64,
}

pub(crate) type Ended = (Result<Product, Failure>, Usage);

impl Rig {
    pub(crate) fn new(setup: &Setup) -> Self {
        let (sender, events) = channel();
        let sender = Mutex::new(sender);
        let sink: Sink = Arc::new(move |event| {
            let (go, wait) = channel::<()>();
            if sender.lock().expect("no sink panics").send((event, go)).is_ok() {
                let _ = wait.recv();
            }
        });
        let device: Arc<dyn Device> = Arc::new(Cuda::new(Loss::Stay));
        let engine = Engine::start_on(&device, setup, &sink).expect("it starts");
        Self { held: None, events, engine, last: 0 }
    }

    pub(crate) fn memory(&self, class: usize) -> MemoryUse {
        self.engine.memory()[class]
    }

    /// The next event. The thread that said it goes on when the one after is asked for, or at [`Self::release`].
    pub(crate) fn next(&mut self) -> Event {
        self.release();
        let (event, go) = self.events.recv_timeout(PATIENCE).expect("the engine says something");
        self.held = Some(go);
        event
    }

    pub(crate) fn release(&mut self) {
        self.held = None;
    }

    /// Events up to the first that `wanted` holds for, which is returned.
    pub(crate) fn until(&mut self, wanted: impl Fn(&Event) -> bool) -> Event {
        loop {
            let event = self.next();
            if wanted(&event) {
                return event;
            }
            assert!(!matches!(event, Event::Finished(..) | Event::Interrupted(..)), "ended too early: {event:?}");
        }
    }

    pub(crate) fn tell(&self, command: Command) {
        self.engine.command(command, Vec::new()).expect("it makes sense");
    }

    pub(crate) fn begin(&mut self, lane: usize, spec: JobSpec) -> JobId {
        self.begin_leased(lane, spec, 1 << 40)
    }

    pub(crate) fn begin_leased(&mut self, lane: usize, spec: JobSpec, lease_bytes: u64) -> JobId {
        self.last += 1;
        let job = JobId(self.last);
        let files = pictures(&spec);
        let stage = Stage { spec, pictures: files.len(), preview_after: None };
        let run = Command::Run { job, attempt: 1, lane, stage, lease_bytes, flush: false };
        self.engine.command(run, files).expect("the lane is free");
        job
    }

    pub(crate) fn end(&mut self, job: JobId) -> Ended {
        let event = self.until(|event| matches!(event, Event::Finished(..)));
        let Event::Finished(finished, result, usage) = event else { panic!("{event:?}") };
        assert_eq!(finished, job);
        self.release();
        (result, usage)
    }

    /// Runs a stage to its end, which is a good one.
    pub(crate) fn run(&mut self, lane: usize, spec: JobSpec) -> (Product, Usage) {
        let job = self.begin(lane, spec);
        let (result, usage) = self.end(job);
        (result.expect("it can be done"), usage)
    }
}

/// The files that come with a stage.
pub(crate) fn pictures(spec: &JobSpec) -> Vec<OwnedFd> {
    let samples = || File::open(weights().join("flux2-klein-tiny/samples.png")).expect("it is there").into();
    (0..*spec.task.pictures().start()).map(|_| samples()).collect()
}

pub(crate) fn txt2img(side: u32, steps: u32) -> JobSpec {
    let size = Some(Size { width: side, height: side });
    let image =
        ImageSpec { seed: Some(7), steps: Some(steps), size, guidance: Some(3.0), ..ImageSpec::new("a red circle") };
    JobSpec { model: Some("flux2-klein-tiny".to_owned()), ..JobSpec::new(Task::Txt2Img(image)) }
}

pub(crate) fn vqa() -> JobSpec {
    let task = Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 3 });
    JobSpec { model: Some("vilt-tiny".to_owned()), ..JobSpec::new(task) }
}
