//! What is noted of attempts while lanes have them, and of memory as it is used: what reports and traces are made from.
//!
//! None of it decides anything, and nothing rests on it. Memory is looked at when something has changed it, and, because the
//! engine says only now and then what it counts, now and then while something runs and once more after that.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use gpusched_core::Policy;
use gpusched_engine::Memory;
use gpusched_shared::timeline::MAX_PARKS;
use gpusched_shared::{AttemptEnd, Cursor, JobId, MemoryEvent, MemorySample, Parked, TimelineView, Track, Uid, Usage};
use tokio::sync::oneshot;

use super::Driver;
use crate::journal::{Entry, Query, Stay};
use crate::server::{Peer, Reply};

/// Between two looks while something runs.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// From the end of an attempt to the look after it: by then the engine has said what it counts.
const LOOK_AFTER: Duration = Duration::from_millis(600);

/// What lanes are at, and what memory was when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// As many as there are lanes.
    stays: HashMap<JobId, Noted>,
    /// When each class was last looked at, and what was in use then.
    looked: HashMap<usize, (Instant, u64)>,
    /// When all are to be looked at again.
    look_at: Option<Instant>,
    /// When an attempt last ended.
    ended: Option<Instant>,
}

#[derive(Debug)]
struct Noted {
    began: Instant,
    parked_since: Option<Instant>,
    stay: Stay,
}

impl Noted {
    fn now() -> Self {
        Self { began: Instant::now(), parked_since: None, stay: Stay::default() }
    }

    fn go_on(&mut self, now: Instant) {
        if let Some(since) = self.parked_since.take()
            && self.stay.parked.len() < MAX_PARKS
        {
            let us = |at: Instant| u64::try_from(at.duration_since(self.began).as_micros()).unwrap_or(u64::MAX);
            self.stay.parked.push(Parked { from_us: us(since), until_us: us(now) });
        }
    }
}

impl Course {
    pub(super) fn begin(&mut self, job: JobId) {
        self.stays.insert(job, Noted::now());
    }

    pub(super) fn park(&mut self, job: JobId) {
        if let Some(noted) = self.stays.get_mut(&job) {
            noted.parked_since.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn resume(&mut self, job: JobId) {
        if let Some(noted) = self.stays.get_mut(&job) {
            noted.go_on(Instant::now());
        }
    }

    /// What the lane measured, as it leaves the job.
    pub(super) fn measured(&mut self, job: JobId, usage: Usage) {
        if let Some(noted) = self.stays.get_mut(&job) {
            noted.stay.peak_bytes = usage.peak_bytes;
        }
    }

    /// The lane is done with the job. That a stage goes on is not said of one that is stopped while it is parked.
    fn end(&mut self, job: JobId) -> Stay {
        let Some(mut noted) = self.stays.remove(&job) else { return Stay::default() };
        noted.go_on(Instant::now());
        noted.stay
    }

    /// When memory is to be looked at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look_at
    }
}

impl Driver {
    pub(super) fn attempt_began(&mut self, job: JobId) {
        self.course.begin(job);
        if let Some(class) = self.scheduler.class_of(job) {
            self.sample(class, MemoryEvent::Began);
        }
    }

    pub(super) fn attempt_ended(&mut self, job: JobId, attempt: u32, end: AttemptEnd) {
        let stay = self.course.end(job);
        self.journal.write(Entry::AttemptEnd { job, attempt, end, stay, unix_ms: self.clock.unix_ms() });
        if let Some(class) = self.scheduler.class_of(job) {
            let ran_out = end == AttemptEnd::OutOfMemory;
            self.sample(class, if ran_out { MemoryEvent::OutOfMemory } else { MemoryEvent::Ended });
        }
        let now = Instant::now();
        self.course.ended = Some(now);
        // Not put off by each end, or under steady work there would be none.
        self.course.look_at.get_or_insert(now + LOOK_AFTER);
    }

    /// A job got further: its class may be worth a look.
    pub(super) fn got_further(&mut self, job: JobId) {
        if let Some(class) = self.scheduler.class_of(job)
            && self.course.looked.get(&class).is_none_or(|(at, _)| at.elapsed() >= LOOK_EVERY)
        {
            self.look(class);
        }
    }

    /// Looks at all classes if that is due.
    pub(super) fn look_if_due(&mut self) {
        let now = Instant::now();
        if self.course.look_at.is_some_and(|at| at <= now) {
            // What has ended since it was set is still to be looked at.
            self.course.look_at = self.course.ended.map(|ended| ended + LOOK_AFTER).filter(|at| *at > now);
            (0..self.scheduler.plan().classes().len()).for_each(|class| self.look(class));
        }
    }

    /// Notes what a class has in use, if that has changed.
    fn look(&mut self, class: usize) {
        let used_bytes = self.used_bytes(class);
        if self.course.looked.get(&class).is_none_or(|(_, last)| *last != used_bytes) {
            self.sample(class, MemoryEvent::Looked);
        } else {
            self.course.looked.insert(class, (Instant::now(), used_bytes));
        }
    }

    pub(super) fn sample(&mut self, class: usize, event: MemoryEvent) {
        let used_bytes = self.used_bytes(class);
        self.course.looked.insert(class, (Instant::now(), used_bytes));
        self.note(class, event, Memory { live_bytes: used_bytes, resident_bytes: 0 });
    }

    /// Memory before and after a flush.
    pub(super) fn flushed(&mut self, class: usize, before: Memory, after: Memory) {
        self.note(class, MemoryEvent::Flushing, before);
        self.note(class, MemoryEvent::Flushed, after);
        self.course.looked.insert(class, (Instant::now(), after.live_bytes));
    }

    fn note(&self, class: usize, event: MemoryEvent, memory: Memory) {
        let Some(partition) = self.scheduler.partition(class) else { return };
        self.journal.write(Entry::Memory(MemorySample {
            unix_ms: self.clock.unix_ms(),
            class: self.observer.class(class).to_owned(),
            event,
            used_bytes: memory.live_bytes,
            reserved_bytes: partition.weights_bytes + partition.leased_bytes,
            cap_bytes: partition.cap_bytes,
            resident_bytes: memory.resident_bytes,
        }));
    }

    fn used_bytes(&self, class: usize) -> u64 {
        self.engine.memory().get(class).map_or(0, |counted| counted.live_bytes)
    }

    /// A page of the record. What others' jobs were about is theirs.
    pub(super) fn timeline(
        &self,
        peer: Peer,
        track: Track,
        between_unix_ms: (u64, u64),
        before: Option<Cursor>,
        limit: u32,
        reply: Reply<TimelineView>,
    ) {
        let uid: Option<Uid> = (!peer.admin).then_some(peer.uid);
        let (ask, answer) = oneshot::channel();
        self.journal.ask(Query::Timeline { track, uid, between_unix_ms, before, limit, reply: ask });
        let policy = match self.scheduler.plan().policy {
            Policy::MultiQueue => "multi-queue",
            Policy::Fifo => "fifo",
        };
        tokio::spawn(async move {
            if let Ok((page, next)) = answer.await {
                let _ = reply.send(Ok(TimelineView { policy: policy.to_owned(), page, next }));
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stays_at_the_gate_are_noted_and_bounded() {
        let mut course = Course::default();
        let job = JobId(7);
        course.begin(job);
        for _ in 0..MAX_PARKS + 5 {
            course.park(job);
            course.resume(job);
        }
        course.resume(job);
        course.measured(job, Usage { peak_bytes: 9, ..Usage::default() });
        let stay = course.end(job);
        assert_eq!((stay.parked.len(), stay.peak_bytes), (MAX_PARKS, 9));
        let in_order = |pair: &[Parked]| pair[0].until_us <= pair[1].from_us;
        assert!(stay.parked.windows(2).all(in_order) && stay.parked.iter().all(|park| park.from_us <= park.until_us));
        assert_eq!(course.end(job), Stay::default(), "it has ended");
    }

    #[test]
    fn a_job_that_is_stopped_while_parked_was_parked_to_its_end() {
        let mut course = Course::default();
        course.begin(JobId(1));
        course.park(JobId(1));
        assert_eq!(course.end(JobId(1)).parked.len(), 1);
    }
}
