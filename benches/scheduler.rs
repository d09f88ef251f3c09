//! The scheduler alone: a job from submission to outcome, with an instant journal and engine, in queues of several
//! lengths and of several users. Ratios between the lengths say how the cost grows; absolute times are this machine's.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
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

fn submit(scheduler: &mut Scheduler, uid: Uid, ticket: u64) -> Vec<Effect> {
    let task = Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 1 });
    let input = Input::Submit {
        ticket: Ticket(ticket),
        uid,
        session: SessionId(u64::from(uid)),
        spec: JobSpec { model: Some(MODEL.to_owned()), ..JobSpec::new(task) },
        pictures: Vec::new(),
        attached: false,
        unix_ms: 0,
    };
    scheduler.handle(input, Time(ticket)).into()
}

/// Runs what an instant journal and engine would answer, until `finish` more jobs have ended or nothing is left to do.
fn play(scheduler: &mut Scheduler, mut effects: Vec<Effect>, now: Time, finish: &mut u64) {
    while let Some(effect) = effects.pop() {
        let input = match effect {
            Effect::Record(record) => Input::Recorded(record.id),
            Effect::Launch { job, .. } if *finish > 0 => {
                *finish -= 1;
                effects.extend(scheduler.handle(Input::Started(job), now));
                Input::Finished(job, Outcome::Answers(Vec::new()), Usage::default())
            }
            Effect::Conclude { job, .. } => Input::Concluded(job),
            Effect::Launch { .. }
            | Effect::Accept(..)
            | Effect::Reject(..)
            | Effect::Stop(_)
            | Effect::Gate { .. }
            | Effect::Evict { .. }
            | Effect::Amend(_)
            | Effect::Keep(_)
            | Effect::Tell(..)
            | Effect::Advanced => continue,
        };
        effects.extend(scheduler.handle(input, now));
    }
}

fn jobs(c: &mut Criterion) {
    let mut group = c.benchmark_group("jobs");
    group.throughput(Throughput::Elements(JOBS));
    for (users, waiting) in [(1, 0), (1, 100), (1, 1000), (100, 1000)] {
        let id = BenchmarkId::new(format!("{users} users"), waiting);
        group.bench_with_input(id, &(users, waiting), |b, &(users, waiting)| {
            b.iter(|| {
                let mut scheduler = scheduler(waiting);
                let mut finish = 0;
                for ticket in 0..u64::from(waiting) {
                    let effects = submit(&mut scheduler, ticket as Uid % users, ticket);
                    play(&mut scheduler, effects, Time(ticket), &mut finish);
                }
                for ticket in 0..JOBS {
                    finish = 1;
                    let effects = submit(&mut scheduler, ticket as Uid % users, ticket);
                    play(&mut scheduler, effects, Time(ticket), &mut finish);
                }
                black_box(scheduler.is_idle())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, jobs);
criterion_main!(benches);
