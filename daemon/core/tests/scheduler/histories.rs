//! Whatever happens, in whatever order: each accepted job ends exactly once, leases and weights stay within their
//! partitions, cancelled jobs run on to the next yield point at most, no model in use is evicted, and jobs that were
//! parked go on. The [`mill`](crate::mill) and the scheduler's own checks watch for these after every input.

use gpusched_core::{Catalog, Class, GateRule, Input, Plan, Scheduler};
use gpusched_shared::{JobId, JobSpec, Uid};
use proptest::prelude::*;

use crate::mill::{Ends, Mill, Work};
use crate::shell::{ask, heavy_and_light, model, paint};

#[derive(Debug, Clone)]
enum Action {
    Submit { uid: Uid, spec: JobSpec, work: Work },
    Cancel { place: usize },
    SetPriority { place: usize, priority: i8 },
    Pass { us: u64 },
    Pause { class: usize, paused: bool },
    Drain { on: bool },
    LoseEngine,
}

/// Two of the three models fit into a partition at a time.
const MODELS: [&str; 3] = ["a", "b", "c"];

fn plan() -> Plan {
    let limits = Class { cap_bytes: 100, queue_limit: 20, aging_ms: 30, batch_wait_ms: 10, ..Class::new("", 1) };
    let gate = Some(GateRule { min_share_milli: 200, window_ms: 8 });
    let heavy = Class { name: "heavy".to_owned(), lanes: 2, gate, keep_alive_ms: Some(5), ..limits.clone() };
    let pinned = vec!["a".to_owned()];
    let light = Class { name: "light".to_owned(), lanes: 3, priority: 1, pinned, ..limits };
    heavy_and_light(heavy, light)
}

fn submission() -> impl Strategy<Value = Action> {
    let limit = || prop_oneof![4 => Just(None), 1 => (1..40_u64).prop_map(Some)];
    let ends = prop_oneof![
        6 => Just(Ends::Answered),
        2 => Just(Ends::Made),
        1 => (1..40_u64).prop_map(Ends::OutOfMemory),
    ];
    let spec = (any::<bool>(), 0..MODELS.len(), -3..4_i8, limit(), limit(), limit());
    let work = (1..12_000_u64, 1..3_000_u64, ends);
    (1..4_u32, spec, work).prop_map(
        |(uid, (heavy, model, priority, deadline_ms, queue_timeout_ms, run_timeout_ms), work)| {
            let spec = if heavy { paint(MODELS[model], 4) } else { ask(MODELS[model]) };
            let spec = JobSpec { priority, deadline_ms, queue_timeout_ms, run_timeout_ms, ..spec };
            let (run_us, gap_us, ends) = work;
            Action::Submit { uid, spec, work: Work { run_us, gap_us, ends } }
        },
    )
}

fn actions() -> impl Strategy<Value = Vec<Action>> {
    let action = prop_oneof![
        12 => submission(),
        2 => any::<usize>().prop_map(|place| Action::Cancel { place }),
        1 => (any::<usize>(), -3..4_i8).prop_map(|(place, priority)| Action::SetPriority { place, priority }),
        12 => (0..6_000_u64).prop_map(|us| Action::Pass { us }),
        1 => (0..2_usize, any::<bool>()).prop_map(|(class, paused)| Action::Pause { class, paused }),
        1 => any::<bool>().prop_map(|on| Action::Drain { on }),
        1 => Just(Action::LoseEngine),
    ];
    proptest::collection::vec(action, 1..150)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn every_job_ends_once_within_its_memory_whatever_happens(actions in actions(), quota in 0..3_u32) {
        let mut plan = plan();
        plan.quotas.running_per_uid = quota;
        let models = MODELS.map(|name| model(name, 30, 10)).to_vec();
        let mut mill = Mill::new(Scheduler::new(plan, Catalog::new(models), JobId(1)));
        for action in actions {
            let pick = |mill: &Mill, place: usize| mill.jobs.keys().nth(place % mill.jobs.len().max(1)).copied();
            match action {
                Action::Submit { uid, spec, work } => {
                    mill.submit(uid, spec, work);
                }
                Action::Cancel { place } => if let Some(id) = pick(&mill, place) {
                    mill.cancel(id);
                },
                Action::SetPriority { place, priority } => if let Some(id) = pick(&mill, place) {
                    mill.input(Input::SetPriority(id, priority));
                },
                Action::Pass { us } => mill.pass(us),
                Action::Pause { class, paused } => mill.input(Input::Pause { class, paused }),
                Action::Drain { on } => mill.input(Input::Drain(on)),
                Action::LoseEngine => mill.lose_engine(),
            }
        }
        for class in 0..2 {
            mill.input(Input::Pause { class, paused: false });
        }
        mill.finish();
    }
}
