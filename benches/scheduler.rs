//! The scheduler alone: a job from submission to outcome, with an instant journal and engine, in queues of several
//! lengths. Ratios between the lengths say how the cost grows; absolute times are this machine's.

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use gpusched_core::{Class, Effect, Input, Plan, Route, Scheduler, SessionId, Ticket, Time};
use gpusched_shared::{JobId, JobSpec, Outcome, Task, VqaSpec};

const JOBS: u64 = 1000;

fn scheduler(waiting: u32) -> Scheduler {
    let class = Class { name: "light".to_owned(), lanes: 4, queue_limit: waiting + 8 };
    let route = Route { task: None, model: None, class: "light".to_owned() };
    Scheduler::new(Plan::new(vec![class], vec![route]).expect("a valid plan"), JobId(1))
}

fn submit(scheduler: &mut Scheduler, ticket: u64) -> Vec<Effect> {
    let task = Task::Vqa(VqaSpec { question: "what color is the shape?".to_owned(), top: 1 });
    let input = Input::Submit {
        ticket: Ticket(ticket),
        uid: 1000,
        session: SessionId(1),
        spec: JobSpec { task, model: Some("vilt".to_owned()), deadline_ms: None },
        pictures: Vec::new(),
        attached: false,
        unix_ms: 0,
    };
    scheduler.handle(input, Time(ticket)).into()
}

/// Runs what an instant journal and engine would answer, until `finish` more jobs have ended or nothing is left to do.
fn play(scheduler: &mut Scheduler, mut effects: Vec<Effect>, finish: &mut u64) {
    while let Some(effect) = effects.pop() {
        let input = match effect {
            Effect::Record(record) => Input::Recorded(record.id),
            Effect::Launch { job, .. } if *finish > 0 => {
                *finish -= 1;
                effects.extend(scheduler.handle(Input::Started(job), Time(0)));
                Input::Finished(job, Outcome::Answers(Vec::new()))
            }
            Effect::Conclude { job, .. } => Input::Concluded(job),
            Effect::Launch { .. }
            | Effect::Accept(..)
            | Effect::Reject(..)
            | Effect::Stop(_)
            | Effect::Tell(..)
            | Effect::Advanced => continue,
        };
        effects.extend(scheduler.handle(input, Time(0)));
    }
}

fn jobs(c: &mut Criterion) {
    let mut group = c.benchmark_group("jobs");
    group.throughput(Throughput::Elements(JOBS));
    for waiting in [0u32, 100, 1000] {
        group.bench_with_input(BenchmarkId::from_parameter(waiting), &waiting, |b, &waiting| {
            b.iter(|| {
                let mut scheduler = scheduler(waiting);
                let mut finish = 0;
                for ticket in 0..u64::from(waiting) {
                    let effects = submit(&mut scheduler, ticket);
                    play(&mut scheduler, effects, &mut finish);
                }
                for ticket in 0..JOBS {
                    finish = 1;
                    let effects = submit(&mut scheduler, ticket);
                    play(&mut scheduler, effects, &mut finish);
                }
                black_box(scheduler.is_idle())
            });
        });
    }
    group.finish();
}

criterion_group!(benches, jobs);
criterion_main!(benches);
