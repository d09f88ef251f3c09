//! The simulated engine: lanes that load models, compute, park, stop and fail at yield points, as the real ones do.
//!
//! ```text
//! run ─▶ Waiting (for another lane's load) ─▶ Loading ─▶ Computing ─▶ over
//! ```
//! Loading and computing are stretches with yield points: a closed gate parks them there, a stop ends them there.

use std::collections::VecDeque;

use gpusched_core::{Input, LaneId, Time};
use gpusched_shared::{Activity, FailureKind, JobId, OutOfMemory, Outcome, Usage};

use crate::partition::{Partition, Residency};
use crate::product::Makes;
use crate::stretch::{FULL, Stall, Stretch};

/// A model, as the engine knows it.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) name: String,
    pub(crate) weights_bytes: u64,
    pub(crate) load_us: u64,
    pub(crate) files: u32,
    /// What a job uses at its peak beside the weights.
    pub(crate) peak_bytes: u64,
}

/// What a job asks of its lane.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    /// Index of its model.
    pub(crate) model: usize,
    pub(crate) makes: Makes,
    pub(crate) steps: u32,
    pub(crate) run_us: u64,
    pub(crate) yields: u64,
    pub(crate) stall: Option<Stall>,
    /// How many of its attempts, from the first, find that they lack memory.
    pub(crate) ooms: u32,
    /// The yield point at which they do.
    pub(crate) oom_at: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Engine {
    models: Vec<Model>,
    partitions: Vec<Partition>,
    lanes: Vec<Lane>,
    /// By class, what its jobs' work takes in thousandths beside each other class's.
    contention: Vec<Vec<u64>>,
    contended: bool,
}

#[derive(Debug)]
struct Lane {
    class: usize,
    stage: Option<Stage>,
    /// Changes whenever what the lane does next does, so that an outdated alarm is known for one.
    token: u64,
}

#[derive(Debug)]
struct Stage {
    job: JobId,
    work: Work,
    phase: Phase,
    stop: bool,
    parked: Option<Time>,
    /// When the gate was closed, if it computed then and is not parked yet.
    due: Option<Time>,
    usage: Usage,
}

#[derive(Debug)]
enum Phase {
    Waiting,
    Loading(Stretch),
    Computing(Stretch),
}

/// What the engine says, and when its lanes want to be called.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    pub(crate) inputs: VecDeque<Input>,
    pub(crate) alarms: VecDeque<(Time, Alarm)>,
}

/// A lane wants to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alarm {
    lane: usize,
    token: u64,
}

impl Engine {
    /// An engine with nothing in memory. `lanes` are the classes of the lanes, in the order of the scheduler's.
    pub(crate) fn new(
        models: Vec<Model>,
        partitions: Vec<Partition>,
        lanes: impl Iterator<Item = usize>,
        contention: Vec<Vec<u64>>,
    ) -> Self {
        let lanes = lanes.map(|class| Lane { class, stage: None, token: 0 }).collect();
        let contended = contention.iter().flatten().any(|factor| *factor != FULL);
        Self { models, partitions, lanes, contention, contended }
    }

    pub(crate) fn partitions(&self) -> &[Partition] {
        &self.partitions
    }

    /// The jobs on lanes.
    pub(crate) fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.lanes.iter().filter_map(|lane| Some(lane.stage.as_ref()?.job))
    }

    /// Runs a job on a free lane.
    pub(crate) fn run(&mut self, job: JobId, LaneId(lane): LaneId, work: Work, now: Time, out: &mut Outbox) {
        let usage = Usage { peak_bytes: self.models[work.model].peak_bytes, ..Usage::default() };
        let stage = Stage { job, work, phase: Phase::Waiting, stop: false, parked: None, due: None, usage };
        let class = self.lanes[lane].class;
        self.partitions[class].occupy();
        out.inputs.push_back(Input::Started(job));
        self.lanes[lane].stage = Some(stage);
        match self.partitions[class].residency[work.model] {
            Residency::Resident => self.compute(lane, now, out),
            Residency::Absent => self.load(lane, now, out),
            Residency::Loading => {
                let of = self.models[work.model].files;
                out.inputs.push_back(Input::Progress(job, Activity::Loading { done: 0, of }));
            }
        }
    }

    /// Has the job leave its lane at its next yield point, or now if it waits.
    pub(crate) fn stop(&mut self, job: JobId, now: Time, out: &mut Outbox) {
        let found = self.lanes.iter().position(|lane| lane.stage.as_ref().is_some_and(|stage| stage.job == job));
        let Some(lane) = found else { return };
        let Some(stage) = &mut self.lanes[lane].stage else { return };
        stage.stop = true;
        match &mut stage.phase {
            Phase::Loading(stretch) | Phase::Computing(stretch) if stage.parked.is_none() => {
                stretch.advance(now);
                self.set_alarm(lane, out);
            }
            Phase::Waiting | Phase::Loading(_) | Phase::Computing(_) => self.interrupt(lane, now, out),
        }
    }

    /// Closes or opens the gate of a class.
    pub(crate) fn gate(&mut self, class: usize, closed: bool, now: Time, out: &mut Outbox) {
        if std::mem::replace(&mut self.partitions[class].closed, closed) == closed {
            return;
        }
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].class != class {
                continue;
            }
            let Some(stage) = &mut self.lanes[lane].stage else { continue };
            if let Some(since) = stage.parked.take() {
                stage.usage.parked_us += now.since(since);
                out.inputs.push_back(Input::Resumed(stage.job));
                match &mut stage.phase {
                    Phase::Waiting => {}
                    Phase::Loading(stretch) => stretch.resume(FULL, now),
                    Phase::Computing(stretch) => {
                        stretch.resume(self.partitions[class].slowness, now);
                        self.partitions[class].computing += 1;
                    }
                }
            } else if let Phase::Computing(stretch) = &mut stage.phase {
                stretch.advance(now);
                let before = std::mem::replace(&mut stage.due, closed.then_some(now));
                self.partitions[class].preemption.missed += u64::from(before.is_some());
            } else if let Phase::Loading(stretch) = &mut stage.phase {
                stretch.advance(now);
            }
            self.set_alarm(lane, out);
        }
        self.contend(now, out);
    }

    /// Drops a model that no job uses.
    pub(crate) fn unload(&mut self, class: usize, model: &str, out: &mut Outbox) {
        if let Some(index) = self.models.iter().position(|known| known.name == model)
            && self.partitions[class].residency[index] == Residency::Resident
        {
            self.partitions[class].residency[index] = Residency::Absent;
            self.partitions[class].give_back(self.models[index].weights_bytes);
        }
        out.inputs.push_back(Input::Unloaded { class, model: model.to_owned() });
    }

    /// Dies with all it holds, and is there again.
    pub(crate) fn lose(&mut self) {
        for lane in &mut self.lanes {
            lane.stage = None;
            lane.token += 1;
        }
        self.partitions.iter_mut().for_each(Partition::lose);
    }

    /// A lane's time has come.
    pub(crate) fn wake(&mut self, alarm: Alarm, now: Time, out: &mut Outbox) {
        let Alarm { lane, token } = alarm;
        if self.lanes[lane].token != token {
            return;
        }
        let closed = self.partitions[self.lanes[lane].class].closed;
        let Some(stage) = &mut self.lanes[lane].stage else { return };
        match &mut stage.phase {
            Phase::Waiting => {}
            Phase::Loading(stretch) => {
                stretch.advance(now);
                if stretch.is_over() {
                    self.loaded(lane, now, out);
                } else if stage.stop {
                    self.interrupt(lane, now, out);
                } else if closed {
                    self.park(lane, now, out);
                }
            }
            Phase::Computing(stretch) => {
                stretch.advance(now);
                // Finished beats stopped.
                if stretch.is_over() {
                    self.finish(lane, now, out);
                } else if stage.work.oom_at.is_some_and(|at| stretch.has_reached(at)) {
                    self.run_out_of_memory(lane, now, out);
                } else if stage.stop {
                    self.interrupt(lane, now, out);
                } else if closed {
                    self.park(lane, now, out);
                }
            }
        }
    }

    fn load(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        let class = self.lanes[lane].class;
        let Some(stage) = &mut self.lanes[lane].stage else { return };
        let model = &self.models[stage.work.model];
        let activity = Activity::Loading { done: 0, of: model.files };
        out.inputs.push_back(Input::Progress(stage.job, activity));
        stage.phase = Phase::Loading(Stretch::new(model.load_us, u64::from(model.files), None, FULL, now));
        self.partitions[class].residency[stage.work.model] = Residency::Loading;
        self.partitions[class].take(model.weights_bytes);
        self.set_alarm(lane, out);
    }

    /// The lane has loaded a model, for itself and for those that wait for it.
    fn loaded(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        let class = self.lanes[lane].class;
        let Some(model) = self.lanes[lane].stage.as_ref().map(|stage| stage.work.model) else { return };
        self.partitions[class].residency[model] = Residency::Resident;
        let Model { name, weights_bytes, .. } = &self.models[model];
        out.inputs.push_back(Input::Loaded { class, model: name.clone(), bytes: *weights_bytes });
        for other in 0..self.lanes.len() {
            if other == lane || self.waits_for(other, class, model) {
                if let Some(stage) = &self.lanes[other].stage {
                    let of = stage.work.steps;
                    out.inputs.push_back(Input::Progress(stage.job, Activity::Working { done: 0, of }));
                }
                self.compute(other, now, out);
            }
        }
    }

    fn waits_for(&self, lane: usize, class: usize, model: usize) -> bool {
        let Lane { class: at, stage, .. } = &self.lanes[lane];
        let waits = |stage: &Stage| matches!(stage.phase, Phase::Waiting) && stage.work.model == model;
        *at == class && stage.as_ref().is_some_and(waits)
    }

    fn compute(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        let class = self.lanes[lane].class;
        let Some(stage) = &mut self.lanes[lane].stage else { return };
        let Work { run_us, yields, stall, .. } = stage.work;
        let partition = &mut self.partitions[class];
        stage.phase = Phase::Computing(Stretch::new(run_us, yields, stall, partition.slowness, now));
        partition.take(stage.usage.peak_bytes);
        partition.computing += 1;
        self.contend(now, out);
        self.set_alarm(lane, out);
    }

    fn park(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        let partition = &mut self.partitions[self.lanes[lane].class];
        let Some(stage) = &mut self.lanes[lane].stage else { return };
        stage.parked = Some(now);
        stage.usage.yields += 1;
        if let Phase::Computing(stretch) = &stage.phase {
            partition.computing -= 1;
            partition.preemption.saw_gap(stretch.longest_gap_us());
        }
        if let Some(closed_at) = stage.due.take() {
            partition.preemption.parked.add(now.since(closed_at));
        }
        out.inputs.push_back(Input::Parked(stage.job));
        self.contend(now, out);
    }

    fn finish(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        let Some(Stage { job, work, usage, .. }) = self.leave(lane, now, out) else { return };
        out.inputs.push_back(match work.makes.outcome() {
            Some(outcome) => Input::Finished(job, outcome, usage),
            None => Input::Made(job, usage),
        });
    }

    fn run_out_of_memory(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        let partition = &self.partitions[self.lanes[lane].class];
        let (used_bytes, cap_bytes, name) = (partition.live_bytes(), partition.cap_bytes, partition.name.clone());
        let Some(Stage { job, usage, .. }) = self.leave(lane, now, out) else { return };
        let oom = OutOfMemory { partition: name, requested_bytes: usage.peak_bytes, used_bytes, cap_bytes };
        let outcome = Outcome::Failed { message: oom.to_string(), kind: FailureKind::OutOfMemory(oom) };
        out.inputs.push_back(Input::Finished(job, outcome, usage));
    }

    fn interrupt(&mut self, lane: usize, now: Time, out: &mut Outbox) {
        if let Some(Stage { job, usage, .. }) = self.leave(lane, now, out) {
            out.inputs.push_back(Input::Interrupted(job, usage));
        }
    }

    /// Frees a lane and what its stage holds.
    fn leave(&mut self, lane: usize, now: Time, out: &mut Outbox) -> Option<Stage> {
        let class = self.lanes[lane].class;
        let mut stage = self.lanes[lane].stage.take()?;
        self.lanes[lane].token += 1;
        let partition = &mut self.partitions[class];
        partition.vacate();
        stage.usage.parked_us += stage.parked.map_or(0, |since| now.since(since));
        match &stage.phase {
            Phase::Waiting => stage.usage.peak_bytes = 0,
            Phase::Loading(_) => {
                stage.usage.peak_bytes = 0;
                partition.residency[stage.work.model] = Residency::Absent;
                partition.give_back(self.models[stage.work.model].weights_bytes);
                // Whoever waits for it loads it now.
                if let Some(next) = (0..self.lanes.len()).find(|other| self.waits_for(*other, class, stage.work.model))
                {
                    self.load(next, now, out);
                }
            }
            Phase::Computing(stretch) => {
                stage.usage.longest_gap_us = stretch.longest_gap_us();
                partition.preemption.saw_gap(stage.usage.longest_gap_us);
                partition.give_back(stage.usage.peak_bytes);
                partition.computing -= u32::from(stage.parked.is_none());
                self.contend(now, out);
            }
        }
        Some(stage)
    }

    /// Sets every class's speed to what the others that compute leave it.
    fn contend(&mut self, now: Time, out: &mut Outbox) {
        if !self.contended {
            return;
        }
        for class in 0..self.partitions.len() {
            let beside = self.partitions.iter().zip(&self.contention[class]).filter(|(other, _)| other.computing > 0);
            let slowness = beside.fold(FULL, |slowness, (_, factor)| (slowness * factor / FULL).min(1000 * FULL));
            if std::mem::replace(&mut self.partitions[class].slowness, slowness) == slowness {
                continue;
            }
            for lane in 0..self.lanes.len() {
                if self.lanes[lane].class == class
                    && let Some(Stage { phase: Phase::Computing(stretch), parked: None, .. }) =
                        &mut self.lanes[lane].stage
                {
                    stretch.slow(slowness, now);
                    self.set_alarm(lane, out);
                }
            }
        }
    }

    /// Has the lane called when its stage next does something, if nothing happens before.
    fn set_alarm(&mut self, lane: usize, out: &mut Outbox) {
        let slot = &mut self.lanes[lane];
        slot.token += 1;
        let Some(stage) = slot.stage.as_ref().filter(|stage| stage.parked.is_none()) else { return };
        let leaves = stage.stop || self.partitions[slot.class].closed;
        let at = match &stage.phase {
            Phase::Waiting => return,
            Phase::Loading(stretch) | Phase::Computing(stretch) if leaves => stretch.yields_at(),
            Phase::Computing(stretch) if let Some(oom_at) = stage.work.oom_at => stretch.reaches_at(oom_at),
            Phase::Loading(stretch) | Phase::Computing(stretch) => stretch.ends_at(),
        };
        out.alarms.push_back((at, Alarm { lane, token: slot.token }));
    }
}
