//! How many lanes fit, and that simulation agrees.

use std::path::Path;

use bytesize::ByteSize;
use gpusched_sim::plan::Fit;
use gpusched_sim::{Scenario, load, plan};

fn published() -> Scenario {
    load(Path::new("published")).expect("it is shipped")
}

fn fits(scenario: &Scenario) -> Vec<Fit> {
    let fits = plan(scenario).unwrap_or_else(|e| panic!("{e}"));
    for fit in &fits {
        assert_eq!(fit.confirmed.busy_lanes, fit.lanes, "so many run at once: {fit}");
        assert_eq!(fit.confirmed.longest_wait_us, 0, "and none waits for memory: {fit}");
        if fit.one_more_bytes.is_some() {
            assert_eq!(fit.confirmed.busy_of_one_more, Some(fit.lanes), "with one more, one waits: {fit}");
        }
    }
    fits
}

#[test]
fn the_published_question() {
    let answers: Vec<String> = fits(&published()).iter().map(ToString::to_string).collect();
    assert_eq!(
        answers,
        [
            "heavy: 1 lane fits (1 configured): 1 x image take 34.0 GB of 34.0 GB. Not one more: it needs 4.0 GB, 0 B are \
             left of 34.0 GB. Simulated: 1 ran at once, the longest wait was 0.000 s; with 2 lanes no more than 1 ran at \
             once",
            "light: 29 lanes fit (4 configured): 29 x answer take 13.6 GB of 14.0 GB. Not one more: it needs 470.0 MB, \
             370.0 MB are left of 14.0 GB. Simulated: 29 ran at once, the longest wait was 0.000 s; with 30 lanes no more \
             than 29 ran at once",
        ]
    );
}

#[test]
fn shared_weights_count_once() {
    let mut scenario = published();
    scenario.models[1].weights = ByteSize::mb(450);
    scenario.models[1].memory = ByteSize::mb(200);
    // 14 GB - 0.45 GB hold 67.75 times 0.2 GB.
    assert_eq!(fits(&scenario)[1].lanes, 67);
}

#[test]
fn a_measured_peak_counts_with_its_margin() {
    let mut scenario = published();
    scenario.models[1].peak = Some(ByteSize::mb(470));
    // 14 GB hold 27.08 times 0.517 GB.
    assert_eq!(fits(&scenario)[1].lanes, 27);
}

#[test]
fn models_of_one_class_are_in_memory_together() {
    let scenario = load(Path::new("faults")).expect("it is shipped");
    let light = &fits(&scenario)[1];
    // 6 GB and 7.5 GB of weights are more than the 10 GB there are as soon as there are two lanes.
    assert_eq!((light.lanes, light.jobs.as_slice()), (1, [("hard answer".to_owned(), 1)].as_slice()));
    let larger = Scenario { device: ByteSize::gb(60), ..scenario };
    assert_eq!(fits(&larger)[1].lanes, 17);
}

#[test]
fn what_never_fits_and_what_always_does() {
    let mut scenario = published();
    scenario.models[1].weights = ByteSize::gb(15);
    assert_eq!(fits(&scenario)[1].lanes, 0);
    (scenario.models[1].weights, scenario.models[1].memory) = (ByteSize(0), ByteSize(0));
    let light = &fits(&scenario)[1];
    assert_eq!((light.lanes, light.one_more_bytes), (255, None));
}
