//! A lane: one thread that takes one stage at a time, with a compute pool of its own.

use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use gpusched_models::{Interrupted, Site, YieldPoint};
use gpusched_shared::JobId;
use gpusched_shared::view::Activity;
use rayon::ThreadPool;

use crate::Sink;
use crate::command::{LaneSpec, Stage};
use crate::event::{Event, Failure};
use crate::residency::Residency;
use crate::stage::{self, Ended};

/// A stage on its way to a lane.
pub(crate) struct Assignment {
    pub(crate) job: JobId,
    pub(crate) stage: Stage,
    pub(crate) stop: Arc<AtomicBool>,
}

type Running = Arc<Mutex<HashMap<JobId, Arc<AtomicBool>>>>;

/// Starts a lane; it ends when its queue's sender is dropped.
pub(crate) fn start(
    spec: &LaneSpec,
    residency: Arc<Residency>,
    running: Running,
    sink: Sink,
) -> io::Result<(SyncSender<Assignment>, JoinHandle<()>)> {
    let name = spec.to_string();
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(spec.threads)
        .thread_name({
            let name = name.clone();
            move |i| format!("{name}.{i}")
        })
        .build()
        .map_err(io::Error::other)?;
    // One place: a stage is given only to a free lane, whose thread may just be on its way back to the queue.
    let (queue, work) = sync_channel(1);
    let thread =
        std::thread::Builder::new().name(name).spawn(move || serve(&work, &pool, &residency, &running, &sink))?;
    Ok((queue, thread))
}

fn serve(work: &Receiver<Assignment>, pool: &ThreadPool, residency: &Residency, running: &Running, sink: &Sink) {
    while let Ok(Assignment { job, stage, stop }) = work.recv() {
        let at = LaneYield { job, stop, sink, last: Mutex::new(None) };
        sink(Event::Started(job));
        // A panic is a bug of ours or of a library: it costs this stage, not the lane.
        let ended = catch_unwind(AssertUnwindSafe(|| pool.install(|| stage::run(&stage, residency, &at, sink))));
        running.lock().unwrap_or_else(PoisonError::into_inner).remove(&job);
        sink(match ended {
            Ok(Ended::Finished(result)) => Event::Finished(job, result),
            Ok(Ended::Interrupted) => Event::Interrupted(job),
            Err(panic) => Event::Finished(job, Err(Failure::engine(format!("panic: {}", said(&*panic))))),
        });
    }
}

fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// Where a stage on this lane may stop, and where its progress is seen.
struct LaneYield<'a> {
    job: JobId,
    stop: Arc<AtomicBool>,
    sink: &'a Sink,
    last: Mutex<Option<Activity>>,
}

impl YieldPoint for LaneYield<'_> {
    fn reach(&self, site: Site) -> Result<(), Interrupted> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(Interrupted);
        }
        let activity = match site {
            Site::WeightFile { done, total } => Activity::Loading { done, of: total },
            Site::Step { done, total } => Activity::Working { done, of: total },
            Site::TextEncoderBlock | Site::Block | Site::VaeStage => return Ok(()),
        };
        // The same place may be reached again and again, for instance while another lane loads the model.
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(activity);
        if last != Some(activity) {
            (self.sink)(Event::Progress(self.job, activity));
        }
        Ok(())
    }
}
