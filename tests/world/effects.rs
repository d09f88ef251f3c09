//! What the scheduler wants done is done, if it may want that.

use gpusched_core::{Effect, Policy, SessionId};
use gpusched_shared::{FailureKind, JobId, Outcome, Rejection, Task, Update};

use super::disk::{Ended, Write};
use super::{Known, World};

impl World {
    pub(super) fn carry_out(&mut self, effect: Effect, session: Option<SessionId>) {
        match effect {
            Effect::Record(record) => {
                match record.part {
                    Some(part) => self.check_stage(&record, part),
                    None => assert!(!self.draining && !self.leaving, "nothing is taken"),
                }
                // A number that never got on record may be given again after a death.
                self.attached.remove(&record.id);
                self.attached.extend(session.filter(|_| record.attached).map(|session| (record.id, session)));
                if let Some(key) = &record.key {
                    let before = self.keys.insert((record.uid, key.name.clone()), (key.clone(), record.id));
                    assert_eq!(before, None, "one job for one key");
                }
                self.deaths.remove(&record.id);
                self.suspects.remove(&record.id);
                self.next_number = record.id.0 + 1;
                self.disk.write(Write::Record((*record).clone()));
                self.jobs.insert(record.id, Known { record, came: self.now });
            }
            Effect::Accept(_, job) => {
                assert!(self.disk.records.contains_key(&job), "job {job} is durable before it is acknowledged");
                self.accepted.push(job);
            }
            Effect::Reject(_, rejection) => {
                assert!(rejection != Rejection::Draining || self.draining || self.leaving, "{rejection}");
            }
            Effect::Launch { job, attempt, lane, record, lease_bytes, .. } => {
                assert!(!self.engine_down, "job {job} has an engine");
                assert!(self.deaths.get(&job).is_none_or(|deaths| *deaths < 2), "job {job} is not run again");
                let beside: Vec<JobId> = self.engine.on_lanes().collect();
                let suspect = beside.iter().chain([&job]).any(|job| self.suspects.contains(job));
                assert!(!suspect || beside.is_empty(), "a suspect runs alone");
                assert_eq!(record.attempts.max(attempt), attempt, "attempts are counted on");
                self.disk.write(Write::Attempt(job));
                let asked_for = self.asked_for(job);
                let cancelled = [job, asked_for].iter().any(|job| self.cancelled.contains(job));
                assert!(!cancelled, "cancelled job {job} does not start");
                assert_eq!(
                    record.spec.priority, self.jobs[&asked_for].record.spec.priority,
                    "a stage has that of its job"
                );
                let session = self.attached.get(&asked_for);
                let connected = |session| self.clients.iter().any(|(open, _)| open == session);
                assert!(session.is_none_or(connected), "job {job} has its client");
                assert!(!self.leaving && !self.paused[self.engine.class_of(lane)], "job {job} may start");
                let limit = self.scheduler.plan().quotas.running_per_uid;
                let running = beside.iter().filter(|other| self.jobs[other].record.uid == record.uid).count();
                assert!(limit == 0 || running < limit as usize, "{running} jobs of the uid run, of {limit}");
                self.engine.launch(lane, &record, lease_bytes, self.now, &mut self.rng);
            }
            Effect::Stop(job) => self.engine.stop(job),
            Effect::Gate { class, closed } => self.engine.set_gate(class, closed),
            Effect::Evict { class, model } => self.engine.evict(class, model),
            Effect::Conclude { job, outcome, wait_us, run_us, backoff_us, usage, reflection } => {
                let Known { record, came } = &self.jobs[&job];
                match (&record.spec.reflect, &reflection) {
                    (Some(reflect), Some(reflection)) => self.check_reflection(job, reflect, &outcome, reflection),
                    (None, None) if matches!(record.spec.task, Task::Edit(_)) => self.check_edit(job, &outcome),
                    // Only others are never in two places: checks run side by side, and of an edit counts what its stages took before
                    // the daemon died.
                    (None, None) => {
                        assert!(wait_us + run_us <= self.now.since(*came), "job {job} was nowhere twice");
                    }
                    _ => panic!("job {job} reflects, or has nothing to show for it"),
                }
                assert!(usage.parked_us <= run_us, "job {job} was parked on a lane");
                assert!(backoff_us <= wait_us, "job {job} waited while it backed off");
                if let Outcome::Failed { kind: FailureKind::Quarantined { deaths }, .. } = outcome {
                    let killed =
                        |(of, deaths): (&JobId, &u32)| self.asked_for(*of) == self.asked_for(job) && *deaths == 2;
                    let guilty = self.deaths.iter().any(killed);
                    assert!(deaths == 2 && guilty, "job {job} is quarantined for a reason");
                }
                let lane_us = run_us - usage.parked_us;
                self.disk.write(Write::Ended(job, Ended { outcome, lane_us, reflection }));
            }
            Effect::Amend(record) => {
                self.disk.write(Write::Amend((*record).clone()));
                let known = self.jobs.get_mut(&record.id).expect("what is amended is known");
                known.record = record;
            }
            Effect::Keep(measurement) => self.disk.measurements.push(measurement),
            Effect::Tell(job, Update::Done(view)) => {
                assert_eq!(view.id, job);
                assert!(self.disk.ended.contains_key(&job), "nobody hears of an outcome before it is durable");
                self.keys.retain(|_, (_, of)| *of != job);
            }
            Effect::BackOff { job, retry, within_ms } => {
                assert!((1..=self.scheduler.plan().retry.budget).contains(&retry), "job {job} keeps to its budget");
                self.disk.write(Write::BackOff(job, self.now.after_ms(within_ms)));
            }
            Effect::AttemptEnded { .. } | Effect::Flush { .. } | Effect::Tell(..) | Effect::Advanced => {}
        }
    }

    /// What holds whatever has happened.
    pub(super) fn check(&self) {
        self.engine.check(self.scheduler.plan());
        assert!(self.plan.policy == Policy::MultiQueue || self.engine.on_lanes().count() <= 1, "one at a time");
    }
}
