//! What the simulated engine and clients do, to the microsecond.

use gpusched_sim::timeline::{AttemptLine, JobLine, Span};
use gpusched_sim::{Policy, Scenario, Timeline, simulate_recorded};

/// Two classes of one lane each; images take 10 s with a yield point each second, answers 1 s without. Both models take 2 s
/// to load, from four files. `more` comes last.
fn scenario(gate: &str, more: &str) -> Scenario {
    let text = format!(
        r#"
        title = "by hand"
        device = "100GB"
        order = "as_given"

        [[class]]
        name = "heavy"
        partition = "50GB"
        gate = "{gate}"

        [[class]]
        name = "light"
        lanes = 2
        priority = 1

        [[route]]
        task = "txt2img"
        class = "heavy"

        [[route]]
        class = "light"

        [[model]]
        name = "flux"
        weights = "30GB"
        memory = "11GB"
        load_s = 2
        files = 4

        [[model]]
        name = "vilt"
        weights = "1GB"
        memory = "1.1GB"
        load_s = 2
        files = 4

        [[kind]]
        name = "image"
        task = "txt2img"
        model = "flux"
        run_s = [10, 10]
        steps = 10

        [[kind]]
        name = "answer"
        task = "vqa"
        model = "vilt"
        run_s = [1, 1]
        {more}"#
    );
    Scenario::parse(&text, "by hand").unwrap_or_else(|e| panic!("{e}"))
}

fn run(scenario: &Scenario) -> Timeline {
    let (report, timeline) = simulate_recorded(scenario, Policy::MultiQueue).expect("it is valid");
    assert_eq!(report.violations, Vec::<String>::new());
    timeline
}

fn attempt(job: &JobLine) -> &AttemptLine {
    let [attempt] = job.attempts.as_slice() else { panic!("one attempt: {job:?}") };
    attempt
}

/// When the jobs of a class were on lanes, in seconds.
fn stays(timeline: &Timeline, class: &str) -> Vec<(f64, f64)> {
    let jobs = timeline.jobs.iter().filter(|job| job.class == class).map(attempt);
    jobs.map(|stay| (stay.started_us as f64 / 1e6, stay.ended_us as f64 / 1e6)).collect()
}

const IMAGE: &str = r#"[[arrival]]
        kind = "image"
        when = { pattern = "at_once", count = 1 }
        "#;

fn answer_at(seconds: f64) -> String {
    format!("[[arrival]]\nkind = \"answer\"\nwhen = {{ pattern = \"at_once\", count = 1, start_s = {seconds} }}\n")
}

#[test]
fn heavy_work_parks_at_its_next_yield_point_while_light_work_computes() {
    let timeline = run(&scenario("block", &format!("{IMAGE}{}", answer_at(3.5))));
    // The answer loads its model until 5.5, which needs no way made, and computes until 6.5. The image, which computes
    // since 2, has yield points at whole seconds.
    assert_eq!(stays(&timeline, "light"), [(3.5, 6.5)]);
    assert_eq!(stays(&timeline, "heavy"), [(0.0, 12.5)]);
    let heavy = timeline.jobs.iter().find(|job| job.class == "heavy").expect("it is there");
    assert_eq!(attempt(heavy).parked, [Span { from_us: 6_000_000, until_us: 6_500_000 }]);
}

#[test]
fn work_that_computes_side_by_side_is_slower() {
    let contention = "[[contention]]\nclass = \"light\"\nbeside = \"heavy\"\nfactor = 3.0\n\
                      [[contention]]\nclass = \"heavy\"\nbeside = \"light\"\nfactor = 1.5\n";
    let timeline = run(&scenario("off", &format!("{IMAGE}{}{contention}", answer_at(3.5))));
    // From 5.5 on the answer computes and takes three times as long; meanwhile 2 s of the image's work get done.
    assert_eq!(stays(&timeline, "light"), [(3.5, 8.5)]);
    assert_eq!(stays(&timeline, "heavy"), [(0.0, 13.0)]);
    // With a gate the image has half a second of work to its next yield point as the answer begins to compute. That takes
    // 0.75 s, in which a quarter of the answer is done; the rest is done alone.
    let gated = run(&scenario("block", &format!("{IMAGE}{}{contention}", answer_at(3.5))));
    assert_eq!(stays(&gated, "light"), [(3.5, 7.0)]);
}

#[test]
fn jobs_wait_for_a_load_that_is_under_way() {
    let two = "[[arrival]]\nkind = \"answer\"\nwhen = { pattern = \"every\", every_s = 0.5, count = 2 }\n";
    assert_eq!(stays(&run(&scenario("off", two)), "light"), [(0.0, 3.0), (0.5, 3.0)]);
}

#[test]
fn a_load_can_be_left_after_each_file_and_is_taken_over() {
    let impatient = "[[arrival]]\nname = \"impatient\"\nkind = \"answer\"\nrun_timeout_s = 0.7\n\
                     when = { pattern = \"at_once\", count = 1 }\n";
    let timeline = run(&scenario("off", &format!("{impatient}{}", answer_at(0.2))));
    assert_eq!(timeline.jobs[0].outcome, "expired");
    assert_eq!(stays(&timeline, "light"), [(0.0, 1.0), (0.2, 4.0)]);
}

#[test]
fn stalls_and_lack_of_memory_come_at_yield_points() {
    let stalls = format!("{IMAGE}[faults]\nstall = 1\nstall_s = [5, 5]\n");
    assert_eq!(stays(&run(&scenario("off", &stalls)), "heavy"), [(0.0, 17.0)]);
    for seed in 0..20 {
        let timeline =
            run(&Scenario { seed, ..scenario("off", &format!("{IMAGE}[retry]\nbudget = 0\n[faults]\noom = 1\n")) });
        let [job] = timeline.jobs.as_slice() else { panic!("one job") };
        assert_eq!(job.outcome, "failed");
        let computed_us = attempt(job).ended_us - 2_000_000;
        assert!(computed_us.is_multiple_of(1_000_000) && (1..10).contains(&(computed_us / 1_000_000)), "{computed_us}");
    }
}

#[test]
fn a_job_that_is_cancelled_runs_on_to_its_next_yield_point_only() {
    let mut seen = 0;
    for seed in 0..50 {
        let cancelled = format!("{IMAGE}[faults]\ncancel = 1\nwithin_s = 20\n");
        let timeline = run(&Scenario { seed, ..scenario("off", &cancelled) });
        let [job] = timeline.jobs.as_slice() else { panic!("one job") };
        if job.outcome == "cancelled" {
            let ended_us = attempt(job).ended_us;
            // Half a second for each file, a second for each step.
            assert!(ended_us.is_multiple_of(500_000), "{ended_us}");
            assert!(ended_us <= 2_000_000 || ended_us.is_multiple_of(1_000_000), "{ended_us}");
            seen += 1;
        }
    }
    assert!((20..50).contains(&seen), "some are done before they are cancelled: {seen}");
}

#[test]
fn a_lost_engine_takes_models_along_and_jobs_run_again() {
    let lost = format!("{IMAGE}[faults]\nengine_losses = 1\nengine_loss_every_s = 5\n");
    let mut twice = 0;
    for seed in 0..20 {
        let timeline = run(&Scenario { seed, ..scenario("off", &lost) });
        let [job] = timeline.jobs.as_slice() else { panic!("one job") };
        assert_eq!(job.outcome, "done");
        if let [first, second] = job.attempts.as_slice() {
            assert_eq!(first.ended_us, second.started_us);
            assert_eq!(second.ended_us - second.started_us, 12_000_000, "it loads and computes anew");
            twice += 1;
        }
    }
    assert!(twice > 10, "{twice}");
}

#[test]
fn memory_comes_and_goes_with_models_and_jobs() {
    let timeline = run(&scenario("off", IMAGE));
    let held: Vec<_> = timeline.memory.iter().map(|point| (point.at_us / 1_000_000, point.live_bytes)).collect();
    // Of the 11 GB that are promised 10 are used.
    assert_eq!(held, [(0, 30_000_000_000), (2, 40_000_000_000), (12, 30_000_000_000)]);
}

#[test]
fn clients_come_when_they_say() {
    let submitted = |timeline: &Timeline, what: &str| -> Vec<u64> {
        let mut jobs: Vec<_> = timeline.jobs.iter().filter(|job| job.what == what).collect();
        jobs.sort_by_key(|job| job.job);
        jobs.iter().map(|job| job.submitted_us / 100_000).collect()
    };
    let closed = "[[arrival]]\nkind = \"image\"\nwhen = { pattern = \"closed\", count = 3, think_s = 1, start_s = 1 }\n\
                  [[arrival]]\nkind = \"answer\"\n\
                  when = { pattern = \"follow\", stream = \"image\", every = 2, count = 5, delay_s = 0.5 }\n";
    let timeline = run(&scenario("off", closed));
    // The first image ends at 13, the others ten seconds after they begin.
    assert_eq!(submitted(&timeline, "image"), [10, 140, 250]);
    assert_eq!(submitted(&timeline, "answer"), [135, 355], "after the first and after the third");

    let load =
        "[[arrival]]\nkind = \"answer\"\nwhen = { pattern = \"load\", load = 0.5, start_s = 10, for_s = 10_000 }\n";
    let timeline = run(&scenario("off", load));
    let times = submitted(&timeline, "answer");
    assert!((4700..5300).contains(&times.len()), "half of the time of a lane: {}", times.len());
    assert!(times.iter().all(|at| (100..100_100).contains(at)));
}
