//! The world around the scheduler: a virtual clock, clients, a journal, a store and the engine, all of it simulated.
//!
//! The next event is taken, the scheduler is told, and what it wants done is done; whatever that leads to at the same
//! time follows before the clock moves on.

mod reflecting;
mod setup;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use gpusched_core::{Blame, Effect, Input, JobRecord, LaneId, Part, Policy, Scheduler, SessionId, Time};
use gpusched_shared::{JobId, JobState, Outcome, Reflection, Rejection, Update};

use crate::arrivals::Arrivals;
use crate::clients::{Clients, Draw, Quit};
use crate::engine::{Alarm, Engine, Outbox, Work};
use crate::product::picture;
use crate::random::Random;
use crate::recorder::Recorder;
use crate::report::Report;
use crate::scenario::{Scenario, ScenarioError};
use crate::tally::{Ended, Tally};

/// Ticks in a row at one time, after which the scheduler is said to be going round in circles.
const TICKS: u32 = 1000;

/// Something will happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Recorded(JobId),
    RecordFailed(JobId),
    Concluded(JobId),
    Stored(JobId),
    Lane(Alarm),
    Cancel(JobId),
    Vanish(SessionId),
    EngineLoss,
    EngineBack,
}

/// A job that has not ended, or a stage of one.
#[derive(Debug)]
struct Underway {
    stream: usize,
    draw: Draw,
    submitted: Time,
    accepted: bool,
    /// Which stage it is, if no client asked for it.
    part: Option<Part>,
    concluded: Option<Concluded>,
}

/// What is known of a job once its outcome is.
#[derive(Debug)]
struct Concluded {
    wait_us: u64,
    run_us: u64,
    reflection: Option<Box<Reflection>>,
}

/// The deaths of the engine that are to come.
struct Losses {
    left: u32,
    /// The mean time between two, in microseconds.
    mean_us: f64,
    /// From a death to a fresh engine, likewise.
    restart_us: u64,
    random: Random,
}

pub(crate) struct World<'a> {
    now: Time,
    scheduler: Scheduler,
    engine: Engine,
    clients: Clients,
    arrivals: Arrivals,
    events: BinaryHeap<Reverse<(Time, u64, Event)>>,
    /// What happens at the same time keeps its order.
    serial: u64,
    out: Outbox,
    jobs: HashMap<JobId, Underway>,
    /// The job that is being accepted or refused.
    arriving: Option<Underway>,
    losses: Losses,
    tally: Tally,
    recorder: Option<&'a mut Recorder>,
}

impl<'a> World<'a> {
    /// A world in which nothing has happened yet. What will, goes to `recorder`.
    pub(crate) fn new(
        scenario: &Scenario,
        policy: Policy,
        recorder: Option<&'a mut Recorder>,
    ) -> Result<Self, ScenarioError> {
        scenario.check()?;
        let mut plan = scenario.plan()?;
        plan.policy = policy;
        let faults = scenario.faults;
        let mut world = Self {
            now: Time(0),
            engine: setup::engine(scenario),
            clients: Clients::of(scenario, &plan),
            arrivals: Arrivals::of(scenario),
            scheduler: Scheduler::new(plan, scenario.catalog(), JobId(1)),
            events: BinaryHeap::new(),
            serial: 0,
            out: Outbox::default(),
            jobs: HashMap::new(),
            arriving: None,
            losses: Losses {
                left: faults.engine_losses,
                mean_us: faults.engine_loss_every_s.us() as f64,
                restart_us: faults.engine_restart_s.us(),
                random: Random::of(scenario.seed, u64::MAX - 1),
            },
            tally: Tally::of(scenario, policy),
            recorder,
        };
        world.plan_engine_loss();
        Ok(world)
    }

    /// Runs until every job has ended.
    pub(crate) fn run(mut self) -> Report {
        let mut ticks = 0;
        while ticks < TICKS && !self.is_over() {
            let event = self.events.peek().map(|Reverse((at, ..))| *at);
            let arrival = self.arrivals.next();
            let timer = self.scheduler.next_timer();
            let Some(next) = event.into_iter().chain(arrival).chain(timer).min() else {
                self.tally.violation(format!("{} jobs are stuck at {} us", self.jobs.len(), self.now.0));
                break;
            };
            ticks = if next > self.now { 0 } else { ticks };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                self.submit();
            } else if event == Some(next) {
                if let Some(Reverse((_, _, event))) = self.events.pop() {
                    self.happen(event);
                }
            } else {
                ticks += 1;
                self.tell(Input::Tick);
            }
            self.settle();
        }
        if ticks >= TICKS {
            self.tally.violation(format!("the scheduler goes round in circles at {} us", self.now.0));
        }
        for impossible in self.scheduler.take_impossible() {
            self.tally.violation(impossible);
        }
        let refusals: Vec<(usize, u64)> = self.scheduler.refusals().collect();
        let ooms: Vec<u64> = self.scheduler.classes().iter().map(|class| class.out_of_memory).collect();
        self.tally.report(self.engine.partitions(), &refusals, &ooms)
    }

    fn is_over(&self) -> bool {
        self.jobs.is_empty() && self.arrivals.next().is_none()
    }

    /// Lets everything happen that follows at once.
    fn settle(&mut self) {
        while let Some(input) = self.out.inputs.pop_front() {
            if let Input::Made(id, _) = input {
                let store_us = self.jobs.get(&id).map_or(0, |job| self.clients.store_us(job.stream));
                self.tell(input);
                self.later(store_us, Event::Stored(id));
            } else {
                self.tell(input);
            }
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.memory(self.engine.partitions(), self.now);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Recorded(id) => {
                self.stage_recorded(id);
                self.tell(Input::Recorded(id));
            }
            Event::RecordFailed(id) => {
                self.arriving = self.jobs.remove(&id).filter(|job| job.part.is_none());
                let reason = "simulated".to_owned();
                self.tell(Input::RecordFailed(id, Rejection::Internal { reason }));
            }
            Event::Concluded(id) => self.tell(Input::Concluded(id)),
            Event::Stored(id) => self.tell(Input::Stored(id, picture())),
            Event::Lane(alarm) => {
                self.engine.wake(alarm, self.now, &mut self.out);
                self.take_alarms();
            }
            Event::Cancel(id) => self.tell(Input::Cancel(id)),
            Event::Vanish(session) => self.tell(Input::SessionClosed(session)),
            Event::EngineLoss => {
                if let Some(recorder) = &mut self.recorder {
                    recorder.lost(self.engine.jobs(), self.now);
                }
                self.engine.lose();
                self.tally.engine_lost();
                self.tell(Input::EngineLost(Blame::Everyone));
                let restart_us = self.losses.restart_us;
                self.later(restart_us, Event::EngineBack);
            }
            Event::EngineBack => {
                self.tell(Input::EngineReady);
                self.plan_engine_loss();
            }
        }
    }

    fn submit(&mut self) {
        let Some(stream) = self.arrivals.take() else { return };
        let (input, draw) = self.clients.submit(stream, self.now);
        self.tally.submitted(self.clients.class(stream));
        self.arriving = Some(self.underway(stream, draw, None));
        self.tell(input);
        self.arriving = None;
    }

    /// Tells the scheduler and does what it wants done.
    fn tell(&mut self, input: Input) {
        if let Some(recorder) = &mut self.recorder {
            recorder.heard(&input, self.now);
        }
        let effects = self.scheduler.handle(input, self.now);
        self.carry_out(effects);
    }

    fn carry_out(&mut self, effects: VecDeque<Effect>) {
        for effect in effects {
            match effect {
                Effect::Record(record) => match record.part {
                    Some(part) => self.record_stage(&record, part),
                    None => self.record(&record),
                },
                Effect::Accept(_, id) => {
                    if let Some(job) = self.jobs.get_mut(&id) {
                        job.accepted = true;
                    }
                }
                Effect::Reject(_, rejection) => match self.arriving.take() {
                    Some(job) => {
                        self.tally.refused(self.clients.class(job.stream), &rejection);
                        self.arrivals.ended(job.stream, self.now);
                    }
                    None => self.tally.violation(format!("nobody asked, and yet: {rejection}")),
                },
                Effect::Launch { job, attempt, lane, record, flush, .. } => {
                    let class = self.scheduler.plan().class_named(&record.class).unwrap_or(0);
                    self.launch(job, class, attempt, lane, flush);
                }
                Effect::Stop(id) => self.engine.stop(id, self.now, &mut self.out),
                Effect::Gate { class, closed } => self.engine.gate(class, closed, self.now, &mut self.out),
                Effect::Evict { class, model } => self.engine.unload(class, &model, &mut self.out),
                Effect::Conclude { job, wait_us, run_us, reflection, .. } => {
                    self.conclude(job, Concluded { wait_us, run_us, reflection });
                }
                Effect::Tell(id, Update::Done(view)) => {
                    if let JobState::Done(outcome) = view.state {
                        self.end(id, &outcome, view.usage.parked_us);
                    }
                }
                Effect::Tell(
                    _,
                    Update::Queued { .. }
                    | Update::Running { .. }
                    | Update::BackingOff { .. }
                    | Update::Reflecting { .. }
                    | Update::Editing { .. }
                    | Update::Writing { .. },
                )
                | Effect::AttemptEnded { .. }
                | Effect::BackOff { .. }
                | Effect::Flush { .. }
                | Effect::Amend(_)
                | Effect::Keep(_)
                | Effect::Advanced => {}
            }
        }
        self.take_alarms();
    }

    fn record(&mut self, record: &Arc<JobRecord>) {
        let Some(job) = self.arriving.take() else { return };
        let id = record.id;
        if let Some(recorder) = &mut self.recorder {
            recorder.submitted(record, self.clients.kind(job.stream), self.now);
        }
        match job.draw.quit {
            Some(Quit::Cancel { after_us }) => self.later(after_us, Event::Cancel(id)),
            Some(Quit::Vanish { after_us, session }) => self.later(after_us, Event::Vanish(session)),
            None => {}
        }
        self.write(id, job);
    }

    /// Has the journal take a job.
    fn write(&mut self, id: JobId, job: Underway) {
        let recorded = if job.draw.journal_fails { Event::RecordFailed(id) } else { Event::Recorded(id) };
        self.later(job.draw.record_us, recorded);
        self.jobs.insert(id, job);
    }

    fn underway(&self, stream: usize, draw: Draw, part: Option<Part>) -> Underway {
        Underway { stream, draw, submitted: self.now, accepted: false, part, concluded: None }
    }

    fn launch(&mut self, id: JobId, class: usize, attempt: u32, lane: LaneId, flush: bool) {
        let Some(job) = self.jobs.get(&id) else {
            return self.tally.violation(format!("job {id} was launched after its end"));
        };
        if !job.accepted {
            self.tally.violation(format!("job {id} was launched before it was on record"));
        }
        self.tally.launched(class, flush);
        let work = job.draw.work;
        let work = Work { oom_at: work.oom_at.filter(|_| attempt <= work.ooms), ..work };
        self.engine.run(id, lane, work, self.now, &mut self.out);
        if let Some(recorder) = &mut self.recorder {
            recorder.launched(id, lane, self.now);
        }
    }

    fn conclude(&mut self, id: JobId, concluded: Concluded) {
        let Some(job) = self.jobs.get_mut(&id) else {
            return self.tally.violation(format!("job {id} was concluded after its end"));
        };
        if job.concluded.replace(concluded).is_some() {
            self.tally.violation(format!("job {id} was concluded twice"));
        }
        let conclude_us = job.draw.conclude_us;
        self.later(conclude_us, Event::Concluded(id));
    }

    fn end(&mut self, id: JobId, outcome: &Outcome, parked_us: u64) {
        let Some(job) = self.jobs.remove(&id) else {
            return self.tally.violation(format!("job {id} ended twice"));
        };
        let Some(Concluded { wait_us, run_us, reflection }) = job.concluded.filter(|_| job.accepted) else {
            return self.tally.violation(format!("job {id} ended before its outcome was on record"));
        };
        if job.part.is_some() {
            return self.stage_ended(id);
        }
        if let Some(reflection) = reflection {
            self.reflected(id, job.stream, job.draw.fate, &reflection);
        }
        let latency_us = self.now.since(job.submitted);
        let ended = Ended { wait_us, run_us, latency_us, parked_us };
        self.tally.ended(self.clients.class(job.stream), outcome, ended, self.now);
        if let Some(recorder) = &mut self.recorder {
            recorder.ended(id, outcome, self.now);
        }
        self.arrivals.ended(job.stream, self.now);
    }

    fn plan_engine_loss(&mut self) {
        let Losses { left, mean_us, random, .. } = &mut self.losses;
        if let Some(fewer) = left.checked_sub(1) {
            *left = fewer;
            let after_us = random.exponential_us(*mean_us);
            self.later(after_us, Event::EngineLoss);
        }
    }

    fn take_alarms(&mut self) {
        while let Some((at, alarm)) = self.out.alarms.pop_front() {
            self.at(at, Event::Lane(alarm));
        }
    }

    fn later(&mut self, after_us: u64, event: Event) {
        self.at(self.now.after(after_us), event);
    }

    fn at(&mut self, at: Time, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at, self.serial, event)));
    }
}
