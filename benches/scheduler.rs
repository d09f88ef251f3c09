//! The scheduler alone: a job from submission to outcome, with an instant journal and engine, in queues of several
//! lengths and of several users. Ratios between the lengths say how the cost grows; absolute times are this machine's.

use std::collections::VecDeque;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpusched_core::{Catalog, Class, Effect, Input, Plan, Route, Scheduler, SessionId, Ticket, Time};
use gpusched_shared::{Declared, JobId, JobSpec, ModelInfo, Outcome, Size, Task, TaskKind, Uid, Usage, VqaSpec};

const JOBS: u64 = 1000;
const MODEL: &str = "vilt";

fn scheduler(waiting: u32) -> Scheduler {
    let class = Class { queue_limit: waiting + 8, cap_bytes: 1 << 34, ..Class::new("light", 4) };
    let plan = Plan::new(vec![class], vec![Route::to("light")]).expect("a valid plan");
    let vilt = ModelInfo {
        name: MODEL.to_owned(),
        kind: MODEL.to_owned(),
        tasks: vec![TaskKind::Vqa],
        bytes: 1 << 29,
        default_size: Size { width: 384, height: 384 },
        size_multiple: 1,
        max_pixels: u64::MAX,
        default_steps: 1,
        default_guidance_milli: 1000,
        declared: Declared { weights_bytes: 1 << 29, run_bytes: 1 << 27, run_bytes_per_pixel: 0 },
    };
    Scheduler::new(plan, Catalog::new(vec![vilt]), JobId(1))
}

/// An instant journal, and lanes that are done with a job when they are told.
struct Shell {
    scheduler: Scheduler,
    on_lanes: VecDeque<JobId>,
    now: Time,
}

impl Shell {
    fn submit(&mut self, uid: Uid) {
        self.now = self.now.after(1);
        let task = Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 1 });
        self.input(Input::Submit {
            ticket: Ticket(self.now.0),
            uid,
            session: SessionId(u64::from(uid)),
            spec: JobSpec { model: Some(MODEL.to_owned()), ..JobSpec::new(task) },
            pictures: Vec::new(),
            attached: false,
            key: None,
            unix_ms: 0,
            boot: None,
        });
    }

    /// The job that has been on its lane for longest ends.
    fn finish(&mut self) {
        self.now = self.now.after(1);
        let job = self.on_lanes.pop_front().expect("a lane has a job");
        self.input(Input::Finished(job, Outcome::Answers(Vec::new()), Usage::default()));
    }

    fn input(&mut self, input: Input) {
        for effect in self.scheduler.handle(input, self.now) {
            match effect {
                Effect::Record(record) => self.input(Input::Recorded(record.id)),
                Effect::Launch { job, .. } => {
                    self.on_lanes.push_back(job);
                    self.input(Input::Started(job));
                }
                Effect::Conclude { job, .. } => self.input(Input::Concluded(job)),
                Effect::Reject(_, rejection) => panic!("{rejection}"),
                Effect::Accept(..)
                | Effect::Stop(_)
                | Effect::Gate { .. }
                | Effect::Evict { .. }
                | Effect::Amend(_)
                | Effect::Keep(_)
                | Effect::AttemptEnded { .. }
                | Effect::BackOff { .. }
                | Effect::Flush { .. }
                | Effect::Tell(..)
                | Effect::Advanced => {}
            }
        }
    }
}

fn jobs(c: &mut Criterion) {
    let mut group = c.benchmark_group("jobs");
    group.throughput(Throughput::Elements(JOBS));
    for (users, waiting) in [(1, 0), (1, 100), (1, 1000), (100, 1000)] {
        let id = BenchmarkId::new(format!("{users} users"), waiting);
        group.bench_with_input(id, &(users, waiting), |b, &(users, waiting)| {
            let full = || {
                let mut shell = Shell { scheduler: scheduler(waiting), on_lanes: VecDeque::new(), now: Time(0) };
                (0..waiting).for_each(|n| shell.submit(n % users));
                shell
            };
            let run = |mut shell: Shell| {
                for n in 0..JOBS {
                    shell.submit(n as Uid % users);
                    shell.finish();
                }
                shell
            };
            b.iter_batched(full, run, BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, jobs);
criterion_main!(benches);
