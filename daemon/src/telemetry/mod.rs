//! Logs: to the journal where systemd has connected it, as lines on stderr elsewhere.

pub mod preemption;

use std::io::IsTerminal as _;
use std::os::fd::AsFd;

use nix::sys::stat::fstat;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// Environment variable that sets what is logged, for example `debug` or `gpusched_daemon=trace`.
pub const LOG_ENV: &str = "GPUSCHED_LOG";

/// Installs the log for this process. Prompts and questions are never logged.
pub fn init() {
    let filter = EnvFilter::try_from_env(LOG_ENV).unwrap_or_else(|_| EnvFilter::new("info"));
    let registry = tracing_subscriber::registry().with(filter);
    let journald = is_journal(std::io::stderr()).then(|| tracing_journald::layer().ok()).flatten();
    match journald {
        // Field names without a prefix, so that `journalctl JOB_ID=7` finds a job's story.
        Some(layer) => registry.with(layer.with_field_prefix(None)).init(),
        None => {
            let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
            // Colours are for people: not for files and pipes, nor for those who say so (no-color.org).
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            registry.with(lines.with_ansi(colours)).init();
        }
    }
}

/// True if this very stream goes to the journal: systemd names its device and inode, and processes further down inherit the
/// name also where they have another stderr.
fn is_journal(stream: impl AsFd) -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    fstat(stream.as_fd()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}
