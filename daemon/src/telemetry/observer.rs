//! Sees all that happens to jobs, which is what goes into the scheduler and what comes out of it, and tells log and metrics.
//! Nothing else does, so the scheduler itself knows of neither.
//!
//! ```text
//! driver ── happens(input) ─▶ scheduler ── judged ─▶ follows(effect) ─▶ …
//! ```
//!
//! It remembers of each job that has not ended what is to be said of it (`story`). An outcome is told when it
//! is on record, as to everybody else. Of what a job is about it says nothing.

use std::collections::BTreeMap;

use gpusched_core::{Effect, Input, JobRecord, LaneId, Part, Plan, Role, Scheduler, Time};
use gpusched_shared::{AttemptEnd, Bytes, FailureKind, JobId, Outcome, Reflection, StatusView, Verdict};

use super::message::Message;
use super::metrics::{Metrics, seconds};
use super::queue::Log;
use super::story::{End, Story, ending};

/// See the [module's documentation](self).
#[derive(Debug)]
pub struct Observer {
    log: Log,
    metrics: Metrics,
    /// Names of the classes and the lanes, in their order.
    classes: Vec<String>,
    lanes: Vec<String>,
    stories: BTreeMap<JobId, Story>,
    /// What reflecting jobs came to, until that is on record.
    reflections: BTreeMap<JobId, Box<Reflection>>,
    /// Stages that are now on record as ended: what their job makes of that is still to be told.
    ended: Vec<Story>,
}

impl Observer {
    /// One that has seen nothing yet, and tells this log. `lanes` are all lanes in the scheduler's order: the place of the class
    /// of each, and its name.
    pub fn new(plan: &Plan, lanes: Vec<(usize, String)>, log: Log) -> Self {
        let classes: Vec<String> = plan.classes().iter().map(|class| class.name.clone()).collect();
        Self {
            log,
            metrics: Metrics::new(&classes, &lanes),
            classes,
            lanes: lanes.into_iter().map(|(_, name)| name).collect(),
            stories: BTreeMap::new(),
            reflections: BTreeMap::new(),
            ended: Vec::new(),
        }
    }

    /// What is counted.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The name of a lane.
    pub fn lane(&self, lane: LaneId) -> &str {
        self.lanes.get(lane.0).map_or("", String::as_str)
    }

    /// The name of a class, by its place.
    pub fn class(&self, class: usize) -> &str {
        self.classes.get(class).map_or("", String::as_str)
    }

    /// This is about to go into the scheduler.
    pub fn happens(&mut self, input: &Input, now: Time) {
        match input {
            Input::Recorded(id) => self.recorded(*id),
            Input::RecordFailed(id, _) => {
                let story = self.stories.remove(id);
                self.ended.extend(story.filter(|story| story.part.is_some()));
            }
            Input::Restore(jobs) => jobs.iter().for_each(|job| self.restored(&job.record)),
            Input::Parked(id) => {
                if let Some(story) = self.stories.get_mut(id) {
                    story.parked = Some((now, now));
                    story.tell(Message::JobParked, "makes way for lighter work");
                }
            }
            Input::Resumed(id) => {
                if let Some(story) = self.stories.get_mut(id)
                    && let Some(since) = leave_park(story, &self.metrics, now)
                {
                    story.tell(
                        Message::JobResumed,
                        &format!("goes on, after it made way for {} ms", now.since(since) / 1000),
                    );
                }
            }
            Input::Finished(id, Outcome::Failed { kind: FailureKind::OutOfMemory(oom), .. }, _) => {
                if let Some(story) = self.stories.get(id) {
                    story.tell(Message::JobOutOfMemory, &format!("ran {oom}"));
                }
            }
            Input::Concluded(id) => self.concluded(*id),
            Input::EngineLost(_) => self.engine_lost(),
            Input::Submit { .. }
            | Input::Started(_)
            | Input::Progress(..)
            | Input::Previewed(..)
            | Input::Made(..)
            | Input::Stored(..)
            | Input::Finished(..)
            | Input::Interrupted(..)
            | Input::Loaded { .. }
            | Input::Unloaded { .. }
            | Input::EngineReady
            | Input::Cancel(_)
            | Input::SessionClosed(_)
            | Input::SetPriority(..)
            | Input::Rules(_)
            | Input::Pause { .. }
            | Input::Drain(_)
            | Input::Leave
            | Input::Abandon
            | Input::Tick => {}
        }
    }

    /// The scheduler has taken it in; what its programs made of it can be told, before what follows from that.
    pub fn judged(&mut self, scheduler: &Scheduler) {
        for story in std::mem::take(&mut self.ended) {
            let Some(part) = story.part else { continue };
            self.tell_check(scheduler, &story, part);
            let Some((verdict, score)) = scheduler.verdict(part.of, part.round) else { continue };
            if let Some(parent) = self.stories.get_mut(&part.of).filter(|parent| parent.told_round < part.round) {
                parent.told_round = part.round;
                let verdict = match verdict {
                    Verdict::Pass => "PASS",
                    Verdict::Fail => "FAIL",
                };
                parent.tell(Message::JobRound, &format!("has picture {}: {verdict}, score {score:.2}", part.round));
            }
        }
    }

    /// This came out of the scheduler, and is about to be carried out.
    pub fn follows(&mut self, effect: &Effect, now: Time) {
        match effect {
            Effect::Record(record) => {
                self.begin(record);
            }
            Effect::Launch { job, attempt, lane, .. } => {
                let name = self.lane(*lane).to_owned();
                let Some(story) = self.stories.get_mut(job) else { return };
                story.attempt = *attempt;
                let what = match attempt {
                    1 => format!("starts on {name}"),
                    _ => format!("starts on {name}, attempt {attempt}"),
                };
                story.lane = Some((lane.0, now));
                story.lane_name = Some(name);
                story.tell(Message::JobStarted, &what);
            }
            Effect::AttemptEnded { job, attempt: _, end } => self.attempt_ended(*job, *end, now),
            Effect::BackOff { job, retry, within_ms } => {
                let Some(story) = self.stories.get(job) else { return };
                story.tell(Message::JobBacksOff, &format!("is tried again within {within_ms} ms (retry {retry})"));
                if let Some(class) = self.metrics.of_class(story.class) {
                    class.retries.inc();
                }
            }
            Effect::Conclude { job, outcome, wait_us, run_us, usage, reflection, .. } => {
                let Some(story) = self.stories.get_mut(job) else { return };
                let (message, word, why) = ending(outcome);
                let (wait_us, run_us) = (*wait_us, *run_us);
                let (parked_us, peak_bytes) = (usage.parked_us, usage.peak_bytes);
                story.end = Some(End { message, word, why, wait_us, run_us, parked_us, peak_bytes });
                if story.part.is_none() {
                    self.metrics.ended(story.class, outcome, wait_us, run_us);
                    let telling = reflection.as_ref().filter(|reflection| reflection.tells(outcome));
                    self.reflections.extend(telling.cloned().map(|reflection| (*job, reflection)));
                }
            }
            Effect::Amend(_)
            | Effect::Keep(_)
            | Effect::Accept(..)
            | Effect::Reject(..)
            | Effect::Stop(_)
            | Effect::Gate { .. }
            | Effect::Evict { .. }
            | Effect::Flush { .. }
            | Effect::Advanced
            | Effect::Tell(..) => {}
        }
    }

    /// A running job was parked so long after lighter work had become runnable, in microseconds.
    pub fn made_way(&self, class: usize, after_us: u64) {
        if let Some(class) = self.metrics.of_class(class) {
            class.preemption.observe(seconds(after_us));
        }
    }

    /// Lighter work was over before a job of the class came to a yield point.
    pub fn missed(&self, class: usize) {
        if let Some(class) = self.metrics.of_class(class) {
            class.preemptions_missed.inc();
        }
    }

    /// Free memory of a class went back to the device for a job, so many bytes of it.
    pub fn flushed(&self, class: usize, job: JobId, bytes: u64) {
        if let Some(class) = self.metrics.of_class(class) {
            class.flushes.inc();
            class.flushed.inc_by(bytes);
        }
        if let Some(story) = self.stories.get(&job) {
            let freed = Bytes(bytes);
            story.tell(Message::MemoryFlushed, &format!("had {freed} of free memory given back to the device"));
        }
    }

    /// The device itself was at a stage for so long, in microseconds.
    pub fn on_device(&mut self, job: JobId, us: u64) {
        let Some(story) = self.stories.get_mut(&job) else { return };
        story.device_us = Some(story.device_us.unwrap_or(0).saturating_add(us));
        if let Some(lane) = story.lane.and_then(|(lane, _)| self.metrics.of_lane(lane)) {
            lane.on_device.inc_by(seconds(us));
        }
    }

    /// Takes down how things stand, and counts the time that jobs have been on lanes and parked up to now.
    pub fn take_down(&mut self, status: &StatusView, now: Time) {
        for story in self.stories.values_mut() {
            count_busy(story, &self.metrics, now);
            count_parked(story, &self.metrics, now);
        }
        self.metrics.take_down(status, self.log.dropped());
    }

    fn class_named(&self, name: &str) -> usize {
        self.classes.iter().position(|class| class == name).unwrap_or(0)
    }

    fn begin(&mut self, record: &JobRecord) -> &Story {
        let story = Story::of(record, self.class_named(&record.class));
        self.stories.entry(record.id).insert_entry(story).into_mut()
    }

    fn recorded(&self, id: JobId) {
        let Some(story) = self.stories.get(&id).filter(|story| story.part.is_none()) else { return };
        if let Some(class) = self.metrics.of_class(story.class) {
            class.accepted.inc();
        }
        story.tell(Message::JobAccepted, "is accepted");
    }

    fn restored(&mut self, record: &JobRecord) {
        self.begin(record).tell(Message::JobRestored, "is restored after a restart of the daemon");
    }

    fn attempt_ended(&mut self, id: JobId, end: AttemptEnd, now: Time) {
        let Some(story) = self.stories.get_mut(&id) else { return };
        if let Some(class) = self.metrics.of_class(story.class) {
            class.attempt_ended(end);
            if end == AttemptEnd::OutOfMemory {
                class.out_of_memory.inc();
            }
        }
        leave_park(story, &self.metrics, now);
        count_busy(story, &self.metrics, now);
        if end == AttemptEnd::EngineLost {
            story.tell(Message::JobInterrupted, "lost its attempt: the engine died under it");
        }
        story.lane = None;
    }

    fn engine_lost(&mut self) {
        self.metrics.engine_died();
    }

    fn concluded(&mut self, id: JobId) {
        let Some(story) = self.stories.remove(&id) else { return };
        if let Some(reflection) = self.reflections.remove(&id) {
            self.metrics.reflected(&reflection);
        }
        let Some(end) = &story.end else { return };
        match story.part.map(|part| part.role) {
            None => story.tell_end(end.message, end),
            Some(Role::Image | Role::Detect | Role::Segment | Role::Inpaint) => {
                story.tell_end(Message::JobStageEnded, end);
                self.ended.push(story);
            }
            Some(Role::Check(_) | Role::Glance(_)) => self.ended.push(story),
        }
    }

    /// How a check came out, or else how its stage ended.
    fn tell_check(&self, scheduler: &Scheduler, story: &Story, part: Part) {
        let is_check = matches!(part.role, Role::Check(_) | Role::Glance(_));
        let Some(end) = story.end.as_ref().filter(|_| is_check) else { return };
        match scheduler.checked(part).filter(|checked| checked.answer.is_some()) {
            Some(checked) => {
                self.metrics.checked(checked.passed);
                let (came, sure) = (if checked.passed { "passed" } else { "failed" }, checked.confidence);
                let why = format!(": it {came}, confidence {sure:.2}");
                story.tell_end(Message::JobChecked, &End { why, ..*end });
            }
            None => story.tell_end(Message::JobStageEnded, end),
        }
    }
}

/// The job is not parked any more; since when it was, if it was.
fn leave_park(story: &mut Story, metrics: &Metrics, now: Time) -> Option<Time> {
    count_parked(story, metrics, now);
    story.parked.take().map(|(since, _)| since)
}

fn count_parked(story: &mut Story, metrics: &Metrics, now: Time) {
    if let Some((_, counted)) = &mut story.parked
        && let Some(class) = metrics.of_class(story.class)
    {
        class.parked.inc_by(seconds(now.since(*counted)));
        *counted = now;
    }
}

fn count_busy(story: &mut Story, metrics: &Metrics, now: Time) {
    if let Some((lane, counted)) = &mut story.lane
        && let Some(lane) = metrics.of_lane(*lane)
    {
        lane.busy.inc_by(seconds(now.since(*counted)));
        *counted = now;
    }
}
