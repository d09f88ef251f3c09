//! The engine as a process of its own: told by orders over a link, and gone when the link is.

use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use rustix::process::{Signal as Sent, set_parent_process_death_signal};

use crate::confine::{ConfineError, confine};
use crate::device::{Cpu, Device};
use crate::link::{self, SendError, Writer};
use crate::protocol::{Order, ProtocolError, Report, receive_order, send_report};
use crate::sandbox::May;
use crate::{Engine, Setup, Sink, StartError};

/// Why the engine's process ended before the front did. The front has been told, if it could be.
#[derive(Debug, thiserror::Error)]
pub enum ChildError {
    /// It could not be made the front's child.
    #[error("cannot set up the process: {0}")]
    Process(std::io::Error),
    /// The first thing that came was no setup.
    #[error("standard input is not the link to a daemon; `gpuschedd engine` is started by gpuschedd alone")]
    NoSetup,
    /// The link.
    #[error(transparent)]
    Receive(#[from] ProtocolError),
    /// The link.
    #[error(transparent)]
    Send(#[from] SendError),
    /// What it may do could not be limited.
    #[error(transparent)]
    Confine(#[from] ConfineError),
    /// The engine.
    #[error(transparent)]
    Start(#[from] StartError),
}

/// Is the engine, at the other end of `link` from the front. Ends the process at once when the link is closed, whatever
/// runs: the front will run it again.
///
/// `confined` is called once, when it has dropped what it has no need of: what needs a thread starts it then.
///
/// # Errors
/// [`ChildError`], if it could not begin, or what the front says makes no sense.
pub fn run(link: OwnedFd, confined: impl FnOnce()) -> Result<(), ChildError> {
    run_on(Arc::new(Cpu), &[], link, confined)
}

/// The same on a device, which takes these files beside what any engine reads.
///
/// # Errors
/// Likewise.
pub fn run_on(
    device: Arc<dyn Device>,
    files: &[(PathBuf, May)],
    link: OwnedFd,
    confined: impl FnOnce(),
) -> Result<(), ChildError> {
    withstand_signals();
    // Should the front die in between, the link is closed, which is seen below.
    set_parent_process_death_signal(Some(Sent::KILL)).map_err(|e| ChildError::Process(e.into()))?;
    let (mut orders, reports) = link::open(link);
    let reports = Arc::new(reports);
    let Some((Order::Begin { lanes, partitions, models, faults, device: spec, heartbeat_ms }, lock)) =
        receive_order(&mut orders)?
    else {
        return Err(ChildError::NoSetup);
    };
    // The device is this process's for as long as it lives. Its lock is given back by the system, once nothing of it is left.
    std::mem::forget(lock);
    let models = models.into_iter().map(|path| PathBuf::from(std::ffi::OsString::from_vec(path))).collect();
    let setup = Setup { lanes, partitions, models, faults, device: spec };
    let engine = match begin(&device, files, &setup, &reports, confined) {
        Ok(engine) => Arc::new(engine),
        Err(e) => {
            send_report(&reports, Report::Failed(e.to_string()))?;
            return Err(e);
        }
    };
    send_report(&reports, Report::Ready(engine.models()))?;
    let heart = (Arc::clone(&engine), Arc::clone(&reports));
    let beating = move || beat(&heart.0, &heart.1, Duration::from_millis(heartbeat_ms));
    std::thread::Builder::new().name("heart".to_owned()).spawn(beating).map_err(ChildError::Process)?;
    loop {
        let Some((order, files)) = receive_order(&mut orders)? else { std::process::exit(0) };
        let Order::Command(command) = order else { return Err(ChildError::NoSetup) };
        if let Err(failure) = engine.command(command.clone(), files) {
            match command.refused(failure.clone()) {
                Some(event) => send_report(&reports, Report::Event(event))?,
                None => tracing::error!("an order makes no sense: {failure}"),
            }
        }
    }
}

fn begin(
    device: &Arc<dyn Device>,
    files: &[(PathBuf, May)],
    setup: &Setup,
    reports: &Arc<Writer>,
    confined: impl FnOnce(),
) -> Result<Engine, ChildError> {
    // Before there are threads: it holds for those that are started afterwards.
    let missing = confine(&setup.models, files)?;
    confined();
    for missing in missing {
        tracing::warn!("the engine is not confined as it should be: {missing}");
    }
    let reports = Arc::clone(reports);
    let sink: Sink = Arc::new(move |event| {
        // Nobody listens any more.
        if let Err(e) = send_report(&reports, Report::Event(event)) {
            tracing::debug!("{e}");
            std::process::exit(0);
        }
    });
    Ok(Engine::start_on(device, setup, &sink)?)
}

/// When the machine goes down, or somebody presses Ctrl-C, everybody is told to end; but the front lets stages finish first.
/// A log that has become too long to be written to is no reason to die, either.
fn withstand_signals() {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGXFSZ] {
        signals.add(signal);
    }
    // It has no reason to fail; and without it the engine works as well.
    let _ = signals.thread_block();
}

/// Says that it lives, again and again. While the front does not listen it waits, and says nothing twice.
fn beat(engine: &Engine, reports: &Writer, interval: Duration) {
    loop {
        if send_report(reports, Report::Beat(engine.beat())).is_err() {
            std::process::exit(0);
        }
        std::thread::sleep(interval);
    }
}
