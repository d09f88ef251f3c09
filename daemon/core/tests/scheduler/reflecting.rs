//! Jobs that check what they made and try again.

use gpusched_core::{Blame, Class, Effect, EndedPart, Input, JobRecord, Part, Quotas, Role, Unfinished};
use gpusched_shared::{
    Answer, BlobHash, BlobRef, Check, FailureKind, ImageSpec, JobId, JobSpec, JobState, Outcome, Phase, Quota, Reflect,
    ReflectEnd, Reflection, Rejection, Size, Task, TaskKind, TimeLimit, Update, Usage, Verdict,
};

use crate::restore::record;
use crate::shell::{ANN, Shell, heavy_and_light, model, paint, usage};

const SIZE: Size = Size { width: 8, height: 8 };

pub(crate) fn shell() -> Shell {
    let plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 2));
    Shell::new(plan, vec![model("m", 0, 0)])
}

pub(crate) fn check(question: &str) -> Check {
    Check::new(question, "yes")
}

/// Two checks, and so many rounds.
pub(crate) fn reflecting(rounds: u8) -> JobSpec {
    let checks = vec![check("a?"), check("b?")];
    let reflect = Reflect { rounds: Some(rounds), checks, judge: Some("m".to_owned()), ..Reflect::default() };
    let image =
        ImageSpec { seed: Some(7), steps: Some(4), size: Some(SIZE), guidance: Some(1.0), ..ImageSpec::new("x") };
    JobSpec { reflect: Some(Box::new(reflect)), task: Task::Txt2Img(image), ..paint("m", 4) }
}

pub(crate) fn changed(spec: JobSpec, change: impl FnOnce(&mut Reflect)) -> JobSpec {
    let mut reflect = spec.reflect.clone().expect("it reflects");
    change(&mut reflect);
    JobSpec { reflect: Some(reflect), ..spec }
}

/// The picture that a stage makes: a seed, a picture.
pub(crate) fn picture(seed: u64) -> Outcome {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&seed.to_le_bytes());
    Outcome::Image { blob: BlobRef { hash: BlobHash(hash), bytes: 1 }, size: SIZE, truncated_tokens: 0 }
}

pub(crate) fn says(label: &str, score: f32) -> Outcome {
    Outcome::Answers(vec![Answer { label: label.to_owned(), score }])
}

impl Shell {
    /// The lane makes the picture of the stage that is on it.
    pub(crate) fn make(&mut self) -> u64 {
        let stage = self.on_lane(|spec| spec.task.kind() == TaskKind::Txt2Img);
        let Task::Txt2Img(image) = self.spec(stage).task else { unreachable!("it makes a picture") };
        let seed = image.seed.expect("nothing is left open");
        self.start(stage);
        self.pass_ms(100);
        self.lanes.remove(&stage);
        self.input(Input::Made(stage, usage(1)));
        self.input(Input::Stored(stage, picture(seed)));
        seed
    }

    /// A lane answers a check.
    pub(crate) fn answer(&mut self, question: &str, label: &str, score: f32) {
        let stage = self.on_lane(|spec| spec.task.text() == question);
        self.start(stage);
        self.pass_ms(10);
        self.finish_with(stage, says(label, score), Usage::default());
    }

    pub(crate) fn on_lane(&self, which: impl Fn(&JobSpec) -> bool) -> JobId {
        self.running().into_iter().find(|id| which(&self.spec(*id))).expect("a lane has it")
    }

    fn spec(&self, id: JobId) -> JobSpec {
        self.scheduler.view(id, self.now).expect("it is there").spec
    }

    /// What a job came to.
    pub(crate) fn concluded(&mut self, job: JobId) -> (Outcome, Reflection) {
        let ended = |effect| {
            if let Effect::Conclude { job, outcome, reflection, .. } = effect {
                Some((job, outcome, reflection))
            } else {
                None
            }
        };
        let mut ended = self.take_effects().into_iter().filter_map(ended).filter(|(id, ..)| *id == job);
        let found = ended.next().map(|(_, outcome, reflection)| (outcome, reflection));
        let (outcome, reflection) = found.expect("it has ended");
        (outcome, *reflection.expect("it reflects"))
    }
}

#[test]
fn a_picture_that_passes_is_the_first() {
    let mut shell = shell();
    let job = shell.submit(ANN, reflecting(4));
    let seed = shell.make();
    assert_eq!(shell.running().len(), 2, "checks run side by side");
    assert_eq!(seed, 7, "the first picture is the one that was asked for");
    shell.answer("a?", "yes", 0.9);
    let state = shell.scheduler.view(job, shell.now).expect("it is there").state;
    let phase = Phase::Checking { done: 1, of: 2 };
    assert_eq!(state, JobState::Reflecting { round: 1, of: 4, phase });
    shell.answer("b?", "YES", 0.95);
    let (outcome, reflection) = shell.concluded(job);
    assert_eq!(outcome, picture(7));
    assert_eq!(
        (reflection.best, reflection.verdict, reflection.end),
        (Some(1), Some(Verdict::Pass), Some(ReflectEnd::Passed))
    );
    let round = &reflection.rounds[0];
    // The second check's lane was given to it when the first one's was, and began 10 ms later.
    assert_eq!((round.image_us, round.check_us, round.checks.len()), (100_000, 30_000, 2));
    assert!((round.score - (0.9f32 * 0.95).sqrt()).abs() < 1e-6);
    assert!(shell.scheduler.is_idle() && shell.running().is_empty());
}

#[test]
fn a_picture_that_fails_is_made_again_and_the_best_is_kept() {
    let mut shell = shell();
    let job = shell.submit(ANN, reflecting(3));
    let mut seeds = Vec::new();
    for (label, score) in [("no", 0.6), ("yes", 0.4), ("no", 0.9)] {
        seeds.push(shell.make());
        shell.answer("a?", "yes", 0.9);
        shell.answer("b?", label, score);
    }
    let (outcome, reflection) = shell.concluded(job);
    assert!(seeds[0] != seeds[1] && seeds[1] != seeds[2]);
    assert_eq!(outcome, picture(seeds[1]), "an unsure yes is nearer than a no");
    assert_eq!(
        (reflection.best, reflection.verdict, reflection.end),
        (Some(2), Some(Verdict::Fail), Some(ReflectEnd::Rounds))
    );
    let passed: Vec<bool> = reflection.rounds.iter().map(|round| round.checks[1].passed).collect();
    assert_eq!(passed, [false; 3], "a yes below the confidence does not pass");
}

#[test]
fn a_round_goes_before_what_came_later() {
    let mut shell = shell();
    let (first, second) = (shell.submit(ANN, reflecting(2)), shell.submit(ANN, reflecting(2)));
    shell.submit(ANN, paint("m", 4));
    let mut order = Vec::new();
    for _ in 0..2 {
        order.push(shell.scheduler.lanes()[0].job.expect("the lane is busy"));
        shell.make();
        if order.len() == 1 {
            shell.answer("a?", "no", 1.0);
            shell.answer("b?", "no", 1.0);
        }
    }
    order.push(shell.scheduler.lanes()[0].job.expect("the lane is busy"));
    assert_eq!(order, [first, second, first], "its second round was not there when the second job got the lane");
}

#[test]
fn a_strict_job_fails_with_its_pictures_on_record() {
    let mut shell = shell();
    let job = shell.submit(ANN, changed(reflecting(1), |reflect| reflect.strict = true));
    shell.make();
    shell.answer("a?", "no", 1.0);
    shell.answer("b?", "yes", 1.0);
    let (outcome, reflection) = shell.concluded(job);
    let Outcome::Failed { kind: FailureKind::ChecksFailed, message } = outcome else { panic!("{outcome:?}") };
    assert!(message.contains(r#""a?" was answered "no", not "yes""#), "{message}");
    assert_eq!((reflection.best, reflection.verdict), (None, Some(Verdict::Fail)));
    assert!(reflection.rounds[0].image.is_some());
}

#[test]
fn no_round_is_begun_once_the_lane_time_is_used() {
    let mut shell = shell();
    let job = shell.submit(ANN, changed(reflecting(8), |reflect| reflect.lane_ms = Some(200)));
    for _ in 0..2 {
        shell.make();
        shell.answer("a?", "no", 1.0);
        shell.answer("b?", "no", 1.0);
    }
    let (_, reflection) = shell.concluded(job);
    assert_eq!((reflection.rounds.len(), reflection.end), (2, Some(ReflectEnd::LaneTime)));
}

#[test]
fn without_a_judge_there_is_no_second_picture() {
    let mut shell = shell();
    // Its judge has gone since it was accepted.
    shell.restore(record(5, changed(reflecting(4), |reflect| reflect.judge = Some("gone".to_owned()))), 0);
    shell.make();
    let (outcome, reflection) = shell.concluded(JobId(5));
    assert_eq!(outcome, picture(7));
    assert_eq!((reflection.verdict, reflection.end), (Some(Verdict::Fail), Some(ReflectEnd::Unchecked)));
}

#[test]
fn a_deadline_gives_the_best_so_far() {
    let mut shell = shell();
    let job = shell.submit(ANN, JobSpec { deadline_ms: Some(150), ..reflecting(4) });
    let seed = shell.make();
    shell.answer("a?", "no", 1.0);
    shell.answer("b?", "yes", 1.0);
    let stage = shell.running()[0];
    shell.start(stage);
    shell.take_effects();
    shell.pass_ms(100);
    assert_eq!(shell.take_stopped(), [stage]);
    shell.interrupt(stage);
    let (outcome, reflection) = shell.concluded(job);
    assert_eq!((outcome, reflection.end), (picture(seed), Some(ReflectEnd::Ended)));

    let job = shell.submit(ANN, JobSpec { deadline_ms: Some(50), ..reflecting(4) });
    let stage = shell.running()[0];
    shell.pass_ms(50);
    shell.interrupt(stage);
    assert_eq!(shell.concluded(job).0, Outcome::Expired { limit: TimeLimit::Deadline });
}

#[test]
fn a_cancelled_job_takes_its_stages_with_it() {
    let mut shell = shell();
    let job = shell.submit(ANN, reflecting(4));
    shell.make();
    let checks = shell.running();
    shell.start(checks[0]);
    shell.take_effects();
    shell.input(Input::Cancel(job));
    shell.interrupt(checks[0]);
    assert!(!shell.outcomes.contains_key(&job), "a stage is still on a lane");
    shell.interrupt(checks[1]);
    let (outcome, reflection) = shell.concluded(job);
    assert_eq!((outcome, reflection.end), (Outcome::Cancelled, Some(ReflectEnd::Ended)));
    assert!(shell.running().is_empty() && shell.scheduler.is_idle());
}

#[test]
fn a_cancelled_job_stays_cancelled_over_a_restart() {
    let mut shell = shell();
    let record = |id: u64, spec: JobSpec, part: Option<Part>| JobRecord { part, ..record(id, spec) };
    let part = |role| Part { of: JobId(5), round: 1, role };
    let ended = |role, outcome| EndedPart {
        part: part(role),
        spec: JobSpec { reflect: None, ..reflecting(4) },
        outcome,
        wait_us: 1,
        backoff_us: 0,
        run_us: 2,
        usage: Usage::default(),
    };
    // The daemon died when some of what it had told to end was on record, but not yet that the job had.
    let ended = [(Role::Image, picture(7)), (Role::Check(0), says("no", 1.0)), (Role::Check(1), Outcome::Cancelled)]
        .map(|(role, outcome)| ended(role, outcome));
    let job = Unfinished {
        record: record(5, reflecting(4), None),
        age_ms: 0,
        retry_in_ms: None,
        ended: ended.to_vec(),
        damage: None,
    };
    shell.input(Input::Restore(vec![job]));
    let (outcome, reflection) = shell.concluded(JobId(5));
    assert_eq!((outcome, reflection.end), (Outcome::Cancelled, Some(ReflectEnd::Ended)));
    assert_eq!(reflection.rounds[0].verdict, None, "a check that was not made fails nothing");
    assert!(shell.running().is_empty());
}

#[test]
fn a_question_that_kills_the_judge_is_not_asked_again() {
    let mut shell = shell();
    let job = shell.submit(ANN, reflecting(4));
    shell.make();
    let checks = shell.running();
    let quarantined = Outcome::Failed { kind: FailureKind::Quarantined { deaths: 2 }, message: "it died".to_owned() };
    shell.finish_with(checks[0], quarantined, Usage::default());
    shell.interrupt(checks[1]);
    let (outcome, reflection) = shell.concluded(job);
    assert_eq!((outcome, reflection.end), (picture(7), Some(ReflectEnd::Failed)), "the picture is there");
    assert_eq!((reflection.best, reflection.verdict, reflection.rounds.len()), (Some(1), None, 1));
}

#[test]
fn a_picture_that_nobody_could_look_at_is_not_made() {
    let plan = heavy_and_light(Class::new("heavy", 1), Class { cap_bytes: 10, ..Class::new("light", 2) });
    let mut shell = Shell::new(plan, vec![model("judge", 20, 0), model("m", 0, 0)]);
    let judged = changed(reflecting(4), |reflect| reflect.judge = Some("judge".to_owned()));
    let refused = shell.try_submit(ANN, judged);
    assert!(matches!(&refused, Err(Rejection::NeverFits { class, .. }) if class == "light"), "{refused:?}");
    let unknown = changed(reflecting(4), |reflect| reflect.judge = Some("gone".to_owned()));
    assert!(matches!(shell.try_submit(ANN, unknown), Err(Rejection::UnknownModel { .. })));
}

#[test]
fn a_client_that_leaves_takes_its_job_with_it() {
    let mut shell = shell();
    let job = shell.submit_attached(ANN, reflecting(4));
    let stage = shell.running()[0];
    shell.input(Input::SessionClosed(shell.session));
    shell.interrupt(stage);
    assert_eq!(shell.outcomes[&job], Outcome::Cancelled);
}

#[test]
fn stages_take_no_place_and_are_not_listed() {
    let plan = heavy_and_light(Class { queue_limit: 1, ..Class::new("heavy", 1) }, Class::new("light", 2));
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    let job = shell.submit(ANN, reflecting(4));
    assert_eq!(shell.scheduler.live().map(|(id, _)| id).collect::<Vec<_>>(), [job]);
    let refused = shell.try_submit(ANN, reflecting(4));
    assert!(matches!(refused, Err(Rejection::QueueFull { .. })), "it keeps its place: {refused:?}");
    let lane = &shell.scheduler.lanes()[0];
    assert_eq!(lane.job, Some(job), "its owner knows of no stage");
    shell.make();
    let told = shell.take_told(job);
    assert!(!told.is_empty() && told.iter().all(|update| matches!(update, Update::Reflecting { round: 1, of: 4, .. })));
    shell.answer("a?", "yes", 1.0);
    shell.answer("b?", "yes", 1.0);
    shell.submit(ANN, reflecting(4));
}

#[test]
fn a_uid_may_have_so_many_of_them() {
    let mut plan = heavy_and_light(Class::new("heavy", 1), Class::new("light", 2));
    plan.quotas = Quotas { queued_per_uid: 1, ..Quotas::default() };
    let mut shell = Shell::new(plan, vec![model("m", 0, 0)]);
    shell.submit(ANN, reflecting(4));
    let refused = shell.try_submit(ANN, reflecting(4));
    assert_eq!(refused, Err(Rejection::QuotaExceeded { quota: Quota::QueuedPerUid, limit: 1 }));
}

#[test]
fn priority_is_that_of_the_job() {
    let mut shell = shell();
    let job = shell.submit(ANN, reflecting(4));
    shell.input(Input::SetPriority(job, 9));
    shell.make();
    assert!(shell.running().iter().all(|check| shell.spec(*check).priority == 9));
}

#[test]
fn an_engine_that_dies_costs_a_stage_an_attempt() {
    let mut shell = shell();
    let job = shell.submit(ANN, reflecting(4));
    let stage = shell.running()[0];
    shell.start(stage);
    shell.lanes.clear();
    shell.input(Input::EngineLost(Blame::Nobody));
    shell.input(Input::EngineReady);
    assert_eq!(shell.running(), [stage]);
    shell.make();
    shell.answer("a?", "yes", 1.0);
    shell.answer("b?", "yes", 1.0);
    assert_eq!(shell.concluded(job).0, picture(7));
}
