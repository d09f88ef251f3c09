//! What the world is made of: classes, models and jobs, drawn so that everything is scarce.

use fastrand::Rng;
use gpusched_core::{Catalog, Class, FlushRule, GateRule, Key, Plan, Policy, Retry, Route};
use gpusched_shared::{
    BlobHash, Check, Declared, EditSpec, ImageSpec, JobSpec, ModelInfo, Reflect, Size, Task, TaskKind, VqaSpec,
};

/// Models for pictures, of which one or two fit into their partition, and models for questions.
const PAINTERS: [&str; 3] = ["painter-a", "painter-b", "painter-c"];
const ANSWERERS: [&str; 2] = ["answerer-a", "answerer-b"];

/// Bytes of every model's weights.
pub(crate) const WEIGHTS_BYTES: u64 = 30;

/// Two classes of scarce lanes and memory, or a single queue.
pub(crate) fn plan(rng: &mut Rng) -> Plan {
    draw(rng, 0)
}

/// What an operator writes instead, who may also think the pictures more urgent than the questions, or as urgent.
pub(crate) fn rules(rng: &mut Rng) -> Plan {
    let priority = rng.choice([0, 0, 10, 20]).unwrap_or_default();
    draw(rng, priority)
}

fn draw(rng: &mut Rng, heavy_priority: i32) -> Plan {
    let flush = rng.choice([FlushRule::BeforeEach, FlushRule::OnPressure, FlushRule::Never]).unwrap_or_default();
    let heavy = Class {
        queue_limit: 6,
        cap_bytes: rng.u64(50..130),
        flush,
        gate: (rng.u32(0..4) > 0).then(|| GateRule { min_share_milli: rng.u32(0..1100), window_ms: rng.u64(0..2000) }),
        aging_ms: rng.u64(0..500),
        batch_wait_ms: rng.u64(0..300),
        keep_alive_ms: rng.bool().then(|| rng.u64(1..300)),
        priority: heavy_priority,
        ..Class::new("heavy", rng.u32(1..3))
    };
    let light = Class {
        name: "light".to_owned(),
        lanes: rng.u32(1..5),
        priority: 10,
        gate: None,
        pinned: if rng.bool() { vec![ANSWERERS[0].to_owned()] } else { Vec::new() },
        ..heavy.clone()
    };
    let heavy_tasks = [TaskKind::Txt2Img, TaskKind::Inpaint, TaskKind::Edit].map(|task| Route::of_task(task, "heavy"));
    let light_tasks = [TaskKind::Vqa, TaskKind::Detect, TaskKind::Segment].map(|task| Route::of_task(task, "light"));
    let routes = [heavy_tasks, light_tasks].concat();
    let mut plan = Plan::new(vec![heavy, light], routes).expect("a valid plan");
    plan.policy = if rng.u32(0..8) == 0 { Policy::Fifo } else { Policy::MultiQueue };
    plan.retry = Retry {
        base_ms: rng.u64(0..100),
        factor_milli: rng.u64(1000..3000),
        ceiling_ms: rng.u64(0..300),
        budget: rng.u32(0..4),
        seed: rng.u64(..),
    };
    plan.reattach_grace_ms = rng.choice([0, 100]).unwrap_or_default();
    for quota in
        [&mut plan.quotas.queued_per_uid, &mut plan.quotas.running_per_uid, &mut plan.quotas.jobs_per_connection]
    {
        *quota = rng.choice([0, 0, 2, 4]).unwrap_or_default();
    }
    plan
}

/// The models, each of which needs 20 bytes beside its weights until it is found to need more.
pub(crate) fn catalog() -> Catalog {
    let model = |name: &str, tasks: &[TaskKind]| ModelInfo {
        name: name.to_owned(),
        kind: "simulated".to_owned(),
        tasks: tasks.to_vec(),
        bytes: WEIGHTS_BYTES,
        default_size: Size { width: 8, height: 8 },
        size_multiple: 1,
        max_pixels: u64::MAX,
        default_steps: 4,
        default_guidance_milli: 1000,
        declared: Declared { weights_bytes: WEIGHTS_BYTES, run_bytes: 20, run_bytes_per_pixel: 0 },
    };
    let painters = PAINTERS.iter().map(|name| model(name, &[TaskKind::Txt2Img, TaskKind::Inpaint]));
    let answering = [TaskKind::Vqa, TaskKind::Detect, TaskKind::Segment];
    Catalog::new(painters.chain(ANSWERERS.iter().map(|name| model(name, &answering))).collect())
}

/// A picture of one of a few shapes to be made.
pub(crate) fn heavy(rng: &mut Rng) -> JobSpec {
    let size = rng.u32(1..4) * 8;
    let image = ImageSpec {
        seed: Some(rng.u64(..)),
        steps: Some(rng.u32(1..6)),
        size: Some(Size { width: size, height: size }),
        ..ImageSpec::new("a red circle")
    };
    let model = rng.choice(PAINTERS).map(str::to_owned);
    JobSpec { model, ..JobSpec::new(Task::Txt2Img(image)) }
}

/// A picture to be checked, and made again where it fails.
pub(crate) fn reflecting(rng: &mut Rng) -> JobSpec {
    let reflect = Reflect {
        rounds: Some(rng.u8(1..5)),
        checks: (0..rng.u8(1..4)).map(|n| Check::new(format!("is there a red circle {n}?"), "yes")).collect(),
        judge: rng.choice(ANSWERERS).map(str::to_owned),
        confidence: Some(0.5),
        lane_ms: (rng.u32(0..4) == 0).then(|| rng.u64(1..400)),
        strict: rng.u32(0..4) == 0,
        early: None,
    };
    let mut spec = JobSpec { reflect: Some(Box::new(reflect)), ..heavy(rng) };
    if let Task::Txt2Img(image) = &mut spec.task {
        // Larger ones do not fit these partitions when they are looked at.
        image.size = Some(Size { width: 1, height: 1 });
    }
    spec
}

/// A picture to be edited; it comes with the job.
pub(crate) fn editing(rng: &mut Rng) -> JobSpec {
    let edit = EditSpec {
        seed: Some(rng.u64(..)),
        steps: Some(rng.u32(1..6)),
        detector: rng.choice(ANSWERERS).map(str::to_owned),
        segmenter: rng.choice(ANSWERERS).map(str::to_owned),
        ..EditSpec::new("make the circle blue")
    };
    JobSpec { model: rng.choice(PAINTERS).map(str::to_owned), ..JobSpec::new(Task::Edit(Box::new(edit))) }
}

/// A question.
pub(crate) fn light(rng: &mut Rng) -> JobSpec {
    let model = rng.choice(ANSWERERS).map(str::to_owned);
    JobSpec { model, ..JobSpec::new(Task::Vqa(VqaSpec { question: "what?".to_owned(), top: 1 })) }
}

/// One of a few keys, with one of two requests behind it.
pub(crate) fn key(rng: &mut Rng) -> Key {
    Key { name: format!("k{}", rng.u32(0..6)), fingerprint: BlobHash([rng.u8(0..2); 32]) }
}

/// The same with a priority, and some with limits on its time.
pub(crate) fn in_a_hurry(rng: &mut Rng, spec: JobSpec) -> JobSpec {
    let mut limit = |one_in: u32| (rng.u32(0..one_in) == 0).then(|| rng.u64(1..600));
    let (deadline_ms, queue_timeout_ms, run_timeout_ms) = (limit(5), limit(8), limit(8));
    JobSpec { priority: rng.i8(-3..4), deadline_ms, queue_timeout_ms, run_timeout_ms, ..spec }
}
