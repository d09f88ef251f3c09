//! A lane: one thread that takes one stage at a time, with a compute pool of its own.

use std::fs::File;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Once};
use std::thread::JoinHandle;
use std::time::Duration;

use candle_core::{DType, Device, Tensor};
use gpusched_shared::{JobId, Usage};
use rayon::ThreadPool;

use crate::account::Account;
use crate::catalog::Catalog;
use crate::command::{LaneSpec, Stage};
use crate::event::{Event, Failure};
use crate::faults::Faults;
use crate::partition::Partition;
use crate::pulse::{Phase, Pulse};
use crate::stage::{self, Stopped};
use crate::yield_point::{LaneYield, Told};
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
        warm_up(&pool, &account);
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

/// Makes the pool's threads allocate what they keep for good: each packs matrices into a buffer as large as a cache. It is
/// no stage's, and counted with one it would seem to leak.
fn warm_up(pool: &ThreadPool, account: &Account) {
    let product = |_: rayon::BroadcastContext<'_>| {
        // Tall, so that the left matrix is packed piece by piece.
        let tall = Tensor::zeros((4096, 8), DType::F32, &Device::Cpu)?;
        tall.matmul(&tall.narrow(0, 0, 8)?).map(drop)
    };
    let warm: candle_core::Result<()> = account.charging(None, || pool.broadcast(product)).into_iter().collect();
    if let Err(e) = warm {
        tracing::warn!("no trial product: {e}");
    }
}

fn serve(assignment: &Assignment, pool: &ThreadPool, account: &Account, surroundings: &Surroundings) {
    let Assignment { job, attempt, stage, pictures, stop, lease_bytes, flush } = assignment;
    let Surroundings { partition, partitions, catalog, running, faults, pulse, sink } = surroundings;
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
        let at = LaneYield::new(told, sink, pulse, (account, partition));
        // A panic is a bug of ours or of a library: it costs this stage, not the lane.
        let ended = catch_unwind(AssertUnwindSafe(|| stage::run(stage, pictures, catalog, &at)));
        (ended, at.usage())
    };
    // While the stage is parked the pool's other threads find nothing to do and sleep.
    let (ended, usage): (_, Usage) = pool.install(run);
    running.remove(*job);
    pulse.enter(Phase::Idle);
    say(match ended {
        Ok(Ok(product)) => Event::Finished(*job, Ok(product), usage),
        Ok(Err(Stopped::Failed(failure))) => Event::Finished(*job, Err(failure), usage),
        Ok(Err(Stopped::Interrupted)) => Event::Interrupted(*job, usage),
        Err(panic) => Event::Finished(*job, Err(Failure::engine(format!("panic: {}", panic::message(&*panic)))), usage),
    });
}
