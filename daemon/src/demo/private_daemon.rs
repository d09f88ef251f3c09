//! A daemon of the demo's own: this very executable, in a temporary directory that goes when it goes.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;
use tokio::net::UnixDatagram;
use tokio::process::{Child, Command};

use crate::config::{Config, EngineConfig, Limits, Policy};

/// How long it may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(60);

pub(super) struct PrivateDaemon {
    child: Child,
    socket: PathBuf,
    _directory: TempDir,
}

impl PrivateDaemon {
    /// Starts it with the default configuration but for policy and engine, and waits until it listens. Its log goes to `log`.
    pub(super) async fn start(models: &Path, policy: Policy, engine: EngineConfig, log: &Path) -> anyhow::Result<Self> {
        let change = |config: &mut Config| {
            config.models = vec![models.into()];
            (config.policy, config.engine) = (policy, engine);
        };
        Self::start_with(change, log).await
    }

    /// Likewise, with the default configuration but for a change.
    pub(super) async fn start_with(change: impl FnOnce(&mut Config), log: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new().prefix("gpusched-").tempdir()?;
        let socket = directory.path().join("gpusched.sock");
        let mut config = Config {
            socket: socket.clone(),
            state_dir: directory.path().join("state"),
            // Every job of a run is submitted, and then watched, at the same time.
            limits: Limits { open_requests: 1024, ..Limits::default() },
            ..Config::default()
        };
        change(&mut config);
        let file = directory.path().join("gpusched.toml");
        std::fs::write(&file, toml::to_string(&config)?)?;
        let notify = directory.path().join("notify");
        let notified = UnixDatagram::bind(&notify)?;
        let mut command = Command::new(std::env::current_exe()?);
        // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl is one.
        unsafe {
            // Should the demo be killed, its daemon ends too.
            command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGTERM)?));
        }
        let mut child = command
            .arg("serve")
            .arg("--config")
            .arg(&file)
            .env("NOTIFY_SOCKET", &notify)
            // An outer daemon's socket must not win over the private one, nor an outer journal get its log.
            .env_remove(gpusched_shared::SOCKET_ENV)
            .env_remove("JOURNAL_STREAM")
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(log).with_context(|| format!("cannot write {}", log.display()))?)
            // Ctrl-C is the demo's to handle.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start the daemon")?;
        let mut word = [0; 64];
        tokio::select! {
            told = notified.recv(&mut word) => told?,
            status = child.wait() => bail!("the daemon ended with {} before it listened; {} says why", status?, log.display()),
            () = tokio::time::sleep(PATIENCE) => bail!("the daemon did not listen within {} s; see {}", PATIENCE.as_secs(), log.display()),
        };
        Ok(Self { child, socket, _directory: directory })
    }

    pub(super) fn socket(&self) -> &Path {
        &self.socket
    }

    /// Stops it as systemd would, and waits.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM).context("cannot stop the daemon")?;
        }
        let ended = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status = ended.context("the daemon did not stop")??;
        if !status.success() {
            bail!("the daemon stopped with {status}");
        }
        Ok(())
    }
}
