//! The engine of a scenario.

use crate::engine::{Engine, Model};
use crate::partition::Partition;
use crate::scenario::{ClassSpec, Scenario};
use crate::stretch::FULL;

pub(super) fn engine(scenario: &Scenario) -> Engine {
    let models = scenario.models.iter().map(|model| Model {
        name: model.name.clone(),
        weights_bytes: model.weights.as_u64(),
        load_us: model.load_s.us(),
        files: model.files,
        peak_bytes: model.peak_bytes(),
    });
    let partition =
        |class: &ClassSpec| Partition::new(class.name.clone(), scenario.cap_bytes(class), scenario.models.len());
    let lanes = scenario.classes.iter().enumerate().flat_map(|(index, class)| (0..class.lanes).map(move |_| index));
    let factor = |class: &str, beside: &str| {
        let found = scenario.contentions.iter().find(|c| c.class == class && c.beside == beside);
        found.map_or(FULL, |contention| (contention.factor * FULL as f64).round() as u64)
    };
    let names = || scenario.classes.iter().map(|class| class.name.as_str());
    let contention = names().map(|class| names().map(|beside| factor(class, beside)).collect()).collect();
    Engine::new(models.collect(), scenario.classes.iter().map(partition).collect(), lanes, contention)
}
