//! Writes a timeline as a simulation goes on.

use std::collections::HashMap;

use gpusched_core::{Input, JobRecord, LaneId, Part, Policy, Role, Time};
use gpusched_shared::{JobId, Outcome};

use crate::partition::Partition;
use crate::report::policy_name;
use crate::scenario::{ClassSpec, Scenario};
use crate::timeline::{AttemptLine, ClassLine, JobLine, MemoryPoint, Span, Timeline, VERSION};

/// The most jobs, and the most entries about memory, in one timeline.
const ENTRIES: usize = 200_000;

#[derive(Debug)]
pub(crate) struct Recorder {
    timeline: Timeline,
    /// Jobs that have not ended.
    open: HashMap<JobId, JobLine>,
    /// Stages that make pictures, and the jobs that they are of.
    pictures: HashMap<JobId, JobId>,
    /// By class, what its partition held last.
    live_bytes: Vec<u64>,
    /// By lane, the number within its class.
    lanes: Vec<u32>,
}

impl Recorder {
    pub(crate) fn new(scenario: &Scenario, policy: Policy) -> Self {
        let class = |class: &ClassSpec| ClassLine {
            name: class.name.clone(),
            lanes: class.lanes,
            cap_bytes: scenario.cap_bytes(class),
        };
        let timeline = Timeline {
            version: VERSION,
            title: scenario.title.clone(),
            policy: policy_name(policy).to_owned(),
            classes: scenario.classes.iter().map(class).collect(),
            jobs: Vec::new(),
            memory: Vec::new(),
            truncated: false,
        };
        Self {
            live_bytes: vec![0; timeline.classes.len()],
            lanes: timeline.classes.iter().flat_map(|class| 0..class.lanes).collect(),
            open: HashMap::new(),
            pictures: HashMap::new(),
            timeline,
        }
    }

    pub(crate) fn submitted(&mut self, record: &JobRecord, what: &str, now: Time) {
        let line = JobLine {
            job: record.id.0,
            class: record.class.clone(),
            uid: record.uid,
            what: what.to_owned(),
            submitted_us: now.0,
            attempts: Vec::new(),
            ended_us: now.0,
            outcome: String::new(),
        };
        self.open.insert(record.id, line);
    }

    /// A job's stage is to be recorded. Those that make pictures are attempts at it; what looks at these has lanes of other
    /// classes, as a rule.
    pub(crate) fn stage(&mut self, record: &JobRecord, part: Part) {
        if part.role == Role::Image && self.open.get(&part.of).is_some_and(|line| line.class == record.class) {
            self.pictures.insert(record.id, part.of);
        }
    }

    pub(crate) fn stage_ended(&mut self, id: JobId) {
        self.pictures.remove(&id);
    }

    pub(crate) fn launched(&mut self, id: JobId, LaneId(lane): LaneId, now: Time) {
        let lane = self.lanes.get(lane).copied().unwrap_or(0);
        let attempt = AttemptLine { lane, started_us: now.0, parked: Vec::new(), ended_us: now.0 };
        if let Some(line) = self.line(id) {
            line.attempts.push(attempt);
        }
    }

    /// What the scheduler is told of its lanes.
    pub(crate) fn heard(&mut self, input: &Input, now: Time) {
        match input {
            Input::Parked(id) => {
                let parked = Span { from_us: now.0, until_us: now.0 };
                self.change(*id, |attempt| attempt.parked.push(parked));
            }
            Input::Resumed(id) => self.change(*id, |attempt| attempt.end_parked(now)),
            Input::Made(id, _) | Input::Finished(id, ..) | Input::Interrupted(id, _) => {
                self.change(*id, |attempt| attempt.end(now));
            }
            Input::RecordFailed(id, _) => {
                self.open.remove(id);
                self.pictures.remove(id);
            }
            Input::Submit { .. }
            | Input::Recorded(_)
            | Input::Restore(_)
            | Input::Started(_)
            | Input::Progress(..)
            | Input::Previewed(..)
            | Input::Stored(..)
            | Input::Loaded { .. }
            | Input::Unloaded { .. }
            | Input::EngineLost(_)
            | Input::EngineReady
            | Input::Concluded(_)
            | Input::Cancel(_)
            | Input::SessionClosed(_)
            | Input::SetPriority(..)
            | Input::Pause { .. }
            | Input::Drain(_)
            | Input::Leave
            | Input::Abandon
            | Input::Rules(_)
            | Input::Tick => {}
        }
    }

    /// The engine is lost with these jobs on its lanes.
    pub(crate) fn lost(&mut self, jobs: impl Iterator<Item = JobId>, now: Time) {
        for id in jobs {
            self.change(id, |attempt| attempt.end(now));
        }
    }

    pub(crate) fn ended(&mut self, id: JobId, outcome: &Outcome, now: Time) {
        let Some(mut line) = self.open.remove(&id) else { return };
        (line.ended_us, line.outcome) = (now.0, outcome.word().to_owned());
        if self.timeline.jobs.len() < ENTRIES {
            self.timeline.jobs.push(line);
        } else {
            self.timeline.truncated = true;
        }
    }

    pub(crate) fn memory(&mut self, partitions: &[Partition], now: Time) {
        for (partition, last) in partitions.iter().zip(&mut self.live_bytes) {
            let live_bytes = partition.live_bytes();
            if std::mem::replace(last, live_bytes) == live_bytes {
                continue;
            }
            if self.timeline.memory.len() < ENTRIES {
                let partition = partition.name.clone();
                self.timeline.memory.push(MemoryPoint { at_us: now.0, partition, live_bytes });
            } else {
                self.timeline.truncated = true;
            }
        }
    }

    pub(crate) fn into_timeline(self) -> Timeline {
        self.timeline
    }

    fn change(&mut self, id: JobId, change: impl FnOnce(&mut AttemptLine)) {
        if let Some(attempt) = self.line(id).and_then(|line| line.attempts.last_mut()) {
            change(attempt);
        }
    }

    fn line(&mut self, id: JobId) -> Option<&mut JobLine> {
        self.open.get_mut(self.pictures.get(&id).unwrap_or(&id))
    }
}

impl AttemptLine {
    fn end(&mut self, now: Time) {
        // What is parked when it ends has not been resumed.
        if let Some(parked) = self.parked.last_mut().filter(|parked| parked.until_us == parked.from_us) {
            parked.until_us = now.0;
        }
        self.ended_us = now.0;
    }

    fn end_parked(&mut self, now: Time) {
        if let Some(parked) = self.parked.last_mut() {
            parked.until_us = now.0;
        }
    }
}
