//! Which models are in memory, and whose job waits for that.

use gpusched_core::{Class, Effect, FlushRule, Input, Measurement};
use gpusched_shared::{JobId, ModelInfo, Rejection};

use crate::shell::{ANN, BEN, Shell, ask, model, only, prior};

/// Models of which two fit into 100 bytes.
fn models() -> Vec<ModelInfo> {
    ["a", "b", "c"].map(|name| model(name, 40, 10)).to_vec()
}

/// Has loaded the models and used them, in this order, on one lane.
fn with_resident(class: Class, models: Vec<ModelInfo>, resident: &[&str]) -> Shell {
    let mut shell = Shell::new(only(class), models);
    for name in resident {
        let job = shell.submit(ANN, ask(name));
        shell.load_and_run(job, name, 1);
    }
    shell.take_effects();
    shell
}

fn class(lanes: u32) -> Class {
    Class { cap_bytes: 100, ..Class::new("c", lanes) }
}

#[test]
fn the_model_used_longest_ago_makes_room() {
    let mut shell = with_resident(class(1), models(), &["a", "b"]);
    assert_eq!(shell.scheduler.holders("a"), ["c"]);
    let job = shell.submit(ANN, ask("c"));
    assert_eq!((shell.take_evicted(), shell.running()), (vec!["a".to_owned()], vec![]));
    assert_eq!(shell.scheduler.holders("a"), [""; 0]);
    shell.unloaded("a");
    assert_eq!(shell.running(), [job]);
    let mut shell = with_resident(class(1), models(), &["a", "b", "a"]);
    shell.submit(ANN, ask("c"));
    assert_eq!(shell.take_evicted(), ["b"]);
}

#[test]
fn a_model_in_use_stays() {
    let mut shell = with_resident(class(2), models(), &["a", "b"]);
    let user = shell.submit(ANN, ask("a"));
    shell.start(user);
    shell.pass_ms(100);
    let other = shell.submit(ANN, ask("c"));
    assert_eq!(shell.take_evicted(), ["b"], "though a has been idle no later than b");
    shell.unloaded("b");
    assert_eq!(shell.running(), [user, other]);
    let third = shell.submit(ANN, ask("b"));
    shell.loaded("c");
    shell.start(other);
    shell.finish(other);
    assert_eq!(shell.take_evicted(), ["c"], "and still it is a that is in use");
    shell.unloaded("c");
    assert_eq!(shell.running(), [user, third]);
}

#[test]
fn pinned_models_stay_and_what_cannot_fit_beside_them_is_refused() {
    let pinned = Class { pinned: vec!["a".to_owned()], ..class(1) };
    let mut shell = with_resident(pinned, [models(), vec![model("d", 50, 11)]].concat(), &["a", "b"]);
    let job = shell.submit(ANN, ask("c"));
    assert_eq!(shell.take_evicted(), ["b"]);
    shell.unloaded("b");
    shell.load_and_run(job, "c", 1);
    shell.take_effects();
    // It would fit into the partition alone.
    let refused = shell.try_submit(ANN, ask("d"));
    assert!(matches!(refused, Err(Rejection::NeverFits { run_bytes: 11, cap_bytes: 60, .. })), "{refused:?}");
    assert_eq!(shell.take_evicted(), [""; 0]);
}

#[test]
fn an_idle_model_leaves_after_its_time() {
    let keep = Class { keep_alive_ms: Some(10), ..class(1) };
    let mut shell = with_resident(keep, models(), &["a"]);
    shell.pass_ms(9);
    let job = shell.submit(ANN, ask("a"));
    shell.start(job);
    shell.pass_ms(5);
    assert_eq!(shell.take_evicted(), [""; 0], "it is in use");
    shell.finish(job);
    shell.pass_us(9_999);
    assert_eq!(shell.take_evicted(), [""; 0]);
    shell.pass_us(1);
    assert_eq!(shell.take_evicted(), ["a"]);
    assert_eq!(shell.scheduler.next_timer(), None);
}

#[test]
fn pinned_models_are_kept_alive_for_good() {
    let keep = Class { keep_alive_ms: Some(10), pinned: vec!["a".to_owned()], ..class(1) };
    let shell = with_resident(keep, models(), &["a", "b"]);
    assert_eq!(shell.scheduler.next_timer(), Some(shell.now.after_ms(10)));
    let mut shell = shell;
    shell.pass_ms(20);
    assert_eq!(shell.take_evicted(), ["b"]);
}

#[test]
fn a_model_that_is_leaving_comes_back_only_after_that() {
    let mut shell = with_resident(Class { keep_alive_ms: Some(1), ..class(1) }, models(), &["a"]);
    shell.pass_ms(1);
    assert_eq!(shell.take_evicted(), ["a"]);
    let job = shell.submit(ANN, ask("a"));
    assert_eq!(shell.running(), []);
    shell.unloaded("a");
    assert_eq!(shell.running(), [job]);
    shell.loaded("a");
    assert_eq!(shell.scheduler.holders("a"), ["c"]);
}

/// One model fits at a time.
fn for_one() -> Class {
    Class { cap_bytes: 50, batch_wait_ms: 10, ..Class::new("c", 1) }
}

#[test]
fn models_are_swapped_for_batches_of_jobs() {
    let mut shell = Shell::new(only(for_one()), models());
    let jobs: Vec<JobId> = ["a", "b", "a", "b", "a"].map(|name| shell.submit(ANN, ask(name))).to_vec();
    shell.load_and_run(jobs[0], "a", 1);
    shell.run(jobs[2], 1);
    shell.run(jobs[4], 1);
    assert_eq!(shell.take_evicted(), ["a"]);
    shell.unloaded("a");
    shell.load_and_run(jobs[1], "b", 1);
    assert_eq!(shell.running(), [jobs[3]]);
}

#[test]
fn a_batch_lasts_so_long_at_most() {
    let mut shell = Shell::new(only(for_one()), models());
    let first = shell.submit(ANN, ask("a"));
    let other = shell.submit(ANN, ask("b"));
    let batch: Vec<JobId> = (0..5).map(|_| shell.submit(ANN, ask("a"))).collect();
    shell.load_and_run(first, "a", 4);
    // The other has been passed since then.
    shell.run(batch[0], 4);
    shell.run(batch[1], 4);
    assert_eq!(shell.take_evicted(), [""; 0], "8 ms are less than 10");
    shell.run(batch[2], 2);
    assert_eq!(shell.take_evicted(), ["a"]);
    shell.unloaded("a");
    assert_eq!(shell.running(), [other]);
    shell.load_and_run(other, "b", 1);
    assert_eq!(shell.take_evicted(), ["b"]);
}

#[test]
fn a_batch_ends_though_its_model_is_never_idle() {
    let mut shell = Shell::new(only(Class { lanes: 2, cap_bytes: 60, ..for_one() }), models());
    let mut before = shell.submit(ANN, ask("a"));
    shell.loaded("a");
    shell.start(before);
    let next = shell.submit(ANN, ask("a"));
    let other = shell.submit(ANN, ask("b"));
    let batch: Vec<JobId> = (0..4).map(|_| shell.submit(ANN, ask("a"))).collect();
    // One of them is always on a lane.
    for job in [next, batch[0], batch[1]] {
        assert_eq!(shell.running(), [before, job]);
        shell.start(job);
        shell.pass_ms(5);
        shell.finish(before);
        before = job;
    }
    assert_eq!(shell.running(), [before], "10 ms after the first went past, no more do");
    shell.finish(before);
    assert_eq!(shell.take_evicted(), ["a"]);
    shell.unloaded("a");
    assert_eq!(shell.running(), [other]);
}

/// `big` takes all of the partition while it runs, `small` next to nothing; both take 1 ms and that is known.
fn big_and_small(lanes: u32) -> Shell {
    let big_and_small = vec![model("big", 0, 80), model("small", 0, 10)];
    let mut shell = Shell::new(only(Class { aging_ms: 3, ..class(lanes) }), big_and_small);
    let known = |model: &str| Measurement {
        model: model.to_owned(),
        width: 0,
        height: 0,
        pictures: 0,
        input_pixels: 0,
        peak_bytes: 0,
        step_us: 1000,
        runs: 1,
    };
    shell.scheduler.recall(&[known("big"), known("small")]);
    shell
}

#[test]
fn a_job_without_room_is_skipped_within_its_bound() {
    let mut shell = big_and_small(3);
    let big = shell.submit(ANN, ask("big"));
    let blocked = shell.submit(ANN, ask("big"));
    shell.start(big);
    for _ in 0..3 {
        let small = shell.submit(ANN, ask("small"));
        assert_eq!(shell.running(), [big, small], "there is room for it");
        shell.run(small, 1);
    }
    let small = shell.submit(ANN, ask("small"));
    assert_eq!(shell.running(), [big], "3 ms have gone past the blocked one");
    let bens = shell.submit(BEN, ask("small"));
    assert_eq!(shell.running(), [big, bens], "which is her affair");
    shell.finish(big);
    assert_eq!(shell.launched[shell.launched.len() - 2..], [blocked, small]);
}

#[test]
fn nobody_runs_far_ahead_of_a_uid_that_waits_for_room() {
    let mut shell = big_and_small(2);
    let big = shell.submit(BEN, ask("big"));
    let blocked = shell.submit(ANN, ask("big"));
    shell.start(big);
    // She begins where he is. He may be 3 ms ahead of her when he gets another lane.
    for _ in 0..4 {
        let small = shell.submit(BEN, ask("small"));
        assert_eq!(shell.running(), [big, small]);
        shell.run(small, 1);
    }
    let small = shell.submit(BEN, ask("small"));
    assert_eq!(shell.running(), [big]);
    shell.finish(big);
    assert_eq!(shell.running(), [blocked, small]);
}

#[test]
fn an_overdue_job_gets_its_model_at_once() {
    let mut shell = Shell::new(only(Class { aging_ms: 2, batch_wait_ms: 1_000_000, ..for_one() }), models());
    let first = shell.submit(ANN, ask("a"));
    shell.load_and_run(first, "a", 1);
    let known = shell.submit(ANN, ask("a"));
    let other = shell.submit(ANN, ask("b"));
    let batch: Vec<JobId> = (0..3).map(|_| shell.submit(ANN, prior(1, ask("a")))).collect();
    shell.run(known, 1);
    shell.run(batch[0], 1);
    assert_eq!(shell.running(), [batch[1]]);
    shell.run(batch[1], 1);
    assert_eq!(shell.take_evicted(), ["a"], "2 ms have gone past it");
    shell.unloaded("a");
    assert_eq!(shell.running(), [other]);
}

#[test]
fn a_launch_says_what_the_job_may_use_and_whether_to_flush() {
    for (flush, expected) in [
        (FlushRule::Never, [false, false]),
        (FlushRule::OnPressure, [false, true]),
        (FlushRule::BeforeEach, [true, true]),
    ] {
        // 10 of 100 bytes are left beside the first, fewer beside the second.
        let rooms = vec![model("a", 40, 50), model("b", 40, 51)];
        for (name, flushes, lease) in [("a", expected[0], 50), ("b", expected[1], 51)] {
            let mut shell = Shell::new(only(Class { flush, ..class(1) }), rooms.clone());
            shell.submit(ANN, ask(name));
            let launch = shell.take_effects().into_iter().find_map(|effect| match effect {
                Effect::Launch { lease_bytes, flush, attempt, .. } => Some((lease_bytes, flush, attempt)),
                Effect::Record(_)
                | Effect::Accept(..)
                | Effect::Reject(..)
                | Effect::Stop(_)
                | Effect::Gate { .. }
                | Effect::Evict { .. }
                | Effect::Conclude { .. }
                | Effect::Amend(_)
                | Effect::Keep(_)
                | Effect::AttemptEnded { .. }
                | Effect::BackOff { .. }
                | Effect::Flush { .. }
                | Effect::Advanced
                | Effect::Tell(..) => None,
            });
            assert_eq!(launch, Some((lease, flushes, 1)), "{flush:?} {name}");
        }
    }
}

#[test]
fn weights_count_as_the_engine_says() {
    let mut shell = Shell::with_memory(1, 100, models());
    let job = shell.submit(ANN, ask("a"));
    shell.input(Input::Loaded { class: 0, model: "a".to_owned(), bytes: 70 });
    shell.input(Input::Loaded { class: 0, model: "unknown".to_owned(), bytes: 70 });
    let partition = shell.scheduler.classes()[0].partition;
    assert_eq!((partition.weights_bytes, partition.leased_bytes, partition.cap_bytes), (70, 10, 100));
    shell.run(job, 1);
    let other = shell.submit(ANN, ask("b"));
    assert_eq!(shell.take_evicted(), ["a"], "50 more do not fit beside 70");
    shell.unloaded("a");
    shell.unloaded("unknown");
    assert_eq!(shell.running(), [other]);
}
