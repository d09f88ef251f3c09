//! Jobs that edit a picture, in stages.

use gpusched_core::{Class, Effect, Input, Picture, Plan, Role, Route};
use gpusched_shared::{
    Area, BlobHash, BlobRef, EditSpec, EditStep, FailureKind, Found, JobId, JobSpec, JobState, ModelInfo, Outcome,
    Phase, Rejection, Size, Task, TaskKind, Update, Usage,
};

use crate::shell::{ANN, Shell, ask, model, usage};

const AREA: Area = Area { left: 1.0, top: 2.0, right: 5.0, bottom: 6.0 };
const SIZE: Size = Size { width: 1, height: 1 };

fn blob(n: u8) -> BlobRef {
    BlobRef { hash: BlobHash([n; 32]), bytes: 1 }
}

/// A model for one task.
fn one(name: &str, task: TaskKind, weights_bytes: u64, run_bytes: u64) -> ModelInfo {
    ModelInfo { tasks: vec![task], ..model(name, weights_bytes, run_bytes) }
}

/// A heavy and a light class with so many bytes; of the models every one takes 30 and its jobs 20.
fn shell(heavy_bytes: u64, light_bytes: u64) -> Shell {
    let heavy = Class { cap_bytes: heavy_bytes, ..Class::new("heavy", 1) };
    let light = Class { cap_bytes: light_bytes, ..Class::new("light", 1) };
    let heavy_tasks = [TaskKind::Inpaint, TaskKind::Edit].map(|task| Route::of_task(task, "heavy"));
    let routes = [heavy_tasks.as_slice(), &[Route::to("light")]].concat();
    let models = vec![
        one("finder", TaskKind::Detect, 30, 20),
        one("cutter", TaskKind::Segment, 30, 20),
        one("painter", TaskKind::Inpaint, 30, 20),
        one("talker", TaskKind::Vqa, 30, 20),
    ];
    Shell::new(Plan::new(vec![heavy, light], routes).expect("a valid plan"), models)
}

fn edit() -> JobSpec {
    JobSpec::new(Task::Edit(Box::new(EditSpec::new("make the red circle blue"))))
}

impl Shell {
    /// Somebody hands in an edit of a picture.
    fn edit(&mut self) -> Option<JobId> {
        let spec = self.scheduler.catalog().resolve(edit(), 7).expect("all can be filled in");
        self.submit_with(ANN, spec, vec![Picture { blob: blob(1), pixels: 0 }]);
        self.answers.last().cloned().and_then(Result::ok)
    }

    /// The stage that is on a lane, and with what it was launched.
    fn stage(&mut self) -> (JobId, Role, Vec<BlobRef>) {
        let launch = |effect| if let Effect::Launch { record, .. } = effect { Some(record) } else { None };
        let launched = self.take_effects().into_iter().filter_map(launch);
        let record = launched.last().expect("a stage was launched");
        let role = record.part.expect("it is a stage").role;
        (record.id, role, record.pictures.iter().map(|picture| picture.blob).collect())
    }

    fn gives(&mut self, stage: JobId, model: &str, outcome: Outcome) {
        self.start(stage);
        let class = usize::from(model != "painter");
        self.input(Input::Loaded { class, model: model.to_owned(), bytes: 0 });
        self.pass_ms(5);
        if outcome.blob().is_some() {
            self.lanes.remove(&stage);
            self.input(Input::Made(stage, usage(1)));
            self.input(Input::Stored(stage, outcome));
        } else {
            self.finish_with(stage, outcome, Usage::default());
        }
    }
}

fn found() -> Outcome {
    Outcome::Found(vec![Found { area: AREA, score: 0.9 }, Found { area: Area { left: 0.0, ..AREA }, score: 0.4 }])
}

fn mask(inside: u64) -> Outcome {
    Outcome::Mask { blob: blob(2), size: SIZE, inside, score: 0.8 }
}

fn picture() -> Outcome {
    Outcome::Image { blob: blob(3), size: SIZE, truncated_tokens: 0 }
}

#[test]
fn a_picture_is_edited_stage_by_stage() {
    let mut shell = shell(100, 100);
    let job = shell.edit().expect("accepted");
    let spec = shell.scheduler.view(job, shell.now).expect("it is there").spec;
    let Task::Edit(filled) = &spec.task else { panic!("it edits") };
    assert_eq!((filled.target.as_deref(), filled.prompt.as_deref()), (Some("red circle"), Some("a blue circle")));
    assert_eq!((filled.detector.as_deref(), filled.segmenter.as_deref()), (Some("finder"), Some("cutter")));

    let (stage, role, sees) = shell.stage();
    assert_eq!((role, sees), (Role::Detect, vec![blob(1)]));
    shell.gives(stage, "finder", found());
    let (stage, role, sees) = shell.stage();
    assert_eq!((role, sees), (Role::Segment, vec![blob(1)]));
    let Task::Segment(segment) = shell.scheduler.view(stage, shell.now).expect("it is there").spec.task else {
        panic!()
    };
    assert_eq!(segment.area, Some(AREA), "the surest");
    shell.gives(stage, "cutter", mask(9));
    let told = shell.take_told(job);
    assert!(told.contains(&Update::Editing { step: EditStep::Inpaint, phase: Phase::Waiting }), "{told:?}");
    shell.commit();
    let stage = *shell.launched.last().expect("launched");
    let record = shell.scheduler.view(stage, shell.now).expect("it is there");
    assert_eq!((record.class.as_str(), record.spec.model.as_deref()), ("heavy", Some("painter")));
    let state = shell.scheduler.view(job, shell.now).expect("it is there").state;
    assert!(matches!(state, JobState::Editing { step: EditStep::Inpaint, phase: Phase::Making { .. } }), "{state:?}");
    shell.gives(stage, "painter", picture());
    assert_eq!(shell.outcomes.get(&job), Some(&picture()));
    let waited = shell.scheduler.view(job, shell.now);
    assert!(waited.is_none(), "it has left");
}

#[test]
fn what_is_not_found_is_not_edited() {
    let mut shell = shell(100, 100);
    let job = shell.edit().expect("accepted");
    let (stage, ..) = shell.stage();
    shell.gives(stage, "finder", Outcome::Found(Vec::new()));
    let Some(Outcome::Failed { kind: FailureKind::Input, message }) = shell.outcomes.get(&job) else {
        panic!("it failed")
    };
    assert!(message.contains("\"red circle\"") && message.contains("--threshold"), "{message}");

    let job = shell.edit().expect("accepted");
    let (stage, ..) = shell.stage();
    shell.gives(stage, "finder", found());
    let (stage, ..) = shell.stage();
    shell.gives(stage, "cutter", mask(0));
    let Some(Outcome::Failed { kind: FailureKind::Input, message }) = shell.outcomes.get(&job) else {
        panic!("it failed")
    };
    assert!(message.contains("no pixel of it"), "{message}");
}

#[test]
fn a_stage_that_fails_fails_the_job_and_one_that_is_cancelled_goes_with_it() {
    let mut shell = shell(100, 100);
    let job = shell.edit().expect("accepted");
    let (stage, ..) = shell.stage();
    let failed = Outcome::Failed { kind: FailureKind::Model, message: "broken".to_owned() };
    shell.gives(stage, "finder", failed.clone());
    assert_eq!(shell.outcomes.get(&job), Some(&failed));

    let job = shell.edit().expect("accepted");
    let (stage, ..) = shell.stage();
    shell.start(stage);
    shell.input(Input::Cancel(job));
    assert_eq!(shell.take_stopped(), [stage]);
    shell.interrupt(stage);
    assert_eq!(shell.outcomes.get(&job), Some(&Outcome::Cancelled));
}

#[test]
fn what_a_later_stage_could_never_have_is_refused_before_the_first() {
    let mut shell = shell(49, 100);
    assert_eq!(shell.edit(), None);
    assert!(
        matches!(shell.answers.last(), Some(Err(Rejection::NeverFits { class, model, .. })) if class == "heavy" && model == "painter"),
        "{:?}",
        shell.answers
    );
}

#[test]
fn models_are_swapped_where_not_all_fit_and_those_that_are_wanted_go_last() {
    // One model and its job at a time.
    let mut swaps = shell(100, 50);
    let job = swaps.edit().expect("accepted");
    let (stage, ..) = swaps.stage();
    swaps.gives(stage, "finder", found());
    assert_eq!(swaps.take_evicted(), ["finder"]);
    swaps.input(Input::Unloaded { class: 1, model: "finder".to_owned() });
    let stage = *swaps.launched.last().expect("launched");
    swaps.gives(stage, "cutter", mask(9));
    let stage = *swaps.launched.last().expect("launched");
    swaps.gives(stage, "painter", picture());
    assert_eq!(swaps.outcomes.get(&job), Some(&picture()));

    // Two models and a job: a question needs a third one, while an edit will still need the segmenter.
    let mut shell = shell(100, 80);
    let first = shell.edit().expect("accepted");
    let (stage, ..) = shell.stage();
    shell.gives(stage, "finder", found());
    let (stage, ..) = shell.stage();
    shell.gives(stage, "cutter", mask(9));
    let stage = *shell.launched.last().expect("launched");
    shell.start(stage);
    let question = shell.submit(ANN, ask("talker"));
    let evicted = shell.take_evicted();
    // Both were wanted by the edit under way: the one that was used longest ago goes.
    assert_eq!(evicted, ["finder"]);
    shell.input(Input::Unloaded { class: 1, model: "finder".to_owned() });
    assert!(shell.launched.contains(&question) && !shell.outcomes.contains_key(&first));
}
