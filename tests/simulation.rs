//! The real scheduler in a simulated world: a journal that takes its time, an engine that fails, clients that come and
//! go, a daemon that dies. Every seed is a different history; a failing one is printed and can be run alone with
//! `GPUSCHED_SEED=n cargo test -p gpusched-tests --test simulation`.

mod world;

use world::World;

/// Histories to run, and steps in each.
const SEEDS: u64 = 2000;
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
    let mut ended = 0;
    for seed in seeds {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.settle();
            world.ended()
        });
        match run {
            Ok(jobs) => ended += jobs,
            Err(panic) => {
                eprintln!("GPUSCHED_SEED={seed} fails");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{ended} jobs ended");
    assert!(ended > 0, "histories with jobs in them");
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

#[test]
fn light_jobs_do_not_wait_for_heavy_ones() {
    let mut world = World::new(1);
    let heavy: Vec<_> = (0..3).map(|_| world.submit_heavy()).collect();
    let light: Vec<_> = (0..4).map(|_| world.submit_light()).collect();
    world.record_all();
    assert_eq!(world.on_lanes(), [&heavy[..1], &light[..]].concat(), "one heavy and four light jobs run");
}
