//! Reflecting jobs that look at what a picture is about to become, and reject it early.

use gpusched_core::{Effect, Input};
use gpusched_shared::{
    Answer, BlobHash, BlobRef, JobId, JobSpec, Outcome, ReflectEnd, RoundImage, Size, TaskKind, Usage, Verdict,
};

use crate::reflecting::{changed, picture, reflecting, says, shell};
use crate::shell::{ANN, Shell, usage};

/// As [`reflecting`], with a look after half of the four steps.
pub(crate) fn glancing(rounds: u8) -> JobSpec {
    changed(reflecting(rounds), |reflect| reflect.early = Some(0.5))
}

pub(crate) fn preview() -> RoundImage {
    let blob = BlobRef { hash: BlobHash([9; 32]), bytes: 1 };
    RoundImage { blob, size: Size { width: 8, height: 8 }, truncated_tokens: 0 }
}

impl Shell {
    /// The lane begins with the picture that is on it, and shows what it is about to become.
    fn preview(&mut self) -> JobId {
        let stage = self.on_lane(|spec| spec.task.kind() == TaskKind::Txt2Img);
        self.start(stage);
        self.pass_ms(50);
        self.input(Input::Previewed(stage, preview()));
        stage
    }

    fn made(&mut self, stage: JobId) {
        self.lanes.remove(&stage);
        self.input(Input::Made(stage, usage(1)));
    }

    fn asking(&self, question: &str) -> JobId {
        self.on_lane(|spec| spec.task.text() == question)
    }

    /// After how many steps the pictures launched since the last look at the effects are shown.
    fn take_previews(&mut self) -> Vec<Option<u32>> {
        let launched = self.take_effects().into_iter().filter_map(|effect| {
            let Effect::Launch { record, preview_after, .. } = effect else { return None };
            let makes_picture = record.spec.task.kind() == TaskKind::Txt2Img;
            assert!(makes_picture || preview_after.is_none(), "an answer has no preview");
            makes_picture.then_some(preview_after)
        });
        launched.collect()
    }
}

#[test]
fn a_hopeless_picture_is_not_made_to_its_end() {
    let mut shell = shell();
    let job = shell.submit(ANN, glancing(2));
    assert_eq!(shell.take_previews(), [Some(2)]);
    let stage = shell.preview();
    let other = shell.asking("b?");
    shell.answer("a?", "no", 0.95);
    assert_eq!(shell.take_stopped(), [stage, other], "and neither is what is asked of it");
    shell.interrupt(stage);
    assert_eq!(shell.take_previews(), [None], "the last picture is made whatever it becomes");
    shell.interrupt(other);
    let seed = shell.make();
    shell.answer("a?", "yes", 0.9);
    shell.answer("b?", "yes", 0.9);
    let (outcome, reflection) = shell.concluded(job);
    assert_eq!((outcome, reflection.best, reflection.verdict), (picture(seed), Some(2), Some(Verdict::Pass)));
    let (first, second) = (&reflection.rounds[0], &reflection.rounds[1]);
    assert_eq!((first.rejected_early, first.image, first.verdict), (true, None, Some(Verdict::Fail)));
    let asked: Vec<&str> = first.checks.iter().map(|check| check.question.as_str()).collect();
    assert_eq!((asked, first.checks[0].passed), (vec!["a?"], false), "what was not answered says nothing");
    assert!(!second.rejected_early && second.checks.len() == 2);
    assert!(first.image_us > 0 && first.check_us > 0);
    assert!(shell.scheduler.is_idle());
}

#[test]
fn who_does_not_ask_for_it_is_shown_no_preview() {
    let mut shell = shell();
    shell.submit(ANN, reflecting(4));
    assert_eq!(shell.take_previews(), [None]);
    shell.submit(ANN, glancing(1));
    shell.make();
    assert_eq!(shell.take_previews(), [None], "the first picture may be the last");
}

#[test]
fn a_picture_that_is_made_by_then_is_checked_as_any_other() {
    for no_comes_before_it_is_stored in [true, false] {
        let mut shell = shell();
        let job = shell.submit(ANN, glancing(2));
        let stage = shell.preview();
        let glances = [shell.asking("a?"), shell.asking("b?")];
        shell.made(stage);
        shell.take_effects();
        if no_comes_before_it_is_stored {
            shell.answer("a?", "no", 0.95);
        }
        shell.input(Input::Stored(stage, picture(7)));
        for glance in &glances[usize::from(no_comes_before_it_is_stored)..] {
            assert!(shell.scheduler.view(*glance, shell.now).is_some());
            shell.interrupt(*glance);
        }
        shell.answer("a?", "yes", 0.9);
        shell.answer("b?", "yes", 0.9);
        let (outcome, reflection) = shell.concluded(job);
        assert_eq!((outcome, reflection.rounds.len(), reflection.verdict), (picture(7), 1, Some(Verdict::Pass)));
        let round = &reflection.rounds[0];
        assert!(!round.rejected_early && round.checks.len() == 2 && round.check_us > 20_000, "{round:?}");
    }
}

#[test]
fn an_unsure_glance_changes_nothing() {
    let mut shell = shell();
    let job = shell.submit(ANN, glancing(2));
    let stage = shell.preview();
    let unsure = [("no", 0.8), ("yes", 0.15)].map(|(label, score)| Answer { label: label.to_owned(), score });
    let (a, b) = (shell.asking("a?"), shell.asking("b?"));
    shell.start(a);
    shell.finish_with(a, Outcome::Answers(unsure.to_vec()), Usage::default());
    shell.start(b);
    shell.finish_with(b, says("yes", 0.05), Usage::default());
    assert_eq!(shell.take_stopped(), []);
    assert_eq!(shell.running(), [stage]);
    shell.made(stage);
    shell.input(Input::Stored(stage, picture(7)));
    for question in ["a?", "b?"] {
        shell.answer(question, "yes", 0.9);
    }
    assert_eq!(shell.concluded(job).0, picture(7));
}

#[test]
fn a_preview_that_comes_too_late_is_not_looked_at() {
    let mut shell = shell();
    shell.submit(ANN, glancing(2));
    let stage = shell.on_lane(|spec| spec.task.kind() == TaskKind::Txt2Img);
    shell.start(stage);
    shell.made(stage);
    shell.input(Input::Previewed(stage, preview()));
    assert_eq!(shell.running(), []);
    shell.input(Input::Stored(stage, picture(7)));
    shell.input(Input::Previewed(stage, preview()));
    assert_eq!(shell.running().len(), 2, "its checks");
}

#[test]
fn a_cancelled_job_takes_its_glances_with_it() {
    let mut shell = shell();
    let job = shell.submit(ANN, glancing(2));
    let stage = shell.preview();
    let glances = [shell.asking("a?"), shell.asking("b?")];
    shell.take_effects();
    shell.input(Input::Cancel(job));
    for stage in glances.into_iter().chain([stage]) {
        assert!(!shell.outcomes.contains_key(&job));
        shell.interrupt(stage);
    }
    let (outcome, reflection) = shell.concluded(job);
    assert_eq!((outcome, reflection.rounds[0].rejected_early), (Outcome::Cancelled, false));
    assert!(shell.running().is_empty() && shell.scheduler.is_idle());
}

#[test]
fn a_job_ends_after_its_last_glance() {
    let mut shell = shell();
    let job = shell.submit(ANN, glancing(2));
    let stage = shell.preview();
    shell.answer("b?", "yes", 0.9);
    let glance = shell.asking("a?");
    shell.made(stage);
    shell.input(Input::Stored(stage, picture(7)));
    for _ in 0..2 {
        let check = *shell.running().last().expect("one lane is free for checks");
        assert_ne!(check, glance);
        shell.start(check);
        shell.finish_with(check, says("yes", 0.9), Usage::default());
    }
    assert!(!shell.outcomes.contains_key(&job), "the glance has been told to end, and has not yet");
    shell.interrupt(glance);
    assert_eq!(shell.concluded(job).0, picture(7));
}

#[test]
fn there_is_always_a_picture() {
    let mut shell = shell();
    let job = shell.submit(ANN, changed(glancing(8), |reflect| reflect.lane_ms = Some(60)));
    for _ in 0..2 {
        let stage = shell.preview();
        let other = shell.asking("b?");
        shell.answer("a?", "no", 0.95);
        shell.take_effects();
        shell.interrupt(other);
        shell.interrupt(stage);
        if shell.take_previews() == [None] {
            break;
        }
    }
    let seed = shell.make();
    shell.answer("a?", "no", 0.9);
    shell.answer("b?", "no", 0.9);
    let (outcome, reflection) = shell.concluded(job);
    assert_eq!((outcome, reflection.end), (picture(seed), Some(ReflectEnd::LaneTime)));
    let rejected: Vec<bool> = reflection.rounds.iter().map(|round| round.rejected_early).collect();
    assert_eq!(rejected, [true, false], "once the lane time is used, the next picture is the last");
}
