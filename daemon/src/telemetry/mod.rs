//! What the daemon tells those who run it: its log ([`message`], [`queue`]), and its [`metrics`]. The [`observer`] sees all
//! that happens to jobs, and tells both.

pub mod message;
pub mod metrics;
pub mod observer;
pub mod preemption;
pub mod queue;
mod record;
mod story;

use std::io::IsTerminal as _;
use std::os::fd::AsFd;
use std::os::unix::net::UnixDatagram;
use std::str::FromStr;

use nix::sys::stat::fstat;
use tracing::Dispatch;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

pub use observer::Observer;
pub use queue::Log;

/// Environment variable that sets what is logged, for example `debug` or `gpusched_daemon=trace`.
pub const LOG_ENV: &str = "GPUSCHED_LOG";

/// Environment variable that sets how: see [`Format`]. Without effect where the log goes to the journal.
pub const FORMAT_ENV: &str = "GPUSCHED_LOG_FORMAT";

/// Where the journal listens.
const JOURNAL: &str = "/run/systemd/journal/socket";

/// How the log is written where it does not go to the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// `lines`: for people.
    #[default]
    Lines,
    /// `json`: an object on each line, for programs.
    Json,
}

/// There is no such format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{FORMAT_ENV} is {0:?}; set it to \"lines\" or \"json\", or unset it")]
pub struct NoSuchFormat(String);

impl FromStr for Format {
    type Err = NoSuchFormat;

    fn from_str(name: &str) -> Result<Self, NoSuchFormat> {
        match name {
            "" | "lines" => Ok(Self::Lines),
            "json" => Ok(Self::Json),
            other => Err(NoSuchFormat(other.to_owned())),
        }
    }
}

/// Installs the log for this process: to the journal where systemd has connected it, to standard error elsewhere. It is
/// written where it is logged until [`Log::start`]. Prompts and questions are never logged.
///
/// # Errors
/// If the environment asks for a format that there is not.
pub fn init() -> Result<Log, NoSuchFormat> {
    let format = std::env::var(FORMAT_ENV).unwrap_or_default().parse()?;
    let filter = EnvFilter::try_from_env(LOG_ENV).unwrap_or_else(|_| EnvFilter::new("info"));
    // What the filter lets through at most, so that nothing else is even looked at.
    let most = filter.max_level_hint().unwrap_or(LevelFilter::TRACE);
    let log = journal(most).unwrap_or_else(|| standard_error(format, most));
    tracing_subscriber::registry().with(filter).with(log.layer()).init();
    Ok(log)
}

/// Starts the thread of a log. Without it the log is as good, but whoever logs waits for it.
pub fn start(log: &Log) {
    if let Err(e) = log.start() {
        tracing::warn!("there is no thread for the log: {e}; what is logged is waited for");
    }
}

/// The log to the journal, if that is where standard error goes and it listens. The socket is there from here on, and takes
/// no opening later.
fn journal(most: LevelFilter) -> Option<Log> {
    let is_open = is_journal(std::io::stderr()) && takes_entries();
    let layer = is_open.then(|| tracing_journald::layer().ok()).flatten()?;
    // Names of fields as they are, so that `journalctl JOB_ID=7` finds a job's story; and levels as everybody has them.
    let levels = PriorityMappings {
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
        ..PriorityMappings::new()
    };
    let layer = layer.with_field_prefix(None).with_priority_mappings(levels);
    Some(Log::new(Dispatch::new(tracing_subscriber::registry().with(most).with(layer)), true))
}

fn standard_error(format: Format, most: LevelFilter) -> Log {
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false);
    let lines = lines.with_timer(queue::HappenedAt);
    let registry = tracing_subscriber::registry().with(most);
    match format {
        Format::Lines => {
            // Colours are for people: not for files and pipes, nor for those who say so (no-color.org).
            let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
            Log::new(Dispatch::new(registry.with(lines.with_ansi(colours))), false)
        }
        Format::Json => {
            let json = lines.json().flatten_event(true).with_current_span(false).with_span_list(false);
            Log::new(Dispatch::new(registry.with(json)), true)
        }
    }
}

/// Whether the journal takes an entry right now: the layer begins with an empty one, and would wait for as long as it does not.
/// An engine that is started again must not.
fn takes_entries() -> bool {
    let socket = UnixDatagram::unbound().and_then(|socket| socket.set_nonblocking(true).map(|()| socket));
    socket.and_then(|socket| socket.send_to(&[], JOURNAL)).is_ok()
}

/// True if this very stream goes to the journal: systemd names its device and inode, and processes further down inherit the
/// name also where they have another stderr.
fn is_journal(stream: impl AsFd) -> bool {
    let Some(named) = std::env::var("JOURNAL_STREAM").ok() else { return false };
    fstat(stream.as_fd()).is_ok_and(|stat| named == format!("{}:{}", stat.st_dev, stat.st_ino))
}
