//! Jobs on a virtual clock: an engine that loads models, comes to a yield point every now and then, parks there while its
//! gate is closed, and leaves when it is told to. It watches what the scheduler has it do.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};

use gpusched_core::{Blame, Effect, Input, LaneId, Scheduler, SessionId, Ticket, Time};
use gpusched_shared::{FailureKind, JobId, JobSpec, OutOfMemory, Outcome, Uid, Usage};

/// How long weights take to come and to go.
const LOAD_US: u64 = 3_000;
const UNLOAD_US: u64 = 1_000;

/// What a job turns out to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Work {
    pub(crate) run_us: u64,
    /// From one yield point to the next.
    pub(crate) gap_us: u64,
    pub(crate) ends: Ends,
}

/// How a job ends if nobody ends it before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    Answered,
    /// With something to store, which takes a while.
    Made,
    /// At its first yield point, having been found to need so many bytes.
    OutOfMemory(u64),
}

/// One of the scheduler's jobs.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) uid: Uid,
    model: String,
    work: Work,
    /// When a lane first took it.
    pub(crate) launched: Option<Time>,
    /// Lane time it has taken, parked time left out.
    pub(crate) worked_us: u64,
    cancelled: bool,
    pub(crate) outcome: Option<Outcome>,
}

/// A job on a lane.
#[derive(Debug)]
struct OnLane {
    lane: LaneId,
    class: usize,
    lease_bytes: u64,
    left_us: u64,
    /// Since when it works, if it does.
    since: Option<Time>,
    parked: bool,
    stop: bool,
    /// When it must have left at the latest, once it was told to stop.
    leaves: Option<Time>,
    /// Which of its events is awaited; others are old.
    awaited: u64,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The job comes to its next yield point, the first of which is that its model is there.
    Yield(JobId),
    Unloaded(usize, String),
    Stored(JobId),
}

pub(crate) struct Mill {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Time,
    pub(crate) jobs: BTreeMap<JobId, Job>,
    /// The job that is being submitted, until it has a number.
    draft: Option<Job>,
    on_lanes: BTreeMap<JobId, OnLane>,
    /// Weights in the partitions, on their way out included.
    loaded: BTreeSet<(usize, String)>,
    gates: BTreeMap<usize, bool>,
    agenda: BinaryHeap<Reverse<(Time, u64, Event)>>,
    inbox: VecDeque<Input>,
    number: u64,
}

impl Mill {
    pub(crate) fn new(scheduler: Scheduler) -> Self {
        Self {
            scheduler,
            now: Time(0),
            jobs: BTreeMap::new(),
            draft: None,
            on_lanes: BTreeMap::new(),
            loaded: BTreeSet::new(),
            gates: BTreeMap::new(),
            agenda: BinaryHeap::new(),
            inbox: VecDeque::new(),
            number: 0,
        }
    }

    /// Submits a job that turns out to be like `work`; `None` if it is refused.
    pub(crate) fn submit(&mut self, uid: Uid, spec: JobSpec, work: Work) -> Option<JobId> {
        self.number += 1;
        let ticket = Ticket(self.number);
        let (session, model) = (SessionId(u64::from(uid)), spec.model.clone().unwrap_or_default());
        let submit = Input::Submit {
            ticket,
            uid,
            session,
            spec,
            pictures: Vec::new(),
            attached: false,
            key: None,
            unix_ms: 0,
            boot: None,
        };
        self.draft = Some(Job { uid, model, work, launched: None, worked_us: 0, cancelled: false, outcome: None });
        self.input(submit);
        let id = self.jobs.keys().next_back().copied();
        id.filter(|_| self.draft.take().is_none())
    }

    pub(crate) fn cancel(&mut self, id: JobId) {
        if let Some(job) = self.jobs.get_mut(&id) {
            job.cancelled = true;
            self.input(Input::Cancel(id));
            assert!(self.on_lanes.get(&id).is_none_or(|on_lane| on_lane.stop), "job {id} is on its way out");
        }
    }

    pub(crate) fn lose_engine(&mut self) {
        for (id, on_lane) in std::mem::take(&mut self.on_lanes) {
            self.work_on(id, on_lane.since);
        }
        self.loaded.clear();
        self.gates.clear();
        self.agenda.retain(|Reverse((_, _, event))| matches!(event, Event::Stored(_)));
        self.input(Input::EngineLost(Blame::Nobody));
        self.input(Input::EngineReady);
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.inbox.push_back(input);
        self.drain();
    }

    /// So much time passes.
    pub(crate) fn pass(&mut self, us: u64) {
        let end = self.now.after(us);
        while self.step_until(end) {}
        self.now = end;
    }

    /// Until all jobs have ended.
    pub(crate) fn finish(&mut self) {
        while self.step_until(Time(u64::MAX)) {}
        for (id, job) in &self.jobs {
            assert!(job.outcome.is_some(), "job {id} has ended");
        }
        assert_eq!(self.scheduler.live().count(), 0);
    }

    /// The next thing happens, if it does so by `end`.
    pub(crate) fn step_until(&mut self, end: Time) -> bool {
        let event = self.agenda.peek().map(|Reverse((at, ..))| *at);
        let timer = self.scheduler.next_timer();
        let Some(at) = event.into_iter().chain(timer).min().filter(|at| *at <= end) else { return false };
        self.now = at;
        if timer == Some(at) {
            self.input(Input::Tick);
            return true;
        }
        let Some(Reverse((_, number, event))) = self.agenda.pop() else { return false };
        match event {
            Event::Yield(job) => {
                if self.on_lanes.get(&job).is_some_and(|on_lane| on_lane.awaited == number) {
                    self.come_to_yield_point(job);
                    self.drain();
                }
            }
            Event::Unloaded(class, model) => {
                assert!(self.loaded.remove(&(class, model.clone())));
                self.input(Input::Unloaded { class, model });
            }
            Event::Stored(job) => self.input(Input::Stored(job, Outcome::Answers(Vec::new()))),
        }
        true
    }

    /// Jobs of a uid that have not got a lane yet.
    pub(crate) fn waiting(&self, uid: Uid) -> usize {
        let waits =
            |(id, job): &(&JobId, &Job)| job.uid == uid && job.outcome.is_none() && !self.on_lanes.contains_key(id);
        self.jobs.iter().rev().take(1000).filter(waits).count()
    }

    fn schedule(&mut self, in_us: u64, event: Event) -> u64 {
        self.number += 1;
        self.agenda.push(Reverse((self.now.after(in_us), self.number, event)));
        self.number
    }

    fn drain(&mut self) {
        while let Some(input) = self.inbox.pop_front() {
            for effect in self.scheduler.handle(input, self.now) {
                self.carry_out(effect);
            }
            assert_eq!(self.scheduler.take_impossible(), Vec::<String>::new());
        }
        let timer = self.scheduler.next_timer();
        assert!(timer.is_none_or(|at| at > self.now), "{timer:?} has not been let pass at {:?}", self.now);
        self.check_memory();
    }

    fn carry_out(&mut self, effect: Effect) {
        match effect {
            Effect::Launch { job: id, lane, lease_bytes, .. } => {
                assert!(self.on_lanes.values().all(|taken| taken.lane != lane), "{lane:?} is free");
                let class = self.scheduler.plan().class_named(&self.class_of(lane)).expect("it is a lane of a class");
                let job = self.jobs.get_mut(&id).expect("it was submitted");
                assert!(!job.cancelled, "cancelled job {id} does not start");
                job.launched.get_or_insert(self.now);
                let (left_us, cold) = (job.work.run_us, !self.loaded.contains(&(class, job.model.clone())));
                let awaited = self.schedule(if cold { LOAD_US } else { 0 }, Event::Yield(id));
                let on_lane = OnLane {
                    lane,
                    class,
                    lease_bytes,
                    left_us,
                    since: Some(self.now),
                    parked: false,
                    stop: false,
                    leaves: None,
                    awaited,
                };
                self.on_lanes.insert(id, on_lane);
                self.inbox.push_back(Input::Started(id));
            }
            Effect::Stop(id) => {
                let gap_us = self.jobs.get(&id).map_or(0, |job| job.work.gap_us.max(LOAD_US));
                let on_lane = self.on_lanes.get_mut(&id).expect("only jobs on lanes are stopped");
                on_lane.stop = true;
                on_lane.leaves = Some(self.now.after(gap_us));
                if on_lane.parked {
                    self.leave(id, Input::Interrupted(id, Usage::default()));
                }
            }
            Effect::Gate { class, closed } => {
                assert_ne!(self.gates.insert(class, closed).unwrap_or(false), closed, "the gate moves");
                let parked: Vec<JobId> =
                    self.on_lanes.iter().filter(|(_, o)| o.class == class && o.parked).map(|(id, _)| *id).collect();
                for id in parked.into_iter().filter(|_| !closed) {
                    self.inbox.push_back(Input::Resumed(id));
                    self.go_on(id);
                }
            }
            Effect::Evict { class, model } => {
                let used = self.on_lanes.iter().any(|(id, o)| o.class == class && self.jobs[id].model == model);
                assert!(!used, "{model} is evicted and not in use");
                assert!(self.loaded.contains(&(class, model.clone())), "{model} is evicted and there");
                self.schedule(UNLOAD_US, Event::Unloaded(class, model));
            }
            Effect::Conclude { job: id, outcome, .. } => {
                let job = self.jobs.get_mut(&id).expect("it was submitted");
                assert_eq!(job.outcome.replace(outcome), None, "job {id} ends once");
                assert!(!self.on_lanes.contains_key(&id), "job {id} has left its lane");
                self.inbox.push_back(Input::Concluded(id));
            }
            Effect::Record(record) => {
                let job = self.draft.take().expect("it is being submitted");
                assert!(self.jobs.insert(record.id, job).is_none(), "job numbers are not reused");
                self.inbox.push_back(Input::Recorded(record.id));
            }
            Effect::Accept(..)
            | Effect::Reject(..)
            | Effect::Amend(_)
            | Effect::Keep(_)
            | Effect::AttemptEnded { .. }
            | Effect::BackOff { .. }
            | Effect::Flush { .. }
            | Effect::Advanced
            | Effect::Tell(..) => {}
        }
    }

    fn come_to_yield_point(&mut self, id: JobId) {
        let (model, work) = (self.jobs[&id].model.clone(), self.jobs[&id].work);
        let on_lane = &self.on_lanes[&id];
        let (class, stop, since) = (on_lane.class, on_lane.stop, on_lane.since);
        self.work_on(id, since);
        if stop && self.on_lanes[&id].left_us > 0 {
            return self.leave(id, Input::Interrupted(id, Usage::default()));
        }
        if self.loaded.insert((class, model.clone())) {
            self.inbox.push_back(Input::Loaded { class, model, bytes: 0 });
        } else if self.on_lanes[&id].left_us < work.run_us
            && let Ends::OutOfMemory(requested_bytes) = work.ends
        {
            let oom = OutOfMemory { partition: String::new(), requested_bytes, used_bytes: 0, cap_bytes: 0 };
            let outcome = Outcome::Failed { kind: FailureKind::OutOfMemory(oom), message: String::new() };
            return self.leave(id, Input::Finished(id, outcome, Usage::default()));
        }
        if self.on_lanes[&id].left_us == 0 {
            let usage = Usage { peak_bytes: self.on_lanes[&id].lease_bytes / 2, ..Usage::default() };
            if work.ends == Ends::Made {
                self.schedule(UNLOAD_US, Event::Stored(id));
                self.leave(id, Input::Made(id, usage));
            } else {
                self.leave(id, Input::Finished(id, Outcome::Answers(Vec::new()), usage));
            }
        } else if self.gates.get(&class) == Some(&true) {
            let on_lane = self.on_lanes.get_mut(&id).expect("it is there");
            (on_lane.parked, on_lane.since) = (true, None);
            self.inbox.push_back(Input::Parked(id));
        } else {
            self.go_on(id);
        }
    }

    /// Works up to the next yield point.
    fn go_on(&mut self, id: JobId) {
        let gap_us = self.jobs[&id].work.gap_us.min(self.on_lanes[&id].left_us);
        let awaited = self.schedule(gap_us, Event::Yield(id));
        let since = Some(self.now);
        if let Some(on_lane) = self.on_lanes.get_mut(&id) {
            on_lane.left_us -= gap_us;
            (on_lane.parked, on_lane.since, on_lane.awaited) = (false, since, awaited);
        }
    }

    fn work_on(&mut self, id: JobId, since: Option<Time>) {
        let now = self.now;
        if let Some(job) = self.jobs.get_mut(&id) {
            job.worked_us += since.map_or(0, |since| now.since(since));
        }
    }

    fn leave(&mut self, id: JobId, input: Input) {
        let on_lane = self.on_lanes.remove(&id).expect("it is on a lane");
        assert!(on_lane.leaves.is_none_or(|at| self.now <= at), "job {id} ran on past a yield point");
        self.inbox.push_back(input);
    }

    fn class_of(&self, lane: LaneId) -> String {
        self.scheduler.lanes()[lane.0].class.clone()
    }

    /// Leases, and the weights of what is loaded or on its way, never exceed a cap.
    fn check_memory(&self) {
        for (class, rules) in self.scheduler.plan().classes().iter().enumerate() {
            let here = || self.on_lanes.iter().filter(|(_, on_lane)| on_lane.class == class);
            let leases: u64 = here().map(|(_, on_lane)| on_lane.lease_bytes).sum();
            let used = here().map(|(id, _)| self.jobs[id].model.as_str());
            let loaded = self.loaded.iter().filter(|(at, _)| *at == class).map(|(_, model)| model.as_str());
            let models: BTreeSet<&str> = used.chain(loaded).collect();
            let catalog = self.scheduler.catalog();
            let weights = |name: &str| catalog.model(catalog.id_of(name)?).map(|model| model.declared.weights_bytes);
            let weights: u64 = models.into_iter().filter_map(weights).sum();
            assert!(leases + weights <= rules.cap_bytes, "{leases} + {weights} in partition {}", rules.name);
        }
    }
}
