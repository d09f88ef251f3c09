//! One engine: its process, and the threads that write and read for it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use gpusched_engine::link::{self, Reader, Writer};
use gpusched_engine::protocol::{Order, Report, receive_report, send_order};
use gpusched_engine::{Command, Setup};
use gpusched_shared::ModelInfo;

use super::cause::Ended;
use super::latest::Latest;
use super::process::Process;
use super::{COMMANDS, Current, Generation, Listener, News, Shared, SupervisorError, device};

/// How long an engine gets to list its models and start its threads.
const TO_GET_READY: Duration = Duration::from_secs(60);

type Started = Result<Vec<ModelInfo>, String>;

/// See the [module's documentation](self).
pub(super) struct Engine {
    pub(super) process: Process,
    link: Arc<Writer>,
    /// What was wrong with what it said, if something was.
    nonsense: Arc<Mutex<Option<String>>>,
    started: Receiver<Started>,
    threads: Vec<JoinHandle<()>>,
}

impl Engine {
    /// Starts its process and tells it what to be. It is there for others to end from here on.
    pub(super) fn spawn(
        generation: Generation,
        (program, setup, heartbeat): (&Path, &Setup, Duration),
        lock: &File,
        news: &Listener,
        shared: &Arc<Shared>,
    ) -> io::Result<Self> {
        let (ours, theirs) = link::pair()?;
        // Before there is a process that would have to be ended again.
        let lock_for_it = lock.try_clone()?;
        let process = Process::spawn(program, theirs)?;
        if let Err(e) = device::name_holder(lock, process.id()) {
            tracing::warn!("cannot note which process the engine is: {e}");
        }
        let (reader, writer) = link::open(ours);
        let link = Arc::new(writer);
        let (commands, given) = sync_channel(COMMANDS);
        let (start, started) = sync_channel(1);
        let mut engine = Self { process, link, nonsense: Arc::default(), started, threads: Vec::new() };
        if let Err(e) =
            engine.join_threads(begin(setup, heartbeat), lock_for_it, (reader, start), given, (news, shared))
        {
            drop(engine.end(Duration::ZERO, &shared.latest));
            return Err(e);
        }
        let handle = match engine.process.handle().try_clone() {
            Ok(handle) => handle,
            Err(e) => {
                drop(commands);
                drop(engine.end(Duration::ZERO, &shared.latest));
                return Err(e);
            }
        };
        let mut state = shared.lock();
        if state.stopping {
            engine.link.close();
        }
        let (pid, link) = (engine.process.id(), Arc::clone(&engine.link));
        state.current = Some(Current { generation, pid, process: handle, link, commands });
        drop(state);
        Ok(engine)
    }

    fn join_threads(
        &mut self,
        begin: Order,
        lock: File,
        (reader, start): (Reader, SyncSender<Started>),
        commands: Receiver<(Command, Vec<OwnedFd>)>,
        (news, shared): (&Listener, &Arc<Shared>),
    ) -> io::Result<()> {
        let link = Arc::clone(&self.link);
        let write = move || write(&link, &begin, lock, &commands);
        self.threads.push(std::thread::Builder::new().name("engine writer".to_owned()).spawn(write)?);
        let (link, nonsense) = (Arc::clone(&self.link), Arc::clone(&self.nonsense));
        let (news, shared) = (Arc::clone(news), Arc::clone(shared));
        let read = move || {
            if let Err(why) = read(reader, &start, &news, &shared) {
                nonsense.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
                // It ends when it finds that nobody listens.
                link.close();
            }
        };
        self.threads.push(std::thread::Builder::new().name("engine reader".to_owned()).spawn(read)?);
        Ok(())
    }

    /// Waits until it is ready.
    pub(super) fn ready(&self) -> Result<Vec<ModelInfo>, SupervisorError> {
        match self.started.recv_timeout(TO_GET_READY) {
            Ok(Ok(models)) => Ok(models),
            Ok(Err(why)) => Err(SupervisorError::Refused(why)),
            Err(RecvTimeoutError::Timeout) => {
                Err(SupervisorError::Died(format!("it said nothing for {} s", TO_GET_READY.as_secs())))
            }
            Err(RecvTimeoutError::Disconnected) => Err(SupervisorError::Died("its log says why".to_owned())),
        }
    }

    /// Sees to it that the process ends, by itself within `patience` or not, and that all it has said is heard. How it ended,
    /// and what was wrong with what it said.
    pub(super) fn end(mut self, patience: Duration, latest: &Latest) -> (io::Result<Ended>, Option<String>) {
        let waited = self.process.handle().wait(patience);
        // Nothing happens to one that has ended.
        let killed = waited.and_then(|_| self.process.handle().kill());
        let ended = killed.and_then(|()| self.process.reap());
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so already.
            let _ = thread.join();
        }
        latest.clear();
        (ended, self.nonsense.lock().unwrap_or_else(PoisonError::into_inner).take())
    }
}

fn begin(setup: &Setup, heartbeat: Duration) -> Order {
    let Setup { lanes, partitions, models, faults, device } = setup.clone();
    Order::Begin {
        lanes,
        partitions,
        models: models.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
        faults,
        device,
        heartbeat_ms: u64::try_from(heartbeat.as_millis()).unwrap_or(u64::MAX),
    }
}

/// Writes what the engine is told, until nobody tells it anything any more, or it does not listen.
fn write(link: &Writer, begin: &Order, lock: File, commands: &Receiver<(Command, Vec<OwnedFd>)>) {
    let mut sent = send_order(link, begin, &[lock.as_fd()]);
    drop(lock);
    while sent.is_ok() {
        let Ok((command, files)) = commands.recv() else { return };
        let files: Vec<_> = files.iter().map(OwnedFd::as_fd).collect();
        sent = send_order(link, &Order::Command(command), &files);
    }
    if let Err(e) = sent {
        // The engine is dead or dying; whoever watches it will see.
        tracing::debug!("the engine does not listen: {e}");
        link.close();
    }
}

/// Reads what the engine says, until it says no more; or what is wrong with it.
fn read(mut reader: Reader, start: &SyncSender<Started>, news: &Listener, shared: &Shared) -> Result<(), String> {
    while let Some(report) = receive_report(&mut reader).map_err(|e| e.to_string())? {
        match report {
            Report::Ready(models) => {
                start.try_send(Ok(models)).map_err(|_| "it said twice that it is ready".to_owned())?;
            }
            Report::Failed(why) => start.try_send(Err(why)).map_err(|_| "it failed after it was ready".to_owned())?,
            Report::Event(event) => shared.latest.handing_on(|| news(News::Event(event))),
            Report::Beat(beat) => shared.latest.beat(beat),
        }
    }
    Ok(())
}
