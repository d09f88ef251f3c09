//! What happens at a lane's yield points: stopping, parking, keeping to the lease, progress and measurement.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use gpusched_models::{Error, Interrupted, Site, YieldPoint};
use gpusched_shared::view::Activity;
use gpusched_shared::{JobId, OutOfMemory, Usage};

use crate::Sink;
use crate::account::Account;
use crate::command::GateKind;
use crate::device::{Diagnosis, Stream};
use crate::event::Event;
use crate::faults::{self, Fault, Kind};
use crate::lease::Lease;
use crate::partition::Partition;
use crate::pulse::{Phase, Pulse};
use crate::stage::Stopped;

/// What a squeezed stage may take beyond what it holds: less than any tensor of its next block.
const SQUEEZE_MARGIN_BYTES: u64 = 4096;

/// What a lane was told of a stage.
pub(crate) struct Told<'a> {
    pub(crate) job: JobId,
    pub(crate) stop: &'a AtomicBool,
    pub(crate) lease_bytes: u64,
    /// What is to go wrong with it.
    pub(crate) fault: Option<Fault>,
}

/// Where a stage runs.
#[derive(Clone, Copy)]
pub(crate) struct On<'a> {
    pub(crate) lane: &'a Account,
    pub(crate) partition: &'a Partition,
    pub(crate) stream: &'a dyn Stream,
    pub(crate) sharing: Sharing,
}

/// Whether the lanes of a class share weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sharing {
    /// Under which number this lane finds its own; 0 where they are everybody's.
    pub(crate) place: usize,
    /// How many lanes of the class have tensors of their own in the end.
    pub(crate) copies: u64,
    /// Whether those are over the same memory, where a model can be had so.
    pub(crate) memory: bool,
}

impl Sharing {
    /// All lanes use the same.
    pub(crate) const ALL: Self = Self { place: 0, copies: 1, memory: false };
}

/// A stage on a lane, as its yield points see it. It stays on the thread that runs the stage.
pub(crate) struct LaneYield<'a> {
    pub(crate) job: JobId,
    stop: &'a AtomicBool,
    sink: &'a Sink,
    pulse: &'a Pulse,
    lane: &'a Account,
    pub(crate) partition: &'a Partition,
    pub(crate) stream: &'a dyn Stream,
    pub(crate) sharing: Sharing,
    lease: Lease<'a>,
    /// What is still to go wrong.
    fault: Cell<Option<Fault>>,
    /// Why the stage was interrupted, if not because it was told to stop.
    out_of_memory: Cell<Option<OutOfMemory>>,
    /// Likewise: what the device said.
    failed: Cell<Option<Error>>,
    /// What was told last.
    last: Cell<Option<Activity>>,
    /// When it left the last yield point. `None` until it has its model.
    left: Cell<Option<Instant>>,
    longest_gap: Cell<Duration>,
    parked: Cell<Duration>,
    yields: Cell<u32>,
}

impl<'a> LaneYield<'a> {
    pub(crate) fn new(
        Told { job, stop, lease_bytes, fault }: Told<'a>,
        sink: &'a Sink,
        pulse: &'a Pulse,
        On { lane, partition, stream, sharing }: On<'a>,
    ) -> Self {
        if let Some(gate) = &partition.gate {
            gate.enter(job);
        }
        Self {
            job,
            stop,
            sink,
            pulse,
            lane,
            partition,
            stream,
            sharing,
            lease: Lease::new(lane, partition, lease_bytes),
            fault: Cell::new(fault),
            out_of_memory: Cell::default(),
            failed: Cell::default(),
            last: Cell::default(),
            left: Cell::default(),
            longest_gap: Cell::default(),
            parked: Cell::default(),
            yields: Cell::default(),
        }
    }

    /// Says something. What that allocates is the listener's and not charged to the lane.
    pub(crate) fn say(&self, event: Event) {
        self.lane.charging(None, || (self.sink)(event));
    }

    /// Runs `work`, whose result leaves the engine and is not charged to the lane.
    pub(crate) fn handing_out<T>(&self, work: impl FnOnce() -> T) -> T {
        self.lane.charging(None, work)
    }

    /// Runs `work`, which loads a model that was declared to take so many bytes, at the expense of `account`.
    pub(crate) fn load<T>(&self, account: &Arc<Account>, declared_bytes: u64, work: impl FnOnce() -> T) -> T {
        self.lease.load(account, declared_bytes, || self.lane.charging(Some(account), work))
    }

    /// Runs `work`, which the stage can do without. `None` if it ran out of memory in it; what it took then does not count.
    ///
    /// # Errors
    /// Those of `work`, but for that.
    pub(crate) fn dispensable<T>(&self, work: impl FnOnce() -> Result<T, Error>) -> Result<Option<T>, Error> {
        let peak_bytes = self.lease.peak_bytes();
        match work() {
            Err(Error::Interrupted(_)) if self.out_of_memory.take().is_some() => {}
            Err(Error::Device(e)) if matches!(self.stream.diagnose(&e), Diagnosis::OutOfMemory(_)) => {}
            done => return done.map(Some),
        }
        self.lease.forget_since(peak_bytes);
        Ok(None)
    }

    /// How a stage ends that met an error where it is now: of memory that ran out, what it was for is known only here.
    pub(crate) fn explain(&self, error: Error) -> Stopped {
        match error {
            Error::Device(e) => match self.stream.diagnose(&e) {
                Diagnosis::OutOfMemory(bytes) => Stopped::Failed(self.refused(bytes).into()),
                Diagnosis::Lost | Diagnosis::Well => Stopped::Device(e),
            },
            error @ (Error::Interrupted(_)
            | Error::Missing { .. }
            | Error::Config { .. }
            | Error::Weights { .. }
            | Error::Tokenizer { .. }
            | Error::Input(_)) => error.into(),
        }
    }

    /// What the stage's memory was asked for when the device refused `bytes`.
    pub(crate) fn refused(&self, bytes: u64) -> OutOfMemory {
        self.lease.refused(bytes)
    }

    /// The stage has its model: from here on it counts how fast it makes way. A yield point itself.
    pub(crate) fn begin(&self) -> Result<(), Interrupted> {
        // Whoever was told that it loads must hear that it computes: not every model has steps to tell of.
        if matches!(self.last.get(), Some(Activity::Loading { .. })) {
            self.tell(Activity::Starting);
        }
        if let Some(gate) = &self.partition.gate {
            gate.begin(self.job);
        }
        self.pulse.enter(Phase::Running);
        self.pass()?;
        self.left.set(Some(Instant::now()));
        Ok(())
    }

    /// The stage has what it was to make, and nothing else any more: a yield point for its memory alone.
    pub(crate) fn end(&self) -> Result<(), Interrupted> {
        self.go_wrong(true)?;
        self.check_memory()
    }

    /// What the device said that the stage was interrupted for, if it was.
    pub(crate) fn failed(&self) -> Option<Error> {
        self.failed.take()
    }

    /// Why it was interrupted; `None` if it was told to stop.
    pub(crate) fn out_of_memory(&self) -> Option<OutOfMemory> {
        self.out_of_memory.take()
    }

    /// The stage is over: what was measured of it.
    pub(crate) fn usage(&self) -> Usage {
        self.measure_gap();
        Usage {
            parked_us: micros(self.parked.get()),
            yields: self.yields.get(),
            longest_gap_us: micros(self.longest_gap.get()),
            peak_bytes: self.lease.peak_bytes(),
        }
    }

    /// Counts the time since the last yield point; returns whether there was one.
    fn measure_gap(&self) -> bool {
        let gap = self.left.get().map(|left| left.elapsed());
        self.longest_gap.set(self.longest_gap.get().max(gap.unwrap_or_default()));
        gap.is_some()
    }

    /// Stops the stage if it was told to or is over its memory, or parks it.
    fn pass(&self) -> Result<(), Interrupted> {
        self.check_stop()?;
        self.of_device(self.stream.keep_up())?;
        self.check_memory()?;
        self.of_device(self.park())?;
        self.check_stop()
    }

    /// Before a kernel: parks the stage, if its gate is closed and is one between kernels. A stage that was told to stop goes
    /// on to its next yield point, and so does one whose device failed.
    pub(crate) fn pause(&self) {
        if self.partition.spec.gate == GateKind::Kernel && !self.stop.load(Ordering::Relaxed) {
            self.pulse.moved();
            if let Err(e) = self.park() {
                self.failed.set(Some(e.into()));
            }
        }
    }

    /// Waits while the gate is closed, with nothing left to do for the device: what has been queued on it is in the way of
    /// others as well.
    fn park(&self) -> candle_core::Result<()> {
        let Some(gate) = self.partition.gate.as_ref().filter(|gate| gate.is_closed()) else { return Ok(()) };
        self.stream.synchronize()?;
        let phase = self.pulse.phase();
        let parking = |after: Option<Duration>| {
            self.pulse.enter(Phase::Parked);
            self.say(Event::Parked { job: self.job, after_us: after.map(micros) });
        };
        if let Some(parked) = gate.pass(self.job, self.stop, parking) {
            self.pulse.enter(phase);
            self.parked.set(self.parked.get() + parked);
            self.yields.set(self.yields.get() + 1);
            if !self.stop.load(Ordering::Relaxed) {
                self.say(Event::Resumed(self.job));
            }
        }
        Ok(())
    }

    /// A device that failed interrupts the stage, which ends with what it said.
    fn of_device(&self, done: candle_core::Result<()>) -> Result<(), Interrupted> {
        let failed = self.failed.take();
        match done.map_err(Error::from).err().or(failed) {
            Some(e) => {
                self.failed.set(Some(e));
                Err(Interrupted)
            }
            None => Ok(()),
        }
    }

    fn check_stop(&self) -> Result<(), Interrupted> {
        if self.stop.load(Ordering::Relaxed) { Err(Interrupted) } else { Ok(()) }
    }

    /// Lets happen what is to, if the time has come: at the end whatever is left.
    fn go_wrong(&self, end: bool) -> Result<(), Interrupted> {
        let Some(Fault { kind, after }) = self.fault.take() else { return Ok(()) };
        if after > 0 && !end {
            self.fault.set(Some(Fault { kind, after: after - 1 }));
            return Ok(());
        }
        tracing::info!(JOB_ID = self.job.0, "a fault on purpose: {kind:?}");
        match kind {
            Kind::OutOfMemory => {
                self.out_of_memory.set(Some(self.lease.refuse()));
                Err(Interrupted)
            }
            Kind::Squeeze => {
                self.lease.squeeze(SQUEEZE_MARGIN_BYTES);
                Ok(())
            }
            Kind::Crash => faults::crash(),
            Kind::Hang => faults::hang(),
        }
    }

    fn check_memory(&self) -> Result<(), Interrupted> {
        self.lease.check().map_err(|out_of_memory| {
            self.out_of_memory.set(Some(out_of_memory));
            Interrupted
        })
    }

    /// Says how far the stage is, if that is new.
    pub(crate) fn tell(&self, activity: Activity) {
        // The same place may be reached again and again, for instance while another lane loads the model.
        if self.last.replace(Some(activity)) != Some(activity) {
            self.say(Event::Progress(self.job, activity));
        }
    }
}

impl YieldPoint for LaneYield<'_> {
    fn reach(&self, site: Site) -> Result<(), Interrupted> {
        let computes = self.measure_gap();
        self.pulse.moved();
        match site {
            Site::WeightFile { done, total } => self.tell(Activity::Loading { done, of: total }),
            Site::Step { done, total } => self.tell(Activity::Working { done, of: total }),
            // Of tokens it is said how many there are when it is said what they say.
            Site::TextEncoderBlock | Site::Block | Site::Token { .. } | Site::VaeStage => {}
        }
        if computes {
            self.go_wrong(false)?;
        }
        self.pass()?;
        self.left.set(computes.then(Instant::now));
        Ok(())
    }
}

impl Drop for LaneYield<'_> {
    fn drop(&mut self) {
        if let Some(gate) = &self.partition.gate {
            gate.leave(self.job);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
