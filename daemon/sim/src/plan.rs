//! How many lanes of each class fit into its partition, and why not one more.
//!
//! The lanes of a class share the weights of its models, which are in memory once; what a job needs beside the weights, each
//! lane needs for itself. So many lanes fit as never have to wait for memory, whatever jobs of the class are on them: the
//! most demanding ones are counted. A simulation confirms each answer: with so many lanes those jobs all run at once, with
//! one lane more they do not.

use std::fmt;

use bytesize::ByteSize;
use gpusched_core::Policy;
use gpusched_core::policy::routing::route;
use gpusched_shared::Uid;
use serde::Serialize;

use crate::scenario::{
    ArrivalSpec, FaultSpec, KindSpec, LANES, ModelSpec, Order, QuotaSpec, Scenario, ScenarioError, Seconds, When,
};
use crate::simulate;

/// How many lanes of a class fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fit {
    /// The class.
    pub class: String,
    /// The lanes it has in the scenario.
    pub configured: u32,
    /// The most that fit.
    pub lanes: u32,
    /// The most demanding jobs for so many lanes: how many of which kind.
    pub jobs: Vec<(String, u32)>,
    /// What those need together, in bytes.
    pub needs_bytes: u64,
    /// The partition, in bytes.
    pub cap_bytes: u64,
    /// What one lane more would need beside that, in bytes; `None` where nothing but the number of lanes is the limit.
    pub one_more_bytes: Option<u64>,
    /// What the simulation said.
    pub confirmed: Confirmation,
}

/// What became of as many jobs as lanes, all handed in at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Confirmation {
    /// The most lanes that were busy at once, of as many as fit.
    pub busy_lanes: u32,
    /// The longest that a job waited then, in microseconds.
    pub longest_wait_us: u64,
    /// The most lanes that were busy at once, of one more than fit.
    pub busy_of_one_more: Option<u32>,
}

/// A kind of job of a class, and what it takes.
#[derive(Debug, Clone, Copy)]
struct Need<'a> {
    kind: &'a KindSpec,
    uid: Uid,
    weights_bytes: u64,
    run_bytes: u64,
}

/// The answer for each class of a scenario that has jobs of some kind. Arrivals and faults do not matter.
///
/// # Errors
/// What [`Scenario::check`] says.
pub fn plan(scenario: &Scenario) -> Result<Vec<Fit>, ScenarioError> {
    scenario.check()?;
    let fits = (0..scenario.classes.len()).map(|class| fit(scenario, class));
    fits.filter_map(Result::transpose).collect()
}

fn fit(scenario: &Scenario, index: usize) -> Result<Option<Fit>, ScenarioError> {
    let class = &scenario.classes[index];
    let cap_bytes = scenario.cap_bytes(class);
    let needs = needs(scenario, index)?;
    if needs.is_empty() {
        return Ok(None);
    }
    let others: u32 = scenario.classes.iter().map(|other| other.lanes).sum::<u32>() - class.lanes;
    let most = LANES - others;
    let bytes = |lanes: u32| total(&most_demanding(&needs, lanes));
    let lanes = (1..=most).take_while(|lanes| bytes(*lanes) <= cap_bytes).last().unwrap_or(0);
    let needs_bytes = bytes(lanes);
    let one_more = lanes < most;
    let busy_of_one_more = one_more.then(|| confirm(scenario, index, &needs, lanes + 1)).transpose()?;
    let (busy_lanes, longest_wait_us) = if lanes == 0 { (0, 0) } else { confirm(scenario, index, &needs, lanes)? };
    Ok(Some(Fit {
        class: class.name.clone(),
        configured: class.lanes,
        lanes,
        jobs: counted(&most_demanding(&needs, lanes)),
        needs_bytes,
        cap_bytes,
        one_more_bytes: one_more.then(|| bytes(lanes + 1) - needs_bytes),
        confirmed: Confirmation {
            busy_lanes,
            longest_wait_us,
            busy_of_one_more: busy_of_one_more.map(|(busy_lanes, _)| busy_lanes),
        },
    }))
}

/// The most demanding kind of job of each model of a class.
fn needs(scenario: &Scenario, index: usize) -> Result<Vec<Need<'_>>, ScenarioError> {
    let plan = scenario.plan()?;
    let class = &scenario.classes[index].name;
    let mut needs: Vec<Need<'_>> = Vec::new();
    for kind in &scenario.kinds {
        let Some(model) = scenario.models.iter().find(|model| model.name == kind.model) else { continue };
        // Those who hand such jobs in, and anyone.
        let uids = scenario.arrivals.iter().filter(|arrival| arrival.kind == kind.name).map(|arrival| arrival.uid);
        let goes_here = |uid: &Uid| {
            let spec = scenario.job(&arrival(kind, *uid, 1));
            route(plan.routes(), &spec, *uid) == Some(class)
        };
        let Some(uid) = uids.chain([ArrivalSpec::ANYONE]).find(goes_here) else { continue };
        let (weights_bytes, run_bytes) = (model.weights.as_u64(), model.footprint_bytes());
        if !needs.iter().any(|need| need.kind.model == kind.model) {
            needs.push(Need { kind, uid, weights_bytes, run_bytes });
        }
    }
    Ok(needs)
}

/// The jobs for so many lanes that need most together. For each model that most of them may be of: one job of every other
/// model whose weights make it worth it, the rest of this one.
fn most_demanding<'a>(needs: &[Need<'a>], lanes: u32) -> Vec<Need<'a>> {
    let candidates = needs.iter().map(|most| {
        let whole = |need: &Need<'_>| need.weights_bytes.saturating_add(need.run_bytes);
        let mut others: Vec<Need<'_>> =
            needs.iter().filter(|need| need.kind.model != most.kind.model).copied().collect();
        others.retain(|other| whole(other) > most.run_bytes);
        others.sort_by_key(|other| std::cmp::Reverse(whole(other)));
        let rest = std::iter::repeat(*most);
        std::iter::once(*most).chain(others).chain(rest).take(lanes as usize).collect::<Vec<_>>()
    });
    candidates.max_by_key(|jobs| total(jobs)).unwrap_or_default()
}

/// What jobs need together: the weights of each model once.
fn total(jobs: &[Need<'_>]) -> u64 {
    let first = |at: usize| jobs[..at].iter().all(|other| other.kind.model != jobs[at].kind.model);
    let weights = jobs.iter().enumerate().filter(|(at, _)| first(*at)).map(|(_, job)| job.weights_bytes);
    weights.chain(jobs.iter().map(|job| job.run_bytes)).fold(0, u64::saturating_add)
}

fn counted(jobs: &[Need<'_>]) -> Vec<(String, u32)> {
    let mut counts: Vec<(String, u32)> = Vec::new();
    for job in jobs {
        match counts.iter_mut().find(|(kind, _)| *kind == job.kind.name) {
            Some((_, count)) => *count += 1,
            None => counts.push((job.kind.name.clone(), 1)),
        }
    }
    counts
}

/// Hands in as many jobs as there are lanes, all at once, while the other classes are as busy as they are meant to be.
/// Returns the most lanes that were busy at once, and the longest that a job waited, in microseconds.
fn confirm(scenario: &Scenario, index: usize, needs: &[Need<'_>], lanes: u32) -> Result<(u32, u64), ScenarioError> {
    let mut arrivals = Vec::new();
    let mut classes = scenario.classes.clone();
    for (at, class) in classes.iter_mut().enumerate() {
        let own;
        let (needs, lanes) = if at == index {
            (needs, lanes)
        } else {
            own = self::needs(scenario, at)?;
            (own.as_slice(), class.lanes)
        };
        (class.lanes, class.queue, class.partition) = (lanes, lanes, Some(ByteSize(scenario.cap_bytes(class))));
        for job in most_demanding(needs, lanes) {
            let name = format!("{} {}", class.name, arrivals.len());
            arrivals.push(ArrivalSpec { name: Some(name), ..arrival(job.kind, job.uid, 1) });
        }
    }
    let promised = |model: &ModelSpec| ModelSpec { memory: ByteSize(model.footprint_bytes()), ..model.clone() };
    let alone = Scenario {
        order: Order::AsGiven,
        journal_s: (Seconds::default(), Seconds::default()),
        quotas: QuotaSpec::default(),
        models: scenario.models.iter().map(promised).collect(),
        faults: FaultSpec::default(),
        contentions: Vec::new(),
        classes,
        arrivals,
        ..scenario.clone()
    };
    let report = simulate(&alone, Policy::MultiQueue)?;
    let class = &report.classes[index];
    Ok((class.peak_busy_lanes, class.wait.max_us))
}

fn arrival(kind: &KindSpec, uid: Uid, count: u64) -> ArrivalSpec {
    let when = When::AtOnce { count, start_s: Seconds::default() };
    ArrivalSpec { uid, ..ArrivalSpec::new(kind.name.clone(), when) }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: u64| ByteSize(bytes).display().si();
        let Self { class, configured, lanes, jobs, needs_bytes, cap_bytes, one_more_bytes, confirmed } = self;
        let jobs: Vec<String> = jobs.iter().map(|(kind, count)| format!("{count} x {kind}")).collect();
        let fit = if *lanes == 1 { "lane fits" } else { "lanes fit" };
        write!(f, "{class}: {lanes} {fit} ({configured} configured)")?;
        if *lanes > 0 {
            write!(f, ": {} take {} of {}", jobs.join(" and "), size(*needs_bytes), size(*cap_bytes))?;
        }
        match one_more_bytes {
            Some(more) => {
                let left = size(cap_bytes - needs_bytes);
                write!(f, ". Not one more: it needs {}, {left} are left of {}", size(*more), size(*cap_bytes))?;
            }
            None => write!(f, ". Not one more: {LANES} in all is the most there may be")?,
        }
        let Confirmation { busy_lanes, longest_wait_us, busy_of_one_more } = confirmed;
        write!(
            f,
            ". Simulated: {busy_lanes} ran at once, the longest wait was {:.3} s",
            *longest_wait_us as f64 / 1e6
        )?;
        match busy_of_one_more {
            Some(busy) => write!(f, "; with {} lanes no more than {busy} ran at once", lanes + 1),
            None => Ok(()),
        }
    }
}
