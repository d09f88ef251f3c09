//! What the scheduler works by: classes, routes, policy and quotas, checked.

use std::collections::BTreeSet;

use crate::class::Class;
use crate::policy::backoff::Retry;
use crate::policy::routing::Route;

/// How waiting jobs are started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Each class has a queue and lanes of its own; light work overtakes heavy work.
    #[default]
    MultiQueue,
    /// One queue in the order of acceptance, one job at a time: the baseline to compare with.
    Fifo,
}

/// What one client may have at most; 0 is no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Quotas {
    /// Waiting jobs of one uid; more are refused.
    pub queued_per_uid: u32,
    /// Jobs on lanes of one uid; more wait.
    pub running_per_uid: u32,
    /// Unfinished jobs of one connection; more are refused.
    pub jobs_per_connection: u32,
}

/// What the scheduler works by.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    classes: Vec<Class>,
    routes: Vec<Route>,
    /// How waiting jobs are started.
    pub policy: Policy,
    /// What one client may have at most.
    pub quotas: Quotas,
    /// How jobs that ran out of memory are tried again.
    pub retry: Retry,
    /// How long attached jobs of an earlier run of the daemon wait for their client, in milliseconds.
    pub reattach_grace_ms: u64,
}

/// Why classes and routes do not make a plan.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// There is no class.
    #[error("there is no [[class]]; at least one is needed")]
    NoClass,
    /// Two classes share a name.
    #[error("class {0:?} is defined twice")]
    TwoOfAName(String),
    /// A class without lanes would never run anything.
    #[error("class {0:?} has no lanes; give it at least one")]
    NoLanes(String),
    /// A route leads nowhere.
    #[error("a [[route]] leads to class {0:?}, which is not defined")]
    NoSuchClass(String),
}

impl Plan {
    /// A plan of these classes and routes, with several queues and without quotas.
    ///
    /// # Errors
    /// [`PlanError`] for the first thing wrong with them.
    pub fn new(classes: Vec<Class>, routes: Vec<Route>) -> Result<Self, PlanError> {
        if classes.is_empty() {
            return Err(PlanError::NoClass);
        }
        let mut names = BTreeSet::new();
        for class in &classes {
            if !names.insert(class.name.as_str()) {
                return Err(PlanError::TwoOfAName(class.name.clone()));
            }
            if class.lanes == 0 {
                return Err(PlanError::NoLanes(class.name.clone()));
            }
        }
        if let Some(route) = routes.iter().find(|route| !names.contains(route.class.as_str())) {
            return Err(PlanError::NoSuchClass(route.class.clone()));
        }
        Ok(Self {
            classes,
            routes,
            policy: Policy::default(),
            quotas: Quotas::default(),
            retry: Retry::default(),
            reattach_grace_ms: 30_000,
        })
    }

    /// Takes from `other` what may change while jobs run: quotas, retries (but for their seed), routes, and of each class how
    /// many may wait, its priority, when it is flushed, its gate's share, aging and batching. Jobs keep the class that they are
    /// in. Everything else is as it was: of another set of classes nothing but quotas and retries is taken, and a class has a
    /// gate, or none, for good.
    pub(crate) fn adopt(&mut self, other: Self) {
        self.quotas = other.quotas;
        self.retry = Retry { seed: self.retry.seed, ..other.retry };
        if !self.classes.iter().map(|class| &class.name).eq(other.classes.iter().map(|class| &class.name)) {
            return;
        }
        self.routes = other.routes;
        for (class, new) in self.classes.iter_mut().zip(other.classes) {
            class.queue_limit = new.queue_limit;
            class.priority = new.priority;
            class.flush = new.flush;
            class.gate = class.gate.map(|gate| new.gate.unwrap_or(gate));
            class.aging_ms = new.aging_ms;
            class.batch_wait_ms = new.batch_wait_ms;
        }
    }

    /// The classes, in the order of the configuration.
    pub fn classes(&self) -> &[Class] {
        &self.classes
    }

    /// The routes, in the order of the configuration.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// The place of a class in [`classes`](Self::classes).
    pub fn class_named(&self, name: &str) -> Option<usize> {
        self.classes.iter().position(|class| class.name == name)
    }
}
