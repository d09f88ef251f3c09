//! The simulated journal, which takes its time and sometimes fails.

use std::collections::{BTreeMap, VecDeque};

use fastrand::Rng;
use gpusched_core::{EndedPart, Input, JobRecord, Key, Measurement, Part, Time, Unfinished};
use gpusched_shared::{JobId, Outcome, Reflection, Rejection, Uid, Usage};

/// What survives the death of the daemon, and what is on its way there.
#[derive(Debug, Default)]
pub(crate) struct Disk {
    pub(crate) records: BTreeMap<JobId, JobRecord>,
    pub(crate) ended: BTreeMap<JobId, Ended>,
    pub(crate) measurements: Vec<Measurement>,
    /// When jobs that back off are tried again.
    retries: BTreeMap<JobId, Time>,
    writes: VecDeque<Write>,
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    /// How long lanes worked on it, in microseconds.
    pub(crate) lane_us: u64,
    pub(crate) reflection: Option<Box<Reflection>>,
}

#[derive(Debug)]
pub(crate) enum Write {
    Record(JobRecord),
    Amend(JobRecord),
    Attempt(JobId),
    BackOff(JobId, Time),
    Ended(JobId, Ended),
}

impl Disk {
    pub(crate) fn write(&mut self, write: Write) {
        self.writes.push_back(write);
    }

    pub(crate) fn is_written(&self) -> bool {
        self.writes.is_empty()
    }

    /// Commits the oldest entry, or fails to.
    pub(crate) fn commit(&mut self, rng: &mut Rng) -> Option<Input> {
        match self.writes.pop_front()? {
            Write::Record(record) if rng.u32(0..20) == 0 => {
                // What amends it fails with it.
                self.writes.retain(|write| !matches!(write, Write::Amend(later) if later.id == record.id));
                let reason = "disk full".to_owned();
                Some(Input::RecordFailed(record.id, Rejection::Internal { reason }))
            }
            Write::Record(record) => {
                let job = record.id;
                let same = |part: Part| self.stages(part.of).any(|(other, _)| other == part);
                assert!(!record.part.is_some_and(same), "{:?} is on record once", record.part);
                assert!(self.records.insert(job, record).is_none(), "job numbers are not reused");
                Some(Input::Recorded(job))
            }
            Write::Amend(record) => {
                assert!(self.records.contains_key(&record.id), "job {} was on record before it changed", record.id);
                self.records.insert(record.id, record);
                None
            }
            Write::Attempt(job) => {
                self.retries.remove(&job);
                None
            }
            Write::BackOff(job, at) => {
                self.retries.insert(job, at);
                None
            }
            Write::Ended(job, ended) => {
                assert!(self.records.contains_key(&job), "job {job} was on record before it ended");
                assert!(self.ended.insert(job, ended).is_none(), "job {job} ends once");
                Some(Input::Concluded(job))
            }
        }
    }

    /// `kill -9`: what was not committed never happened. Returns the jobs that have not ended.
    pub(crate) fn reopen(&mut self, now: Time) -> Vec<Unfinished> {
        self.writes.clear();
        let unfinished = self.records.values().filter(|record| !self.ended.contains_key(&record.id)).cloned();
        let age_ms = |record: &JobRecord| now.0 / 1000 - record.submitted_unix_ms;
        let retry_in_ms = |id| self.retries.get(&id).map(|at: &Time| at.since(now) / 1000);
        unfinished
            .map(|record| Unfinished {
                age_ms: age_ms(&record),
                retry_in_ms: retry_in_ms(record.id),
                ended: self.ended_parts(record.id),
                damage: None,
                record,
            })
            .collect()
    }

    /// The stages of a job that are on record.
    pub(crate) fn stages(&self, of: JobId) -> impl Iterator<Item = (Part, &JobRecord)> {
        self.records.values().filter_map(move |record| Some((record.part.filter(|part| part.of == of)?, record)))
    }

    /// Those of them that have ended.
    pub(crate) fn ended_parts(&self, of: JobId) -> Vec<EndedPart> {
        let ended = self.stages(of).filter_map(|(part, record)| {
            let Ended { outcome, lane_us, .. } = self.ended.get(&record.id)?;
            let (spec, outcome, run_us, usage) = (record.spec.clone(), outcome.clone(), *lane_us, Usage::default());
            Some(EndedPart { part, spec, outcome, wait_us: 0, backoff_us: 0, run_us, usage })
        });
        ended.collect()
    }

    /// Whether a job of this owner with a key of this name has ended.
    pub(crate) fn has_ended(&self, uid: Uid, key: &Key) -> bool {
        let named = |record: &&JobRecord| record.key.as_ref().is_some_and(|known| known.name == key.name);
        let theirs = self.records.values().filter(|record| record.uid == uid).filter(named);
        theirs.into_iter().any(|record| self.ended.contains_key(&record.id))
    }

    /// A number that no job on record has.
    pub(crate) fn next_id(&self) -> JobId {
        JobId(self.records.keys().next_back().map_or(1, |job| job.0 + 1))
    }
}
