//! What a scenario must keep to. Everything in it has a bound, so that a simulation does, too.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::ops::RangeInclusive;

use gpusched_core::policy::routing::route;
use gpusched_shared::TaskKind;
use gpusched_shared::reflect::{MAX_CHECKS, ROUNDS};
use gpusched_shared::spec::{PRIORITY, STEPS};

use super::{ArrivalSpec, ReflectSpec, Scenario, ScenarioError, Seconds, When};

/// The most classes.
pub const CLASSES: usize = 16;
/// The most lanes in all.
pub const LANES: u32 = 256;
/// The most jobs in all, with the stages that reflecting ones may have; those that arrive at random are counted by their
/// mean.
pub const JOBS: u64 = 10_000_000;
/// The most sections of any other kind.
const SECTIONS: usize = 1000;
/// The most yield points of a job, and the most files of a model.
const YIELDS: u32 = 100_000;
/// The most deaths of the engine.
const ENGINE_LOSSES: u32 = 10_000;

impl Scenario {
    /// Checks all of it.
    ///
    /// # Errors
    /// [`ScenarioError::Invalid`] or [`ScenarioError::Plan`] for the first thing that is wrong with it.
    pub fn check(&self) -> Result<(), ScenarioError> {
        within("[[class]] sections", self.classes.len(), 1..=CLASSES)?;
        for (what, count) in [
            ("[[route]] sections", self.routes.len()),
            ("[[model]] sections", self.models.len()),
            ("[[kind]] sections", self.kinds.len()),
            ("[[arrival]] sections", self.arrivals.len()),
            ("[[contention]] sections", self.contentions.len()),
        ] {
            within(what, count, 0..=SECTIONS)?;
        }
        self.check_classes()?;
        self.check_models_and_kinds()?;
        self.plan()?;
        self.check_arrivals()?;
        for contention in &self.contentions {
            for class in [&contention.class, &contention.beside] {
                let known = self.classes.iter().any(|known| known.name == *class);
                known.then_some(()).ok_or_else(|| undefined("[[contention]]", "class", class))?;
            }
            within("factor of [[contention]]", contention.factor, 1.0..=1000.0)?;
        }
        self.check_faults()
    }

    fn check_classes(&self) -> Result<(), ScenarioError> {
        for class in &self.classes {
            within(&format!("lanes of class {:?}", class.name), class.lanes, 1..=LANES)?;
            within(&format!("min_share_percent of class {:?}", class.name), class.min_share_percent, 0..=100)?;
        }
        within("lanes in all", self.classes.iter().map(|class| class.lanes).sum(), 1..=LANES)?;
        if self.classes.iter().filter(|class| class.partition.is_none()).count() > 1 {
            return invalid("more than one class without a partition; what the others leave can go to one only");
        }
        let given = self.given_bytes();
        if given > self.device.as_u64() {
            let (given, device) = (bytesize::ByteSize(given).display().si(), self.device.display().si());
            return invalid(format!("the partitions take {given} together, the device has {device}"));
        }
        Ok(())
    }

    fn check_models_and_kinds(&self) -> Result<(), ScenarioError> {
        unique("model", self.models.iter().map(|model| model.name.as_str()))?;
        unique("kind", self.kinds.iter().map(|kind| kind.name.as_str()))?;
        for model in &self.models {
            within(&format!("files of model {:?}", model.name), model.files, 1..=YIELDS)?;
            if model.peak.is_some_and(|peak| peak > model.memory) {
                return invalid(format!(
                    "jobs of model {:?} use more at their peak than they are promised",
                    model.name
                ));
            }
        }
        for kind in &self.kinds {
            let name = &kind.name;
            if !self.models.iter().any(|model| model.name == kind.model) {
                return Err(undefined(&format!("kind {name:?}"), "model", &kind.model));
            }
            if kind.task == TaskKind::Edit {
                return invalid(format!(
                    "kind {name:?} is an edit, which is several jobs; add a kind for each of its stages"
                ));
            }
            within(&format!("steps of kind {name:?}"), kind.steps, STEPS)?;
            let yields = kind.steps.saturating_mul(kind.yields_per_step);
            within(&format!("steps times yields_per_step of kind {name:?}"), yields, 1..=YIELDS)?;
            ordered(&format!("run_s of kind {name:?}"), kind.run_s)?;
        }
        Ok(())
    }

    fn check_arrivals(&self) -> Result<(), ScenarioError> {
        let streams: Vec<&str> = self.arrivals.iter().map(ArrivalSpec::stream).collect();
        unique("arrival", streams.iter().copied())?;
        let mut jobs = 0.0;
        for (index, arrival) in self.arrivals.iter().enumerate() {
            let name = arrival.stream();
            if !self.kinds.iter().any(|kind| kind.name == arrival.kind) {
                return Err(undefined(&format!("arrival {name:?}"), "kind", &arrival.kind));
            }
            within(&format!("priority of arrival {name:?}"), arrival.priority, PRIORITY)?;
            if [arrival.queue_timeout_s, arrival.run_timeout_s].contains(&Some(Seconds::default())) {
                return invalid(format!("a timeout of arrival {name:?} is 0; it must be after now"));
            }
            if route(self.plan()?.routes(), &self.job(arrival), arrival.uid).is_none() {
                return invalid(format!("no [[route]] takes the jobs of arrival {name:?}; add one"));
            }
            let stages = arrival.reflect.as_ref().map_or(Ok(0), |reflect| self.check_reflect(arrival, reflect))?;
            let arriving = match &arrival.when {
                When::AtOnce { count, .. } | When::Every { count, .. } | When::Closed { count, .. } => *count as f64,
                When::Follow { stream, every, count, .. } => {
                    within(&format!("every of arrival {name:?}"), *every, 1..=JOBS)?;
                    // Only those before it, so that there is no circle in which nobody begins.
                    if !streams[..index].contains(&stream.as_str()) {
                        return Err(undefined(&format!("arrival {name:?}"), "earlier arrival", stream));
                    }
                    *count as f64
                }
                When::Poisson { per_s, for_s, .. } => {
                    within(&format!("per_s of arrival {name:?}"), *per_s, 1e-9..=1e6)?;
                    per_s * f64::from(*for_s)
                }
                When::Load { load, for_s, .. } => {
                    within(&format!("load of arrival {name:?}"), *load, 1e-6..=f64::from(LANES))?;
                    let mean_s = self.kind(&arrival.kind).map_or(0.0, |kind| mean_s(kind.run_s));
                    within(&format!("mean run time of arrival {name:?}"), mean_s, 1e-6..=1e9)?;
                    load / mean_s * f64::from(*for_s)
                }
            };
            jobs += arriving * f64::from(1 + stages);
        }
        within("jobs in all", jobs, 0.0..=JOBS as f64)
    }

    /// Checks how an arrival's pictures are checked; the answer is the most stages of one of its jobs.
    fn check_reflect(&self, arrival: &ArrivalSpec, reflect: &ReflectSpec) -> Result<u32, ScenarioError> {
        let name = arrival.stream();
        if self.kind(&arrival.kind).is_some_and(|kind| kind.task == TaskKind::Vqa) {
            return invalid(format!("arrival {name:?} reflects, but makes no pictures"));
        }
        within(&format!("rounds of arrival {name:?}"), reflect.rounds, ROUNDS)?;
        within(&format!("checks of arrival {name:?}"), usize::from(reflect.checks), 1..=MAX_CHECKS)?;
        for (what, probability) in
            [("right", reflect.right), ("false_pass", reflect.false_pass), ("false_fail", reflect.false_fail)]
        {
            within(&format!("probability {what} of arrival {name:?}"), probability, 0.0..=1.0)?;
        }
        let Some(judge) = self.judge(reflect) else {
            let asked = reflect.judge.as_deref().unwrap_or("any");
            return invalid(format!(
                "arrival {name:?} reflects, and no kind {asked:?} of task \"vqa\" is defined; add one"
            ));
        };
        if route(self.plan()?.routes(), &self.check_job(arrival, judge), arrival.uid).is_none() {
            return invalid(format!("no [[route]] takes the checks of arrival {name:?}; add one"));
        }
        Ok(u32::from(reflect.rounds) * (1 + u32::from(reflect.checks)))
    }

    fn check_faults(&self) -> Result<(), ScenarioError> {
        let faults = &self.faults;
        for (name, probability) in [
            ("oom", faults.oom),
            ("stall", faults.stall),
            ("cancel", faults.cancel),
            ("vanish", faults.vanish),
            ("journal", faults.journal),
        ] {
            within(&format!("probability {name} of [faults]"), probability, 0.0..=1.0)?;
        }
        within("factor of [retry]", self.retry.factor, 1.0..=100.0)?;
        within("engine_losses of [faults]", faults.engine_losses, 0..=ENGINE_LOSSES)?;
        ordered("stall_s of [faults]", faults.stall_s)?;
        ordered("journal_s", self.journal_s)
    }
}

/// The mean of evenly distributed times, in seconds.
pub(super) fn mean_s((least, most): (Seconds, Seconds)) -> f64 {
    f64::midpoint(f64::from(least), f64::from(most))
}

fn invalid<T>(message: impl Into<String>) -> Result<T, ScenarioError> {
    Err(ScenarioError::Invalid(message.into()))
}

fn undefined(whose: &str, what: &str, name: &str) -> ScenarioError {
    ScenarioError::Invalid(format!("{whose} names {what} {name:?}, which is not defined"))
}

fn within<T: PartialOrd + Display>(what: &str, value: T, range: RangeInclusive<T>) -> Result<(), ScenarioError> {
    if range.contains(&value) {
        return Ok(());
    }
    invalid(format!("{what}: {value} is not within {} to {}", range.start(), range.end()))
}

fn ordered(what: &str, (least, most): (Seconds, Seconds)) -> Result<(), ScenarioError> {
    if least <= most { Ok(()) } else { invalid(format!("{what}: the first is larger than the second")) }
}

fn unique<'a>(what: &str, names: impl Iterator<Item = &'a str>) -> Result<(), ScenarioError> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !seen.insert(name) {
            return invalid(format!("{what} {name:?} is defined twice"));
        }
    }
    Ok(())
}
