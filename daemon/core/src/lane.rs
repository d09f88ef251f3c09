//! Lanes: the places where jobs run. A job is bound to a lane only when the lane is free.

use gpusched_shared::JobId;

use crate::class::Class;

/// A lane, numbered over all classes in the order of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LaneId(pub usize);

#[derive(Debug)]
pub(crate) struct Lane {
    /// Index of its class in the plan.
    pub(crate) class: usize,
    /// Its number within the class.
    pub(crate) index: u32,
    pub(crate) job: Option<JobId>,
}

#[derive(Debug)]
pub(crate) struct Lanes(Vec<Lane>);

impl Lanes {
    pub(crate) fn of(classes: &[Class]) -> Self {
        let lanes = classes.iter().enumerate();
        Self(lanes.flat_map(|(class, c)| (0..c.lanes).map(move |index| Lane { class, index, job: None })).collect())
    }

    pub(crate) fn free(&self, class: usize) -> Option<LaneId> {
        self.0.iter().position(|lane| lane.class == class && lane.job.is_none()).map(LaneId)
    }

    /// The jobs on the lanes of a class.
    pub(crate) fn jobs(&self, class: usize) -> impl Iterator<Item = JobId> + '_ {
        self.0.iter().filter(move |lane| lane.class == class).filter_map(|lane| lane.job)
    }

    pub(crate) fn occupy(&mut self, lane: LaneId, job: JobId) {
        if let Some(lane) = self.0.get_mut(lane.0) {
            debug_assert_eq!(lane.job, None, "a lane runs one job");
            lane.job = Some(job);
        }
    }

    pub(crate) fn vacate(&mut self, lane: LaneId) {
        if let Some(lane) = self.0.get_mut(lane.0) {
            lane.job = None;
        }
    }

    /// The number of a lane within its class.
    pub(crate) fn index(&self, lane: LaneId) -> u32 {
        self.0.get(lane.0).map_or(0, |lane| lane.index)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (LaneId, &Lane)> {
        self.0.iter().enumerate().map(|(i, lane)| (LaneId(i), lane))
    }
}
