//! A real terminal: a pane of a tmux server that belongs to the test alone.

use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use tempfile::TempDir;

use super::daemon::PATIENCE;

/// From one look at the screen to the next.
const LOOK: Duration = Duration::from_millis(50);

/// True if there is tmux. Where there is none a test says so and ends, but for CI, where it must run.
pub(crate) fn available() -> bool {
    let there = Command::new("tmux").arg("-V").output().is_ok_and(|output| output.status.success());
    assert!(there || env::var_os("CI").is_none(), "there is no tmux: apt-get install tmux");
    if !there {
        println!("skipped: there is no tmux (apt-get install tmux)");
    }
    there
}

/// A terminal with a program in it. Ends with the test.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// Where the server's socket is: so it is nobody else's server.
    directory: TempDir,
}

impl Terminal {
    /// Runs a line of shell in a terminal of this size, with these variables. When it has ended the screen stays.
    pub(crate) fn run(line: &str, (width, height): (u16, u16), variables: &[(&str, &Path)]) -> Self {
        let terminal = Self { directory: tempfile::tempdir().expect("a directory") };
        let mut tmux = terminal.tmux(&["-u", "-f", "/dev/null", "new-session", "-d"]);
        tmux.args(["-x", &width.to_string(), "-y", &height.to_string(), &format!("{line}; exec cat")]);
        // The server takes the environment of whoever starts it.
        tmux.env_remove("NO_COLOR")
            .env_remove("COLUMNS")
            .env("LC_ALL", "C.UTF-8")
            .env("SHELL", "/bin/sh")
            .envs(variables.iter().copied());
        let started = tmux.output().expect("tmux runs");
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        terminal
    }

    fn tmux(&self, args: &[&str]) -> Command {
        let mut command = Command::new("tmux");
        // Tests may themselves run in a tmux.
        command.args(["-L", "gpusched"]).args(args).env("TMUX_TMPDIR", self.directory.path()).env_remove("TMUX");
        command
    }

    fn said(&self, args: &[&str]) -> String {
        let output = self.tmux(args).output().expect("tmux runs");
        assert!(output.status.success(), "tmux {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    }

    /// What is on the screen.
    pub(crate) fn screen(&self) -> String {
        self.said(&["capture-pane", "-p"])
    }

    /// Presses keys, by tmux's names for them.
    pub(crate) fn press(&self, keys: &[&str]) {
        self.said(&[&["send-keys"], keys].concat());
    }

    /// Types text.
    pub(crate) fn type_text(&self, text: &str) {
        self.said(&["send-keys", "-l", text]);
    }

    /// Waits until all of these texts are on the screen; what is there then.
    #[track_caller]
    pub(crate) fn until(&self, texts: &[&str]) -> String {
        self.until_so(&format!("{texts:?}"), |screen| texts.iter().all(|text| screen.contains(text)))
    }

    /// Waits until the screen is as it should be; what is there then.
    #[track_caller]
    pub(crate) fn until_so(&self, what: &str, so: impl Fn(&str) -> bool) -> String {
        let since = Instant::now();
        loop {
            let screen = self.screen();
            if so(&screen) {
                return screen;
            }
            assert!(since.elapsed() < PATIENCE, "never on the screen: {what}\n{screen}");
            sleep(LOOK);
        }
    }

    /// The process of this name that the shell in the terminal has started.
    pub(crate) fn child(&self, name: &str) -> Pid {
        let shell: i32 = self.said(&["display-message", "-p", "#{pane_pid}"]).trim().parse().expect("a number");
        let processes = fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
        let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut children = pids.filter(|pid| {
            // `PID (NAME) STATE PPID …`; a process may be gone by now.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let after = stat.rsplit_once(") ").map(|(before, after)| (before.ends_with(&format!("({name}")), after));
            let parent = |after: &str| after.split(' ').nth(1).and_then(|parent| parent.parse::<i32>().ok());
            after.is_some_and(|(named, after)| named && parent(after) == Some(shell))
        });
        Pid::from_raw(children.next().expect("it runs"))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let screen = self.tmux(&["capture-pane", "-p"]).output().map(|output| output.stdout).unwrap_or_default();
            eprintln!("--- the screen\n{}---", String::from_utf8_lossy(&screen));
        }
        let _ = self.tmux(&["kill-server"]).output();
    }
}
