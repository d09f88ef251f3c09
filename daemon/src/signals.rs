//! SIGTERM and SIGINT stop the daemon, SIGHUP has it read its configuration anew.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::config::Config;
use crate::driver::Configuration;

/// Reads the configuration anew, with the options that the daemon was started with; what is wrong is for a person.
pub type Reread = Box<dyn Fn() -> Result<Config, String> + Send>;

/// News of the configuration that may wait for the driver.
const QUEUE: usize = 4;

/// The thread that reads the configuration anew. It is started before the front confines itself, because the front may not
/// open that file, nor any other beside it.
#[derive(Debug)]
pub(crate) struct Rereading {
    orders: SyncSender<()>,
    news: mpsc::Receiver<Configuration>,
}

/// What the driver is told.
#[derive(Debug)]
pub(crate) struct Signals {
    /// Orders to stop.
    pub(crate) stops: mpsc::Receiver<()>,
    /// What becomes of orders to read the configuration anew.
    pub(crate) configurations: mpsc::Receiver<Configuration>,
}

impl Rereading {
    pub(crate) fn start(reread: Reread) -> io::Result<Self> {
        // One more may come while one is carried out, and then the file is read once more; further ones add nothing to that.
        let (orders, ordered) = sync_channel(1);
        let (say, news) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("configuration".to_owned()).spawn(move || {
            for () in ordered {
                let said = say.blocking_send(Configuration::Reading);
                let read = reread().map(Box::new);
                if said.and_then(|()| say.blocking_send(Configuration::Read(read))).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, news })
    }
}

/// Listens to signals from here on. Where the daemon runs in a terminal, SIGHUP is the terminal's end, and the daemon's.
///
/// # Errors
/// The system does not let it.
pub(crate) fn listen(rereading: Rereading) -> io::Result<Signals> {
    let [mut term, mut int, mut hangup] =
        [signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?, signal(SignalKind::hangup())?];
    let (stop, stops) = mpsc::channel(2);
    let Rereading { orders, news } = rereading;
    let in_terminal = io::stderr().is_terminal();
    tokio::spawn(async move {
        loop {
            let stops = tokio::select! {
                _ = term.recv() => true,
                _ = int.recv() => true,
                _ = hangup.recv() => in_terminal,
            };
            if !stops {
                // Full: the order before this one has not been begun yet.
                let _ = orders.try_send(());
            } else if stop.send(()).await.is_err() {
                return;
            }
        }
    });
    Ok(Signals { stops, configurations: news })
}
