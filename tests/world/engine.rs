//! The simulated engine: lanes that move when they are drawn, from yield point to yield point, and partitions.

use std::collections::{BTreeMap, BTreeSet};

use fastrand::Rng;
use gpusched_core::{Input, JobRecord, LaneId, Plan, Time};
use gpusched_shared::view::Activity;
use gpusched_shared::{Answer, BlobHash, FailureKind, InpaintSpec, JobId, OutOfMemory, Outcome, Task, Usage};

use super::editing::{found, mask};
use super::reflection::{is_right, picture};
use super::setting::WEIGHTS_BYTES;

#[derive(Debug)]
struct OnLane {
    job: JobId,
    class: usize,
    model: String,
    lease_bytes: u64,
    work: Work,
    phase: Phase,
    /// Yield points to come until it is done.
    yields_left: u32,
    /// The yield point, counted from the last, at which it runs out of memory.
    out_of_memory_at: Option<u32>,
    /// Until when it is silent.
    stalled: Time,
    stop: bool,
    parked_at: Option<Time>,
    last_yield: Time,
    usage: Usage,
}

/// What a lane is to make.
#[derive(Debug, Clone, Copy)]
enum Work {
    Picture { seed: u64 },
    Answer { about: Option<BlobHash> },
    Find,
    Mask,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Launched,
    Loading,
    Working,
    Parked,
}

#[derive(Debug)]
pub(crate) struct Engine {
    /// By class: the most that may be in use, and whether its gate is closed.
    caps: Vec<u64>,
    closed: Vec<bool>,
    /// The classes of lanes.
    classes: Vec<usize>,
    lanes: BTreeMap<LaneId, OnLane>,
    /// Weights in the partitions.
    resident: BTreeSet<(usize, String)>,
    /// Those of them that have been told to leave.
    leaving: Vec<(usize, String)>,
    /// Pictures on their way to the store, by their seeds.
    storing: Vec<(JobId, Outcome)>,
}

impl Engine {
    pub(crate) fn of(plan: &Plan) -> Self {
        let classes = plan.classes();
        Self {
            caps: classes.iter().map(|class| class.cap_bytes).collect(),
            closed: vec![false; classes.len()],
            classes: classes.iter().zip(0..).flat_map(|(class, i)| (0..class.lanes).map(move |_| i)).collect(),
            lanes: BTreeMap::new(),
            resident: BTreeSet::new(),
            leaving: Vec::new(),
            storing: Vec::new(),
        }
    }

    /// All that ran is gone; a fresh one has open gates and empty partitions. Pictures that were made are not lost.
    pub(crate) fn die(&mut self) {
        self.lanes.clear();
        self.resident.clear();
        self.leaving.clear();
        self.closed.fill(false);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.lanes.is_empty() && self.leaving.is_empty() && self.storing.is_empty()
    }

    pub(crate) fn on_lanes(&self) -> impl Iterator<Item = JobId> {
        self.lanes.values().map(|on_lane| on_lane.job)
    }

    /// Whether the lane has said that it has begun with a job.
    pub(crate) fn has_begun(&self, job: JobId) -> bool {
        self.lanes.values().any(|on_lane| on_lane.job == job && on_lane.phase != Phase::Launched)
    }

    pub(crate) fn lanes_and_jobs(&self) -> impl Iterator<Item = (LaneId, JobId)> {
        self.lanes.iter().map(|(lane, on_lane)| (*lane, on_lane.job))
    }

    pub(crate) fn class_of(&self, lane: LaneId) -> usize {
        self.classes[lane.0]
    }

    /// Whether a job is on a lane that has not been told to leave it.
    pub(crate) fn goes_on(&self, job: JobId) -> bool {
        self.lanes.values().any(|on_lane| on_lane.job == job && !on_lane.stop)
    }

    pub(crate) fn launch(&mut self, lane: LaneId, record: &JobRecord, lease_bytes: u64, now: Time, rng: &mut Rng) {
        let class = self.class_of(lane);
        let model = record.spec.model.clone().unwrap_or_default();
        assert!(!self.leaving.contains(&(class, model.clone())), "{model} is not used while it leaves");
        let yields_left = rng.u32(1..8);
        let on_lane = OnLane {
            job: record.id,
            class,
            model,
            lease_bytes,
            work: match &record.spec.task {
                Task::Txt2Img(image) | Task::Img2Img(image) | Task::Inpaint(InpaintSpec { image, .. }) => {
                    Work::Picture { seed: image.seed.unwrap_or(0) }
                }
                Task::Detect(_) => Work::Find,
                Task::Segment(_) => Work::Mask,
                Task::Vqa(_) => Work::Answer { about: record.pictures.first().map(|picture| picture.blob.hash) },
                task @ (Task::Edit(_) | Task::Analyze(_) | Task::Score(_)) => panic!("no lane is given {task:?} here"),
            },
            phase: Phase::Launched,
            yields_left,
            out_of_memory_at: (rng.u32(0..12) == 0).then(|| rng.u32(0..yields_left)),
            stalled: if rng.u32(0..25) == 0 { now.after_ms(rng.u64(0..5000)) } else { now },
            stop: false,
            parked_at: None,
            last_yield: now,
            usage: Usage::default(),
        };
        assert!(self.lanes.insert(lane, on_lane).is_none(), "{lane:?} was free");
        // The newest is on it already: what was promised, and weights that are here or on their way, fit.
        self.check_memory(class);
    }

    pub(crate) fn stop(&mut self, job: JobId) {
        let on_lane = self.lanes.values_mut().find(|on_lane| on_lane.job == job);
        on_lane.expect("only jobs on lanes are stopped").stop = true;
    }

    pub(crate) fn set_gate(&mut self, class: usize, closed: bool) {
        assert_ne!(self.closed[class], closed, "a gate is moved to where it is not");
        self.closed[class] = closed;
    }

    pub(crate) fn evict(&mut self, class: usize, model: String) {
        let used = self.lanes.values().any(|on_lane| on_lane.class == class && on_lane.model == model);
        assert!(!used, "{model} is in use and not evicted");
        assert!(self.resident.contains(&(class, model.clone())), "{model} is there to be evicted");
        assert!(!self.leaving.contains(&(class, model.clone())), "{model} is evicted once");
        self.leaving.push((class, model));
    }

    /// A model that was to leave has left.
    pub(crate) fn unload(&mut self, rng: &mut Rng) -> Option<Input> {
        if self.leaving.is_empty() {
            return None;
        }
        let (class, model) = self.leaving.swap_remove(rng.usize(0..self.leaving.len()));
        self.resident.remove(&(class, model.clone()));
        Some(Input::Unloaded { class, model })
    }

    /// A picture is stored, or cannot be.
    pub(crate) fn store(&mut self, rng: &mut Rng) -> Option<Input> {
        if self.storing.is_empty() {
            return None;
        }
        let (job, made) = self.storing.swap_remove(rng.usize(0..self.storing.len()));
        let outcome = if rng.u32(0..10) == 0 { failed(FailureKind::Engine) } else { made };
        Some(Input::Stored(job, outcome))
    }

    /// A lane begins, gets further, parks, goes on, finishes, fails, or leaves as it was told.
    pub(crate) fn move_a_lane(&mut self, now: Time, rng: &mut Rng) -> Vec<Input> {
        let Some(lane) = rng.choice(self.lanes.keys().copied().collect::<Vec<_>>()) else { return Vec::new() };
        let Some(on_lane) = self.lanes.get_mut(&lane).filter(|on_lane| on_lane.stalled <= now) else {
            return Vec::new();
        };
        let (job, class, model) = (on_lane.job, on_lane.class, on_lane.model.clone());
        match on_lane.phase {
            Phase::Launched if rng.u32(0..20) == 0 => {
                self.leave(lane, |_| Input::Finished(job, failed(FailureKind::Engine), Usage::default()))
            }
            Phase::Launched => {
                on_lane.phase = Phase::Loading;
                vec![Input::Started(job)]
            }
            Phase::Loading if on_lane.stop => self.leave(lane, |usage| Input::Interrupted(job, usage)),
            Phase::Loading if self.resident.contains(&(class, model.clone())) => {
                on_lane.phase = Phase::Working;
                vec![Input::Progress(job, Activity::Working { done: 0, of: on_lane.yields_left })]
            }
            Phase::Loading => match rng.u32(0..8) {
                0 => self.leave(lane, |_| Input::Finished(job, failed(FailureKind::Model), Usage::default())),
                1..4 => vec![Input::Progress(job, Activity::Loading { done: 1, of: 2 })],
                _ => {
                    self.resident.insert((class, model.clone()));
                    let bytes = if rng.bool() { WEIGHTS_BYTES } else { 0 };
                    vec![Input::Loaded { class, model, bytes }]
                }
            },
            Phase::Parked if on_lane.stop => self.leave(lane, |usage| Input::Interrupted(job, usage)),
            Phase::Parked if self.closed[class] => Vec::new(),
            Phase::Parked => {
                on_lane.usage.parked_us += on_lane.parked_at.take().map_or(0, |at| now.since(at));
                (on_lane.phase, on_lane.last_yield) = (Phase::Working, now);
                vec![Input::Resumed(job)]
            }
            Phase::Working => self.come_to_yield_point(lane, now, rng),
        }
    }

    fn come_to_yield_point(&mut self, lane: LaneId, now: Time, rng: &mut Rng) -> Vec<Input> {
        let Some(on_lane) = self.lanes.get_mut(&lane) else { return Vec::new() };
        let (job, class) = (on_lane.job, on_lane.class);
        on_lane.yields_left -= 1;
        on_lane.usage.longest_gap_us = on_lane.usage.longest_gap_us.max(now.since(on_lane.last_yield));
        on_lane.usage.peak_bytes = on_lane.lease_bytes / 2;
        on_lane.last_yield = now;
        if on_lane.yields_left == 0 {
            // Told to stop, a lane may still be faster.
            let outcome = match on_lane.work {
                _ if rng.u32(0..10) == 0 => failed(FailureKind::Engine),
                Work::Picture { seed } => {
                    self.storing.push((job, picture(seed)));
                    return self.leave(lane, |usage| Input::Made(job, usage));
                }
                Work::Mask => {
                    self.storing.push((job, mask(job)));
                    return self.leave(lane, |usage| Input::Made(job, usage));
                }
                Work::Find => found(rng),
                Work::Answer { about } => answer(about, rng),
            };
            return self.leave(lane, |usage| Input::Finished(job, outcome, usage));
        }
        if on_lane.stop {
            return self.leave(lane, |usage| Input::Interrupted(job, usage));
        }
        if on_lane.out_of_memory_at == Some(on_lane.yields_left) {
            let requested_bytes = on_lane.lease_bytes + rng.u64(1..40);
            let oom =
                OutOfMemory { partition: String::new(), requested_bytes, used_bytes: 0, cap_bytes: self.caps[class] };
            return self.leave(lane, |usage| Input::Finished(job, failed(FailureKind::OutOfMemory(oom)), usage));
        }
        if self.closed[class] {
            on_lane.usage.yields += 1;
            (on_lane.phase, on_lane.parked_at) = (Phase::Parked, Some(now));
            return vec![Input::Parked(job)];
        }
        vec![Input::Progress(job, Activity::Working { done: 1, of: 1 + on_lane.yields_left })]
    }

    fn leave(&mut self, lane: LaneId, say: impl FnOnce(Usage) -> Input) -> Vec<Input> {
        self.lanes.remove(&lane).map(|on_lane| say(on_lane.usage)).into_iter().collect()
    }

    /// What holds whatever has happened, seen from here.
    pub(crate) fn check(&self, plan: &Plan) {
        for (class, rules) in plan.classes().iter().enumerate() {
            let lighter = |on_lane: &OnLane| plan.classes()[on_lane.class].priority > rules.priority;
            if self.closed[class] {
                assert!(self.lanes.values().any(lighter), "the gate of {} is closed for somebody", rules.name);
                assert!(rules.gate.is_some(), "{} has a gate", rules.name);
            }
            let busy = self.lanes.values().filter(|on_lane| on_lane.class == class).count();
            assert!(busy <= rules.lanes as usize, "{} has that many lanes", rules.name);
        }
    }

    /// Leases and weights never exceed a partition.
    fn check_memory(&self, class: usize) {
        let here = || self.lanes.values().filter(|on_lane| on_lane.class == class);
        let used = here().map(|on_lane| on_lane.model.as_str());
        let resident = self.resident.iter().filter(|(at, _)| *at == class).map(|(_, model)| model.as_str());
        let weights = WEIGHTS_BYTES * used.chain(resident).collect::<BTreeSet<_>>().len() as u64;
        let leases: u64 = here().map(|on_lane| on_lane.lease_bytes).sum();
        assert!(leases + weights <= self.caps[class], "{leases} + {weights} of {}", self.caps[class]);
    }
}

fn failed(kind: FailureKind) -> Outcome {
    Outcome::Failed { kind, message: "simulated".to_owned() }
}

/// Of a picture the judge says that it is right where it is in nine of ten cases, and where it is not in one of twenty.
fn answer(about: Option<BlobHash>, rng: &mut Rng) -> Outcome {
    let Some(picture) = about else { return Outcome::Answers(vec![Answer { label: "red".to_owned(), score: 1.0 }]) };
    let yes = if is_right(picture) { rng.u32(0..10) > 0 } else { rng.u32(0..20) == 0 };
    let (first, second) = if yes { ("yes", "no") } else { ("no", "yes") };
    let score = 0.5 + rng.f32() / 2.0;
    let answer = |label: &str, score| Answer { label: label.to_owned(), score };
    Outcome::Answers(vec![answer(first, score), answer(second, 1.0 - score)])
}
