//! The real scheduler in a simulated world: a journal that takes its time, an engine that stalls, runs out of memory and
//! fails, a judge of pictures that errs, clients that come and go, classes that are paused, rules that change, a daemon that dies. Every seed
//! is a different history; a failing one is printed and can be run alone with
//! `GPUSCHED_SEED=n cargo test -p gpusched-tests --test simulation`.

mod world;

use std::collections::BTreeMap;

use world::{Reflected, World};

/// Histories to run, and steps in each.
const SEEDS: u64 = 5000;
const STEPS: u32 = 300;

#[test]
fn every_accepted_job_ends_exactly_once_whatever_happens() {
    let seeds = match std::env::var("GPUSCHED_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("GPUSCHED_SEED is a number");
            seed..seed + 1
        }
        Err(_) => 0..SEEDS,
    };
    let whole = seeds.end - seeds.start == SEEDS;
    let mut ends: BTreeMap<&str, usize> = BTreeMap::new();
    let mut reflected = Reflected::default();
    let mut edited = 0;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.settle();
            (world.ends(), world.reflected(), world.edited())
        });
        match run {
            Ok((ends_of_this, reflected_of_this, edited_of_this)) => {
                edited += edited_of_this;
                ends_of_this.into_iter().for_each(|(word, jobs)| *ends.entry(word).or_default() += jobs);
                reflected.add(&reflected_of_this);
            }
            Err(panic) => {
                eprintln!("GPUSCHED_SEED={seed} fails");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("jobs ended: {ends:?}; edits that came to a picture: {edited}");
    assert!(!whole || edited > 0, "some edits come to a picture");
    let Reflected { passed, failed, rounds, first_passed, right } = reflected;
    let mean = rounds as f64 / (passed + failed).max(1) as f64;
    println!(
        "reflecting jobs: {passed} PASS ({first_passed} at once, {right} rightly), {failed} FAIL, {mean:.2} rounds each"
    );
    assert!(!whole || (first_passed > 0 && passed > first_passed && failed > 0), "reflection ends in every way, too");
    assert!(!whole || ends.len() == 4, "histories in which jobs end in every way there is: {ends:?}");
}

#[test]
fn a_seed_is_a_history() {
    let history = |seed| {
        let mut world = World::new(seed);
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        world.into_log()
    };
    assert_eq!(history(7), history(7));
    assert_ne!(history(7), history(8));
}
