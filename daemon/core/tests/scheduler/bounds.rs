//! The bounds that the scheduler promises, measured on lanes: fair shares, and how much is let past whom.

use gpusched_core::{Catalog, Class, Input, Measurement, Scheduler, Time};
use gpusched_shared::{JobId, Uid};
use proptest::prelude::*;

use crate::mill::{Ends, Mill, Work};
use crate::shell::{ANN, BEN, ask, model, only, prior};

const LONGEST_US: u64 = 10_000;
const AGING_US: u64 = 25_000;

/// A job to be, as drawn: its model, its priority, and how long it takes in microseconds.
type Drawn = (usize, i8, u64);

fn drawn() -> impl Strategy<Value = Drawn> {
    (0..3_usize, -5..6_i8, 1..=LONGEST_US)
}

/// A class with so many lanes and a partition of so many bytes. Its models take 30 bytes of it, and each job 10 more.
fn mill(lanes: u32, cap_bytes: u64) -> Mill {
    let class = Class { cap_bytes, aging_ms: AGING_US / 1000, batch_wait_ms: 5, ..Class::new("c", lanes) };
    let models = ["a", "b", "c"].map(|name| model(name, 30, 10)).to_vec();
    let mut scheduler = Scheduler::new(only(class), Catalog::new(models), JobId(1));
    // Nothing takes longer, nor is thought to.
    let known = |name: &str| Measurement {
        model: name.to_owned(),
        width: 0,
        height: 0,
        pictures: 0,
        input_pixels: 0,
        peak_bytes: 0,
        step_us: LONGEST_US / 2,
        runs: 1,
    };
    scheduler.recall(&["a", "b", "c"].map(known));
    Mill::new(scheduler)
}

fn submit(mill: &mut Mill, uid: Uid, (model, priority, run_us): Drawn) -> JobId {
    let work = Work { run_us, gap_us: run_us, ends: Ends::Answered };
    mill.submit(uid, prior(priority, ask(["a", "b", "c"][model])), work).expect("the queue is long enough")
}

/// Lane time that a uid's jobs have taken.
fn worked_us(mill: &Mill, uid: Uid) -> u64 {
    mill.jobs.values().filter(|job| job.uid == uid).map(|job| job.worked_us).sum()
}

/// The longest that any job held a lane, loading its model included.
fn longest_us(mill: &Mill) -> u64 {
    mill.jobs.values().map(|job| job.worked_us).max().unwrap_or(0).max(LONGEST_US)
}

#[test]
fn two_uids_that_always_have_work_get_the_same_lane_time() {
    const JOBS: usize = 10_000;
    for lanes in [1, 3] {
        let mut mill = mill(lanes, u64::MAX);
        // She has three jobs waiting, short ones of high priority; he has thirty, of all kinds and longer ones.
        let mut draw = 0_u64;
        while mill.jobs.len() < JOBS {
            for (uid, backlog) in [(ANN, 3), (BEN, 30)] {
                for _ in mill.waiting(uid)..backlog {
                    draw = draw.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    let (of_64, priority) = (draw >> 58, (draw >> 40) as i8 % 5);
                    let (most, priority) = if uid == ANN { (LONGEST_US / 8, 100) } else { (LONGEST_US, priority) };
                    submit(&mut mill, uid, (of_64 as usize % 3, priority, most * (of_64 + 1) / 64));
                }
            }
            assert!(mill.step_until(Time(u64::MAX)));
        }
        let (anns, bens) = (worked_us(&mill, ANN), worked_us(&mill, BEN));
        let share = anns as f64 / (anns + bens) as f64;
        assert!((0.475..=0.525).contains(&share), "{lanes} lanes: she had {share} of {} us", anns + bens);
        let jobs = |uid| mill.jobs.values().filter(|job| job.uid == uid && job.outcome.is_some()).count();
        assert!(jobs(ANN) > 3 * jobs(BEN), "places were not what was shared");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However little memory there is and whatever the priorities: a uid's later jobs get at most the bound, and one job
    /// for each lane that had been started when the bound was reached.
    #[test]
    fn within_a_uid_no_more_than_the_bound_goes_past_a_waiting_job(
        jobs in proptest::collection::vec((drawn(), 1..3_u32, 0..9_000_u64), 1..120),
        lanes in 1..4_u32,
        cap_bytes in 40..130_u64,
    ) {
        let mut mill = mill(lanes, cap_bytes);
        for (job, uid, us) in jobs {
            submit(&mut mill, uid, job);
            mill.pass(us);
        }
        mill.finish();
        let most = AGING_US + u64::from(lanes) * longest_us(&mill);
        for (id, job) in &mill.jobs {
            let launched = job.launched.expect("all ran");
            let later = mill.jobs.range(JobId(id.0 + 1)..).map(|(_, later)| later).filter(|later| later.uid == job.uid);
            let passed = later.filter(|later| later.launched < Some(launched));
            let passed_us: u64 = passed.map(|later| later.worked_us).sum();
            prop_assert!(passed_us <= most, "{passed_us} us went past job {id}");
        }
    }

    /// Likewise, while both always have work: no uid gets ahead of another by more than that.
    #[test]
    fn between_uids_no_more_than_the_bound_goes_past(
        draws in proptest::collection::vec(drawn(), 60..400),
        lanes in 1..4_u32,
        cap_bytes in 40..130_u64,
    ) {
        let mut mill = mill(lanes, cap_bytes);
        let mut draws = draws.into_iter();
        // They begin level: whoever comes while others run begins where those are.
        mill.input(Input::Pause { class: 0, paused: true });
        'history: loop {
            for (uid, backlog) in [(ANN, 8), (BEN, 3)] {
                for _ in mill.waiting(uid)..backlog {
                    let Some(job) = draws.next() else { break 'history };
                    // He wants one model, she all of them.
                    submit(&mut mill, uid, if uid == BEN { (0, job.1, job.2) } else { job });
                }
            }
            mill.input(Input::Pause { class: 0, paused: false });
            mill.step_until(Time(u64::MAX));
            let apart = worked_us(&mill, ANN).abs_diff(worked_us(&mill, BEN));
            let most = AGING_US + u64::from(lanes) * longest_us(&mill);
            prop_assert!(apart <= most, "{apart} us apart, which is more than {most}");
        }
    }
}
