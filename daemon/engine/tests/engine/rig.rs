//! An engine whose threads stand still at each event until the test has seen to it.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpusched_engine::{
    Command, DeviceSpec, Engine, Event, Failure, Faults, GateKind, LaneSpec, MemoryUse, PartitionSpec, Product, Setup,
    Sink, Stage,
};
use gpusched_shared::{AnalyzeSpec, ImageSpec, JobId, JobSpec, Size, Task, Usage, VqaSpec};

/// The model that makes pictures.
pub(crate) const FLUX: &str = "flux2-klein-tiny";
/// The model that answers.
pub(crate) const VILT: &str = "vilt-tiny";
/// More than anything here needs, in bytes.
pub(crate) const PLENTY: u64 = 1 << 40;
/// What a partition may hold beside weights where nothing runs, in bytes: what tokenizers keep for each thread.
pub(crate) const MODEL_TABLES: u64 = 512 << 10;

/// The class with a gate.
pub(crate) const HEAVY: usize = 0;
/// The class without one.
pub(crate) const LIGHT: usize = 1;

/// Pixels of the picture that stages are given.
pub(crate) const SAMPLES_PIXELS: u64 = 640 * 256;

/// The directory of the shipped models.
pub(crate) fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/weights")
}

/// The directory of models that were made for tests.
fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/fixtures")
}

/// The picture that stages are given.
pub(crate) fn samples() -> OwnedFd {
    File::open(weights().join(FLUX).join("samples.png")).expect("it is there").into()
}

/// An engine of two lanes `heavy`, numbers 0 and 1, and one lane `light`, number 2.
pub(crate) struct Rig {
    /// Dropped to let the engine's thread go on that said the latest event.
    held: Option<Sender<()>>,
    // Before the engine, so that its threads need not wait for a test that has ended.
    events: Receiver<(Event, Sender<()>)>,
    engine: Engine,
    last: u64,
}

/// What became of a stage.
pub(crate) type Ended = (Result<Product, Failure>, Usage);

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with_cap(PLENTY)
    }

    /// With a cap on the partition `heavy`, in bytes.
    pub(crate) fn with_cap(cap_bytes: u64) -> Self {
        Self::with(cap_bytes, Faults::default())
    }

    /// The same with faults.
    pub(crate) fn with(cap_bytes: u64, faults: Faults) -> Self {
        let (sender, events) = channel();
        let sender = Mutex::new(sender);
        let sink: Sink = Arc::new(move |event| {
            let (go, wait) = channel::<()>();
            // A rig that is gone holds nobody up.
            if sender.lock().expect("no sink panics").send((event, go)).is_ok() {
                let _ = wait.recv();
            }
        });
        let lane = |class: &str, class_index, index| LaneSpec {
            class: class.to_owned(),
            class_index,
            index,
            threads: 2,
            nice: if class_index == HEAVY { 5 } else { 0 },
        };
        let partition = |name: &str, cap_bytes, gate| PartitionSpec { name: name.to_owned(), cap_bytes, gate };
        let setup = Setup {
            lanes: vec![lane("heavy", HEAVY, 0), lane("heavy", HEAVY, 1), lane("light", LIGHT, 0)],
            partitions: vec![
                partition("heavy", cap_bytes, GateKind::Block),
                partition("light", PLENTY, GateKind::None),
            ],
            models: vec![weights(), fixtures()],
            faults,
            device: DeviceSpec::default(),
        };
        let engine = Engine::start(&setup, &sink).expect("it starts");
        Self { held: None, events, engine, last: 0 }
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn memory(&self, class: usize) -> MemoryUse {
        self.engine.memory()[class]
    }

    /// The next event. The thread that said it goes on when the one after is asked for, or at [`Self::release`].
    pub(crate) fn next(&mut self) -> Event {
        self.release();
        // Only a test that fails waits this long.
        match self.events.recv_timeout(Duration::from_secs(120)) {
            Ok((event, go)) => {
                self.held = Some(go);
                event
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!("the engine says no more"),
        }
    }

    /// Lets the thread go on that said the latest event.
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
        self.tell_with(command, Vec::new());
    }

    pub(crate) fn tell_with(&self, command: Command, files: Vec<OwnedFd>) {
        self.engine.command(command, files).expect("it makes sense");
    }

    pub(crate) fn gate(&self, closed: bool) {
        self.tell(Command::Gate { class: HEAVY, closed });
    }

    /// Gives a stage to a lane without waiting for it.
    pub(crate) fn begin(&mut self, lane: usize, spec: JobSpec, lease_bytes: u64) -> JobId {
        self.last += 1;
        let job = JobId(self.last);
        self.begin_attempt(job, 1, lane, spec, lease_bytes);
        job
    }

    /// The same, of a job and an attempt.
    pub(crate) fn begin_attempt(&mut self, job: JobId, attempt: u32, lane: usize, spec: JobSpec, lease_bytes: u64) {
        let pictures = !matches!(spec.task, Task::Txt2Img(_) | Task::Analyze(_));
        let files = if pictures { vec![samples()] } else { Vec::new() };
        let stage = Stage { spec, pictures: files.len(), preview_after: None };
        self.tell_with(Command::Run { job, attempt, lane, stage, lease_bytes, flush: false }, files);
    }

    /// Gives a stage to the first lane that shows what its picture is about to become after so many steps.
    pub(crate) fn begin_with_preview(&mut self, spec: JobSpec, after: u32) -> JobId {
        self.last += 1;
        let job = JobId(self.last);
        let stage = Stage { spec, pictures: 0, preview_after: Some(after) };
        self.tell(Command::Run { job, attempt: 1, lane: 0, stage, lease_bytes: PLENTY, flush: false });
        job
    }

    /// The end of a stage, whatever else happens before.
    pub(crate) fn end(&mut self, job: JobId) -> Ended {
        let event = self.until(|event| matches!(event, Event::Finished(..)));
        let Event::Finished(finished, result, usage) = event else { panic!("{event:?}") };
        assert_eq!(finished, job);
        (result, usage)
    }

    /// As [`Self::end`], of a stage that goes on first.
    pub(crate) fn end_after_resuming(&mut self, job: JobId) -> Ended {
        assert_eq!(self.next(), Event::Resumed(job));
        self.end(job)
    }

    /// Runs a stage to its end with memory in plenty.
    pub(crate) fn run(&mut self, lane: usize, spec: JobSpec) -> (Product, Usage) {
        let job = self.begin(lane, spec, PLENTY);
        let (result, usage) = self.end(job);
        (result.expect("it can be done"), usage)
    }
}

fn image(side: u32, steps: u32) -> ImageSpec {
    let size = Some(Size { width: side, height: side });
    ImageSpec { seed: Some(7), steps: Some(steps), size, guidance: Some(3.0), ..ImageSpec::new("a red circle") }
}

fn on(model: &str, task: Task) -> JobSpec {
    JobSpec { model: Some(model.to_owned()), ..JobSpec::new(task) }
}

pub(crate) fn txt2img(side: u32, steps: u32) -> JobSpec {
    on(FLUX, Task::Txt2Img(image(side, steps)))
}

pub(crate) fn img2img(side: u32, steps: u32) -> JobSpec {
    on(FLUX, Task::Img2Img(image(side, steps)))
}

pub(crate) fn vqa() -> JobSpec {
    on(VILT, Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 3 }))
}

pub(crate) fn analyze(prompt: &str, max_tokens: u32) -> JobSpec {
    on("qwen3", Task::Analyze(AnalyzeSpec { prompt: prompt.to_owned(), max_tokens: Some(max_tokens) }))
}
