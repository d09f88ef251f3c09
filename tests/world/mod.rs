//! A world for the scheduler: virtual time, a journal, an engine and clients, all moved by one random number generator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use gpusched_core::{
    Class, Effect, Input, JobRecord, LaneId, Plan, Route, Scheduler, SessionId, Ticket, Time, Unfinished,
};
use gpusched_shared::view::Activity;
use gpusched_shared::{FailureKind, ImageSpec, JobId, JobSpec, Outcome, Task, TaskKind, Update, VqaSpec};

const CLIENTS: u64 = 4;

/// What the simulated journal keeps; it survives the death of the daemon.
#[derive(Debug, Default)]
struct Disk {
    records: BTreeMap<JobId, JobRecord>,
    outcomes: BTreeMap<JobId, Outcome>,
}

#[derive(Debug)]
enum Write {
    Record(JobRecord),
    Outcome(JobId, Outcome),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct OnLane {
    job: JobId,
    begun: bool,
    stop: bool,
}

pub(crate) struct World {
    rng: SplitMix,
    now: Time,
    scheduler: Scheduler,
    disk: Disk,
    /// Entries the journal has not committed; they are lost when the daemon dies.
    writes: VecDeque<Write>,
    lanes: BTreeMap<LaneId, OnLane>,
    sessions: Vec<SessionId>,
    /// The connections of attached jobs.
    attached: BTreeMap<JobId, SessionId>,
    /// Jobs that have been cancelled in this life of the daemon.
    cancelled: BTreeSet<JobId>,
    next_number: u64,
    /// Jobs whose clients have been told that they are accepted.
    accepted: Vec<JobId>,
    log: Vec<String>,
}

fn plan() -> Plan {
    let class = |name: &str, lanes| Class { name: name.to_owned(), lanes, queue_limit: 6 };
    let route = |task, class: &str| Route { task: Some(task), model: None, class: class.to_owned() };
    let routes = vec![route(TaskKind::Txt2Img, "heavy"), route(TaskKind::Vqa, "light")];
    Plan::new(vec![class("heavy", 1), class("light", 4)], routes).expect("a valid plan")
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut world = Self {
            rng: SplitMix(seed),
            now: Time(0),
            scheduler: Scheduler::new(plan(), JobId(1)),
            disk: Disk::default(),
            writes: VecDeque::new(),
            lanes: BTreeMap::new(),
            sessions: Vec::new(),
            attached: BTreeMap::new(),
            cancelled: BTreeSet::new(),
            next_number: 1,
            accepted: Vec::new(),
            log: Vec::new(),
        };
        for _ in 0..CLIENTS {
            world.connect();
        }
        world
    }

    /// One thing happens.
    pub(crate) fn step(&mut self) {
        self.now = self.now.after(self.rng.below(50));
        match self.rng.below(100) {
            0..25 => {
                let (light, attached) = (self.rng.below(3) > 0, self.rng.below(2) == 0);
                let deadline_ms = (self.rng.below(4) == 0).then(|| 1 + self.rng.below(600));
                let session = self.sessions[self.rng.index(self.sessions.len())];
                self.submit(light, attached, deadline_ms, session);
            }
            25..50 => self.commit(),
            50..80 => self.move_a_lane(),
            80..86 => {
                let job = JobId(self.rng.below(self.next_number + 2));
                // Also of jobs that are over or never were; those to come are another matter.
                self.cancelled.extend((job.0 < self.next_number).then_some(job));
                self.input(Input::Cancel(job));
                self.must_be_leaving(job);
            }
            86..90 => {
                let index = self.rng.index(self.sessions.len());
                let session = self.sessions.remove(index);
                self.input(Input::SessionClosed(session));
                let left: Vec<JobId> =
                    self.attached.iter().filter(|(_, s)| **s == session).map(|(job, _)| *job).collect();
                for job in left {
                    self.must_be_leaving(job);
                }
                self.connect();
            }
            90..97 => self.input(Input::Tick),
            97..99 => {
                self.lanes.clear();
                self.input(Input::EngineLost);
            }
            _ => self.die_and_come_back(),
        }
    }

    /// Nothing new happens any more, and everything takes its course.
    pub(crate) fn settle(&mut self) {
        for _ in 0..10_000 {
            if self.writes.is_empty() && self.lanes.is_empty() {
                break;
            }
            self.commit();
            self.move_a_lane();
        }
        assert!(self.scheduler.live().next().is_none(), "every job has ended");
        for job in &self.accepted {
            assert!(self.disk.outcomes.contains_key(job), "accepted job {job} has an outcome");
        }
        assert_eq!(self.disk.records.len(), self.disk.outcomes.len(), "so has every job on record");
    }

    pub(crate) fn ended(&self) -> usize {
        self.disk.outcomes.len()
    }

    pub(crate) fn into_log(self) -> Vec<String> {
        self.log
    }

    pub(crate) fn submit_heavy(&mut self) -> JobId {
        self.submit(false, false, None, SessionId(0))
    }

    pub(crate) fn submit_light(&mut self) -> JobId {
        self.submit(true, false, None, SessionId(0))
    }

    pub(crate) fn record_all(&mut self) {
        while !self.writes.is_empty() {
            self.commit();
        }
    }

    pub(crate) fn on_lanes(&self) -> Vec<JobId> {
        self.lanes.values().map(|lane| lane.job).collect()
    }

    fn submit(&mut self, light: bool, attached: bool, deadline_ms: Option<u64>, session: SessionId) -> JobId {
        let task = if light {
            Task::Vqa(VqaSpec { question: "what?".to_owned(), top: 1 })
        } else {
            let prompt = "a red circle".to_owned();
            Task::Txt2Img(ImageSpec { prompt, seed: Some(1), steps: Some(4), size: None, guidance: None })
        };
        let job = JobId(self.next_number);
        let ticket = Ticket(self.rng.next());
        self.input(Input::Submit {
            ticket,
            uid: 1000,
            session,
            spec: JobSpec { task, model: Some("m".to_owned()), deadline_ms },
            pictures: Vec::new(),
            attached,
            unix_ms: self.now.0,
        });
        job
    }

    fn connect(&mut self) {
        self.sessions.push(SessionId(self.rng.next()));
    }

    /// The journal commits its oldest entry, or fails to.
    fn commit(&mut self) {
        match self.writes.pop_front() {
            None => {}
            Some(Write::Record(record)) if self.rng.below(20) == 0 => {
                self.input(Input::RecordFailed(record.id, "disk full".to_owned()));
            }
            Some(Write::Record(record)) => {
                let job = record.id;
                assert!(self.disk.records.insert(job, record).is_none(), "job numbers are not reused");
                self.input(Input::Recorded(job));
            }
            Some(Write::Outcome(job, outcome)) => {
                assert!(self.disk.records.contains_key(&job), "job {job} was on record before it ended");
                assert!(self.disk.outcomes.insert(job, outcome).is_none(), "job {job} ends once");
                self.input(Input::Concluded(job));
            }
        }
    }

    /// A job that nobody wants any more is on no lane, or on one that has been told to leave it.
    fn must_be_leaving(&self, job: JobId) {
        assert!(self.lanes.values().all(|lane| lane.job != job || lane.stop), "job {job} is on its way out");
    }

    /// A lane begins, gets further, finishes, fails, or leaves as it was told.
    fn move_a_lane(&mut self) {
        if self.lanes.is_empty() {
            return;
        }
        let index = self.rng.index(self.lanes.len());
        let Some((&lane, &OnLane { job, begun, stop })) = self.lanes.iter().nth(index) else { return };
        if !begun {
            self.lanes.insert(lane, OnLane { job, begun: true, stop });
            return self.input(Input::Started(job));
        }
        match self.rng.below(4) {
            0 => self.input(Input::Progress(job, Activity::Working { done: 1, of: 4 })),
            // Told to stop, a lane may still be faster.
            1 | 2 if stop => {
                self.lanes.remove(&lane);
                self.input(Input::Interrupted(job));
            }
            3 if self.rng.below(5) == 0 => {
                self.lanes.remove(&lane);
                let message = "simulated".to_owned();
                self.input(Input::Finished(job, Outcome::Failed { kind: FailureKind::Engine, message }));
            }
            _ => {
                self.lanes.remove(&lane);
                self.input(Input::Finished(job, Outcome::Answers(Vec::new())));
            }
        }
    }

    /// `kill -9`: all but the disk is lost.
    fn die_and_come_back(&mut self) {
        self.writes.clear();
        self.lanes.clear();
        // Cancellations that were not on disk are forgotten, too.
        self.cancelled.clear();
        self.sessions.clear();
        for _ in 0..CLIENTS {
            self.connect();
        }
        self.next_number = self.disk.records.keys().next_back().map_or(1, |job| job.0 + 1);
        self.scheduler = Scheduler::new(plan(), JobId(self.next_number));
        self.log.push("died".to_owned());
        let unfinished: Vec<JobRecord> =
            self.disk.records.values().filter(|r| !self.disk.outcomes.contains_key(&r.id)).cloned().collect();
        let now = self.now.0;
        let aged = |record: JobRecord| Unfinished { age_ms: now - record.submitted_unix_ms, record };
        self.input(Input::Restore(unfinished.into_iter().map(aged).collect()));
    }

    fn input(&mut self, input: Input) {
        self.log.push(format!("{:?} {input:?}", self.now));
        let session = if let Input::Submit { session, .. } = &input { Some(*session) } else { None };
        for effect in self.scheduler.handle(input, self.now) {
            self.log.push(format!("    {effect:?}"));
            match effect {
                Effect::Record(record) => {
                    // A number that never got on record may be given again after a death.
                    self.attached.remove(&record.id);
                    self.attached.extend(session.filter(|_| record.attached).map(|session| (record.id, session)));
                    self.next_number = record.id.0 + 1;
                    self.writes.push_back(Write::Record(record));
                }
                Effect::Accept(_, job) => {
                    assert!(self.disk.records.contains_key(&job), "job {job} is durable before it is acknowledged");
                    self.accepted.push(job);
                }
                Effect::Launch { job, lane, .. } => {
                    assert!(!self.cancelled.contains(&job), "cancelled job {job} does not start");
                    let session = self.attached.get(&job);
                    assert!(session.is_none_or(|s| self.sessions.contains(s)), "job {job} has its client");
                    let before = self.lanes.insert(lane, OnLane { job, begun: false, stop: false });
                    assert_eq!(before, None, "{lane:?} was free");
                }
                Effect::Stop(job) => {
                    let lane = self.lanes.values_mut().find(|lane| lane.job == job);
                    lane.expect("only jobs on lanes are stopped").stop = true;
                }
                Effect::Conclude { job, outcome, .. } => self.writes.push_back(Write::Outcome(job, outcome)),
                Effect::Tell(job, Update::Done(view)) => {
                    assert_eq!(view.id, job);
                    assert!(self.disk.outcomes.contains_key(&job), "nobody hears of an outcome before it is durable");
                }
                Effect::Tell(..) | Effect::Reject(..) | Effect::Advanced => {}
            }
        }
        assert_eq!(self.scheduler.take_impossible(), Vec::<String>::new());
        assert!(self.scheduler.next_timer().is_none_or(|at| at > self.now), "no deadline has been let pass");
    }
}

/// Sebastiano Vigna's SplitMix64: small, seedable, the same everywhere.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn index(&mut self, length: usize) -> usize {
        (self.next() % length as u64) as usize
    }
}
