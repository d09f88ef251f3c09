//! A daemon in a directory of its own, as a service manager starts it: with sockets and an environment that the test gives it.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use gpusched_client::blocking::Client;
use gpusched_client::spec::ImageJob;
use gpusched_client::txt2img;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::programs::{models, program};
use crate::until;

/// A directory with a configuration, and what daemons leave in it.
pub(crate) struct Home(TempDir);

impl Home {
    /// With further lines of the configuration, at the top and for the heavy class.
    pub(crate) fn new(top: &str, heavy: &str) -> Self {
        let home = Self(tempfile::tempdir().expect("a directory"));
        home.configure(top, heavy);
        home
    }

    pub(crate) fn configure(&self, top: &str, heavy: &str) {
        let (socket, state) = (self.socket(), self.file("state"));
        let text = format!(
            "socket = {socket:?}\nstate_dir = {state:?}\nmodels = [{:?}]\n{top}\n\n\
             [[class]]\nname = \"heavy\"\npartition = \"30%\"\n{heavy}\n\n\
             [[class]]\nname = \"light\"\npartition = \"10%\"\n\n\
             [[route]]\ntask = \"vqa\"\nclass = \"light\"\n\n[[route]]\nclass = \"heavy\"\n",
            models(),
        );
        fs::write(self.file("gpusched.toml"), text).expect("written");
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.file("gpusched.sock")
    }

    /// What starts the daemon, with nothing from outside that would make a difference.
    pub(crate) fn gpuschedd(&self) -> Command {
        let mut command = Command::new(program("gpuschedd"));
        command.args(["serve", "--allow-faults", "--config"]).arg(self.file("gpusched.toml"));
        command
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.socket()).expect("connected")
    }
}

/// A running program. Killed when dropped.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    /// Starts what becomes the daemon of `home`.
    pub(crate) fn start(home: &Home, command: &mut Command) -> Self {
        for outside in ["GPUSCHED_SOCKET", "GPUSCHED_LOG", "JOURNAL_STREAM"] {
            command.env_remove(outside);
        }
        let log = home.file("log");
        let stderr = File::options().create(true).append(true).open(&log).expect("a log");
        command.env("NO_COLOR", "1").stdout(Stdio::null()).stderr(stderr);
        Self { child: command.spawn().expect("it starts"), log }
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.pid(), signal).expect("it lives");
    }

    /// What daemons of this home have logged so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    #[track_caller]
    pub(crate) fn until_logged(&self, text: &str) {
        until(&format!("{text:?} is logged: {}", self.log()), || self.log().contains(text));
    }

    /// Waits for its end.
    #[track_caller]
    pub(crate) fn ended(mut self) -> ExitStatus {
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().expect("it is ours");
            status.is_some()
        });
        status.expect("it has ended")
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- the log\n{}---", self.log());
        }
    }
}

/// A job that is done in no time.
pub(crate) fn quick() -> ImageJob {
    txt2img("a red circle").seed(1).steps(2).size(64, 64).guidance(1.0)
}

/// A job that takes many seconds, and can be interrupted all the while.
pub(crate) fn long() -> ImageJob {
    txt2img("a blue square").seed(2).steps(500).size(256, 256)
}
