//! A lane: one thread that takes one stage at a time, with a compute pool of its own.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use gpusched_shared::{JobId, Usage};
use rayon::ThreadPool;

use crate::account::Account;
use crate::catalog::Catalog;
use crate::command::{LaneSpec, Stage};
use crate::device::{Device, Stream};
use crate::event::{Event, Failure};
use crate::faults::Faults;
use crate::partition::Partition;
use crate::pulse::{Phase, Pulse};
use crate::stage::{self, Ended};
use crate::yield_point::{LaneYield, On, Sharing, Told};
use crate::{Running, Sink, panic};

/// How long a stage waits at most for others to make way before it begins beside them.
const PATIENCE: Duration = Duration::from_millis(5);

/// A stage on its way to a lane.
pub(crate) struct Assignment {
    pub(crate) job: JobId,
    pub(crate) attempt: u32,
    pub(crate) stage: Stage,
    pub(crate) pictures: Vec<File>,
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) lease_bytes: u64,
    pub(crate) flush: bool,
}

/// What a lane works with.
pub(crate) struct Surroundings {
    pub(crate) partition: Arc<Partition>,
    /// Those of all classes.
    pub(crate) partitions: Vec<Arc<Partition>>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) running: Arc<Running>,
    pub(crate) faults: Arc<Faults>,
    pub(crate) pulse: Arc<Pulse>,
    pub(crate) sink: Sink,
    pub(crate) device: Arc<dyn Device>,
    pub(crate) stream: Arc<dyn Stream>,
    pub(crate) sharing: Sharing,
}

/// Starts a lane; it ends when its queue's sender is dropped.
pub(crate) fn start(
    spec: &LaneSpec,
    surroundings: Surroundings,
) -> io::Result<(SyncSender<Assignment>, JoinHandle<()>)> {
    let name = spec.to_string();
    let account = Account::open(Some(&surroundings.partition.account));
    let account = Arc::new(account.ok_or_else(|| io::Error::other("too many lanes and models"))?);
    let nice = spec.nice;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(spec.threads)
        .thread_name({
            let name = name.clone();
            move |i| format!("{name}.{i}")
        })
        .start_handler({
            let account = Arc::clone(&account);
            move |_| enlist(&account, nice)
        })
        .build()
        .map_err(io::Error::other)?;
    // One place: a stage is given only to a free lane, whose thread may just be on its way back to the queue.
    let (queue, work) = sync_channel(1);
    let thread = std::thread::Builder::new().name(name).spawn(move || {
        enlist(&account, nice);
        let warm = account.charging(None, || surroundings.stream.warm_up(&pool));
        if let Err(e) = warm {
            tracing::warn!("no trial computation: {e}");
        }
        for assignment in work {
            serve(&assignment, &pool, &account, &surroundings);
        }
    })?;
    Ok((queue, thread))
}

/// Makes the calling thread one of the lane's.
fn enlist(account: &Account, nice: i32) {
    static REFUSED: Once = Once::new();
    account.adopt_thread();
    // On Linux niceness is each thread's own.
    if let Err(e) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), nice) {
        REFUSED.call_once(|| tracing::warn!(nice, "lanes run without their niceness: {e}"));
    }
}

fn serve(assignment: &Assignment, pool: &ThreadPool, account: &Account, surroundings: &Surroundings) {
    let Assignment { job, attempt, stage, pictures, stop, lease_bytes, flush } = assignment;
    let Surroundings { partition, partitions, catalog, running, faults, pulse, sink, device, stream, sharing } =
        surroundings;
    pulse.enter(Phase::Loading);
    let say = |event| account.charging(None, || sink(event));
    say(Event::Started(*job));
    if *flush {
        say(partition.flush(*job));
    }
    // Who makes way gets there sooner with the cores to himself: threads that share them with this stage's may not come to a
    // yield point before it is over.
    let others = partitions.iter().filter(|other| other.class != partition.class);
    others.filter_map(|other| other.gate.as_ref()).for_each(|gate| gate.settle(PATIENCE));
    let run = || {
        let fault = faults.draw(*job, *attempt, stage.spec.task.text());
        let told = Told { job: *job, stop, lease_bytes: *lease_bytes, fault };
        let on = On { lane: account, partition, stream: &**stream, sharing: *sharing };
        let at = LaneYield::new(told, sink, pulse, on);
        // A panic is a bug of ours or of a library: it costs this stage, not the lane.
        let mut ended = Ok(Err(Ended::Interrupted));
        let mut work = || ended = catch_unwind(AssertUnwindSafe(|| stage::run(stage, pictures, catalog, &at)));
        let on_device = stream.run(&|| at.pause(), &mut work);
        (ended, at.usage(), on_device)
    };
    // While the stage is parked the pool's other threads find nothing to do and sleep.
    let (ended, usage, on_device): (_, Usage, _) = pool.install(run);
    if let Some(time) = on_device {
        say(Event::OnDevice { job: *job, us: u64::try_from(time.as_micros()).unwrap_or(u64::MAX) });
    }
    running.remove(*job);
    pulse.enter(Phase::Idle);
    say(match ended {
        Ok(Ok(product)) => Event::Finished(*job, Ok(product), usage),
        Ok(Err(Ended::Failed(failure))) => Event::Finished(*job, Err(failure), usage),
        Ok(Err(Ended::Lost(why))) => {
            // Nobody is told of the stage where that ends the process: its end is then the process's.
            device.lost(&why);
            Event::Finished(*job, Err(Failure::engine(format!("the device is lost: {why}"))), usage)
        }
        Ok(Err(Ended::Interrupted)) => Event::Interrupted(*job, usage),
        Err(panic) => Event::Finished(*job, Err(Failure::engine(format!("panic: {}", panic::message(&*panic)))), usage),
    });
}
