//! Puts the daemon together and runs it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use gpusched_core::{Catalog, PlanError, Scheduler};
use gpusched_engine::Setup;
use gpusched_shared::ModelInfo;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, mpsc, watch};

use crate::backend::{Backend, NoGpu};
use crate::blobs::Blobs;
use crate::clock::Clock;
use crate::config::{Config, ConfigError};
use crate::confine::{self, confine};
use crate::disk::Disk;
use crate::driver::{Channels, Driver, DriverError, Service};
use crate::journal::{Journal, JournalError, Settings};
use crate::server::{self, BindError, Context, Endpoint};
use crate::signals::{self, Reread, Rereading, Signals};
use crate::supervisor::{DeviceError, Form, FormError, Listener, News, take_device};
use crate::systemd::{Control, Inherited, Listening, Manager, Origin};
use crate::telemetry::message::{Message, say};
use crate::telemetry::metrics::page;
use crate::telemetry::{self, Log, Observer};

/// Happenings of each kind that may wait for the driver; whoever sends more waits.
const QUEUE: usize = 256;

/// Pictures that the engine may have to look at.
const INSPECTIONS: usize = 16;

/// How long the engine of a daemon that died gets to end by itself.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(5);

/// Why the daemon did not start, or stopped before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The state directory cannot be used.
    #[error("state directory {}: {source}; choose another with --state-dir", path.display())]
    State {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another daemon has the state directory.
    #[error("another gpuschedd uses {}; stop it, or choose another directory with --state-dir", .0.display())]
    Locked(PathBuf),
    /// Classes and routes do not fit together.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The configuration does not fit what there is to compute on.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There is no GPU.
    #[error(transparent)]
    Gpu(#[from] NoGpu),
    /// The journal.
    #[error(transparent)]
    Journal(#[from] JournalError),
    /// The engine.
    #[error(transparent)]
    Engine(#[from] FormError),
    /// The engine of an earlier daemon.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// What the daemon may do could not be limited.
    #[error("cannot limit what the daemon may do: {0}")]
    Limits(io::Error),
    /// The socket.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The driver.
    #[error(transparent)]
    Driver(#[from] DriverError),
    /// The runtime or its signal handlers.
    #[error("cannot start: {0}")]
    Runtime(#[from] io::Error),
}

/// What is there before the front is confined.
struct Begun {
    /// As it is on what there is to compute on.
    config: Config,
    endpoint: Endpoint,
    /// Where metrics are asked for.
    metrics: Vec<page::Listener>,
    /// That of these sockets which is ours to remove.
    metrics_socket: Option<PathBuf>,
    watchdog: Option<Duration>,
    reread: Rereading,
    blobs: Arc<Blobs>,
    models: Vec<ModelInfo>,
    /// What the engine computes on, for the metrics.
    device_labels: [(&'static str, String); 4],
    /// Gone before the engine, which waits as it goes until its events are taken or nobody is there to take them.
    events: mpsc::Receiver<News>,
    engine: Form,
    _lock: Flock<File>,
}

/// Runs the daemon until SIGTERM or SIGINT; a second one makes it hurry. On SIGHUP the configuration is read anew, where that
/// is not the end of the terminal that it runs in. `inherited` is what systemd has handed over, which is told how the daemon
/// does; see [`systemd`](crate::systemd). The calling thread stays confined; see [`confine`](mod@confine).
///
/// What it logs goes to `log`, which gets its thread here.
///
/// # Errors
/// [`ServeError`].
pub fn serve(config: &Config, log: &Log, reread: Reread, inherited: Inherited) -> Result<(), ServeError> {
    // Clients' pictures and the files that go back to them take descriptors.
    if let Ok((_, hard)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
    confine::limit_all().map_err(ServeError::Limits)?;
    for useless in &inherited.useless {
        tracing::warn!("handed over by systemd and not used: {useless}");
    }
    let begun = begin(config, reread, inherited)?;
    // Of the threads only those of the engine, or those that keep it, and the one that reads the configuration anew are there
    // by now; all others are confined with this.
    let missing = confine(config);
    // From here on nobody waits for the log.
    telemetry::start(log);
    for missing in missing {
        tracing::warn!("the daemon is not confined as it should be: {missing}");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let served = runtime.block_on(run(begun, log));
    // A reader stuck on a client's file must not keep the daemon from ending.
    runtime.shutdown_timeout(Duration::from_secs(1));
    served
}

/// Does what takes more than the front may do later on.
fn begin(config: &Config, reread: Reread, inherited: Inherited) -> Result<Begun, ServeError> {
    let state = |source| ServeError::State { path: config.state_dir.clone(), source };
    make_private(&config.state_dir).map_err(state)?;
    let lock = lock(&config.state_dir)?;
    // Before anything is begun that a failed start would leave half done. Clients wait in the backlog.
    let endpoint = match inherited.control {
        Some(Control { listener, path, origin: Origin::Unit }) => Endpoint { listener, path, ours: false },
        Some(Control { listener, path, origin: Origin::Store }) if path == config.socket => {
            Endpoint { listener, path, ours: true }
        }
        Some(Control { origin: Origin::Store, .. }) | None => server::bind(&config.socket)?,
    };
    let mut metrics: Vec<_> = inherited.metrics.into_iter().map(page_listener).collect();
    // A path that was handed over takes the place of our own.
    let handed_over = metrics.iter().any(|listener| matches!(listener, page::Listener::Unix(_)));
    let (metrics_socket, own) = if handed_over { None } else { bind_metrics(config) }.unzip();
    metrics.extend(own);
    let disk = Disk::open(&config.state_dir, &config.storage, None).map_err(state)?;
    let blobs = Arc::new(Blobs::open(Arc::new(disk)).map_err(state)?);
    let device = take_device(&config.state_dir.join("engine.lock"), ORPHAN_PATIENCE)?;
    // Not before: an engine that is still there has memory of its own on the device.
    let backend = Backend::choose(config)?;
    let (config, device_labels) = (backend.apply(config), backend.labels());
    config.check()?;
    let (event, events) = mpsc::channel::<News>(QUEUE);
    // The engine waits here when the driver is behind.
    let news: Listener = Arc::new(move |news| drop(event.blocking_send(news)));
    let setup = Setup {
        lanes: config.lanes(),
        partitions: config.partitions(),
        models: config.models.clone(),
        faults: config.faults.faults(),
        device: config.engine.cuda.spec(),
    };
    let (engine, models) = Form::start(setup, &config.engine, backend, device, news)?;
    let reread = Rereading::start(reread)?;
    let watchdog = inherited.watchdog;
    Ok(Begun {
        config,
        endpoint,
        metrics,
        metrics_socket,
        watchdog,
        reread,
        blobs,
        models,
        device_labels,
        events,
        engine,
        _lock: lock,
    })
}

async fn run(begun: Begun, log: &Log) -> Result<(), ServeError> {
    // What comes first here goes last.
    let Begun { _lock, engine, events, endpoint, metrics: asked_for_metrics, metrics_socket, .. } = begun;
    let config = begun.config;
    let (watchdog, reread, blobs) = (begun.watchdog, begun.reread, begun.blobs);
    let (models, device_labels) = (begun.models, begun.device_labels);
    say!(Message::EngineStarted, "the engine is ready, with {} models", models.len());
    let (reply, replies) = mpsc::channel(QUEUE);
    let clock = Clock::new(config.faults.wall_clock_offset_s.saturating_mul(1000));
    let (power_durable, retention) = (config.power_durable(), config.retention.clone());
    let mut plan = config.plan()?;
    plan.retry.seed = getrandom::u64().map_err(|e| io::Error::other(e.to_string()))?;
    let lanes = config.lanes().iter().map(|lane| (lane.class_index, lane.to_string())).collect();
    let observer = Observer::new(&plan, lanes, log.clone());
    observer.metrics().computes_on(&device_labels);
    let metrics = observer.metrics().clone();
    let settings = Settings { power_durable, retention, clock, commits: Some(metrics.commits()), vfs: None };
    let (journal, recovered) = Journal::open(&settings, Arc::clone(&blobs), reply)?;
    if models.is_empty() {
        tracing::warn!(
            "no model in {:?}; jobs will be refused until there is one and the daemon is restarted",
            config.models
        );
    }
    for class in &config.classes {
        for name in class.pin.iter().filter(|name| models.iter().all(|model| model.name != **name)) {
            tracing::warn!("class {} pins {name}, which is no model here", class.name);
        }
    }
    let mut scheduler = Scheduler::new(plan, Catalog::new(models), recovered.next_id);
    scheduler.recall(&recovered.footprints);
    let (close, closing) = watch::channel(false);
    let closing_metrics = closing.clone();
    let context = Arc::new(Context {
        limits: config.limits.clone(),
        blobs: Arc::clone(&blobs),
        readers: Arc::new(Semaphore::new(config.limits.picture_readers as usize)),
        inspections: Arc::new(Semaphore::new(INSPECTIONS)),
        closing,
        refused: {
            let metrics = metrics.clone();
            Arc::new(move |rejection| metrics.refused(rejection))
        },
        own_uid: nix::unistd::geteuid().as_raw(),
    });
    let (contexts, of_connections) = watch::channel(context);
    let manager = Manager::find()?;
    let service = Service::new(manager.clone(), watchdog, config.clone(), contexts);
    let mut driver = Driver::new(scheduler, engine, journal, blobs, clock, observer, service);
    driver.restore(recovered.unfinished);

    let (ask, asks) = mpsc::channel(QUEUE);
    let Signals { stops, configurations } = signals::listen(reread)?;
    let (take_down, readings) = mpsc::channel(QUEUE);
    for listener in asked_for_metrics {
        let page = page::serve(listener, metrics.clone(), take_down.clone(), closing_metrics.clone());
        tokio::spawn(async move {
            if let Err(e) = page.await {
                tracing::warn!("metrics cannot be read: {e}");
            }
        });
    }
    drop(take_down);
    let (socket, ours) = (endpoint.path.clone(), endpoint.ours);
    let store = manager.clone().filter(|_| ours);
    let kept_socket = store.as_ref().and_then(|_| endpoint.listener.try_clone().ok());
    let anew = {
        let store = store.clone();
        move |listener: BorrowedFd<'_>| store.iter().for_each(|manager| manager.store(listener))
    };
    let accepting = tokio::spawn(server::serve(endpoint, of_connections, ask, anew)?);
    let kept = if ours { "" } else { ", which systemd keeps" };
    say!(Message::DaemonStarted, "listening on {}{kept}", socket.display());
    driver.ready();
    if let (Some(manager), Some(socket)) = (&store, kept_socket) {
        manager.store(socket.as_fd());
    }

    let served = driver.run(Channels { asks, events, replies, stops, configurations, readings }).await;
    // What has been answered still reaches those who asked.
    let _ = close.send(true);
    let _ = tokio::time::timeout(Duration::from_secs(1), accepting).await;
    for socket in metrics_socket.iter().chain(ours.then_some(&socket)) {
        let _ = std::fs::remove_file(socket);
    }
    if let Some(manager) = &store {
        manager.unstore();
    }
    if let Some(manager) = &manager {
        manager.flush(Duration::from_secs(1));
    }
    if served.is_ok() {
        say!(Message::DaemonStopped, "stopped");
    }
    Ok(served?)
}

fn page_listener(listening: Listening) -> page::Listener {
    match listening {
        Listening::Unix(listener) => page::Listener::Unix(listener),
        Listening::Tcp(listener) => page::Listener::Tcp(listener),
    }
}

/// The socket for metrics. Without it the daemon does all that it is for, so it starts also where there can be none.
fn bind_metrics(config: &Config) -> Option<(PathBuf, page::Listener)> {
    let path = config.metrics_socket()?;
    let why = match server::bind(&path) {
        Ok(endpoint) => return Some((path, page::Listener::Unix(endpoint.listener))),
        Err(BindError::Taken(_)) => "another daemon listens there".to_owned(),
        Err(BindError::Io { source, .. }) => source.to_string(),
    };
    let at = path.display();
    tracing::warn!(
        "metrics cannot be read at {at}: {why}; choose another place with metrics.socket in the configuration"
    );
    None
}

/// Makes a directory that only this user may enter; missing parents get the usual mode.
fn make_private(directory: &Path) -> io::Result<()> {
    if let Some(parent) = directory.parent() {
        DirBuilder::new().recursive(true).create(parent)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(e),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Takes the state directory for this process. The lock goes with the process, however it ends.
fn lock(state_dir: &Path) -> Result<Flock<File>, ServeError> {
    let state = |source| ServeError::State { path: state_dir.into(), source };
    let path = state_dir.join("lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(path).map_err(state)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| ServeError::Locked(state_dir.into()))
}
