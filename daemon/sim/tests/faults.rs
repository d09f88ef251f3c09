//! Whatever goes wrong: no rule is broken, and each accepted job ends exactly once.

use std::path::Path;

use gpusched_shared::TaskKind;
use gpusched_sim::scenario::{
    ArrivalSpec, ClassSpec, ContentionSpec, FaultSpec, Flush, Gate, KindSpec, ModelSpec, Order, QuotaSpec, ReflectSpec,
    RetrySpec, RouteSpec, Scenario, Seconds, When,
};
use gpusched_sim::{Policy, Report, load, simulate};
use proptest::prelude::*;

/// Every job that was handed in was refused or ended, once, and memory was never overdrawn.
fn all_accounted_for(report: &Report) {
    let seed = report.seed;
    assert_eq!(report.violations, Vec::<String>::new(), "{} seed {seed}", report.policy);
    for class in &report.classes {
        let refused: u64 = class.refused.values().sum();
        let ended = class.done + class.failed + class.cancelled + class.expired;
        assert_eq!(class.submitted, refused + ended, "{} seed {seed}: {class:?}", report.policy);
        assert!(class.peak_bytes <= class.cap_bytes, "{} seed {seed}: {class:?}", report.policy);
        if let Some(preemption) = class.preemption {
            assert!(preemption.max_us <= preemption.longest_gap_us + 1, "seed {seed}: {preemption:?}");
        }
    }
}

#[test]
fn hundreds_of_seeds() {
    let scenario = load(Path::new("faults")).expect("it is shipped");
    let mut seen = Report { engine_losses: 0, ..simulate(&scenario, Policy::Fifo).expect("it is valid") };
    for seed in 0..300 {
        let scenario = Scenario { seed, ..scenario.clone() };
        let policy = if seed % 4 == 0 { Policy::Fifo } else { Policy::MultiQueue };
        let report = simulate(&scenario, policy).expect("it is valid");
        all_accounted_for(&report);
        seen.engine_losses += report.engine_losses;
        for (sum, class) in seen.classes.iter_mut().zip(&report.classes) {
            sum.failed += class.failed;
            sum.cancelled += class.cancelled;
            sum.expired += class.expired;
        }
    }
    // Or else nothing was tried.
    assert!(seen.engine_losses > 300);
    assert!(seen.classes.iter().all(|class| class.failed > 300 && class.cancelled > 300), "{seen}");
    assert!(seen.classes[0].expired > 300, "{seen}");
}

fn seconds(us: u64) -> Seconds {
    Seconds::from_us(us)
}

fn when(count: u64) -> impl Strategy<Value = When> {
    prop_oneof![
        (0..count, 0u64..1000).prop_map(|(count, at)| When::AtOnce { count, start_s: seconds(at) }),
        (0..count, 0u64..1000).prop_map(|(count, gap)| When::Every {
            count,
            every_s: seconds(gap),
            start_s: seconds(0)
        }),
        (1u32..2000).prop_map(|per_s| When::Poisson {
            per_s: f64::from(per_s),
            start_s: seconds(5),
            for_s: seconds(20_000)
        }),
        (1u32..30).prop_map(|load| When::Load {
            load: f64::from(load) / 10.0,
            start_s: seconds(0),
            for_s: seconds(20_000)
        }),
        (0..count, 0u64..500).prop_map(|(count, think)| When::Closed {
            count,
            think_s: seconds(think),
            start_s: seconds(0)
        }),
    ]
}

fn class(name: &'static str) -> impl Strategy<Value = ClassSpec> {
    (
        (1u32..5, 1u32..20, 0i32..3, 40u64..200),
        (any::<bool>(), 0u32..=100, 0u64..5000),
        (0u64..5000, 0u64..5000, proptest::option::of(0u64..3000), any::<bool>(), 0u32..3),
    )
        .prop_map(move |(sizes, gate, rest)| {
            let (lanes, queue, priority, bytes) = sizes;
            let (aging, batch, keep, pin, flush) = rest;
            ClassSpec {
                name: name.to_owned(),
                lanes,
                queue,
                priority,
                partition: Some(bytesize::ByteSize(bytes)),
                flush: [Flush::BeforeEach, Flush::OnPressure, Flush::Never][flush as usize],
                gate: if gate.0 { Gate::Block } else { Gate::Off },
                min_share_percent: gate.1,
                min_share_window_s: seconds(gate.2),
                aging_s: seconds(aging),
                batch_wait_s: seconds(batch),
                keep_alive_s: keep.map(seconds),
                pin: if pin { vec!["m0".to_owned()] } else { Vec::new() },
            }
        })
}

fn faults() -> impl Strategy<Value = FaultSpec> {
    let probability = || prop_oneof![Just(0.0), 0.0..0.3];
    (probability(), probability(), probability(), probability(), probability(), 0u32..4, 1u64..5000).prop_map(
        |(oom, stall, cancel, vanish, journal, engine_losses, loss_us)| FaultSpec {
            engine_restart_s: seconds(loss_us / 7),
            oom,
            stall,
            stall_s: (seconds(0), seconds(2000)),
            cancel,
            vanish,
            within_s: seconds(3000),
            journal,
            engine_losses,
            engine_loss_every_s: seconds(loss_us),
        },
    )
}

fn reflect() -> impl Strategy<Value = ReflectSpec> {
    let lane_s = proptest::option::of((0u64..10_000).prop_map(seconds));
    (1u8..=4, 1u8..=4, lane_s, any::<bool>(), 0.0..1.0).prop_map(|(rounds, checks, lane_s, strict, right)| {
        ReflectSpec { rounds, checks, lane_s, strict, right, ..ReflectSpec::default() }
    })
}

prop_compose! {
    /// Three models, each with a kind of job, the last of which answers questions; two classes; a few clients. Everything
    /// takes up to a few milliseconds, and partitions hold a few models at most.
    fn scenario()(
        seed in any::<u64>(), as_given in any::<bool>(), journal in 0u64..300,
        heavy in class("heavy"), light in class("light"),
        models in proptest::collection::vec((1u64..60, 0u64..30, 0u64..2000, 1u32..5), 3),
        kinds in proptest::collection::vec((0u64..3000, 0u64..3000, 1u32..10, any::<bool>()), 3),
        streams in proptest::collection::vec(
            (0usize..3, 1u32..4, -3i8..3, when(20), any::<bool>(), proptest::option::weighted(0.3, reflect())), 1..6),
        queued_per_uid in 0u32..12, running_per_uid in 0u32..3, factor in 1.0..3.0f64, faults in faults(),
    ) -> Scenario {
        let model = |(index, (weights, memory, load_us, files)): (usize, &(u64, u64, u64, u32))| ModelSpec {
            name: format!("m{index}"),
            weights: bytesize::ByteSize(*weights),
            memory: bytesize::ByteSize(*memory),
            peak: None,
            load_s: seconds(*load_us),
            files: *files,
        };
        let kind = |(index, (from, more, yields, _)): (usize, &(u64, u64, u32, bool))| KindSpec {
            name: format!("k{index}"),
            task: if index == 2 { TaskKind::Vqa } else { TaskKind::Txt2Img },
            model: format!("m{index}"),
            // At least a microsecond, or no rate makes a load of it.
            run_s: (seconds(*from + 1), seconds(from + more + 1)),
            steps: *yields,
            yields_per_step: 2,
            store_s: seconds(journal / 2),
        };
        let mut arrivals: Vec<ArrivalSpec> = streams.into_iter().enumerate().map(|(index, (kind, uid, priority, when, limited, reflect))| {
            ArrivalSpec {
                name: Some(format!("s{index}")),
                uid,
                priority,
                queue_timeout_s: limited.then(|| seconds(4000)),
                run_timeout_s: limited.then(|| seconds(3000)),
                reflect: reflect.filter(|_| kind < 2),
                ..ArrivalSpec::new(format!("k{kind}"), when)
            }
        }).collect();
        let follow = When::Follow { stream: "s0".to_owned(), every: 2, count: 5, delay_s: seconds(10) };
        arrivals.push(ArrivalSpec { name: Some("follows".to_owned()), ..ArrivalSpec::new("k0", follow) });
        let route = |(index, (.., light)): (usize, &(u64, u64, u32, bool))| RouteSpec {
            task: None,
            model: Some(format!("m{index}")),
            uid: None,
            min_steps: None,
            max_steps: None,
            class: if *light { "light" } else { "heavy" }.to_owned(),
        };
        Scenario {
            title: "generated".to_owned(),
            seed,
            device: bytesize::ByteSize(1000),
            order: if as_given { Order::AsGiven } else { Order::Seeded },
            journal_s: (seconds(0), seconds(journal)),
            quotas: QuotaSpec { queued_per_uid, running_per_uid },
            retry: RetrySpec { budget: running_per_uid, base_s: seconds(journal), factor: factor.max(1.0), ceiling_s: seconds(3000) },
            routes: kinds.iter().enumerate().map(route).collect(),
            models: models.iter().enumerate().map(model).collect(),
            kinds: kinds.iter().enumerate().map(kind).collect(),
            classes: vec![heavy, light],
            arrivals,
            contentions: vec![ContentionSpec { class: "light".to_owned(), beside: "heavy".to_owned(), factor }],
            faults,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    #[test]
    fn any_scenario_ends_well(scenario in scenario(), fifo in any::<bool>()) {
        let policy = if fifo { Policy::Fifo } else { Policy::MultiQueue };
        all_accounted_for(&simulate(&scenario, policy).expect("it is valid"));
    }
}
