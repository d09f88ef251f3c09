//! What the front may do: tried in this program run again, for there is no way back from being confined, and looked up for
//! the daemon as it is shipped.

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{TcpListener, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use gpusched_client::blocking::Client;
use gpusched_client::{JobState, Outcome, txt2img};
use gpusched_daemon::blobs::Blobs;
use gpusched_daemon::config::{Config, Size, StorageConfig};
use gpusched_daemon::confine::{confine, limit_all};
use gpusched_daemon::disk::Disk;
use gpusched_daemon::journal::{Journal, Settings};
use gpusched_daemon::server;
use nix::sys::memfd::{MFdFlags, memfd_create};
use tempfile::TempDir;

/// Only a test that fails waits this long.
const PATIENCE: Duration = Duration::from_secs(120);

/// Set for the program that is run again, to a directory with all that it is to try.
const PLACE: &str = "GPUSCHED_TEST_PLACE";

/// Runs this test of this program again in a directory of its own.
fn again(test: &str) {
    let place = tempfile::tempdir().expect("a directory");
    let at = |name: &str| place.path().join(name);
    for directory in ["state", "run", "models", "elsewhere"] {
        fs::create_dir(at(directory)).expect("a directory");
    }
    fs::write(at("models/weights"), "weights").and_then(|()| fs::write(at("secret"), "secret")).expect("files");
    std::os::unix::fs::symlink(at("elsewhere"), at("state/blobs")).expect("a link");
    let program = std::env::current_exe().expect("this program");
    let output = Command::new(program).args(["--exact", test, "--nocapture"]).env(PLACE, place.path()).output();
    let output = output.expect("it runs");
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && said.contains("all was tried"), "{}\n{said}{complained}", output.status);
}

/// In the program that is run again: confined, with what the kernel could not enforce.
fn confined(place: &Path) -> (Config, Vec<String>) {
    let (socket, state_dir) = (place.join("run/gpusched.sock"), place.join("state"));
    let config = Config { socket, state_dir, models: vec![place.join("models")], ..Config::default() };
    limit_all().expect("limited");
    let missing = confine(&config);
    println!("missing: {missing:?}");
    assert!(!missing.iter().any(|what| what.contains("seccomp")), "{missing:?}");
    (config, missing)
}

#[test]
fn what_the_front_does_not_need_fails() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return again("what_the_front_does_not_need_fails");
    };
    let (config, missing) = confined(&place);
    let refused = |result: std::io::Result<()>| assert_eq!(result.map_err(|e| e.raw_os_error()), Err(Some(1)), "EPERM");
    refused(TcpListener::bind("127.0.0.1:0").map(drop));
    refused(Command::new("/bin/true").status().map(drop));
    refused(nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUSER).map_err(Into::into));
    refused(rustix::thread::set_thread_uid(rustix::process::getuid()).map_err(Into::into));
    let thread = std::thread::spawn(move || {
        refused(UdpSocket::bind("127.0.0.1:0").map(drop));
        refused(Command::new("/bin/true").status().map(drop));
    });
    thread.join().expect("in threads as well");

    if !missing.iter().any(|what| what.contains("Landlock")) {
        fn denied<T>(result: std::io::Result<T>) {
            assert_eq!(result.map(drop).map_err(|e| e.kind()), Err(ErrorKind::PermissionDenied));
        }
        denied(fs::read(place.join("secret")));
        denied(fs::read(place.join("models/weights")));
        denied(fs::read_dir(place.join("models")));
        denied(fs::read("/etc/passwd"));
        denied(File::open("/dev/zero"));
        denied(OpenOptions::new().write(true).open("/proc/self/oom_score_adj"));
        denied(File::create(place.join("new")));
        denied(fs::remove_file(place.join("secret")));
        denied(UnixListener::bind(place.join("new")));
        // Of the socket's directory it has nothing but the socket, and below its own it has no more than it needs.
        denied(File::create(place.join("run/new")));
        denied(std::os::unix::fs::symlink("/etc", config.state_dir.join("link")));
        denied(fs::rename(place.join("secret"), config.state_dir.join("secret")));
    }
    println!("all was tried");
}

#[test]
fn what_the_front_needs_works() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else {
        return again("what_the_front_needs_works");
    };
    let mut engine = Command::new("sleep").arg("1000").spawn().expect("it starts");
    let (config, _) = confined(&place);

    let storage = StorageConfig { low_water: Size(1), reserve: Size(4096), ..StorageConfig::default() };
    let disk = Disk::open(&config.state_dir, &storage, None).expect("a disk");
    let blobs = Arc::new(Blobs::open(Arc::new(disk)).expect("blobs, where a link leads"));
    let (blob, hold) = blobs.put_input(b"picture").expect("stored");
    blobs.verify(blob.hash).expect("there, and right");
    drop(hold);
    blobs.remove(blob.hash).expect("removed");
    let (reply, _replies) = tokio::sync::mpsc::channel(16);
    for time in ["made", "opened again"] {
        drop(Journal::open(&Settings::default(), Arc::clone(&blobs), reply.clone()).expect(time));
    }

    for _ in 0..2 {
        let listener = server::bind(&config.socket).expect("made, and made anew");
        let client = UnixStream::connect(&config.socket).expect("somebody listens");
        drop((listener.listener.accept().expect("it waits"), client));
        fs::remove_file(&config.socket).expect("removed");
    }
    UnixDatagram::unbound().expect("for the log and the service manager");
    fs::read_to_string("/proc/self/cgroup").expect("what the kernel says of it");
    File::open("/dev/urandom").expect("for SQLite");
    let memory = memfd_create("x", MFdFlags::MFD_CLOEXEC).expect("for long lines of the log");
    File::from(memory).write_all(b"line").expect("written");
    engine.kill().expect("an engine that does not end by itself");
    engine.wait().expect("it has ended");
    println!("all was tried");
}

/// The daemon as it is shipped; killed when dropped.
struct Daemon {
    process: Child,
    directory: TempDir,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Daemon {
    /// Starts it, and waits until clients can connect.
    fn start(in_process: bool) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let at = |name: &str| directory.path().join(name);
        let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/weights");
        let (socket, state_dir) = (at("gpusched.sock"), at("state"));
        let text = format!(
            "socket = {socket:?}\nstate_dir = {state_dir:?}\nmodels = [{weights:?}]\n[engine]\nin_process = {in_process}\n"
        );
        fs::write(at("gpusched.toml"), text).expect("written");
        let mut program = Command::new(env!("CARGO_BIN_EXE_gpuschedd"));
        program.args(["serve", "--config"]).arg(at("gpusched.toml")).stdin(Stdio::null());
        program.env_remove("GPUSCHED_SOCKET").env_remove("GPUSCHED_LOG").env_remove("JOURNAL_STREAM");
        let mut process = program.env("NO_COLOR", "1").stderr(Stdio::piped()).spawn().expect("it starts");
        let log = BufReader::new(process.stderr.take().expect("it is piped"));
        let daemon = Self { process, directory };
        let (line, lines) = channel();
        // To the end, so that it never waits for somebody to read.
        std::thread::spawn(move || log.lines().map_while(Result::ok).for_each(|text| drop(line.send(text))));
        while !lines.recv_timeout(PATIENCE).expect("it says that it listens").contains("listening on") {}
        daemon
    }

    /// The engine's process, which has written its number into the lock.
    fn engine(&self) -> u32 {
        let named = fs::read_to_string(self.directory.path().join("state/engine.lock")).expect("read");
        named.split_whitespace().next().and_then(|pid| pid.parse().ok()).expect("a number")
    }

    fn makes_a_picture(&self) {
        let client = Client::connect(self.directory.path().join("gpusched.sock")).expect("connected");
        let job = txt2img("a red circle").seed(1).steps(2).size(64, 64);
        let job = client.submit(job, Vec::new(), false).expect("accepted");
        let state = client.wait(job).expect("waited for").state;
        assert!(matches!(state, JobState::Done(Outcome::Image { .. })), "{state:?}");
    }
}

/// The threads of a process: name (`main` is the first), whether it can gain privileges, whether system calls are filtered.
fn threads(pid: u32) -> Vec<(String, bool, bool)> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).expect("it lives");
    // A thread may end between being listed and being read of.
    let status = tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok());
    let field = |status: &str, name: &str| {
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.expect("the kernel says").trim().to_owned()
    };
    let name = |s: &str| if field(s, "Pid") == pid.to_string() { "main".to_owned() } else { field(s, "Name") };
    status.map(|s| (name(&s), field(&s, "NoNewPrivs") == "0", field(&s, "Seccomp") == "2")).collect()
}

#[test]
fn all_threads_of_the_front_are_confined_but_those_that_keep_the_engine_or_read_the_configuration() {
    let daemon = Daemon::start(false);
    // By then all threads have been needed.
    daemon.makes_a_picture();
    let front = threads(daemon.process.id());
    for (name, may_gain, filtered) in &front {
        let free = name.starts_with("engine ") || name == "configuration";
        assert_eq!((*may_gain, *filtered), (false, !free), "{name}");
    }
    for name in ["main", "journal", "tokio", "engine keeper", "engine reader", "engine writer", "configuration"] {
        assert!(front.iter().any(|(there, ..)| there.starts_with(name)), "no {name} in {front:?}");
    }
    let limits = fs::read_to_string(format!("/proc/{}/limits", daemon.process.id())).expect("read");
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("it is there");
    assert!(core.split_whitespace().eq(["0", "0", "bytes"]), "{core}");
    let engine = threads(daemon.engine());
    assert!(engine.len() > 1 && engine.iter().all(|(_, may_gain, filtered)| !may_gain && *filtered), "{engine:?}");
}

#[test]
fn beside_an_engine_in_threads_the_front_is_confined_as_well() {
    let daemon = Daemon::start(true);
    daemon.makes_a_picture();
    let all = threads(daemon.process.id());
    let own = |name: &str| ["main", "journal", "tokio"].iter().any(|own| name.starts_with(own));
    let front: Vec<_> = all.iter().filter(|(name, ..)| own(name)).collect();
    assert!(front.len() > 2 && front.iter().all(|(_, may_gain, filtered)| !may_gain && *filtered), "{all:?}");
    assert!(all.iter().any(|(name, _, filtered)| !own(name) && !filtered), "lanes read models: {all:?}");
}
