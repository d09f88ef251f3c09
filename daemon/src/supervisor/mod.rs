//! Keeps an engine alive in a process of its own.
//!
//! ```text
//!             ┌────────────────────── pause ◀── Lost ──┐
//!             ▼                                        │
//!  start ─▶ spawn ──▶ wait for Ready ──▶ attend ──▶ process ended
//!             ▲             │              │ no sign of life, a lane stuck: kill
//!             └─── pause ◀──┘              └──▶ …
//! ```
//!
//! One thread, the keeper, spawns the process and attends to it for as long as the daemon lives: the kernel kills a child when
//! the *thread* that made it ends. Beside it, each engine has a thread that writes commands and one that reads what it says,
//! so that nobody who gives a command waits. What is decided is decided without IO: `watch` (when is it stuck), `cause` (who is
//! to blame for a death), `restart` (how soon the next one starts). `device` is the lock that keeps two engines apart.
//!
//! These threads are not confined as the others of the front are: the keeper runs programs, and an engine begins with what
//! its keeper may do, models and devices included, before it drops what it does not need.
//!
//! Engines are numbered. A command reaches the engine that whoever gives it knows of, or none: see [`Supervisor::follow`].

mod cause;
mod device;
mod engine;
mod form;
mod keeper;
mod latest;
mod process;
mod restart;
mod watch;

pub use device::{DeviceError, take_device};
pub use form::{Form, FormError};

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gpusched_core::Blame;
use gpusched_engine::link::Writer;
use gpusched_engine::{Command, Event, MemoryUse, Setup};
use gpusched_shared::ModelInfo;

use crate::config::EngineConfig;
use keeper::Keeper;
use latest::Latest;
use process::{Handle, SELF};

/// How long an engine gets to end when it is told to. It has nothing to do for that.
const GOODBYE: Duration = Duration::from_secs(2);

/// Commands that an engine may be behind. The scheduler has one stage and one stop for each lane on its way, and the front as
/// many pictures as it has readers; an engine that is further behind does not listen.
const COMMANDS: usize = 4096;

/// Which engine, counted from the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Generation(u64);

/// What happens, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// The engine says something.
    Event(Event),
    /// The engine is gone, and whatever ran on it. Said once for each that was ready.
    Lost {
        /// Who is to blame.
        blame: Blame,
        /// What happened, for a person.
        why: String,
    },
    /// Another engine is ready, with nothing in memory; see [`Supervisor::follow`]. Not said of the first.
    Ready(Generation),
}

/// Where news go. Called from threads of the supervisor's own; may block them, which is how a slow listener slows the engine
/// down, but not for ever: who drops the supervisor waits for them.
pub type Listener = Arc<dyn Fn(News) + Send + Sync>;

/// Why there is no engine.
#[derive(Debug, thiserror::Error)]
pub enum SupervisorError {
    /// Its process could not be started.
    #[error("cannot start the engine's process: {0}")]
    Spawn(#[from] io::Error),
    /// It could not start.
    #[error("the engine cannot start: {0}")]
    Refused(String),
    /// It ended, or did nothing, before it was ready.
    #[error("the engine did not get ready: {0}")]
    Died(String),
}

/// See the [module's documentation](self). Dropping it ends the engine, whatever runs.
#[derive(Debug)]
pub struct Supervisor {
    shared: Arc<Shared>,
    /// The engine that commands are for.
    followed: AtomicU64,
    keeper: Option<JoinHandle<()>>,
}

impl Supervisor {
    /// Starts the first engine, and waits until it is ready. It holds `lock` for as long as it lives. Returns the models that
    /// it has.
    ///
    /// # Errors
    /// [`SupervisorError`], if there is none. Later ones are started again and again.
    pub fn start(
        setup: Setup,
        limits: &EngineConfig,
        lock: File,
        news: Listener,
    ) -> Result<(Self, Vec<ModelInfo>), SupervisorError> {
        Self::start_program(SELF.into(), setup, limits, lock, news)
    }

    /// As [`Self::start`], with engines that are another program than this: one that does what `gpuschedd engine` does.
    ///
    /// # Errors
    /// Likewise.
    pub fn start_program(
        program: PathBuf,
        setup: Setup,
        limits: &EngineConfig,
        lock: File,
        news: Listener,
    ) -> Result<(Self, Vec<ModelInfo>), SupervisorError> {
        let shared = Arc::new(Shared::default());
        let (first, started) = sync_channel(1);
        let keeper = Keeper::new(program, setup, limits, lock, news, Arc::clone(&shared));
        let keeper = std::thread::Builder::new().name("engine keeper".to_owned()).spawn(move || keeper.keep(&first))?;
        let supervisor = Self { shared, followed: AtomicU64::new(1), keeper: Some(keeper) };
        let died = |_| SupervisorError::Died("the thread that starts it has died".to_owned());
        let models = started.recv().map_err(died).flatten()?;
        Ok((supervisor, models))
    }

    /// Commands are for this engine from here on, which [`News::Ready`] told of.
    pub fn follow(&self, generation: Generation) {
        self.followed.store(generation.0, Ordering::Relaxed);
    }

    /// Gives a command, with its files, to the engine that is followed. If that is gone it comes to nothing: all it would have
    /// answered is answered by [`News::Lost`]. A command that makes no sense is answered by the event of a failure, if
    /// anybody waits for one.
    pub fn command(&self, command: Command, files: Vec<OwnedFd>) {
        let state = self.shared.lock();
        let Some(current) = &state.current else { return };
        if current.generation.0 != self.followed.load(Ordering::Relaxed) {
            return;
        }
        match current.commands.try_send((command, files)) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                tracing::error!("the engine is {COMMANDS} commands behind: ended");
                current.link.close();
            }
        }
    }

    /// What each partition held at the last sign of life; nothing while there is no engine.
    pub fn memory(&self) -> Vec<MemoryUse> {
        self.shared.latest.memory()
    }

    /// The engine's process; `None` while there is none.
    pub fn pid(&self) -> Option<u32> {
        self.shared.lock().current.as_ref().map(|current| current.pid)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.stopping = true;
        if let Some(current) = &state.current {
            current.link.close();
        }
        self.shared.changed.notify_all();
        let waited = self.shared.changed.wait_timeout_while(state, GOODBYE, |state| !state.ended);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = state.current.as_ref().filter(|_| !state.ended)
            && let Err(e) = current.process.kill()
        {
            tracing::error!("cannot end the engine: {e}");
        }
        drop(state);
        if let Some(keeper) = self.keeper.take() {
            // A thread that panicked has said so already.
            let _ = keeper.join();
        }
    }
}

/// What supervisor and keeper both know.
#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    latest: Latest,
}

#[derive(Debug, Default)]
struct State {
    /// No further engine is to be started.
    stopping: bool,
    /// The keeper is done.
    ended: bool,
    /// The engine that there is, ready or not.
    current: Option<Current>,
}

/// An engine, as commands are given to it.
#[derive(Debug)]
struct Current {
    generation: Generation,
    pid: u32,
    process: Handle,
    link: Arc<Writer>,
    commands: SyncSender<(Command, Vec<OwnedFd>)>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
