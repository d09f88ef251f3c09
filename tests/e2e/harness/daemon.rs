//! A daemon in a directory of its own, and gpuctl beside it.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gpusched_client::blocking::Client;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use super::programs::{models, program};

/// How long a daemon may live, and with it everything that waits for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// What tests vary of the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Setup {
    pub(crate) queue: u32,
    pub(crate) stop_timeout_s: u64,
    /// Lines of `[limits]`.
    pub(crate) limits: &'static str,
    pub(crate) policy: &'static str,
    /// Further lines of the heavy class.
    pub(crate) heavy: &'static str,
    /// Further lines of the light class.
    pub(crate) light: &'static str,
    /// Further keys and sections, at the top.
    pub(crate) more: &'static str,
    /// Where the state directory is, if not beside the configuration.
    pub(crate) state: Option<PathBuf>,
}

/// Classes as they are by default, but for the lines that are always there.
const HEAVY: &str = "partition = \"50%\"\nnice = 10\nflush = \"before_each\"\ngate = \"block\"";
const LIGHT: &str = "partition = \"20%\"\nlanes = 4\npriority = 10";

impl Default for Setup {
    fn default() -> Self {
        Self {
            queue: 1000,
            stop_timeout_s: 60,
            limits: "",
            policy: "multi-queue",
            heavy: HEAVY,
            light: LIGHT,
            more: "",
            state: None,
        }
    }
}

/// A directory with a configuration, and what daemons leave in it. Its subdirectory `models` holds further models.
#[derive(Debug)]
pub(crate) struct Home {
    directory: TempDir,
}

impl Home {
    pub(crate) fn new(setup: &Setup) -> Self {
        let home = Self { directory: tempfile::tempdir().expect("a directory") };
        fs::create_dir(home.file("models")).expect("a directory");
        home.configure(setup, "gpusched.toml", "gpusched.sock", "state");
        home
    }

    /// Writes a configuration file for a socket and a state directory of these names; its path.
    pub(crate) fn configure(&self, setup: &Setup, name: &str, socket: &str, state: &str) -> PathBuf {
        let Setup { queue, stop_timeout_s, limits, policy, heavy, light, more, state: elsewhere } = setup;
        let (socket, state) = (self.file(socket), elsewhere.clone().unwrap_or_else(|| self.file(state)));
        let text = format!(
            "socket = {socket:?}\nstate_dir = {state:?}\nmodels = [{:?}, {:?}]\nstop_timeout_s = {stop_timeout_s}\n\
             policy = {policy:?}\n{more}\n\n\
             [limits]\n{limits}\n\n\
             [[class]]\nname = \"heavy\"\nqueue = {queue}\n{heavy}\n\n\
             [[class]]\nname = \"light\"\ndurability = \"process\"\n{light}\n\n\
{looks}\
             [[route]]\nclass = \"heavy\"\n",
            models(),
            self.file("models"),
            looks = ["vqa", "detect", "segment", "analyze", "score"]
                .map(|task| format!("[[route]]\ntask = {task:?}\nclass = \"light\"\n\n"))
                .concat(),
        );
        let path = self.file(name);
        fs::write(&path, text).expect("written");
        path
    }

    /// A path in this directory.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.file("gpusched.sock")
    }

    /// Starts the daemon, and waits until clients can connect.
    pub(crate) fn start(self) -> Daemon {
        let process = Process::spawn(gpuschedd(&self.file("gpusched.toml")));
        let daemon = Daemon { home: self, process };
        daemon.until_logged("listening on");
        daemon
    }

    /// Starts the daemon with a command of the caller's, and waits until clients can connect. Its log may go elsewhere.
    pub(crate) fn start_as(self, command: Command) -> Daemon {
        let process = Process::spawn(command);
        let daemon = Daemon { home: self, process };
        daemon.until_it_answers();
        daemon
    }

    /// gpuctl, to be run here for the daemon here.
    pub(crate) fn gpuctl_command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(program("gpuctl"));
        command.args(args).env("GPUSCHED_SOCKET", self.socket()).current_dir(self.directory.path());
        command.stdin(Stdio::null());
        command
    }

    /// Runs gpuctl to its end.
    pub(crate) fn gpuctl(&self, args: &[&str]) -> Ended {
        Ended::of(self.gpuctl_command(args))
    }
}

/// The daemon's program with a configuration file, and nothing from outside that would make a difference.
pub(crate) fn gpuschedd(config: &Path) -> Command {
    let mut command = Command::new(program("gpuschedd"));
    command.args(["serve", "--allow-faults", "--config"]).arg(config);
    for outside in ["GPUSCHED_SOCKET", "GPUSCHED_LOG", "JOURNAL_STREAM", "NOTIFY_SOCKET"] {
        command.env_remove(outside);
    }
    command.env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// The daemon's program with a command of its own.
pub(crate) fn gpuschedd_command(args: &[&str]) -> Command {
    let mut command = Command::new(program("gpuschedd"));
    command.args(args).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// Starts a daemon that must refuse to; why it does.
pub(crate) fn refusal(config: &Path) -> String {
    let process = Process::spawn(gpuschedd(config));
    assert_eq!(process.wait().code(), Some(1));
    lock(&process.log.lines).text.clone()
}

/// How a program ended, and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    /// Runs a program to its end.
    pub(crate) fn of(mut command: Command) -> Self {
        command.output().expect("it runs").into()
    }

    /// What it wrote to standard output.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text")
    }

    /// The JSON documents that it wrote to standard output, one a line.
    pub(crate) fn documents(&self) -> Vec<serde_json::Value> {
        self.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// Its exit code must be this.
    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "{}\n{}", String::from_utf8_lossy(&self.stdout), self.stderr);
        self
    }
}

impl From<Output> for Ended {
    fn from(Output { status, stdout, stderr }: Output) -> Self {
        Self { code: status.code(), stdout, stderr: String::from_utf8(stderr).expect("text") }
    }
}

/// A daemon that clients can connect to. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Daemon {
    home: Home,
    process: Process,
}

impl Daemon {
    pub(crate) fn start() -> Self {
        Self::start_with(&Setup::default())
    }

    pub(crate) fn start_with(setup: &Setup) -> Self {
        Home::new(setup).start()
    }

    pub(crate) fn home(&self) -> &Home {
        &self.home
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Client {
        Client::connect(self.home.socket()).expect("connected")
    }

    pub(crate) fn gpuctl(&self, args: &[&str]) -> Ended {
        self.home.gpuctl(args)
    }

    /// Waits until it can be asked something. Its socket is there before it listens to anybody.
    fn until_it_answers(&self) {
        let end = Instant::now() + PATIENCE;
        while !Client::connect(self.home.socket()).is_ok_and(|client| client.status().is_ok()) {
            assert!(Instant::now() < end && !self.process.has_ended(), "it does not answer: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until the log has a line with this text.
    pub(crate) fn until_logged(&self, text: &str) {
        assert!(self.process.log.until(|log| log.contains(text)), "{text:?} was never logged");
    }

    /// Waits until the log has so many more lines, or the time is up.
    pub(crate) fn until_more_lines(&self, lines: usize, at_most: Duration) {
        let count = |log: &str| log.lines().count();
        let wanted = count(&lock(&self.process.log.lines).text) + lines;
        self.process.log.until_or(at_most, |log| count(log) >= wanted);
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        lock(&self.process.log.lines).text.clone()
    }

    /// The engine's process, once there is one.
    pub(crate) fn engine(&self) -> Pid {
        let client = self.client();
        loop {
            if let Some(pid) = client.status().expect("status").engine.pid {
                return Pid::from_raw(pid.cast_signed());
            }
        }
    }

    /// The memory that its own process has, without the engine's.
    pub(crate) fn memory_bytes(&self) -> u64 {
        let pid = lock(&self.process.child).id();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("it lives");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a line");
        1024 * line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    }

    /// How many descriptors it has open.
    pub(crate) fn open_descriptors(&self) -> usize {
        let pid = lock(&self.process.child).id();
        fs::read_dir(format!("/proc/{pid}/fd")).expect("it lives").count()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        self.process.signal(Signal::SIGTERM);
    }

    /// Waits until it has ended by itself; well, or the test fails.
    pub(crate) fn ended(self) -> Home {
        let Self { home, process } = self;
        let status = process.wait();
        assert!(status.success(), "{status}");
        home
    }

    /// Has it end as systemd would.
    pub(crate) fn stop(self) -> Home {
        self.terminate();
        self.ended()
    }

    /// Has it end as a power cut would.
    pub(crate) fn kill(self) -> Home {
        let Self { home, process } = self;
        process.signal(Signal::SIGKILL);
        process.wait();
        home
    }
}

/// A running program whose standard error is its log.
#[derive(Debug)]
struct Process {
    child: Arc<Mutex<Child>>,
    log: Arc<Log>,
    /// Dropped, it sends the watchdog home.
    _leash: Sender<()>,
}

impl Process {
    fn spawn(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let stderr = child.stderr.take().expect("a pipe");
        let child = Arc::new(Mutex::new(child));
        let log = Arc::new(Log::default());
        std::thread::spawn({
            let log = Arc::clone(&log);
            move || log.fill(stderr)
        });
        let (leash, end) = channel::<()>();
        std::thread::spawn({
            let child = Arc::clone(&child);
            move || {
                if end.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
                    let _ = lock(&child).kill();
                }
            }
        });
        Self { child, log, _leash: leash }
    }

    fn signal(&self, signal: Signal) {
        let pid = lock(&self.child).id();
        kill(Pid::from_raw(pid.cast_signed()), signal).expect("it lives");
    }

    fn has_ended(&self) -> bool {
        lock(&self.child).try_wait().expect("a child").is_some()
    }

    /// Waits for its end: that of its log, which nobody else writes to.
    fn wait(&self) -> ExitStatus {
        self.log.until(|_| false);
        lock(&self.child).wait().expect("a status")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let mut child = lock(&self.child);
        let _ = child.kill();
        let _ = child.wait();
        if std::thread::panicking() {
            eprintln!("--- the daemon's log\n{}---", lock(&self.log.lines).text);
        }
    }
}

/// What a program has written so far.
#[derive(Debug, Default)]
struct Log {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    text: String,
    ended: bool,
}

impl Log {
    fn fill(&self, from: impl Read) {
        let mut from = BufReader::new(from);
        loop {
            let mut line = Vec::new();
            let read = from.read_until(b'\n', &mut line).unwrap_or(0);
            let mut lines = lock(&self.lines);
            lines.text.push_str(&String::from_utf8_lossy(&line));
            lines.ended = read == 0;
            self.changed.notify_all();
            if lines.ended {
                return;
            }
        }
    }

    /// Waits until `enough` of what is there; false if the end comes first.
    fn until(&self, enough: impl Fn(&str) -> bool) -> bool {
        let mut lines = lock(&self.lines);
        while !enough(&lines.text) {
            if lines.ended {
                return false;
            }
            lines = self.changed.wait(lines).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }

    /// As [`until`](Self::until), but no longer than that.
    fn until_or(&self, at_most: Duration, enough: impl Fn(&str) -> bool) {
        let waits = |lines: &mut Lines| !lines.ended && !enough(&lines.text);
        let _ = self.changed.wait_timeout_while(lock(&self.lines), at_most, waits);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
