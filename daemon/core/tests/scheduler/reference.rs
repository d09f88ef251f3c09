//! A second scheduler that only knows the order: no memory, no gates, one class. Everything is worked out anew from the
//! whole history each time, so it is slow and obviously right. The real one must start the same jobs in the same order.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use gpusched_core::{Class, Input, Measurement, Time};
use gpusched_shared::{FailureKind, JobId, Outcome, Uid, Usage};
use proptest::prelude::*;

use crate::shell::{Shell, model, only, paint, prior};

const LANES: usize = 2;
const AGING_US: u64 = 60_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting,
    Running { since: Time },
    Over,
}

#[derive(Debug, Clone, Copy)]
struct Job {
    id: JobId,
    uid: Uid,
    priority: i8,
    cost_us: u64,
    stage: Stage,
    /// What its uid has been charged for it: nothing, what it is likely to take, what it took.
    charged_us: u64,
    /// How many jobs had been started when it came, and when it was started itself.
    came: usize,
    began: usize,
}

#[derive(Debug, Default)]
struct Reference {
    quota: usize,
    now: Time,
    jobs: Vec<Job>,
    started: usize,
    /// What uids were charged beyond their jobs: where they began when they came back.
    head_starts: BTreeMap<Uid, u64>,
    /// The most that the least charged of the uids with work ever was.
    floor_us: u64,
}

impl Reference {
    fn charged_us(&self, uid: Uid) -> u64 {
        let jobs: u64 = self.jobs.iter().filter(|job| job.uid == uid).map(|job| job.charged_us).sum();
        jobs + self.head_starts.get(&uid).unwrap_or(&0)
    }

    fn count(&self, uid: Uid, which: impl Fn(Stage) -> bool) -> usize {
        self.jobs.iter().filter(|job| job.uid == uid && which(job.stage)).count()
    }

    fn least_us(&self) -> Option<u64> {
        let with_work = self.jobs.iter().filter(|job| job.stage != Stage::Over).map(|job| job.uid);
        with_work.map(|uid| self.charged_us(uid)).min()
    }

    fn submit(&mut self, id: JobId, uid: Uid, priority: i8, cost_us: u64) {
        if self.count(uid, |stage| stage != Stage::Over) == 0 {
            let least = self.least_us().unwrap_or(self.floor_us);
            let missing = least.saturating_sub(self.charged_us(uid));
            *self.head_starts.entry(uid).or_default() += missing;
        }
        let came = self.started;
        self.jobs.push(Job {
            id,
            uid,
            priority,
            cost_us,
            stage: Stage::Waiting,
            charged_us: 0,
            came,
            began: usize::MAX,
        });
        self.settle();
    }

    /// A job leaves its lane or its queue.
    fn end(&mut self, id: JobId) {
        let now = self.now;
        let job = self.jobs.iter_mut().find(|job| job.id == id).expect("it is known");
        if let Stage::Running { since } = job.stage {
            job.charged_us = now.since(since);
        }
        job.stage = Stage::Over;
        self.settle();
    }

    fn settle(&mut self) {
        self.floor_us = self.floor_us.max(self.least_us().unwrap_or(0));
    }

    /// Lane time of later jobs of the same uid that were started while this one waited.
    fn passed_us(&self, waiting: &Job) -> u64 {
        let later = |job: &&Job| job.uid == waiting.uid && job.id > waiting.id;
        let passed = |job: &&Job| (waiting.came..usize::MAX).contains(&job.began);
        self.jobs.iter().filter(later).filter(passed).map(|job| job.charged_us).sum()
    }

    fn next(&self) -> Option<JobId> {
        let waiting = || self.jobs.iter().filter(|job| job.stage == Stage::Waiting);
        let may_go = |uid: Uid| {
            let running = self.count(uid, |stage| matches!(stage, Stage::Running { .. }));
            self.quota == 0 || running < self.quota
        };
        let uids = waiting().filter(|job| may_go(job.uid));
        let uid = uids.min_by_key(|job| (self.charged_us(job.uid), job.id)).map(|job| job.uid);
        let theirs = || waiting().filter(|job| Some(job.uid) == uid);
        let oldest = theirs().min_by_key(|job| job.id)?;
        let first = theirs().min_by_key(|job| (Reverse(job.priority), job.id))?;
        Some(if self.passed_us(oldest) >= AGING_US { oldest.id } else { first.id })
    }

    /// Starts what free lanes take; returns it in order.
    fn dispatch(&mut self) -> Vec<JobId> {
        let mut begun = Vec::new();
        while self.jobs.iter().filter(|job| matches!(job.stage, Stage::Running { .. })).count() < LANES {
            let Some(id) = self.next() else { break };
            let (now, began) = (self.now, self.started);
            let job = self.jobs.iter_mut().find(|job| job.id == id).expect("it is known");
            (job.stage, job.charged_us, job.began) = (Stage::Running { since: now }, job.cost_us, began);
            self.started += 1;
            self.settle();
            begun.push(id);
        }
        begun
    }
}

/// What may happen; places are taken modulo what there is.
#[derive(Debug, Clone)]
enum Action {
    Submit { uid: Uid, priority: i8, steps: u32 },
    Pass { us: u64 },
    End { place: usize },
    Cancel { place: usize },
    SetPriority { place: usize, priority: i8 },
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        5 => (1..4_u32, -2..3_i8, 1..40_u32).prop_map(|(uid, priority, steps)| Action::Submit { uid, priority, steps }),
        3 => (0..30_000_u64).prop_map(|us| Action::Pass { us }),
        4 => any::<usize>().prop_map(|place| Action::End { place }),
        1 => any::<usize>().prop_map(|place| Action::Cancel { place }),
        1 => (any::<usize>(), -3..4_i8).prop_map(|(place, priority)| Action::SetPriority { place, priority }),
    ];
    proptest::collection::vec(action, 1..250)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_next_job_is_the_one_that_the_reference_names(actions in actions(), quota in 0..3_u32) {
        let mut plan = only(Class { aging_ms: AGING_US / 1000, ..Class::new("c", LANES as u32) });
        plan.quotas.running_per_uid = quota;
        let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
        let model = "m".to_owned();
        // 1 ms for each step. All jobs fail, so nothing else is ever learnt; how long each takes is another matter.
        let known = Measurement { model, width: 8, height: 8, pictures: 0, input_pixels: 0, peak_bytes: 0, step_us: 1000, runs: 1 };
        shell.scheduler.recall(&[known]);
        let mut reference = Reference { quota: quota as usize, ..Reference::default() };
        for action in actions {
            let pick = |jobs: &[JobId], place: usize| (!jobs.is_empty()).then(|| jobs[place % jobs.len()]);
            let waiting: Vec<JobId> =
                reference.jobs.iter().filter(|job| job.stage == Stage::Waiting).map(|job| job.id).collect();
            let begun = shell.launched.len();
            match action {
                Action::Submit { uid, priority, steps } => {
                    let id = shell.submit(uid, prior(priority, paint("m", steps)));
                    reference.submit(id, uid, priority, u64::from(steps) * 1000);
                }
                Action::Pass { us } => {
                    shell.pass_us(us);
                    reference.now = shell.now;
                }
                Action::End { place } => if let Some(job) = pick(&shell.running(), place) {
                    shell.start(job);
                    let failed = Outcome::Failed { kind: FailureKind::Engine, message: String::new() };
                    shell.finish_with(job, failed, Usage::default());
                    reference.end(job);
                },
                Action::Cancel { place } => if let Some(job) = pick(&waiting, place) {
                    shell.input(Input::Cancel(job));
                    reference.end(job);
                },
                Action::SetPriority { place, priority } => if let Some(id) = pick(&waiting, place) {
                    shell.input(Input::SetPriority(id, priority));
                    reference.jobs.iter_mut().filter(|job| job.id == id).for_each(|job| job.priority = priority);
                },
            }
            prop_assert_eq!(&shell.launched[begun..], &reference.dispatch()[..]);
        }
    }
}
