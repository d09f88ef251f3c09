//! Jobs with a program: its stages become jobs of their own, and it is told how they ended.
//!
//! ```text
//! parent   Recording ─▶ Underway ───────────────────────────────────────────────▶ Concluding ─▶ Done
//!                          │ advance          ▲ its outcome is on record              ▲
//! stage                    └▶ Recording ─▶ … ─▶ Done ── next stage, or none left ─────┘
//! ```
//!
//! A program hears of a stage's end when that is on record, so a daemon that dies at any moment finds every stage that
//! counted, and makes again only what had no outcome.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use gpusched_shared::{
    Checked, FailureKind, JobId, JobSpec, JobState, Outcome, Phase, ReflectEnd, Reflection, RoundImage, Update, Usage,
    Verdict,
};

use crate::catalog::ModelId;
use crate::effect::{BootTime, Effect, JobRecord, Picture};
use crate::input::Unfinished;
use crate::job::Job;
use crate::job::state::{Ending, State};
use crate::job::transition::Event;
use crate::program::{At, EndedPart, Next, Part, Program, Role, Sees, Stage};
use crate::scheduler::Scheduler;
use crate::time::Time;
use crate::timers::Timer;

/// A program, and its stages that are under way.
#[derive(Debug)]
pub(crate) struct Programmed {
    program: Program,
    stages: BTreeMap<(u8, Role), JobId>,
    /// What its job came to, once that is known.
    conclusion: Option<Reflection>,
    /// How its job is to end once its stages have, whatever the program says.
    fate: Option<Outcome>,
    /// The models that its stages need, by class.
    models: Vec<(usize, ModelId)>,
}

impl Programmed {
    /// The program of a job, if it has one.
    pub(crate) fn of(spec: &JobSpec) -> Option<Box<Self>> {
        let program = Program::of(spec)?;
        Some(Box::new(Self { program, stages: BTreeMap::new(), conclusion: None, fate: None, models: Vec::new() }))
    }

    /// Its stages, as far as they are known before any has been made, of a job with this record.
    pub(crate) fn foreseen(&self, record: &JobRecord) -> Vec<JobRecord> {
        let stages = self.program.foreseen(&record.pictures).into_iter();
        stages.map(|(spec, pictures)| JobRecord { spec, pictures, ..record.clone() }).collect()
    }

    /// The models that they need, by class.
    pub(crate) fn models(&self) -> &[(usize, ModelId)] {
        &self.models
    }

    /// Its stages that have not ended.
    pub(crate) fn stages(&self) -> impl Iterator<Item = JobId> + '_ {
        self.stages.values().copied()
    }

    /// What its job's rounds came to, so far or in all, if it reflects.
    pub(crate) fn reflection(&self) -> Option<Reflection> {
        self.conclusion.clone().or_else(|| self.program.reflection())
    }
}

impl Job {
    /// Whether it takes a place in its class's queue in this state: jobs that clients asked for do.
    pub(crate) fn takes_a_place(&self, state: &State) -> bool {
        self.record.part.is_none() && state.is_waiting()
    }

    /// Takes in how a stage of it has ended.
    fn take_in(&mut self, ended: &EndedPart) {
        // Checks wait side by side, so their waits are not the job's.
        let leads = ended.part.role.leads();
        let (waited_us, backed_off_us) = if leads { (ended.wait_us, ended.backoff_us) } else { (0, 0) };
        self.clock.add(waited_us, backed_off_us, ended.run_us);
        self.add_usage(ended.usage);
        if let Some(program) = &mut self.program {
            program.program.end(ended);
        }
    }
}

impl Scheduler {
    /// Has the stages made that a program wants, and those ended that can tell it nothing any more; or ends its job.
    pub(crate) fn advance(&mut self, id: JobId, now: Time, effects: &mut VecDeque<Effect>) {
        loop {
            let Some(job) = self.jobs.get_mut(&id).filter(|job| job.state == State::Underway) else { return };
            let Some(program) = &mut job.program else { return };
            let next = program.program.next();
            let concludes = matches!(next, Next::Conclude(..));
            let live = program.stages.iter();
            let needless = live.filter(|((round, role), _)| concludes || !program.program.needs(*round, *role));
            let needless: Vec<JobId> = needless.map(|(_, stage)| *stage).collect();
            let stages = match next {
                Next::Stages(stages) => stages,
                Next::Conclude(outcome, reflection) if needless.is_empty() => {
                    program.conclusion = reflection;
                    return self.apply(id, &Event::Finished(outcome), now, effects);
                }
                // Once they have ended.
                Next::Conclude(..) => Vec::new(),
            };
            for stage in needless {
                self.apply(stage, &Event::End(Ending::Cancelled), now, effects);
            }
            let Some(program) = self.jobs.get_mut(&id).and_then(|job| job.program.as_mut()) else { return };
            let live = &program.stages;
            let wanted: Vec<Stage> = stages.into_iter().filter(|s| !live.contains_key(&(s.round, s.role))).collect();
            let refused: Vec<EndedPart> =
                wanted.into_iter().filter_map(|stage| self.begin_stage(id, stage, now, effects)).collect();
            if refused.is_empty() {
                return;
            }
            let Some(program) = self.jobs.get_mut(&id).and_then(|job| job.program.as_mut()) else { return };
            refused.iter().for_each(|ended| program.program.end(ended));
        }
    }

    /// Makes a stage a job. One that has no place here, because the configuration has none for it, has ended at once.
    fn begin_stage(
        &mut self,
        id: JobId,
        Stage { round, role, mut spec, sees }: Stage,
        now: Time,
        effects: &mut VecDeque<Effect>,
    ) -> Option<EndedPart> {
        let parent = self.jobs.get(&id)?;
        let part = Part { of: id, round, role };
        spec.priority = parent.record.spec.priority;
        let since_ms = parent.age_ms + now.since(parent.since) / 1000;
        let record = JobRecord {
            id: self.next_id,
            uid: parent.record.uid,
            class: String::new(),
            pictures: match sees {
                Sees::Given => parent.record.pictures.clone(),
                Sees::Only(image) => vec![Picture::of(image)],
                Sees::Also(image) => [parent.record.pictures.as_slice(), &[Picture::of(image)]].concat(),
            },
            spec,
            attached: false,
            submitted_unix_ms: parent.record.submitted_unix_ms.saturating_add(since_ms),
            submitted_boot: parent
                .record
                .submitted_boot
                .map(|BootTime { boot, ms }| BootTime { boot, ms: ms.saturating_add(since_ms) }),
            attempts: 0,
            key: None,
            retries: 0,
            suspect: false,
            deaths: 0,
            part: Some(part),
        };
        let (class, shape) = match self.place(&record) {
            Ok(place) => place,
            Err(rejection) => {
                let outcome = Outcome::Failed { kind: FailureKind::Input, message: rejection.to_string() };
                let (spec, usage) = (record.spec, Usage::default());
                return Some(EndedPart { part, spec, outcome, wait_us: 0, backoff_us: 0, run_us: 0, usage });
            }
        };
        let record = JobRecord { class: self.plan.classes()[class].name.clone(), ..record };
        let stage = record.id;
        self.next_id = JobId(stage.0 + 1);
        // Whoever must have a lane by some time has it with its first picture.
        let parent = self.jobs.get_mut(&id)?;
        let queue_until = parent.queue_until.take();
        self.timers.clear(queue_until, Timer::QueueTimeout(id));
        if let Some(program) = &mut parent.program {
            program.program.begin(part, &record.spec);
            program.stages.insert((round, role), stage);
        }
        let job = Job::new(record, class, shape, State::Recording(None), now);
        effects.push_back(Effect::Record(Arc::clone(&job.record)));
        self.insert(Job { queue_until, ..job });
        None
    }

    /// Keeps in mind which models a job's stages need, so that none of them has to go while another can.
    pub(crate) fn want_models(&mut self, job: &mut Job) {
        let Some(program) = &mut job.program else { return };
        let places = program.foreseen(&job.record).into_iter().filter_map(|stage| self.place(&stage).ok());
        program.models = places.map(|(class, shape)| (class, shape.model)).collect();
        for place in &program.models {
            *self.wanted.entry(*place).or_default() += 1;
        }
    }

    /// A job needs no models any more.
    pub(crate) fn release_models(&mut self, job: &Job) {
        for place in job.program.iter().flat_map(|program| &program.models) {
            if let Some(jobs) = self.wanted.get_mut(place) {
                *jobs -= 1;
                if *jobs == 0 {
                    self.wanted.remove(place);
                }
            }
        }
    }

    /// A stage has ended, and that is on record.
    pub(crate) fn stage_ended(&mut self, stage: &Job, outcome: Outcome, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(part) = stage.record.part else { return };
        let Some(parent) = self.jobs.get_mut(&part.of) else { return };
        let clock = &stage.clock;
        let ended = EndedPart {
            part,
            spec: stage.record.spec.clone(),
            outcome,
            wait_us: clock.wait_us(now),
            backoff_us: clock.backoff_us(now),
            run_us: clock.run_us(now),
            usage: stage.usage,
        };
        parent.take_in(&ended);
        if let Some(program) = &mut parent.program {
            program.stages.remove(&(part.round, part.role));
        }
        self.tell_underway(part.of, effects);
        match self.jobs.get(&part.of).map(|parent| parent.state.clone()) {
            Some(State::Ceasing(ending)) => self.cease(part.of, ending, now, effects),
            _ => self.advance(part.of, now, effects),
        }
    }

    /// After how many of its steps a stage's picture is to be previewed.
    pub(crate) fn preview_after(&self, stage: &Job) -> Option<u32> {
        let part = stage.record.part.filter(|part| part.role == Role::Image)?;
        self.jobs.get(&part.of)?.program.as_ref()?.program.reflecting()?.preview_after(part.round)
    }

    /// What a stage's picture is about to become is stored. Once its lane is done with it that is of no use.
    pub(crate) fn previewed(&mut self, stage: JobId, image: RoundImage, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(part) = self.jobs.get(&stage).filter(|job| job.state.lane().is_some()).and_then(|job| job.record.part)
        else {
            return;
        };
        if let Some(program) = self.jobs.get_mut(&part.of).and_then(|parent| parent.program.as_mut()) {
            program.program.preview(part.round, image);
        }
        self.advance(part.of, now, effects);
    }

    /// Tells the stages of a job that is to end to do so.
    pub(crate) fn end_stages(&mut self, id: JobId, ending: Ending, now: Time, effects: &mut VecDeque<Effect>) {
        let stages = self.jobs.get(&id).and_then(|job| job.program.as_ref()).map(|program| program.stages().collect());
        let stages: Vec<JobId> = stages.unwrap_or_default();
        for stage in stages {
            self.apply(stage, &Event::End(ending), now, effects);
        }
        self.cease(id, ending, now, effects);
    }

    /// Ends a job that was told to end, if its stages have.
    fn cease(&mut self, id: JobId, ending: Ending, now: Time, effects: &mut VecDeque<Effect>) {
        let Some(program) = self.jobs.get_mut(&id).and_then(|job| job.program.as_mut()) else { return };
        if !program.stages.is_empty() {
            return;
        }
        let outcome = match (program.fate.take(), program.program.give_up(&ending.outcome(), ReflectEnd::Ended)) {
            (Some(fate), _) => fate,
            (None, Next::Conclude(outcome, reflection)) => {
                program.conclusion = reflection;
                outcome
            }
            (None, Next::Stages(_)) => ending.outcome(),
        };
        self.apply(id, &Event::Finished(outcome), now, effects);
    }

    /// Takes jobs of an earlier run back: those with programs first, then the others, their stages among them; then the
    /// programs go on.
    pub(crate) fn restore_all(&mut self, jobs: Vec<Unfinished>, now: Time, effects: &mut VecDeque<Effect>) {
        let (programmed, others): (Vec<_>, Vec<_>) =
            jobs.into_iter().partition(|job| Program::of(&job.record.spec).is_some() && job.record.part.is_none());
        let programmed: Vec<(JobId, Option<Ending>)> =
            programmed.into_iter().map(|job| (job.record.id, self.restore_programmed(job, now))).collect();
        for job in others {
            self.restore(job, now, effects);
        }
        for (id, ending) in programmed {
            match ending {
                Some(ending) => self.apply(id, &Event::End(ending), now, effects),
                None => self.advance(id, now, effects),
            }
        }
    }

    /// Takes a job with a program back, as it was when the last of its stages ended; says whether it must end.
    fn restore_programmed(&mut self, job: Unfinished, now: Time) -> Option<Ending> {
        let ended = job.ended.clone();
        let (mut job, fate, gone) = self.revive(job, State::Underway, now);
        ended.iter().for_each(|ended| job.take_in(ended));
        if let Some(program) = &mut job.program {
            program.fate.clone_from(&fate);
            if !ended.is_empty() {
                job.queue_until = None;
            }
        }
        self.insert(job);
        // What it fails of is known; its stages are only to go.
        (fate.is_some() || gone).then_some(Ending::Cancelled)
    }

    /// Whether the job that a restored stage belongs to is here to hear of its end; if so it knows of it from now on.
    pub(crate) fn adopt(&mut self, stage: &mut Job, part: Part) -> bool {
        let Some(parent) = self.jobs.get_mut(&part.of).filter(|parent| parent.state == State::Underway) else {
            return false;
        };
        let Some(program) = &mut parent.program else { return false };
        program.program.begin(part, &stage.record.spec);
        program.stages.insert((part.round, part.role), stage.record.id);
        // The daemon may have died before a change of it was on record for both.
        Arc::make_mut(&mut stage.record).spec.priority = parent.record.spec.priority;
        stage.queue_until = parent.queue_until.take();
        self.timers.clear(stage.queue_until, Timer::QueueTimeout(part.of));
        true
    }

    /// How a check of a live job's picture came out, or of what it was about to become; `None` while it has not been made.
    pub fn checked(&self, part: Part) -> Option<&Checked> {
        self.jobs.get(&part.of)?.program.as_ref()?.program.reflecting()?.checked(part.round, part.role)
    }

    /// What followed from a round of a live job, and its score, 0 to 1; `None` while that is open.
    pub fn verdict(&self, job: JobId, round: u8) -> Option<(Verdict, f32)> {
        self.jobs.get(&job)?.program.as_ref()?.program.reflecting()?.verdict(round)
    }

    /// The job that a client knows of: itself, or the one whose stage it is.
    pub(crate) fn asked_for(&self, id: JobId) -> JobId {
        self.jobs.get(&id).and_then(|job| job.record.part).map_or(id, |part| part.of)
    }

    /// Where a job with a program is.
    pub(crate) fn underway(&self, job: &Job) -> JobState {
        let Some(program) = &job.program else { return JobState::Queued { ahead: 0 } };
        let leading = program.stages.iter().rev().find(|((_, role), _)| role.leads());
        let stage = leading.and_then(|(_, stage)| self.jobs.get(stage));
        let phase = program.program.phase().unwrap_or_else(|| match stage.map(|stage| (stage, &stage.state)) {
            Some((stage, State::Launching(_) | State::Running(_) | State::Stopping(..) | State::Storing)) => {
                Phase::Making { activity: stage.activity, parked: false }
            }
            Some((stage, State::Parked(_))) => Phase::Making { activity: stage.activity, parked: true },
            Some(_) | None => Phase::Waiting,
        });
        match program.program.at() {
            At::Round(round, of) => JobState::Reflecting { round, of, phase },
            At::Step(step) => JobState::Editing { step, phase },
        }
    }

    /// Tells whoever watches a job, or the job whose stage it is.
    pub(crate) fn tell(&self, id: JobId, update: Update, effects: &mut VecDeque<Effect>) {
        effects.push_back(Effect::Tell(id, update));
        if let Some(part) = self.jobs.get(&id).and_then(|job| job.record.part)
            && part.role.leads()
        {
            self.tell_underway(part.of, effects);
        }
    }

    fn tell_underway(&self, id: JobId, effects: &mut VecDeque<Effect>) {
        let update = match self.jobs.get(&id).map(|job| self.underway(job)) {
            Some(JobState::Reflecting { round, of, phase }) => Update::Reflecting { round, of, phase },
            Some(JobState::Editing { step, phase }) => Update::Editing { step, phase },
            Some(_) | None => return,
        };
        effects.push_back(Effect::Tell(id, update));
    }
}
