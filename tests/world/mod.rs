//! A world for the scheduler: virtual time, a journal, an engine and clients, all moved by one random number generator.

mod disk;
mod editing;
mod effects;
mod engine;
mod reflection;
mod setting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fastrand::Rng;
use gpusched_core::{Blame, Input, JobRecord, Key, LaneId, Picture, Plan, Scheduler, SessionId, Ticket, Time};
use gpusched_shared::{BlobHash, BlobRef, JobId, JobSpec, Task, Uid};

use disk::Disk;
use engine::Engine;
pub(crate) use reflection::Reflected;

/// Connections, which belong to fewer users.
const CLIENTS: usize = 5;
const USERS: Uid = 3;

/// A job that is on record or on its way there.
#[derive(Debug)]
struct Known {
    /// As it was amended last.
    record: Arc<JobRecord>,
    came: Time,
}

pub(crate) struct World {
    rng: Rng,
    now: Time,
    plan: Plan,
    scheduler: Scheduler,
    disk: Disk,
    engine: Engine,
    clients: Vec<(SessionId, Uid)>,
    /// The connections of attached jobs.
    attached: BTreeMap<JobId, SessionId>,
    jobs: BTreeMap<JobId, Known>,
    /// Jobs that have been cancelled in this life of the daemon.
    cancelled: BTreeSet<JobId>,
    next_number: u64,
    /// Jobs whose clients have been told that they are accepted.
    accepted: Vec<JobId>,
    paused: Vec<bool>,
    draining: bool,
    leaving: bool,
    engine_down: bool,
    /// Keys of jobs that have not ended, by their owners and names.
    keys: BTreeMap<(Uid, String), (Key, JobId)>,
    /// How often the engine certainly died of a job.
    deaths: BTreeMap<JobId, u32>,
    /// Jobs that were on lanes when it died, and may be to blame.
    suspects: BTreeSet<JobId>,
    log: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = Rng::with_seed(seed);
        let plan = setting::plan(&mut rng);
        let mut world = Self {
            scheduler: Scheduler::new(plan.clone(), setting::catalog(), JobId(1)),
            engine: Engine::of(&plan),
            paused: vec![false; plan.classes().len()],
            rng,
            now: Time(0),
            plan,
            disk: Disk::default(),
            clients: Vec::new(),
            attached: BTreeMap::new(),
            jobs: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            next_number: 1,
            accepted: Vec::new(),
            draining: false,
            leaving: false,
            engine_down: false,
            keys: BTreeMap::new(),
            deaths: BTreeMap::new(),
            suspects: BTreeSet::new(),
            log: Vec::new(),
        };
        (0..CLIENTS).for_each(|_| world.connect());
        world
    }

    /// One thing happens.
    pub(crate) fn step(&mut self) {
        self.now = self.now.after(self.rng.u64(0..20_000));
        match self.rng.u32(0..1000) {
            0..220 => self.submit(),
            220..450 => self.errand(),
            450..800 => self.move_a_lane(),
            800..820 => {
                let job = self.some_job();
                self.cancel(job);
            }
            820..830 => self.cancel_storm(),
            830..855 => self.vanish(),
            855..890 => self.set_priority(),
            890..920 => {
                let (class, paused) = (self.rng.usize(0..self.paused.len()), self.rng.u32(0..3) == 0);
                self.pause(class, paused);
            }
            920..930 => {
                self.draining = self.rng.u32(0..3) == 0;
                self.input(Input::Drain(self.draining));
            }
            930..960 => self.input(Input::Tick),
            960..984 => self.restart_engine(),
            984..990 => {
                self.lose_engine();
            }
            990..991 => {
                self.leaving = true;
                let input = if self.rng.bool() { Input::Leave } else { Input::Abandon };
                self.input(input);
            }
            991..995 => self.die_and_come_back(),
            995..997 => self.change_rules(),
            _ => self.input(Input::Tick),
        }
    }

    /// Nothing new happens any more, and everything takes its course.
    pub(crate) fn settle(&mut self) {
        if self.leaving {
            self.die_and_come_back();
        }
        (0..self.paused.len()).for_each(|class| self.pause(class, false));
        for _ in 0..20_000 {
            if self.disk.is_written() && self.engine.is_idle() && self.scheduler.live().next().is_none() {
                break;
            }
            self.now = self.now.after(self.rng.u64(0..50_000));
            self.restart_engine();
            self.errand();
            self.move_a_lane();
            self.input(Input::Tick);
        }
        assert!(self.scheduler.live().next().is_none(), "every job has ended");
        assert!(self.engine.is_idle(), "nobody is parked, or runs");
        for job in &self.accepted {
            assert!(self.disk.ended.contains_key(job), "accepted job {job} has an outcome");
        }
        assert_eq!(self.disk.records.len(), self.disk.ended.len(), "so has every job on record");
    }

    /// How the jobs ended: in a word, as often as it came to that.
    pub(crate) fn ends(&self) -> BTreeMap<&'static str, usize> {
        let mut ends = BTreeMap::new();
        let asked_for = |job: &JobId| self.disk.records[job].part.is_none();
        for (_, ended) in self.disk.ended.iter().filter(|(job, _)| asked_for(job)) {
            *ends.entry(ended.outcome.word()).or_default() += 1;
        }
        ends
    }

    pub(crate) fn into_log(self) -> Vec<String> {
        self.log
    }

    fn connect(&mut self) {
        let client = (SessionId(self.rng.u64(..)), self.rng.u32(0..USERS));
        self.clients.push(client);
    }

    /// The job of a client: this one, or the one whose stage it is.
    fn asked_for(&self, job: JobId) -> JobId {
        self.jobs.get(&job).and_then(|known| known.record.part).map_or(job, |part| part.of)
    }

    /// Whether a job or a stage of it is on a lane that has not been told to leave it.
    fn goes_on(&self, job: JobId) -> bool {
        let is_of_it = |stage: &JobId| *stage == job || self.asked_for(*stage) == job;
        self.engine.on_lanes().filter(is_of_it).any(|stage| self.engine.goes_on(stage))
    }

    /// A job that is over, that there is, or that never was; those to come are another matter.
    fn some_job(&mut self) -> JobId {
        JobId(self.rng.u64(0..self.next_number))
    }

    fn submit(&mut self) {
        let spec = match self.rng.u32(0..7) {
            0..4 => setting::light(&mut self.rng),
            4 => setting::heavy(&mut self.rng),
            5 => setting::reflecting(&mut self.rng),
            _ => setting::editing(&mut self.rng),
        };
        let spec = setting::in_a_hurry(&mut self.rng, spec);
        let (session, uid) = self.clients[self.rng.usize(0..self.clients.len())];
        let attached = self.rng.bool();
        let key = (self.rng.u32(0..3) == 0).then(|| setting::key(&mut self.rng));
        self.submit_by(uid, session, spec, attached, key);
    }

    fn submit_by(&mut self, uid: Uid, session: SessionId, spec: JobSpec, attached: bool, key: Option<Key>) {
        let ticket = Ticket(self.rng.u64(..));
        let is_edit = matches!(spec.task, Task::Edit(_));
        let given = Picture { blob: BlobRef { hash: BlobHash([2; 32]), bytes: 1 }, pixels: 1 };
        let pictures = is_edit.then_some(given).into_iter().collect();
        let unix_ms = self.now.0 / 1000;
        if let Some(key) = &key {
            if self.disk.has_ended(uid, key) {
                // The shell answers from the journal.
                return;
            }
            if let Some((known, job)) = self.keys.get(&(uid, key.name.clone()))
                && known == key
            {
                self.attached.remove(job);
                self.attached.extend(attached.then_some((*job, session)));
            }
        }
        self.input(Input::Submit { ticket, uid, session, spec, pictures, attached, key, unix_ms, boot: None });
    }

    /// The engine dies, of something on its lanes or of something else.
    fn lose_engine(&mut self) {
        if std::mem::replace(&mut self.engine_down, true) {
            return;
        }
        let on_lanes: Vec<(LaneId, JobId)> = self.engine.lanes_and_jobs().collect();
        let lane = self.rng.choice(on_lanes.iter().map(|(lane, _)| *lane));
        let blame = match (self.rng.u32(0..4), lane) {
            (0, _) | (1, None) => Blame::Nobody,
            (1, Some(lane)) => Blame::Lane(lane),
            (2, _) => Blame::Anyone,
            (_, _) => Blame::Everyone,
        };
        for (lane, job) in &on_lanes {
            let (suspect, certain) = match blame {
                Blame::Nobody => (false, false),
                Blame::Everyone => (true, on_lanes.len() == 1),
                Blame::Anyone => (true, false),
                Blame::Lane(stuck) => (stuck == *lane, stuck == *lane),
            };
            self.suspects.extend(suspect.then_some(*job));
            *self.deaths.entry(*job).or_default() += u32::from(certain && self.engine.has_begun(*job));
        }
        self.engine.die();
        self.input(Input::EngineLost(blame));
    }

    fn restart_engine(&mut self) {
        if std::mem::take(&mut self.engine_down) {
            self.input(Input::EngineReady);
        }
    }

    fn cancel(&mut self, job: JobId) {
        self.cancelled.insert(job);
        self.input(Input::Cancel(job));
        assert!(!self.goes_on(job), "job {job} is on its way out");
    }

    /// A job gets another priority, and its stages with it.
    fn set_priority(&mut self) {
        let (some, priority) = (self.some_job(), self.rng.i8(-3..4));
        let job = self.asked_for(some);
        let of = |known: &Known| known.record.spec.priority;
        let before = self.jobs.get(&job).map(of);
        self.input(Input::SetPriority(job, priority));
        if self.jobs.get(&job).map(of) != before {
            let stages = self.jobs.iter().filter(|(_, known)| known.record.part.is_some_and(|part| part.of == job));
            let mut live = stages.filter(|(stage, _)| !self.disk.ended.contains_key(stage));
            assert!(live.all(|(_, known)| of(known) == priority), "the stages of job {job} have its priority");
        }
    }

    /// Somebody has had enough of everything.
    fn cancel_storm(&mut self) {
        let user = self.rng.u32(0..USERS);
        let whose = |(job, known): (&JobId, &Known)| (known.record.uid == user).then_some(*job);
        let theirs: Vec<JobId> = self.jobs.iter().filter_map(whose).collect();
        theirs.into_iter().for_each(|job| self.cancel(job));
    }

    /// A connection ends, and another comes.
    fn vanish(&mut self) {
        let (session, _) = self.clients.swap_remove(self.rng.usize(0..self.clients.len()));
        self.input(Input::SessionClosed(session));
        for (job, _) in self.attached.iter().filter(|(_, of)| **of == session) {
            assert!(!self.goes_on(*job), "job {job} has gone with its client");
        }
        self.connect();
    }

    fn pause(&mut self, class: usize, paused: bool) {
        self.paused[class] = paused;
        self.input(Input::Pause { class, paused });
    }

    /// The configuration is read anew: of another one altogether only some things are taken.
    fn change_rules(&mut self) {
        let (before, rules) = (self.plan.clone(), setting::rules(&mut self.rng));
        self.input(Input::Rules(Box::new(rules.clone())));
        self.plan = self.scheduler.plan().clone();
        assert_eq!(self.plan.quotas, rules.quotas, "quotas are taken");
        assert_eq!(self.plan.policy, before.policy, "a policy is not");
        for ((now, was), new) in self.plan.classes().iter().zip(before.classes()).zip(rules.classes()) {
            assert_eq!((now.lanes, now.cap_bytes, now.gate.is_some()), (was.lanes, was.cap_bytes, was.gate.is_some()));
            assert_eq!((now.queue_limit, now.priority, now.flush), (new.queue_limit, new.priority, new.flush));
        }
        self.check();
    }

    /// The journal, the store or a partition gets something done.
    fn errand(&mut self) {
        let done = match self.rng.u32(0..6) {
            0 => self.engine.unload(&mut self.rng),
            1 => self.engine.store(&mut self.rng),
            _ => self.disk.commit(&mut self.rng),
        };
        if let Some(input) = done {
            self.input(input);
        }
    }

    fn move_a_lane(&mut self) {
        for input in self.engine.move_a_lane(self.now, &mut self.rng) {
            self.input(input);
        }
    }

    /// `kill -9`: all but the disk is lost.
    fn die_and_come_back(&mut self) {
        let unfinished = self.disk.reopen(self.now);
        self.engine = Engine::of(&self.plan);
        // Cancellations that were not on disk are forgotten, too.
        self.cancelled.clear();
        self.attached.clear();
        self.clients.clear();
        (0..CLIENTS).for_each(|_| self.connect());
        self.paused.fill(false);
        (self.draining, self.leaving, self.engine_down) = (false, false, false);
        self.deaths = self.disk.records.values().map(|record| (record.id, record.deaths)).collect();
        self.suspects = self.disk.records.values().filter(|record| record.suspect).map(|record| record.id).collect();
        self.jobs.retain(|job, _| self.disk.records.contains_key(job));
        for (job, known) in &mut self.jobs {
            known.record = Arc::new(self.disk.records[job].clone());
        }
        let ended = &self.disk.ended;
        self.keys.retain(|_, (_, job)| self.disk.records.contains_key(job) && !ended.contains_key(job));
        self.next_number = self.disk.next_id().0;
        self.scheduler = Scheduler::new(self.plan.clone(), setting::catalog(), self.disk.next_id());
        self.scheduler.recall(&self.disk.measurements);
        self.log.push("died".to_owned());
        self.input(Input::Restore(unfinished));
    }

    fn input(&mut self, input: Input) {
        self.log.push(format!("{:?} {input:?}", self.now));
        if let Input::Made(job, _) | Input::Finished(job, ..) = &input {
            self.suspects.remove(job);
        } else if let Input::RecordFailed(job, _) = &input {
            self.jobs.remove(job);
            self.keys.retain(|_, (_, of)| of != job);
        }
        let session = if let Input::Submit { session, .. } = &input { Some(*session) } else { None };
        for effect in self.scheduler.handle(input, self.now) {
            self.log.push(format!("    {effect:?}"));
            self.carry_out(effect, session);
        }
        assert_eq!(self.scheduler.take_impossible(), Vec::<String>::new());
        assert!(self.scheduler.next_timer().is_none_or(|at| at > self.now), "no time limit has been let pass");
        self.check();
    }
}
