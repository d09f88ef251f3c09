//! Keeps the log from holding anybody up: what is logged waits in a bounded queue for a thread that writes it.
//!
//! The journal's socket and a terminal's or a pipe's buffer can be full for as long as whoever reads them likes. Then the
//! queue fills up, and what finds no room in it is dropped and counted; once writing goes on, the log says how much it was.
//!
//! Until [`Log::start`] everything is written where it is logged. So a process can give up what it has no need of before it
//! has the thread, which then is confined as well.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use tracing::{Dispatch, Event, Subscriber, dispatcher};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::{Layer, Registry};

use super::message::{MESSAGE_ID, Message, say};
use super::record::Record;

/// Events that may wait: of 8 KiB each at most 32 MiB, and seldom a hundredth of it.
pub const CAPACITY: usize = 4096;

/// How often it is said at most how many events were dropped while there is no end of them.
const SAY_AGAIN: Duration = Duration::from_secs(1);

/// Niceness of the thread that writes: as that of heavy lanes.
const NICENESS: i32 = 10;

/// How often to look whether a full queue has room for the word that it is to be emptied.
const LOOK: Duration = Duration::from_millis(5);

thread_local! {
    /// When what this thread writes happened, as it is written.
    static AT: std::cell::RefCell<String> = const { std::cell::RefCell::new(String::new()) };
}

/// The log of this process. Clones are the same log.
#[derive(Debug, Clone)]
pub struct Log(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// What writes events.
    writer: Dispatch,
    /// Whether messages are numbered for it.
    with_ids: bool,
    queue: OnceLock<SyncSender<Waiting>>,
    dropped: AtomicU64,
}

enum Waiting {
    Event(Record),
    /// Somebody waits until all before it is written.
    Mark(SyncSender<()>),
}

impl Log {
    /// A log that `writer` writes; `with_ids` says whether with the numbers of messages, which are of no use to people.
    pub(super) fn new(writer: Dispatch, with_ids: bool) -> Self {
        Self(Arc::new(Shared { writer, with_ids, queue: OnceLock::new(), dropped: AtomicU64::new(0) }))
    }

    /// What takes events for this log.
    pub(super) fn layer(&self) -> QueueLayer {
        QueueLayer(Arc::clone(&self.0))
    }

    /// From here on nobody waits for what is logged to be written.
    ///
    /// # Errors
    /// If there can be no thread; then everybody does.
    pub fn start(&self) -> io::Result<()> {
        self.start_with(CAPACITY)
    }

    pub(super) fn start_with(&self, capacity: usize) -> io::Result<()> {
        let (queue, waiting) = sync_channel(capacity);
        let shared = Arc::clone(&self.0);
        let write = move || {
            // Nor for a processor, where there are few. Without it the log is as well, only less polite.
            let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
            shared.write_all(&waiting);
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        // Whoever comes second leaves a thread without a queue, which ends.
        let _ = self.0.queue.set(queue);
        Ok(())
    }

    /// How many events were dropped because they could not be written fast enough.
    pub fn dropped(&self) -> u64 {
        self.0.dropped.load(Ordering::Relaxed)
    }

    /// Waits until all that has been logged is written, but no longer than `patience`; whether it is. Call it before the
    /// process ends.
    pub fn flush(&self, patience: Duration) -> bool {
        let Some(queue) = self.0.queue.get() else { return true };
        let until = Instant::now() + patience;
        let (done, written) = sync_channel(1);
        while let Err(TrySendError::Full(_)) = queue.try_send(Waiting::Mark(done.clone())) {
            if Instant::now() >= until {
                return false;
            }
            std::thread::sleep(LOOK);
        }
        drop(done);
        written.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok()
    }
}

impl Shared {
    fn record(&self, event: &Event<'_>) -> Record {
        Record::of(event, (!self.with_ids).then_some(MESSAGE_ID))
    }

    fn take(&self, event: &Event<'_>) {
        let record = self.record(event);
        let Some(queue) = self.queue.get() else { return self.write(&record) };
        if queue.try_send(Waiting::Event(record)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn write(&self, record: &Record) {
        AT.with_borrow_mut(|at| record.at().clone_into(at));
        record.replay(&self.writer);
    }

    /// Writes what comes until nothing can come any more.
    fn write_all(self: &Arc<Self>, waiting: &Receiver<Waiting>) {
        // What this thread itself has to say it would wait for, if it came by the queue.
        let direct = Registry::default().with(DirectLayer(Arc::clone(self)));
        dispatcher::with_default(&Dispatch::new(direct), || {
            let mut told = Told { dropped: 0, at: Instant::now() };
            loop {
                let next = match waiting.recv_timeout(Duration::ZERO) {
                    Err(RecvTimeoutError::Timeout) => {
                        told.tell(self.dropped.load(Ordering::Relaxed));
                        waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
                    }
                    next => next,
                };
                match next {
                    Ok(Waiting::Event(record)) => self.write(&record),
                    Ok(Waiting::Mark(done)) => {
                        told.tell(self.dropped.load(Ordering::Relaxed));
                        let _ = done.try_send(());
                    }
                    Err(_) => return,
                }
                if told.at.elapsed() >= SAY_AGAIN {
                    told.tell(self.dropped.load(Ordering::Relaxed));
                }
            }
        });
    }
}

/// What has been said of events that were dropped.
struct Told {
    dropped: u64,
    at: Instant,
}

impl Told {
    fn tell(&mut self, dropped: u64) {
        let more = dropped - self.dropped;
        (self.dropped, self.at) = (dropped, Instant::now());
        if more > 0 {
            say!(
                Message::LinesDropped,
                LINES = more,
                "{more} lines of the log were dropped: they came faster than they could be written"
            );
        }
    }
}

/// Has a [`Log`] take what is logged.
#[derive(Debug)]
pub(super) struct QueueLayer(Arc<Shared>);

impl<S: Subscriber> Layer<S> for QueueLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.0.take(event);
    }
}

/// Has what is logged written at once.
#[derive(Debug)]
struct DirectLayer(Arc<Shared>);

impl<S: Subscriber> Layer<S> for DirectLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        self.0.write(&self.0.record(event));
    }
}

/// Writes the time at which an event happened, not that at which it is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct HappenedAt;

impl tracing_subscriber::fmt::time::FormatTime for HappenedAt {
    fn format_time(&self, w: &mut tracing_subscriber::fmt::format::Writer<'_>) -> std::fmt::Result {
        AT.with_borrow(|at| match at.as_str() {
            "" => tracing_subscriber::fmt::time::SystemTime.format_time(w),
            at => w.write_str(at),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Mutex, PoisonError};

    use tracing_subscriber::fmt::MakeWriter;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;
    use crate::telemetry::record::TEXT_BYTES;

    /// Only a test that fails waits this long.
    const PATIENCE: Duration = Duration::from_secs(120);

    /// Where a log is written to, and whether anybody takes it: for each write a word must have come.
    #[derive(Clone)]
    struct Pipe {
        written: Arc<Mutex<String>>,
        taken: Arc<Mutex<Receiver<()>>>,
    }

    impl Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            // Once the other end is gone everything is taken.
            let _ = self.taken.lock().unwrap_or_else(PoisonError::into_inner).recv();
            self.text().push_str(&String::from_utf8_lossy(bytes));
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl<'a> MakeWriter<'a> for Pipe {
        type Writer = Self;

        fn make_writer(&'a self) -> Self {
            self.clone()
        }
    }

    impl Pipe {
        fn new() -> (Self, Sender<()>) {
            let (take, taken) = channel();
            (Self { written: Arc::default(), taken: Arc::new(Mutex::new(taken)) }, take)
        }

        fn text(&self) -> std::sync::MutexGuard<'_, String> {
            self.written.lock().unwrap_or_else(PoisonError::into_inner)
        }
    }

    fn log_to(pipe: &Pipe, with_ids: bool) -> Log {
        let json = tracing_subscriber::fmt::layer().json().flatten_event(true).with_timer(HappenedAt);
        Log::new(Dispatch::new(tracing_subscriber::registry().with(json.with_writer(pipe.clone()))), with_ids)
    }

    /// Logs to a log and to nothing else.
    fn logging(log: &Log, what: impl FnOnce()) {
        dispatcher::with_default(&Dispatch::new(tracing_subscriber::registry().with(log.layer())), what);
    }

    fn lines(pipe: &Pipe) -> Vec<serde_json::Value> {
        pipe.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    #[test]
    fn nobody_waits_for_a_log_that_is_not_taken_and_what_was_dropped_is_told() {
        let (pipe, take) = Pipe::new();
        let log = log_to(&pipe, true);
        log.start_with(4).expect("a thread");
        logging(&log, || (0..100).for_each(|n| tracing::info!(N = n, "line")));
        // One may be on its way, and four wait.
        let dropped = log.dropped();
        assert!((95..=96).contains(&dropped), "{dropped}");
        assert!(!log.flush(Duration::ZERO), "it is not written");
        drop(take);
        assert!(log.flush(PATIENCE));
        let written = lines(&pipe);
        let (told, rest): (Vec<_>, Vec<_>) =
            written.iter().partition(|line| line["MESSAGE_ID"] == Message::LinesDropped.id());
        assert_eq!(rest.len() as u64, 100 - dropped);
        assert_eq!(told.iter().filter_map(|line| line["LINES"].as_u64()).sum::<u64>(), dropped, "{told:?}");
        // And goes on.
        logging(&log, || tracing::warn!("later"));
        assert!(log.flush(PATIENCE));
        assert_eq!(lines(&pipe).last().expect("a line")["message"], "later");
        assert_eq!(log.dropped(), dropped);
    }

    #[test]
    fn before_there_is_a_thread_lines_are_written_where_they_are_logged() {
        let (pipe, take) = Pipe::new();
        drop(take);
        let log = log_to(&pipe, true);
        logging(&log, || tracing::info!("early"));
        assert_eq!(lines(&pipe)[0]["message"], "early");
        assert!(log.flush(Duration::ZERO) && log.dropped() == 0);
    }

    #[test]
    fn lines_keep_the_kinds_of_their_fields_and_have_a_bound() {
        let (pipe, take) = Pipe::new();
        drop(take);
        let long = "ü".repeat(TEXT_BYTES);
        for with_ids in [true, false] {
            logging(&log_to(&pipe, with_ids), || {
                let absent: Option<u64> = None;
                say!(
                    Message::JobDone,
                    JOB_ID = 7_u64,
                    OFF = -1,
                    SHARE = 0.5,
                    IS = true,
                    LANE = "heavy-0",
                    ABSENT = absent,
                    "job {}",
                    7
                );
                tracing::info!(TEXT = long.as_str(), AFTER = "not any more", "first: {long}");
            });
        }
        let written = lines(&pipe);
        let done = &written[0];
        assert_eq!(done["MESSAGE_ID"], Message::JobDone.id());
        assert_eq!(
            (done["JOB_ID"].as_u64(), done["OFF"].as_i64(), done["SHARE"].as_f64()),
            (Some(7), Some(-1), Some(0.5))
        );
        assert_eq!((&done["IS"], &done["LANE"], &done["message"]), (&true.into(), &"heavy-0".into(), &"job 7".into()));
        assert_eq!((done.get("ABSENT"), done["level"].as_str()), (None, Some("INFO")));
        assert!(done["timestamp"].as_str().is_some_and(|at| at.ends_with('Z')), "{done}");
        assert_eq!(written[2].get("MESSAGE_ID"), None, "people have no use for it");
        let cut = &written[1];
        let text: usize = ["message", "TEXT", "AFTER"].iter().filter_map(|name| cut[name].as_str()).map(str::len).sum();
        assert!(text <= TEXT_BYTES + 3 * "…".len() && text > TEXT_BYTES - 4, "{text}");
        assert!(
            cut["AFTER"].as_str().is_some_and(|text| text.ends_with('…')),
            "there was no room for it: {}",
            cut["AFTER"]
        );
    }
}
