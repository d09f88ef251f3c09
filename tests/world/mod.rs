//! A world for the scheduler: virtual time, a journal, an engine and clients, all moved by one random number generator.

mod disk;
mod engine;
mod setting;

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use gpusched_core::{Blame, Effect, Input, Key, LaneId, Plan, Policy, Scheduler, SessionId, Ticket, Time};
use gpusched_shared::{FailureKind, JobId, JobSpec, Outcome, Rejection, Uid, Update};

use disk::{Disk, Write};
use engine::Engine;

/// Connections, which belong to fewer users.
const CLIENTS: usize = 5;
const USERS: Uid = 3;

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
    /// Whose jobs are on record or on their way there, and when they came.
    jobs: BTreeMap<JobId, (Uid, Time)>,
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
            855..890 => {
                let (job, priority) = (self.some_job(), self.rng.i8(-3..4));
                self.input(Input::SetPriority(job, priority));
            }
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
            assert!(self.disk.outcomes.contains_key(job), "accepted job {job} has an outcome");
        }
        assert_eq!(self.disk.records.len(), self.disk.outcomes.len(), "so has every job on record");
    }

    /// How the jobs ended: in a word, as often as it came to that.
    pub(crate) fn ends(&self) -> BTreeMap<&'static str, usize> {
        let mut ends = BTreeMap::new();
        for outcome in self.disk.outcomes.values() {
            *ends.entry(outcome.word()).or_default() += 1;
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

    /// A job that is over, that there is, or that never was; those to come are another matter.
    fn some_job(&mut self) -> JobId {
        JobId(self.rng.u64(0..self.next_number))
    }

    fn submit(&mut self) {
        let spec = if self.rng.u32(0..3) > 0 { setting::light(&mut self.rng) } else { setting::heavy(&mut self.rng) };
        let spec = setting::in_a_hurry(&mut self.rng, spec);
        let (session, uid) = self.clients[self.rng.usize(0..self.clients.len())];
        let attached = self.rng.bool();
        let key = (self.rng.u32(0..3) == 0).then(|| setting::key(&mut self.rng));
        self.submit_by(uid, session, spec, attached, key);
    }

    fn submit_by(&mut self, uid: Uid, session: SessionId, spec: JobSpec, attached: bool, key: Option<Key>) {
        let ticket = Ticket(self.rng.u64(..));
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
        self.input(Input::Submit {
            ticket,
            uid,
            session,
            spec,
            pictures: Vec::new(),
            attached,
            key,
            unix_ms,
            boot: None,
        });
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
        assert!(!self.engine.goes_on(job), "job {job} is on its way out");
    }

    /// Somebody has had enough of everything.
    fn cancel_storm(&mut self) {
        let user = self.rng.u32(0..USERS);
        let theirs: Vec<JobId> = self.jobs.iter().filter(|(_, (uid, _))| *uid == user).map(|(job, _)| *job).collect();
        theirs.into_iter().for_each(|job| self.cancel(job));
    }

    /// A connection ends, and another comes.
    fn vanish(&mut self) {
        let (session, _) = self.clients.swap_remove(self.rng.usize(0..self.clients.len()));
        self.input(Input::SessionClosed(session));
        for (job, _) in self.attached.iter().filter(|(_, of)| **of == session) {
            assert!(!self.engine.goes_on(*job), "job {job} has gone with its client");
        }
        self.connect();
    }

    fn pause(&mut self, class: usize, paused: bool) {
        self.paused[class] = paused;
        self.input(Input::Pause { class, paused });
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
        let outcomes = &self.disk.outcomes;
        self.keys.retain(|_, (_, job)| self.disk.records.contains_key(job) && !outcomes.contains_key(job));
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

    fn carry_out(&mut self, effect: Effect, session: Option<SessionId>) {
        match effect {
            Effect::Record(record) => {
                assert!(!self.draining && !self.leaving, "nothing is taken");
                // A number that never got on record may be given again after a death.
                self.attached.remove(&record.id);
                self.attached.extend(session.filter(|_| record.attached).map(|session| (record.id, session)));
                if let Some(key) = &record.key {
                    let before = self.keys.insert((record.uid, key.name.clone()), (key.clone(), record.id));
                    assert_eq!(before, None, "one job for one key");
                }
                self.deaths.remove(&record.id);
                self.suspects.remove(&record.id);
                self.jobs.insert(record.id, (record.uid, self.now));
                self.next_number = record.id.0 + 1;
                self.disk.write(Write::Record((*record).clone()));
            }
            Effect::Accept(_, job) => {
                assert!(self.disk.records.contains_key(&job), "job {job} is durable before it is acknowledged");
                self.accepted.push(job);
            }
            Effect::Reject(_, rejection) => {
                assert!(rejection != Rejection::Draining || self.draining || self.leaving, "{rejection}");
            }
            Effect::Launch { job, attempt, lane, record, lease_bytes, .. } => {
                assert!(!self.engine_down, "job {job} has an engine");
                assert!(self.deaths.get(&job).is_none_or(|deaths| *deaths < 2), "job {job} is not run again");
                let beside: Vec<JobId> = self.engine.on_lanes().collect();
                let suspect = beside.iter().chain([&job]).any(|job| self.suspects.contains(job));
                assert!(!suspect || beside.is_empty(), "a suspect runs alone");
                assert_eq!(record.attempts.max(attempt), attempt, "attempts are counted on");
                self.disk.write(Write::Attempt(job));
                assert!(!self.cancelled.contains(&job), "cancelled job {job} does not start");
                let session = self.attached.get(&job);
                let connected = |session| self.clients.iter().any(|(open, _)| open == session);
                assert!(session.is_none_or(connected), "job {job} has its client");
                assert!(!self.leaving && !self.paused[self.engine.class_of(lane)], "job {job} may start");
                self.engine.launch(lane, &record, lease_bytes, self.now, &mut self.rng);
            }
            Effect::Stop(job) => self.engine.stop(job),
            Effect::Gate { class, closed } => self.engine.set_gate(class, closed),
            Effect::Evict { class, model } => self.engine.evict(class, model),
            Effect::Conclude { job, outcome, wait_us, run_us, backoff_us, usage, .. } => {
                let (_, came) = self.jobs[&job];
                assert!(wait_us + run_us <= self.now.since(came), "job {job} was nowhere twice");
                assert!(usage.parked_us <= run_us, "job {job} was parked on a lane");
                assert!(backoff_us <= wait_us, "job {job} waited while it backed off");
                if let Outcome::Failed { kind: FailureKind::Quarantined { deaths }, .. } = outcome {
                    assert_eq!((deaths, self.deaths.get(&job)), (2, Some(&2)), "job {job} is quarantined for a reason");
                }
                self.disk.write(Write::Outcome(job, outcome));
            }
            Effect::Amend(record) => self.disk.write(Write::Amend((*record).clone())),
            Effect::Keep(measurement) => self.disk.measurements.push(measurement),
            Effect::Tell(job, Update::Done(view)) => {
                assert_eq!(view.id, job);
                assert!(self.disk.outcomes.contains_key(&job), "nobody hears of an outcome before it is durable");
                self.keys.retain(|_, (_, of)| *of != job);
            }
            Effect::BackOff { job, retry, within_ms } => {
                assert!((1..=self.plan.retry.budget).contains(&retry), "job {job} keeps to its budget");
                self.disk.write(Write::BackOff(job, self.now.after_ms(within_ms)));
            }
            Effect::AttemptEnded { .. } | Effect::Flush { .. } | Effect::Tell(..) | Effect::Advanced => {}
        }
    }

    /// What holds whatever has happened.
    fn check(&self) {
        self.engine.check(&self.plan);
        let mut running: BTreeMap<Uid, u32> = BTreeMap::new();
        for job in self.engine.on_lanes() {
            *running.entry(self.jobs[&job].0).or_default() += 1;
        }
        let limit = self.plan.quotas.running_per_uid;
        assert!(limit == 0 || running.values().all(|count| *count <= limit), "{running:?} of {limit} jobs run");
        assert!(self.plan.policy == Policy::MultiQueue || running.values().sum::<u32>() <= 1, "one at a time");
    }
}
