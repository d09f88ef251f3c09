//! What holds after every input. Checked in debug builds, so every test checks it.

use gpusched_shared::JobId;

use crate::job::state::State;
use crate::scheduler::Scheduler;

impl Scheduler {
    /// Checks the whole state against itself. Does nothing in release builds.
    pub(crate) fn check(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        for (lane, slot) in self.lanes.iter() {
            if let Some(id) = slot.job {
                let job = self.jobs.get(&id);
                assert_eq!(job.and_then(|job| job.state.lane()), Some(lane), "lane {lane:?} and job {id} agree");
                assert_eq!(job.map(|job| job.class), Some(slot.class), "job {id} is on a lane of its class");
            }
        }
        for (id, job) in &self.jobs {
            if let Some(lane) = job.state.lane() {
                let holder = self.lanes.iter().find(|(at, _)| *at == lane).and_then(|(_, slot)| slot.job);
                assert_eq!(holder, Some(*id), "job {id} holds the lane it claims");
            }
            assert_eq!(self.queues[job.class].contains(id), job.state == State::Queued, "job {id} waits iff queued");
            assert!(!matches!(job.state, State::Done(_)), "job {id} has ended and left");
        }
        let queued: usize = self.queues.iter().map(std::collections::BTreeSet::len).sum();
        let waiting = self.jobs.values().filter(|job| job.state == State::Queued).count();
        assert_eq!(queued, waiting, "queues hold waiting jobs and nothing else");
        debug_assert!(self.jobs.keys().all(|id| *id != JobId(0)), "jobs are numbered from 1");
        if !self.is_draining() {
            for (class, queue) in self.queues.iter().enumerate() {
                assert!(queue.is_empty() || self.lanes.free(class).is_none(), "no lane idles while a job waits");
            }
        }
    }
}
