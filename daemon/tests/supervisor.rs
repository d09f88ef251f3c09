//! The supervisor with real engines: the shipped program and the shipped weights. Whatever kills an engine, there is another,
//! and what became of the first is said once.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command as Program, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use gpusched_core::{Blame, LaneId};
use gpusched_daemon::config::EngineConfig;
use gpusched_daemon::supervisor::{Listener, News, Supervisor, SupervisorError, take_device};
use gpusched_engine::{Command, DeviceSpec, Event, Faults, GateKind, LaneSpec, PartitionSpec, Product, Setup, Stage};
use gpusched_shared::{FailureKind, ImageSpec, JobId, JobSpec, Size, Task, VqaSpec};
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// Only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(120);

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights")
}

fn setup(faults: Faults) -> Setup {
    let lane =
        |class: &str, class_index| LaneSpec { class: class.to_owned(), class_index, index: 0, threads: 1, nice: 3 };
    let partition = |name: &str| PartitionSpec {
        name: name.to_owned(),
        cap_bytes: 1 << 40,
        gate: if name == "heavy" { GateKind::Block } else { GateKind::None },
    };
    Setup {
        lanes: vec![lane("heavy", 0), lane("light", 1)],
        partitions: vec![partition("heavy"), partition("light")],
        models: vec![weights()],
        faults,
        device: DeviceSpec::default(),
    }
}

/// Quick to begin again, and never taken for dead because the machine is busy.
fn config() -> EngineConfig {
    EngineConfig { heartbeat_ms: 50, heartbeat_timeout_ms: 60_000, restart_base_ms: 1, ..EngineConfig::default() }
}

struct Rig {
    supervisor: Supervisor,
    news: Receiver<News>,
    _directory: TempDir,
}

impl Rig {
    fn new() -> Self {
        Self::with(&config(), Faults::default())
    }

    fn with(config: &EngineConfig, faults: Faults) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let lock = take_device(&directory.path().join("engine.lock"), Duration::ZERO).expect("nobody has it");
        let (sender, news) = channel();
        let supervisor = start(setup(faults), config, lock, sender).expect("it starts");
        Self { supervisor, news, _directory: directory }
    }

    fn next(&self) -> News {
        match self.news.recv_timeout(PATIENCE) {
            Ok(news) => news,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => panic!("no news"),
        }
    }

    fn pid(&self) -> Pid {
        pid(self.supervisor.pid().expect("there is an engine"))
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it is there");
    }

    /// Waits for the loss of the engine.
    fn lost(&self) -> (Blame, String) {
        loop {
            if let News::Lost { blame, why } = self.next() {
                return (blame, why);
            }
        }
    }

    /// The next news must be that another engine is ready; it is the one from here on.
    fn ready(&self) {
        let News::Ready(generation) = self.next() else { panic!("something else") };
        self.supervisor.follow(generation);
    }

    /// Gives a picture to the lane for them.
    fn begin(&self, job: u64, prompt: &str, steps: u32) {
        let size = Some(Size { width: 64, height: 64 });
        let image =
            ImageSpec { seed: Some(1), steps: Some(steps), size, guidance: Some(1.0), ..ImageSpec::new(prompt) };
        let model = Some("flux2-klein-tiny".to_owned());
        let stage =
            Stage { spec: JobSpec { model, ..JobSpec::new(Task::Txt2Img(image)) }, pictures: 0, preview_after: None };
        self.supervisor.command(run(job, 0, stage), Vec::new());
    }

    /// Waits for the end of a job. No other job may be heard of.
    fn end(&self, job: u64) -> Result<Product, FailureKind> {
        loop {
            match self.next() {
                News::Event(Event::Finished(JobId(ended), result, _)) => {
                    assert_eq!(ended, job);
                    return result.map_err(|failure| failure.kind);
                }
                News::Event(Event::Started(JobId(other)) | Event::Progress(JobId(other), _)) => assert_eq!(other, job),
                News::Event(event) => assert!(matches!(event, Event::Loaded { .. }), "{event:?}"),
                news @ (News::Lost { .. } | News::Ready(_)) => panic!("{news:?}"),
            }
        }
    }

    /// It must work.
    fn works(&self, job: u64) {
        self.begin(job, "a red circle", 2);
        let made = self.end(job);
        let Ok(Product::Image { png, size, .. }) = made else { panic!("{made:?}") };
        assert_eq!(size, Size { width: 64, height: 64 });
        assert!(png.starts_with(b"\x89PNG"));
    }
}

fn run(job: u64, lane: usize, stage: Stage) -> Command {
    Command::Run { job: JobId(job), attempt: 1, lane, stage, lease_bytes: 1 << 40, flush: false }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(i32::try_from(number).expect("a process"))
}

fn is_gone(pid: Pid) -> bool {
    kill(pid, None) == Err(Errno::ESRCH)
}

fn start(
    setup: Setup,
    config: &EngineConfig,
    lock: File,
    sender: std::sync::mpsc::Sender<News>,
) -> Result<Supervisor, SupervisorError> {
    let sender = Mutex::new(sender);
    let listener: Listener = Arc::new(move |news| drop(sender.lock().expect("no panic").send(news)));
    let program = PathBuf::from(env!("CARGO_BIN_EXE_gpuschedd"));
    let (supervisor, models) = Supervisor::start_program(program, setup, config, lock, listener)?;
    let names: Vec<_> = models.iter().map(|model| model.name.as_str()).collect();
    assert_eq!(names, ["clip-tiny", "flux2-klein-tiny", "owlv2-tiny", "sam2-tiny", "sd3-tiny", "vilt-tiny"]);
    Ok(supervisor)
}

#[test]
fn an_engine_in_a_process_of_its_own_does_what_one_in_threads_does() {
    let rig = Rig::new();
    rig.works(1);
    let picture = || File::open(weights().join("flux2-klein-tiny/samples.png")).expect("it is there");
    rig.supervisor.command(Command::Inspect { ticket: 7 }, vec![picture().into()]);
    let size = Size { width: 640, height: 256 };
    assert_eq!(rig.next(), News::Event(Event::Inspected { ticket: 7, result: Ok(size) }));
    let vqa = Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 1 });
    let spec = JobSpec { model: Some("vilt-tiny".to_owned()), ..JobSpec::new(vqa) };
    rig.supervisor.command(run(2, 1, Stage { spec, pictures: 1, preview_after: None }), vec![picture().into()]);
    assert!(matches!(rig.end(2), Ok(Product::Answers(answers)) if answers.len() == 1));
    rig.supervisor.command(Command::Flush { class: 1, job: JobId(7) }, Vec::new());
    assert!(matches!(rig.next(), News::Event(Event::Flushed { class: 1, .. })));
    // What makes no sense is answered as well.
    let stage = Stage { spec: JobSpec::new(Task::Txt2Img(ImageSpec::new("x"))), pictures: 0, preview_after: None };
    rig.supervisor.command(run(3, 9, stage), Vec::new());
    assert_eq!(rig.end(3), Err(FailureKind::Engine));
    let until = std::time::Instant::now() + PATIENCE;
    while rig.supervisor.memory().iter().all(|memory| memory.weights_bytes == 0) {
        assert!(std::time::Instant::now() < until, "it never says what it holds");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn who_is_killed_from_outside_is_replaced_and_blames_nobody() {
    let rig = Rig::new();
    let before = rig.pid();
    rig.begin(1, "a red circle", 500);
    while !matches!(rig.next(), News::Event(Event::Progress(..))) {}
    rig.signal(Signal::SIGKILL);
    let (blame, why) = rig.lost();
    assert_eq!(blame, Blame::Nobody, "{why}");
    rig.ready();
    assert!(is_gone(before) && rig.pid() != before);
    rig.works(2);
}

#[test]
fn signals_by_which_a_system_goes_down_are_the_fronts_to_understand() {
    let rig = Rig::new();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        rig.signal(signal);
    }
    rig.works(1);
}

#[test]
fn who_crashes_is_replaced_and_everyone_is_to_blame() {
    let rig = Rig::with(&config(), Faults { crash_on: Some("poison".to_owned()), ..Faults::default() });
    for job in [1, 2, 3] {
        rig.begin(job, "a poisoned apple", 2);
        let (blame, why) = rig.lost();
        assert_eq!((blame, why.as_str()), (Blame::Everyone, "it crashed (SIGSEGV)"));
        rig.ready();
    }
    rig.works(4);
}

#[test]
fn who_is_stopped_is_replaced_and_blames_nobody() {
    let rig = Rig::with(&EngineConfig { heartbeat_timeout_ms: 2000, ..config() }, Faults::default());
    let before = rig.pid();
    rig.signal(Signal::SIGSTOP);
    let (blame, why) = rig.lost();
    assert_eq!(blame, Blame::Nobody, "{why}");
    assert!(why.contains("its process was stopped"), "{why}");
    rig.ready();
    assert!(is_gone(before));
    rig.works(1);
}

#[test]
fn a_lane_that_hangs_is_to_blame_alone() {
    let faults = Faults { hang_on: Some("tar".to_owned()), ..Faults::default() };
    let rig = Rig::with(&EngineConfig { running_timeout_s: 2, ..config() }, faults);
    rig.begin(1, "a pit of tar", 2);
    let (blame, why) = rig.lost();
    assert_eq!(blame, Blame::Lane(LaneId(0)), "{why}");
    assert!(why.contains("lane heavy-0 computed for"), "{why}");
    rig.ready();
    rig.works(2);
}

#[test]
fn commands_for_an_engine_that_is_gone_do_not_reach_the_next() {
    let rig = Rig::new();
    rig.signal(Signal::SIGKILL);
    rig.lost();
    let News::Ready(generation) = rig.next() else { panic!("something else") };
    // Whoever gives this has not heard of the new engine.
    rig.begin(1, "a red circle", 2);
    rig.supervisor.follow(generation);
    // Nothing is heard of the first: see `end`.
    rig.works(2);
}

#[test]
fn nothing_is_left_of_an_engine_whose_supervisor_is_dropped() {
    for stopped in [false, true] {
        let rig = Rig::new();
        let pid = rig.pid();
        rig.begin(1, "a red circle", 500);
        while !matches!(rig.next(), News::Event(Event::Progress(..))) {}
        if stopped {
            rig.signal(Signal::SIGSTOP);
        }
        let Rig { supervisor, news, _directory: directory } = rig;
        drop(supervisor);
        assert!(is_gone(pid), "stopped: {stopped}");
        // It is no loss that it is gone.
        assert!(news.iter().all(|news| matches!(news, News::Event(_))));
        take_device(&directory.path().join("engine.lock"), Duration::ZERO).expect("nobody has it any more");
    }
}

#[test]
fn an_engine_that_cannot_start_says_why() {
    let directory = tempfile::tempdir().expect("a directory");
    let lock = || tempfile::tempfile_in(directory.path()).expect("a file");
    let (sender, _news) = channel();
    let no_partition = Setup { partitions: Vec::new(), ..setup(Faults::default()) };
    let refused = start(no_partition, &config(), lock(), sender.clone()).expect_err("it has no partition");
    assert_eq!(refused.to_string(), "the engine cannot start: lane heavy-0 has no partition");
    let listener: Listener = Arc::new(drop);
    let with = |program: &str| {
        Supervisor::start_program(program.into(), setup(Faults::default()), &config(), lock(), Arc::clone(&listener))
    };
    let missing = with("/nonexistent").expect_err("there is none");
    assert!(matches!(missing, SupervisorError::Spawn(_)), "{missing}");
    let other = with("/bin/false").expect_err("it is no engine");
    assert_eq!(other.to_string(), "the engine did not get ready: its process ended with code 1");
}

/// Set for this program when it is run again as a front that is to be killed, to its directory.
const FRONT: &str = "GPUSCHED_TEST_FRONT";

#[test]
fn an_engine_does_not_outlive_its_front_and_lets_go_of_the_device() {
    if let Some(directory) = std::env::var_os(FRONT) {
        let lock = take_device(&Path::new(&directory).join("engine.lock"), Duration::ZERO).expect("nobody has it");
        let (sender, _news) = channel();
        let supervisor = start(setup(Faults::default()), &config(), lock, sender).expect("it starts");
        println!("engine {}", supervisor.pid().expect("there is one"));
        std::io::stdout().flush().expect("told");
        // Until it is killed, or whoever runs it is.
        let _ = std::io::stdin().read(&mut [0]);
        return;
    }
    let directory = tempfile::tempdir().expect("a directory");
    let mut front = Program::new(std::env::current_exe().expect("this program"));
    front.args(["--exact", "an_engine_does_not_outlive_its_front_and_lets_go_of_the_device", "--nocapture"]);
    front.env(FRONT, directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut front = front.spawn().expect("it runs");
    let lines = BufReader::new(front.stdout.take().expect("it is piped")).lines();
    let mut engines = lines.map_while(Result::ok).filter_map(|line| line.strip_prefix("engine ")?.parse().ok());
    let engine = pid(engines.next().expect("it says which"));
    assert!(!is_gone(engine));
    front.kill().expect("it is there");
    front.wait().expect("it has ended");
    take_device(&directory.path().join("engine.lock"), PATIENCE).expect("it is let go of");
    assert!(
        is_gone(engine) || std::fs::read_to_string(format!("/proc/{engine}/stat")).is_ok_and(|s| s.contains(") Z "))
    );
}
