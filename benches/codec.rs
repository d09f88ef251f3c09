//! The wire alone: a submission and a job's view to bytes and back, beside a copy of as many bytes.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use gpusched_shared::frame::{Frame, Frames, MAX_REQUEST};
use gpusched_shared::{ImageSpec, JobSpec, Request, Size, Task, codec};

fn submission() -> Request {
    let image = ImageSpec {
        prompt: "a red circle left of a blue square".to_owned(),
        seed: Some(1),
        steps: Some(20),
        size: Some(Size { width: 64, height: 64 }),
        guidance: Some(3.0),
    };
    let spec = JobSpec::new(Task::Txt2Img(image));
    Request::Submit { spec, pictures: 0, attached: true, key: None }
}

fn wire(c: &mut Criterion) {
    let request = submission();
    let payload = codec::encode(&request).expect("it is small");
    let bytes = Frame { id: 1, payload: payload.clone() }.to_bytes();
    c.bench_function("floor: copy the bytes", |b| b.iter(|| black_box(bytes.clone())));
    c.bench_function("submission to frame", |b| {
        b.iter(|| {
            let payload = codec::encode(black_box(&request)).expect("it is small");
            Frame { id: 1, payload }.to_bytes()
        });
    });
    c.bench_function("frame to submission", |b| {
        b.iter(|| {
            let mut frames = Frames::new(MAX_REQUEST);
            frames.push(black_box(&bytes));
            let frame = frames.next_frame().expect("within the limit").expect("whole");
            codec::decode::<Request>(&frame.payload).expect("a request")
        });
    });
}

criterion_group!(benches, wire);
criterion_main!(benches);
