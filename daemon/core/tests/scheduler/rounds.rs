//! A reflecting job whose daemon dies, whenever that is: another goes on at its round, and no stage is on record twice.

use std::collections::{BTreeMap, BTreeSet};

use gpusched_core::{
    Catalog, Class, Effect, EndedPart, Input, JobRecord, Role, Scheduler, SessionId, Ticket, Time, Unfinished,
};
use gpusched_shared::mix::mix;
use gpusched_shared::{JobId, JobSpec, Outcome, Reflection, Task, Usage, Verdict};
use proptest::prelude::*;

use crate::glancing::{glancing, preview};
use crate::reflecting::{picture, reflecting, says};
use crate::shell::{ANN, heavy_and_light, model};

/// What a journal holds of a job.
#[derive(Clone)]
struct Row {
    record: JobRecord,
    outcome: Option<(Outcome, u64)>,
}

struct OnLane {
    job: JobId,
    spec: JobSpec,
    /// Whether it is to show what its picture is about to become.
    shows: bool,
    /// Whether it has been told to stop.
    stop: bool,
}

/// A scheduler over a journal that commits only when it is told to, an engine of which each stage ends at once, and a judge
/// whose answers depend on the picture and the question alone.
struct World {
    scheduler: Scheduler,
    rows: BTreeMap<JobId, Row>,
    writes: Vec<Effect>,
    lanes: Vec<OnLane>,
    /// Jobs whose lane has said that it has begun.
    begun: BTreeSet<JobId>,
    reflections: BTreeMap<JobId, Reflection>,
    noise: u64,
    /// How often a lane has moved.
    turns: u64,
}

impl World {
    fn new(noise: u64) -> Self {
        Self {
            scheduler: fresh(JobId(1)),
            rows: BTreeMap::new(),
            writes: Vec::new(),
            lanes: Vec::new(),
            begun: BTreeSet::new(),
            reflections: BTreeMap::new(),
            noise,
            turns: 0,
        }
    }

    fn input(&mut self, input: Input) {
        for effect in self.scheduler.handle(input, Time(0)) {
            if let Effect::Launch { job, record, preview_after, .. } = &effect {
                let (spec, shows) = (record.spec.clone(), preview_after.is_some());
                self.lanes.push(OnLane { job: *job, spec, shows, stop: false });
            }
            if let Effect::Stop(job) = &effect {
                self.lanes.iter_mut().filter(|on_lane| on_lane.job == *job).for_each(|on_lane| on_lane.stop = true);
            }
            if matches!(effect, Effect::Record(_) | Effect::Conclude { .. }) {
                self.writes.push(effect);
            }
        }
        assert_eq!(self.scheduler.take_impossible(), Vec::<String>::new());
    }

    /// One thing happens: the journal commits its oldest entry, or a lane ends a stage, before which a picture may show what
    /// it is about to become. False if nothing is left to happen.
    fn step(&mut self, lanes_first: bool) -> bool {
        if !self.lanes.is_empty() && (lanes_first || self.writes.is_empty()) {
            self.turns += 1;
            let any = mix(self.noise ^ self.turns);
            let OnLane { job, spec, shows, stop } = self.lanes.remove(any as usize % self.lanes.len());
            // It may also have been faster.
            if stop && mix(any).is_multiple_of(2) {
                self.input(Input::Interrupted(job, Usage::default()));
                return true;
            }
            if shows {
                self.begun.insert(job);
                self.input(Input::Started(job));
                self.lanes.push(OnLane { job, spec, shows: false, stop });
                self.input(Input::Previewed(job, preview()));
                return true;
            }
            if self.begun.insert(job) {
                self.input(Input::Started(job));
            }
            if let Task::Txt2Img(image) = &spec.task {
                self.input(Input::Made(job, Usage::default()));
                self.input(Input::Stored(job, picture(image.seed.unwrap_or(0))));
            } else {
                let sure = mix(self.noise ^ hash(&spec)) % 100;
                let label = if sure < 40 { "no" } else { "yes" };
                self.input(Input::Finished(job, says(label, 0.5 + sure as f32 / 200.0), Usage::default()));
            }
            return true;
        }
        if self.writes.is_empty() {
            return false;
        }
        let write = self.writes.remove(0);
        if let Effect::Record(record) = write {
            let (id, part) = (record.id, record.part);
            let same = |row: &Row| part.is_some() && row.record.part == part;
            assert!(!self.rows.values().any(same), "{part:?} is on record once");
            assert!(self.rows.insert(id, Row { record: (*record).clone(), outcome: None }).is_none());
            self.input(Input::Recorded(id));
        } else if let Effect::Conclude { job, outcome, run_us, reflection, .. } = write {
            let row = self.rows.get_mut(&job).expect("it is on record");
            assert_eq!(row.outcome.replace((outcome, run_us)), None, "job {job} ends once");
            self.reflections.extend(reflection.map(|reflection| (job, *reflection)));
            self.input(Input::Concluded(job));
        }
        true
    }

    /// The daemon dies, and another takes up what is on record.
    fn die(&mut self) {
        let next = self.rows.keys().last().map_or(1, |id| id.0 + 1);
        self.scheduler = fresh(JobId(next));
        self.writes.clear();
        self.lanes.clear();
        self.begun.clear();
        let unfinished = self.rows.values().filter(|row| row.outcome.is_none()).map(|row| {
            let ended = self.rows.values().filter_map(|other| {
                let part = other.record.part.filter(|part| part.of == row.record.id)?;
                let ((outcome, run_us), spec) = (other.outcome.clone()?, other.record.spec.clone());
                let usage = Usage::default();
                Some(EndedPart { part, spec, outcome, wait_us: 0, backoff_us: 0, run_us, usage })
            });
            let (record, ended) = (row.record.clone(), ended.collect());
            Unfinished { record, age_ms: 0, retry_in_ms: None, ended, damage: None }
        });
        let unfinished = unfinished.collect();
        self.input(Input::Restore(unfinished));
    }

    fn submit(&mut self, spec: JobSpec) {
        let (ticket, session) = (Ticket(1), SessionId(1));
        let (pictures, key, boot) = (Vec::new(), None, None);
        self.input(Input::Submit { ticket, uid: ANN, session, spec, pictures, attached: false, key, unix_ms: 0, boot });
    }
}

fn fresh(next: JobId) -> Scheduler {
    let plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 2));
    Scheduler::new(plan, Catalog::new(vec![model("m", 0, 0)]), next)
}

/// What a question is about: the judge has no other way to know the picture than the order of rounds, so its text serves.
fn hash(spec: &JobSpec) -> u64 {
    spec.task.text().bytes().fold(17, |hash, byte| hash * 31 + u64::from(byte))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_daemon_that_dies_goes_on_at_its_round(noise: u64, steps in proptest::collection::vec(0u8..8, 1..200)) {
        let mut world = World::new(noise);
        world.submit(glancing(4));
        world.submit(reflecting(2));
        while world.step(false) && world.rows.len() < 2 {}
        for step in steps {
            match step {
                0 => world.die(),
                step => drop(world.step(step % 2 == 0)),
            }
        }
        while world.step(false) {}
        for job in [JobId(1), JobId(2)] {
            let row = &world.rows[&job];
            prop_assert!(matches!(row.outcome, Some((Outcome::Image { .. }, _))), "{:?}", row.outcome);
            let stages = |role: fn(Role) -> bool| world.rows.values().filter(|row| {
                row.record.part.is_some_and(|part| part.of == job && role(part.role)) && row.outcome.is_some()
            }).count();
            let reflection = &world.reflections[&job];
            let made = reflection.rounds.iter().filter(|round| !round.rejected_early);
            let checks: usize = made.map(|round| round.checks.len()).sum();
            prop_assert_eq!(stages(|role| role == Role::Image), reflection.rounds.len(), "each round is there once");
            prop_assert_eq!(stages(|role| matches!(role, Role::Check(_))), checks);
            let first = job == JobId(1);
            prop_assert!(first || stages(|role| matches!(role, Role::Glance(_))) == 0, "only who asks for it glances");
            for round in reflection.rounds.iter().filter(|round| round.rejected_early) {
                prop_assert!(first && round.number < 4 && round.image.is_none() && round.verdict == Some(Verdict::Fail));
                prop_assert!(!round.checks.is_empty(), "there was a reason");
            }
        }
        prop_assert!(world.scheduler.is_idle());
        prop_assert!(world.rows.values().all(|row| row.outcome.is_some()));
    }
}
