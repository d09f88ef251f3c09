//! What holds after every input. Checked in debug builds, so every test checks it.

use std::collections::BTreeMap;

use gpusched_shared::JobId;

use crate::dispatch::Decision;
use crate::job::Job;
use crate::job::state::State;
use crate::ledger::Lease;
use crate::plan::Policy;
use crate::scheduler::{Held, Scheduler};
use crate::time::Time;

impl Scheduler {
    /// Checks the whole state against itself. Does nothing in release builds.
    pub(crate) fn check(&self, now: Time) {
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
            let lane = job.state.lane();
            if let Some(lane) = lane {
                let holder = self.lanes.iter().find(|(at, _)| *at == lane).and_then(|(_, slot)| slot.job);
                assert_eq!(holder, Some(*id), "job {id} holds the lane it claims");
            }
            assert_eq!(job.lease.is_some(), lane.is_some(), "job {id} has memory exactly while it has a lane");
            let queued = self.queues[job.class].contains(job.record.uid, job.turn());
            assert_eq!(queued, job.state == State::Queued, "job {id} waits iff queued");
            let backs_off = self.backing_off[job.class].contains(id);
            assert_eq!(backs_off, job.state == State::BackingOff, "job {id} is known to back off iff it does");
            assert_eq!(self.suspects.contains(id), job.record.suspect, "job {id} is known to be suspect iff it is");
            assert!(!matches!(job.state, State::Done(_)), "job {id} has ended and left");
            let stages = job.program.iter().flat_map(|program| program.stages());
            let own = |stage: &JobId| {
                self.jobs.get(stage).and_then(|stage| stage.record.part).map(|part| part.of) == Some(*id)
            };
            assert!(stages.into_iter().all(|stage| own(&stage)), "the stages of job {id} are its own");
            let starving =
                job.state == State::Underway && job.program.as_ref().is_none_or(|p| p.stages().next().is_none());
            assert!(!starving, "job {id} has a stage under way");
            let held = self.uids.get(&job.record.uid).copied().unwrap_or_default();
            assert!(lane.is_none() || held.running > 0, "the owner of job {id} is known to run something");
        }
        debug_assert!(self.jobs.keys().all(|id| *id != JobId(0)), "jobs are numbered from 1");
        self.check_counts();
        for class in 0..self.queues.len() {
            let leases: Vec<&Lease> =
                self.lanes.jobs(class).filter_map(|id| self.jobs.get(&id)?.lease.as_ref()).collect();
            self.ledger.check(class, &leases);
            assert_eq!(self.decide(class, now).0, Decision::Wait, "no lane of class {class} idles without need");
        }
        let busy = self.lanes.iter().filter(|(_, lane)| lane.job.is_some()).count();
        let alone = self.lanes.iter().filter_map(|(_, lane)| lane.job).any(|id| self.suspects.contains(&id));
        assert!(busy <= 1 || !alone, "a suspect runs alone");
        assert!(self.engine_up || busy == 0, "without an engine nothing is on lanes");
        assert!(self.plan.policy != Policy::Fifo || busy <= 1, "fifo runs one job at a time");
    }

    fn check_counts(&self) {
        let jobs = || self.jobs.values();
        for class in 0..self.queues.len() {
            let count = |which: &dyn Fn(&State) -> bool| jobs().filter(|j| j.class == class && which(&j.state)).count();
            assert_eq!(self.queues[class].len(), count(&|state| *state == State::Queued), "the queue counts its jobs");
            let waiting = jobs().filter(|job| job.class == class && job.takes_a_place(&job.state)).count();
            assert_eq!(self.waiting[class] as usize, waiting, "the class counts what waits");
            let storing = count(&|state| *state == State::Storing);
            assert_eq!(self.storing[class] as usize, storing, "the class counts what is being stored");
        }
        let mut wanted = BTreeMap::new();
        for place in jobs().filter_map(|job| job.program.as_ref()).flat_map(|program| program.models()) {
            *wanted.entry(*place).or_insert(0) += 1;
        }
        assert_eq!(self.wanted, wanted, "it is known which models are wanted");
        for (uid, held) in &self.uids {
            let count = |which: &dyn Fn(&Job) -> bool| {
                let theirs = jobs().filter(|job| job.record.uid == *uid && which(job));
                u32::try_from(theirs.count()).unwrap_or(u32::MAX)
            };
            let expected = Held {
                waiting: count(&|job| job.takes_a_place(&job.state)),
                running: count(&|job| job.state.lane().is_some()),
            };
            assert_eq!(*held, expected, "what uid {uid} holds is counted");
        }
    }
}
