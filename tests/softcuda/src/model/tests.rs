use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::engine::{Op, Work};
use super::events::Event;
use super::memory::{CONTEXT_BYTES, DEFAULT, PLAIN};
use super::trace::{Entry, Trace};
use super::*;

const MIB: u64 = 1 << 20;

/// A device with a context, two streams of the least priority and one of the greatest.
fn device(settings: &[(&str, &str)]) -> (Gpu, [StreamId; 3]) {
    let mut gpu = Gpu::new(Settings::default(), Trace::default());
    for (name, value) in settings {
        gpu.settings.set(name, value).unwrap();
    }
    (gpu.initialised, gpu.retained) = (true, 1);
    let streams = [0, 0, -5].map(|priority| gpu.open_stream(priority));
    (gpu, streams)
}

fn kernel(gpu: &mut Gpu, stream: StreamId, name: &str) -> Mark {
    gpu.launch(stream, name, &[], None).unwrap()
}

fn finish(gpu: &mut Gpu) {
    while gpu.step() {}
    gpu.memory.release();
}

/// Name, begin and end of what ran.
fn ran(gpu: &Gpu) -> Vec<(String, u64, u64)> {
    gpu.trace.entries().map(|Entry { name, begin, end, .. }| (name.clone(), *begin, *end)).collect()
}

fn line(name: &str, begin: u64, end: u64) -> (String, u64, u64) {
    (name.to_owned(), begin, end)
}

#[test]
fn a_higher_priority_overtakes_what_is_queued_but_not_what_runs() {
    let (mut gpu, [heavy, other, light]) = device(&[("SOFTCUDA_KERNELS", "heavy=100,light=7")]);
    for _ in 0..3 {
        kernel(&mut gpu, heavy, "heavy");
    }
    kernel(&mut gpu, other, "other");
    gpu.advance(30);
    let mark = kernel(&mut gpu, light, "light");
    while !gpu.past(mark) {
        assert!(gpu.step());
    }
    assert_eq!(gpu.now, 107);
    finish(&mut gpu);
    let expected = [
        line("heavy", 0, 100),
        line("light", 100, 107),
        line("heavy", 107, 207),
        line("heavy", 207, 307),
        line("other", 307, 10_307),
    ];
    assert_eq!(ran(&gpu), expected);
    assert_eq!(gpu.trace.text().lines().nth(1), Some("30 100 107 3 -5 kernel light 0"));
}

#[test]
fn time_stands_still_unless_somebody_waits_or_says_so() {
    let (mut gpu, [stream, ..]) = device(&[("SOFTCUDA_KERNELS", "*=100"), ("SOFTCUDA_QUEUE", "2")]);
    for _ in 0..3 {
        kernel(&mut gpu, stream, "k");
    }
    assert_eq!((gpu.now, ran(&gpu)), (0, vec![]));
    // One runs and two are queued, so the next has to wait for the first.
    kernel(&mut gpu, stream, "k");
    assert_eq!((gpu.now, ran(&gpu)), (100, vec![line("k", 0, 100)]));
    gpu.advance(99);
    assert_eq!((gpu.now, ran(&gpu).len()), (199, 1));
    gpu.advance(1000);
    assert_eq!((gpu.now, ran(&gpu).len(), gpu.idle()), (1199, 4, true));
}

#[test]
fn a_stream_waits_for_the_recording_that_there_was_when_it_was_told_to() {
    let (mut gpu, [a, b, light]) = device(&[("SOFTCUDA_KERNELS", "a=100,b=10")]);
    let [first, last] = [(); 2].map(|()| gpu.events.insert(Event::new(false)));
    // An event that was never recorded is no reason to wait, and has no time.
    gpu.wait_for_event(light, first).unwrap();
    assert_eq!((gpu.recorded(first), gpu.elapsed(first, last)), (Ok(None), Err(Status::INVALID_HANDLE)));
    kernel(&mut gpu, a, "a");
    gpu.record(first, a).unwrap();
    gpu.wait_for_event(light, first).unwrap();
    kernel(&mut gpu, a, "a");
    gpu.record(first, a).unwrap();
    kernel(&mut gpu, light, "b");
    kernel(&mut gpu, b, "b");
    gpu.record(last, light).unwrap();
    assert_eq!(gpu.elapsed(first, last), Err(Status::NOT_READY));
    finish(&mut gpu);
    assert_eq!(ran(&gpu), [line("a", 0, 100), line("b", 100, 110), line("a", 110, 210), line("b", 210, 220)]);
    assert_eq!(gpu.elapsed(first, last), Ok(-100));
    gpu.events.remove(first);
    assert_eq!(
        (gpu.record(first, a), gpu.wait_for_event(a, first)),
        (Err(Status::INVALID_HANDLE), Err(Status::INVALID_HANDLE))
    );
}

#[test]
fn work_goes_on_after_its_stream_is_destroyed_and_the_handle_is_given_out_again() {
    let (mut gpu, _) = device(&[]);
    let handle = gpu.create_stream(-9);
    let id = gpu.stream(handle).unwrap();
    assert_eq!(gpu.streams[&id].priority, -5);
    kernel(&mut gpu, id, "k");
    gpu.destroy_stream(handle).unwrap();
    assert_eq!(
        (gpu.stream(handle), gpu.destroy_stream(handle)),
        (Err(Status::INVALID_HANDLE), Err(Status::INVALID_HANDLE))
    );
    assert_eq!(gpu.create_stream(0), handle);
    assert_ne!(gpu.stream(handle), Ok(id));
    finish(&mut gpu);
    assert_eq!((ran(&gpu).len(), gpu.streams.contains_key(&id)), (1, false));
}

#[test]
fn memory_is_free_when_its_stream_gets_there_and_goes_back_at_a_synchronise() {
    let (mut gpu, [stream, ..]) = device(&[("SOFTCUDA_MEMORY", "1G")]);
    let pool = gpu.memory.create_pool(Some(8 * MIB));
    let id = *gpu.memory.handles.get(pool).unwrap();
    let room = gpu.room();
    assert_eq!(room, (1 << 30) - CONTEXT_BYTES);
    let address = gpu.allocate(3 * MIB, id, Some(stream)).unwrap();
    assert_eq!(gpu.allocate(8 * MIB, id, Some(stream)), Err(Status::OUT_OF_MEMORY));
    assert_eq!(gpu.allocate(0, id, Some(stream)), Err(Status::INVALID_VALUE));
    kernel(&mut gpu, stream, "k");
    gpu.free(address, stream).unwrap();
    assert_eq!(gpu.free(address, stream), Err(Status::INVALID_VALUE));
    let levels = |gpu: &mut Gpu| {
        let pool = gpu.memory.pool(pool).unwrap();
        (pool.used().current, pool.reserved().current)
    };
    assert_eq!(levels(&mut gpu), (3 * MIB, 4 * MIB));
    gpu.memory.pool(pool).unwrap().threshold = 4 * MIB;
    finish(&mut gpu);
    assert_eq!((levels(&mut gpu), gpu.room()), ((0, 4 * MIB), room - 4 * MIB));
    gpu.memory.pool(pool).unwrap().threshold = 0;
    finish(&mut gpu);
    assert_eq!((levels(&mut gpu), gpu.room()), ((0, 0), room));
}

#[test]
fn a_pool_that_is_destroyed_stays_until_what_it_gave_is_free() {
    let (mut gpu, [stream, ..]) = device(&[]);
    let pool = gpu.memory.create_pool(None);
    let id = *gpu.memory.handles.get(pool).unwrap();
    gpu.memory.current = id;
    let (room, address) = (gpu.room(), gpu.allocate(2 * MIB, id, Some(stream)).unwrap());
    gpu.memory.destroy_pool(pool).unwrap();
    assert_eq!((gpu.memory.current, gpu.memory.destroy_pool(pool)), (DEFAULT, Err(Status::INVALID_VALUE)));
    assert_eq!(gpu.memory.destroy_pool(gpu.memory.default), Err(Status::INVALID_VALUE));
    assert_eq!(gpu.room(), room - 2 * MIB);
    gpu.free(address, stream).unwrap();
    assert_eq!(gpu.room(), room);
}

#[test]
fn a_cap_can_be_ignored_and_others_take_room() {
    let (mut gpu, [stream, ..]) =
        device(&[("SOFTCUDA_CAP", "ignored"), ("SOFTCUDA_MEMORY", "1G"), ("SOFTCUDA_OTHERS", "700M")]);
    let pool = gpu.memory.create_pool(Some(8 * MIB));
    let id = *gpu.memory.handles.get(pool).unwrap();
    gpu.allocate(60 * MIB, id, Some(stream)).unwrap();
    assert_eq!(gpu.allocate(60 * MIB, id, Some(stream)), Err(Status::OUT_OF_MEMORY));
    assert_eq!(gpu.allocate(10 * MIB, PLAIN, None), Err(Status::OUT_OF_MEMORY));
    gpu.allocate(8 * MIB, PLAIN, None).unwrap();
    assert_eq!(gpu.room(), 0);
}

#[test]
fn a_free_or_a_use_that_is_out_of_order_is_a_fault_of_the_device() {
    type Wrong = fn(&mut Gpu, [StreamId; 3]) -> Result<(), Status>;
    let use_it = |gpu: &mut Gpu, stream, address| gpu.launch(stream, "k", &[0, address], None);
    let cases: [(&str, Wrong); 3] = [
        ("pending-on-stream-2", |gpu, [a, b, _]| {
            let address = gpu.allocate(64, DEFAULT, Some(a))?;
            gpu.touch(b, address, 4)?;
            kernel(gpu, b, "k");
            gpu.free(address, a)
        }),
        ("after-free", |gpu, [a, b, _]| {
            let _kept = gpu.allocate(64, DEFAULT, Some(a))?;
            let address = gpu.allocate(64, DEFAULT, Some(a))?;
            gpu.free(address, a)?;
            gpu.touch(b, address, 4)
        }),
        ("before-stream-1-has-it", |gpu, [a, b, _]| {
            kernel(gpu, a, "k");
            let address = gpu.allocate(64, DEFAULT, Some(a))?;
            gpu.touch(b, address, 4)
        }),
    ];
    for (what, wrong) in cases {
        let (mut gpu, streams) = device(&[]);
        assert_eq!(wrong(&mut gpu, streams), Err(Status::ILLEGAL_ADDRESS), "{what}");
        assert!(gpu.trace.text().contains(what), "{}", gpu.trace.text());
        assert_eq!(gpu.allocate(64, DEFAULT, Some(streams[0])), Err(Status::ILLEGAL_ADDRESS), "{what}");
    }
    // The same in order: the one stream waits for the other's event, or the host has waited.
    let (mut gpu, [a, b, _]) = device(&[]);
    let event = gpu.events.insert(Event::new(true));
    for waits in [true, false] {
        let address = gpu.allocate(64, DEFAULT, Some(a)).unwrap();
        use_it(&mut gpu, b, address).unwrap();
        if waits {
            gpu.record(event, b).unwrap();
            gpu.wait_for_event(a, event).unwrap();
        } else {
            finish(&mut gpu);
        }
        gpu.free(address, a).unwrap();
        finish(&mut gpu);
    }
    assert_eq!(gpu.touch(a, 64, 4), Err(Status::INVALID_VALUE));
    let address = gpu.allocate(64, DEFAULT, Some(a)).unwrap();
    assert_eq!(gpu.touch(a, address + 60, 8), Err(Status::INVALID_VALUE));
    finish(&mut gpu);
    assert_eq!(gpu.failed, None);
}

#[test]
fn memory_that_another_stream_has_pending_comes_with_a_wait() {
    let (mut gpu, [a, b, light]) = device(&[("SOFTCUDA_KERNELS", "*=100")]);
    let pool = gpu.memory.create_pool(Some(2 * MIB));
    let id = *gpu.memory.handles.get(pool).unwrap();
    let address = gpu.allocate(2 * MIB, id, Some(a)).unwrap();
    kernel(&mut gpu, a, "a");
    kernel(&mut gpu, b, "b");
    kernel(&mut gpu, a, "a");
    gpu.free(address, a).unwrap();
    assert_eq!(gpu.allocate(2 * MIB, id, Some(light)), Ok(address));
    // Its own use of it is in order, though it has the greatest priority: it waits for the free.
    gpu.touch(light, address, 4).unwrap();
    kernel(&mut gpu, light, "light");
    finish(&mut gpu);
    assert_eq!(ran(&gpu), [line("a", 0, 100), line("b", 100, 200), line("a", 200, 300), line("light", 300, 400)]);
    assert_eq!(gpu.failed, None);
}

#[test]
fn after_a_fault_nothing_works_and_nothing_runs() {
    let (mut gpu, [a, ..]) =
        device(&[("SOFTCUDA_FAULT_AT", "2"), ("SOFTCUDA_FAULT_KERNEL", "bad"), ("SOFTCUDA_FAULT", "assert")]);
    for name in ["bad", "good", "bad", "good"] {
        kernel(&mut gpu, a, name);
    }
    let address = gpu.allocate(64, DEFAULT, Some(a)).unwrap();
    assert_eq!(gpu.failed, None);
    finish(&mut gpu);
    assert_eq!((gpu.failed, ran(&gpu).len()), (Some(Status::ASSERT), 3));
    assert_eq!(gpu.launch(a, "good", &[], None), Err(Status::ASSERT));
    assert_eq!((gpu.free(address, a), gpu.allocate(64, PLAIN, None)), (Err(Status::ASSERT), Err(Status::ASSERT)));
}

#[test]
fn chosen_allocations_fail() {
    let (mut gpu, [a, ..]) = device(&[("SOFTCUDA_OOM_AT", "2,4+")]);
    let taken = [(); 5].map(|()| gpu.allocate(64, DEFAULT, Some(a)).is_ok());
    assert_eq!(taken, [true, false, true, false, false]);
}

#[test]
fn what_work_does_to_memory_it_does_at_its_end_and_only_to_memory_that_is_there() {
    let (mut gpu, [a, ..]) = device(&[]);
    let done = Arc::new(AtomicU64::new(0));
    let work = |ranges| {
        let done = Arc::clone(&done);
        let effect = move || {
            done.store(done.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
            Ok(())
        };
        let (kind, name, fault) = ("copy", "htod".to_owned(), None);
        Op::Work(Work { kind, name, bytes: 4, ns: 5, ranges, effect: Some(Box::new(effect)), staged: 40 << 20, fault })
    };
    let address = gpu.allocate(64, DEFAULT, Some(a)).unwrap();
    gpu.submit(a, work(vec![(address, 4)])).unwrap();
    assert_eq!(done.load(Ordering::Relaxed), 0);
    finish(&mut gpu);
    assert_eq!((done.load(Ordering::Relaxed), gpu.failed), (1, None));
    gpu.submit(a, work(vec![(address, 4 << 20)])).unwrap();
    finish(&mut gpu);
    assert_eq!((done.load(Ordering::Relaxed), gpu.failed), (1, Some(Status::ILLEGAL_ADDRESS)));
}

#[test]
fn what_the_host_copies_waits_until_there_is_room_to_hold_it() {
    let (mut gpu, [a, ..]) = device(&[]);
    for _ in 0..3 {
        gpu.stage(40 << 20);
        gpu.submit(a, Op::Work(Work { ns: 5, staged: 40 << 20, ..Work::default() })).unwrap();
    }
    assert_eq!((gpu.now, ran(&gpu).len()), (10, 2));
}

#[test]
fn without_pools_there_is_no_memory_in_the_order_of_a_stream() {
    let (mut gpu, [a, ..]) = device(&[("SOFTCUDA_POOLS", "0")]);
    assert_eq!(gpu.allocate(64, DEFAULT, Some(a)), Err(Status::NOT_SUPPORTED));
    gpu.allocate(64, PLAIN, None).unwrap();
}

#[test]
fn the_end_of_the_context_is_the_end_of_all_that_is_in_it() {
    let (mut gpu, [a, ..]) = device(&[]);
    let event = gpu.events.insert(Event::new(true));
    let address = gpu.allocate(64 * MIB, DEFAULT, Some(a)).unwrap();
    kernel(&mut gpu, a, "k");
    gpu.retained = 0;
    gpu.end_context();
    assert_eq!(gpu.room(), gpu.settings.memory);
    assert_eq!(
        (gpu.recorded(event), gpu.free(address, LEGACY)),
        (Err(Status::INVALID_HANDLE), Err(Status::INVALID_VALUE))
    );
    assert!(gpu.launch(a, "k", &[], None).is_err() && gpu.idle());
}
