//! The journal, as the daemon finds it: its socket, at the path where it always is, in a mount namespace of the daemon's own.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::daemon::{PATIENCE, gpuschedd};

/// Mounts what is to be the journal's directory, then runs the rest with standard error said to be the journal's. In the
/// namespace there is nothing else in /run.
const INSIDE: &str = r#"
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/journal && mount --bind "$0" /run/systemd/journal || exit 9
JOURNAL_STREAM=$(stat -L -c %d:%i /proc/self/fd/2) exec setpriv --pdeathsig KILL "$@"
"#;

/// A journal of its own, kept where journalctl finds it. Written to nowhere else.
const JOURNALD: &str = r#"
mount -t tmpfs tmpfs /run && mount -t tmpfs tmpfs /var/log || exit 9
mkdir -p /run/systemd/journal /run/log/journal || exit 9
mount --bind "$0" /run/systemd/journal && mount --bind "$1" /run/log/journal || exit 9
exec setpriv --pdeathsig KILL /lib/systemd/systemd-journald
"#;

/// False, and a word about it, where the system lets nobody have a mount namespace; with `CI` in the environment that fails the
/// test.
pub(crate) fn can_be_had() -> bool {
    let tried = Command::new("unshare").args(["--mount", "mount", "-t", "tmpfs", "tmpfs", "/run"]).output();
    let why = match tried {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        Err(e) => e.to_string(),
    };
    let skipped = format!("cannot have a mount namespace here, so what reaches the journal is not tried: {why}");
    assert!(
        std::env::var_os("CI").is_none(),
        "{skipped}. With CI set nothing is skipped: run this as root, or unset CI"
    );
    eprintln!("SKIPPED: {skipped}. With CI set this fails");
    false
}

/// The daemon's program with a configuration file, and with the directory `journal` as that of the journal's socket.
pub(crate) fn gpuschedd_with(journal: &Path, config: &Path) -> Command {
    let daemon = gpuschedd(config);
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", INSIDE]).arg(journal);
    command.arg(daemon.get_program()).args(daemon.get_args()).stdin(Stdio::null());
    for (name, value) in daemon.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command
}

/// The fields of an entry; of a field that is there more than once, the last.
pub(crate) type Entry = BTreeMap<String, String>;

/// What has reached the journal so far.
#[derive(Debug, Default)]
struct State {
    entries: Vec<Entry>,
    paused: bool,
}

/// A socket for the journal, and what has been sent there.
#[derive(Debug, Clone)]
pub(crate) struct Received(Arc<(Mutex<State>, Condvar)>);

impl Received {
    /// In a directory, under the name that the journal's has. Somebody reads there.
    pub(crate) fn bind(directory: &Path) -> Self {
        fs::create_dir(directory).expect("a directory");
        let socket = UnixDatagram::bind(directory.join("socket")).expect("a socket");
        let received = Self(Arc::default());
        let reader = received.clone();
        std::thread::spawn(move || {
            let mut bytes = vec![0; 1 << 20];
            while let Ok(length) = socket.recv(&mut bytes) {
                let mut state = reader.lock();
                // Who connects says nothing at first.
                if length > 0 {
                    state.entries.push(parse(&bytes[..length]));
                    reader.0.1.notify_all();
                }
                drop(reader.0.1.wait_while(state, |state| state.paused).unwrap_or_else(PoisonError::into_inner));
            }
        });
        received
    }

    /// Has nothing read any more but for one entry, or everything again. What is sent meanwhile waits in the socket, and that
    /// is not much.
    pub(crate) fn pause(&self, paused: bool) {
        self.lock().paused = paused;
        self.0.1.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an entry is as wanted; that one.
    pub(crate) fn until(&self, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let end = Instant::now() + PATIENCE;
        let mut state = self.lock();
        loop {
            if let Some(found) = state.entries.iter().find(|entry| wanted(entry)) {
                return found.clone();
            }
            let left = end.saturating_duration_since(Instant::now());
            assert!(left > Duration::ZERO, "no such entry in {state:#?}");
            state = self.0.1.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// All of it.
    pub(crate) fn all(&self) -> Vec<Entry> {
        self.lock().entries.clone()
    }
}

/// The journal's native protocol: a field is `NAME=text` on a line or, with any bytes, `NAME` on a line, then the length in
/// 64 bits, least first, the bytes, and a line's end.
fn parse(mut bytes: &[u8]) -> Entry {
    let mut entry = Entry::new();
    while !bytes.is_empty() {
        let end = bytes.iter().position(|byte| *byte == b'\n').expect("a line");
        let line = std::str::from_utf8(&bytes[..end]).expect("text");
        bytes = &bytes[end + 1..];
        let (name, value) = match line.split_once('=') {
            Some((name, value)) => (name, value.as_bytes().to_vec()),
            None => {
                let (length, rest) = bytes.split_at(8);
                let length = u64::from_le_bytes(length.try_into().expect("eight bytes"));
                let (value, rest) = rest.split_at(usize::try_from(length).expect("it fits"));
                bytes = rest.strip_prefix(b"\n").expect("the end of the line");
                (line, value.to_vec())
            }
        };
        entry.insert(name.to_owned(), String::from_utf8(value).expect("text"));
    }
    entry
}

/// systemd-journald by itself; ended when dropped.
#[derive(Debug)]
pub(crate) struct Journald {
    process: Child,
    log: PathBuf,
}

impl Journald {
    /// With its socket in `directory`, and what it keeps in `log`.
    pub(crate) fn start(directory: &Path, log: &Path) -> Self {
        fs::create_dir(directory).and_then(|()| fs::create_dir(log)).expect("directories");
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", JOURNALD]).arg(directory).arg(log);
        let process = command.stdin(Stdio::null()).spawn().expect("it starts");
        let mut journald = Self { process, log: log.to_owned() };
        let socket = directory.join("socket");
        journald.poll(|_| socket.exists().then_some(()));
        journald
    }

    /// What journalctl prints of it, as soon as that is as wanted.
    pub(crate) fn until<T>(&mut self, args: &[&str], wanted: impl Fn(&str) -> Option<T>) -> T {
        self.poll(|log| {
            let printed = Command::new("journalctl").arg("-D").arg(log).args(args).output().expect("it runs");
            wanted(&String::from_utf8_lossy(&printed.stdout))
        })
    }

    fn poll<T>(&mut self, look: impl Fn(&Path) -> Option<T>) -> T {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = look(&self.log) {
                return found;
            }
            assert_eq!(
                self.process.try_wait().expect("a child").map(|status| status.to_string()),
                None,
                "journald ended"
            );
            assert!(Instant::now() < end, "journald does not do it");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Journald {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
