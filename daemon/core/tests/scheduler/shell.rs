//! A shell for the scheduler: a journal that commits at once unless it is held, and lanes that do what the test says.

use std::collections::BTreeMap;
use std::mem::take;

use gpusched_core::{
    Catalog, Class, Effect, Input, JobRecord, Key, LaneId, Picture, Plan, Route, Scheduler, SessionId, Ticket, Time,
    Unfinished,
};
use gpusched_shared::{
    Declared, ImageSpec, JobId, JobSpec, ModelInfo, Outcome, Reason, Rejection, Size, Task, TaskKind, Uid, Update,
    Usage, VqaSpec,
};

/// Somebody.
pub(crate) const ANN: Uid = 1001;
/// Somebody else.
pub(crate) const BEN: Uid = 1002;

/// The scheduler and what it has asked for.
pub(crate) struct Shell {
    pub(crate) scheduler: Scheduler,
    pub(crate) now: Time,
    /// The connection that submissions come by.
    pub(crate) session: SessionId,
    /// While it is set, the journal keeps what it should write to itself until [`Shell::commit`].
    pub(crate) journal_is_held: bool,
    writes: Vec<Input>,
    next_ticket: u64,
    /// What submissions were answered.
    pub(crate) answers: Vec<Result<JobId, Rejection>>,
    /// What jobs were launched, in order.
    pub(crate) launched: Vec<JobId>,
    /// Where the jobs on lanes are.
    pub(crate) lanes: BTreeMap<JobId, LaneId>,
    pub(crate) outcomes: BTreeMap<JobId, Outcome>,
    /// All effects since the last [`Shell::take_effects`].
    effects: Vec<Effect>,
}

/// A model for every task that needs so many bytes.
pub(crate) fn model(name: &str, weights_bytes: u64, run_bytes: u64) -> ModelInfo {
    ModelInfo {
        name: name.to_owned(),
        kind: "k".to_owned(),
        tasks: vec![TaskKind::Txt2Img, TaskKind::Img2Img, TaskKind::Vqa],
        bytes: weights_bytes,
        default_size: Size { width: 64, height: 64 },
        size_multiple: 1,
        max_pixels: u64::MAX,
        default_steps: 4,
        default_guidance_milli: 1000,
        declared: Declared { weights_bytes, run_bytes, run_bytes_per_pixel: 0 },
    }
}

/// A question to a model.
pub(crate) fn ask(model: &str) -> JobSpec {
    let task = Task::Vqa(VqaSpec { question: "what?".to_owned(), top: 1 });
    JobSpec { model: Some(model.to_owned()), ..JobSpec::new(task) }
}

/// A picture of a model, in so many steps.
pub(crate) fn paint(model: &str, steps: u32) -> JobSpec {
    let size = Some(Size { width: 8, height: 8 });
    let task = Task::Txt2Img(ImageSpec { steps: Some(steps), size, ..ImageSpec::new("x") });
    JobSpec { model: Some(model.to_owned()), ..JobSpec::new(task) }
}

/// The same with another priority.
pub(crate) fn prior(priority: i8, spec: JobSpec) -> JobSpec {
    JobSpec { priority, ..spec }
}

pub(crate) fn usage(peak_bytes: u64) -> Usage {
    Usage { peak_bytes, ..Usage::default() }
}

pub(crate) fn answers() -> Outcome {
    Outcome::Answers(Vec::new())
}

/// `heavy` for pictures, which makes way for `light` for everything else.
pub(crate) fn heavy_and_light(heavy: Class, light: Class) -> Plan {
    let routes = vec![Route::of_task(TaskKind::Txt2Img, &*heavy.name), Route::to(&*light.name)];
    Plan::new(vec![heavy, light], routes).expect("a valid plan")
}

/// One class that takes everything.
pub(crate) fn only(class: Class) -> Plan {
    let routes = vec![Route::to(&*class.name)];
    Plan::new(vec![class], routes).expect("a valid plan")
}

impl Shell {
    pub(crate) fn new(plan: Plan, models: Vec<ModelInfo>) -> Self {
        Self {
            scheduler: Scheduler::new(plan, Catalog::new(models), JobId(1)),
            now: Time(0),
            session: SessionId(1),
            journal_is_held: false,
            writes: Vec::new(),
            next_ticket: 1,
            answers: Vec::new(),
            launched: Vec::new(),
            lanes: BTreeMap::new(),
            outcomes: BTreeMap::new(),
            effects: Vec::new(),
        }
    }

    /// One class of so many lanes without limits, and model `m`.
    pub(crate) fn simple(lanes: u32) -> Self {
        Self::new(only(Class::new("c", lanes)), vec![model("m", 0, 0)])
    }

    /// One class with a partition of so many bytes.
    pub(crate) fn with_memory(lanes: u32, cap_bytes: u64, models: Vec<ModelInfo>) -> Self {
        Self::new(only(Class { cap_bytes, ..Class::new("c", lanes) }), models)
    }

    pub(crate) fn try_submit(&mut self, uid: Uid, spec: JobSpec) -> Result<JobId, Rejection> {
        self.submit_as(uid, spec, false).expect("an instant journal answers at once")
    }

    pub(crate) fn submit(&mut self, uid: Uid, spec: JobSpec) -> JobId {
        self.try_submit(uid, spec).expect("accepted")
    }

    pub(crate) fn submit_attached(&mut self, uid: Uid, spec: JobSpec) -> JobId {
        self.submit_as(uid, spec, true).expect("an instant journal answers at once").expect("accepted")
    }

    /// `None` if there is no answer yet.
    pub(crate) fn submit_as(&mut self, uid: Uid, spec: JobSpec, attached: bool) -> Option<Result<JobId, Rejection>> {
        self.answers.clear();
        self.hand_in(uid, spec, attached, None, Vec::new());
        self.answers.pop()
    }

    /// A submission that may be repeated.
    pub(crate) fn submit_keyed(&mut self, uid: Uid, spec: JobSpec, attached: bool, key: Key) {
        self.hand_in(uid, spec, attached, Some(key), Vec::new());
    }

    /// One that comes with pictures.
    pub(crate) fn submit_with(&mut self, uid: Uid, spec: JobSpec, pictures: Vec<Picture>) {
        self.hand_in(uid, spec, false, None, pictures);
    }

    fn hand_in(&mut self, uid: Uid, spec: JobSpec, attached: bool, key: Option<Key>, pictures: Vec<Picture>) {
        let (ticket, session) = (Ticket(self.next_ticket), self.session);
        self.next_ticket += 1;
        let unix_ms = self.now.0 / 1000;
        self.input(Input::Submit { ticket, uid, session, spec, pictures, attached, key, unix_ms, boot: None });
    }

    pub(crate) fn restore(&mut self, record: JobRecord, age_ms: u64) {
        self.input(Input::Restore(vec![Unfinished {
            record,
            age_ms,
            retry_in_ms: None,
            ended: Vec::new(),
            damage: None,
        }]));
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.handle(input);
        if !self.journal_is_held {
            self.commit();
        }
        assert_eq!(self.scheduler.take_impossible(), Vec::<String>::new());
    }

    /// The journal writes everything it has.
    pub(crate) fn commit(&mut self) {
        while !self.writes.is_empty() {
            for answer in take(&mut self.writes) {
                self.handle(answer);
            }
        }
    }

    fn handle(&mut self, input: Input) {
        for effect in self.scheduler.handle(input, self.now) {
            match &effect {
                Effect::Record(record) => self.writes.push(Input::Recorded(record.id)),
                Effect::Accept(_, job) => self.answers.push(Ok(*job)),
                Effect::Reject(_, rejection) => self.answers.push(Err(rejection.clone())),
                Effect::Launch { job, lane, .. } => {
                    assert!(!self.lanes.values().any(|taken| taken == lane), "{lane:?} is free");
                    self.lanes.insert(*job, *lane);
                    self.launched.push(*job);
                }
                Effect::Conclude { job, outcome, .. } => {
                    assert_eq!(self.outcomes.insert(*job, outcome.clone()), None, "job {job} ends once");
                    self.lanes.remove(job);
                    self.writes.push(Input::Concluded(*job));
                }
                Effect::Stop(_)
                | Effect::Gate { .. }
                | Effect::Evict { .. }
                | Effect::Amend(_)
                | Effect::Keep(_)
                | Effect::AttemptEnded { .. }
                | Effect::BackOff { .. }
                | Effect::Flush { .. }
                | Effect::Advanced
                | Effect::Tell(..) => {}
            }
            self.effects.push(effect);
        }
    }

    /// So much time passes; timers ring when they are due.
    pub(crate) fn pass_us(&mut self, us: u64) {
        let end = self.now.after(us);
        while let Some(at) = self.scheduler.next_timer().filter(|at| *at <= end) {
            assert!(at > self.now, "a timer that is due has rung");
            self.now = at;
            self.input(Input::Tick);
        }
        self.now = end;
    }

    pub(crate) fn pass_ms(&mut self, ms: u64) {
        self.pass_us(ms * 1000);
    }

    pub(crate) fn start(&mut self, job: JobId) {
        self.input(Input::Started(job));
    }

    /// The lane is done with a job that has been started.
    pub(crate) fn finish(&mut self, job: JobId) {
        self.finish_with(job, answers(), Usage::default());
    }

    pub(crate) fn finish_with(&mut self, job: JobId, outcome: Outcome, usage: Usage) {
        assert!(self.lanes.remove(&job).is_some(), "job {job} is on a lane");
        self.input(Input::Finished(job, outcome, usage));
    }

    /// The lane has left a job that it was told to leave.
    pub(crate) fn interrupt(&mut self, job: JobId) {
        assert!(self.lanes.remove(&job).is_some(), "job {job} is on a lane");
        self.input(Input::Interrupted(job, Usage::default()));
    }

    /// A lane takes a job, works on it for so many milliseconds, and is done with it.
    pub(crate) fn run(&mut self, job: JobId, ms: u64) {
        self.start(job);
        self.pass_ms(ms);
        self.finish(job);
    }

    /// A model arrives in the first class's partition; it takes what was declared.
    pub(crate) fn loaded(&mut self, model: &str) {
        self.input(Input::Loaded { class: 0, model: model.to_owned(), bytes: 0 });
    }

    pub(crate) fn unloaded(&mut self, model: &str) {
        self.input(Input::Unloaded { class: 0, model: model.to_owned() });
    }

    /// A job whose model is loaded for it, and which takes so long once that has happened.
    pub(crate) fn load_and_run(&mut self, job: JobId, model: &str, ms: u64) {
        self.loaded(model);
        self.run(job, ms);
    }

    /// The jobs on lanes, in the order of acceptance.
    pub(crate) fn running(&self) -> Vec<JobId> {
        self.lanes.keys().copied().collect()
    }

    /// All effects since the last call.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        take(&mut self.effects)
    }

    /// The models that were evicted since the last look at the effects.
    pub(crate) fn take_evicted(&mut self) -> Vec<String> {
        let evicted = |effect| if let Effect::Evict { model, .. } = effect { Some(model) } else { None };
        self.take_effects().into_iter().filter_map(evicted).collect()
    }

    /// The jobs that were told to stop, likewise.
    pub(crate) fn take_stopped(&mut self) -> Vec<JobId> {
        let stopped = |effect| if let Effect::Stop(job) = effect { Some(job) } else { None };
        self.take_effects().into_iter().filter_map(stopped).collect()
    }

    /// Gates that have closed (true) or opened, likewise.
    pub(crate) fn take_gates(&mut self) -> Vec<bool> {
        let moved = |effect| if let Effect::Gate { closed, .. } = effect { Some(closed) } else { None };
        self.take_effects().into_iter().filter_map(moved).collect()
    }

    /// What whoever watches `job` was told, likewise.
    pub(crate) fn take_told(&mut self, job: JobId) -> Vec<Update> {
        let told = |effect| if let Effect::Tell(id, update) = effect { Some((id, update)) } else { None };
        let told = self.take_effects().into_iter().filter_map(told).filter(|(id, _)| *id == job);
        told.map(|(_, update)| update).collect()
    }

    pub(crate) fn reasons(&self, job: JobId) -> Vec<Reason> {
        self.scheduler.explain(job, self.now).expect("it is there").reasons
    }
}
