//! What is true of the pictures, and what must hold of the jobs that have them checked.

use std::collections::BTreeSet;

use gpusched_core::{EndedPart, JobRecord, Part, Role};
use gpusched_shared::mix::mix;
use gpusched_shared::{
    BlobHash, BlobRef, FailureKind, JobId, Outcome, Reflect, ReflectEnd, Reflection, Round, Size, Task, Verdict,
};

use super::World;

/// What became of the reflecting jobs that came to a verdict.
#[derive(Debug, Default)]
pub(crate) struct Reflected {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
    pub(crate) rounds: usize,
    /// Of all: whose first picture passed.
    pub(crate) first_passed: usize,
    /// Of those that passed: whose picture shows what was asked for.
    pub(crate) right: usize,
}

impl Reflected {
    pub(crate) fn add(&mut self, other: &Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.rounds += other.rounds;
        self.first_passed += other.first_passed;
        self.right += other.right;
    }
}

/// The picture that a seed gives; of a single pixel, for memory is scarce, and a judge decodes it.
pub(crate) fn picture(seed: u64) -> Outcome {
    let mut hash = [0; 32];
    hash[..8].copy_from_slice(&seed.to_le_bytes());
    let blob = BlobRef { hash: BlobHash(hash), bytes: 1 };
    Outcome::Image { blob, size: Size { width: 1, height: 1 }, truncated_tokens: 0 }
}

/// Whether a picture shows what was asked for, as half of them do.
pub(crate) fn is_right(BlobHash(hash): BlobHash) -> bool {
    let seed = hash.first_chunk().copied().map_or(0, u64::from_le_bytes);
    mix(seed).is_multiple_of(2)
}

impl World {
    /// What the jobs that reflect came to.
    pub(crate) fn reflected(&self) -> Reflected {
        let mut sum = Reflected::default();
        for reflection in self.disk.ended.values().filter_map(|ended| ended.reflection.as_ref()) {
            let Some(verdict) = reflection.verdict else { continue };
            let image = reflection.best.and_then(|best| reflection.image(best));
            let passed = verdict == Verdict::Pass;
            sum.add(&Reflected {
                passed: usize::from(passed),
                failed: usize::from(!passed),
                rounds: reflection.rounds.len(),
                first_passed: usize::from(reflection.first_verdict() == Some(Verdict::Pass)),
                right: usize::from(passed && image.is_some_and(|image| is_right(image.blob.hash))),
            });
        }
        sum
    }

    /// A stage may be begun.
    pub(super) fn check_stage(&self, record: &JobRecord, part: Part) {
        let job = part.of;
        let parent = self.disk.records.get(&job).expect("a job is on record before its stages");
        assert!(!self.disk.ended.contains_key(&job), "job {job} has not ended");
        assert!(!self.cancelled.contains(&job), "cancelled job {job} begins nothing");
        let known = &self.jobs[&job].record;
        assert_eq!((record.uid, record.spec.priority), (known.uid, known.spec.priority), "{part:?} is of its job");
        assert!(!record.attached && record.key.is_none(), "no client knows of {part:?}");
        let twice = self.jobs.values().any(|known| known.record.part == Some(part));
        assert!(!twice, "{part:?} is done once");
        if matches!(parent.spec.task, Task::Edit(_)) {
            return self.check_edit_stage(record, part, parent);
        }
        let reflect = parent.spec.reflect.as_ref().expect("only jobs that reflect or edit have stages");
        assert!((1..=reflect.rounds.unwrap_or(0)).contains(&part.round), "{part:?} is one of its rounds");
        let ended = self.disk.ended_parts(job);
        let image = |round: u8| {
            let found = ended.iter().find(|ended| ended.part == Part { of: job, round, role: Role::Image });
            match found.map(|ended| &ended.outcome) {
                Some(Outcome::Image { blob, .. }) => Some(*blob),
                _ => None,
            }
        };
        match part.role {
            Role::Check(index) => {
                assert!(usize::from(index) < reflect.checks.len(), "{part:?} is one of its checks");
                let looks_at = record.pictures.iter().map(|picture| picture.blob);
                assert!(looks_at.eq(image(part.round)), "{part:?} looks at the picture of its round");
            }
            Role::Image if part.round > 1 => {
                assert!(image(part.round - 1).is_some(), "{part:?} follows a picture");
                let worked_us: u64 = ended.iter().map(EndedPart::lane_us).sum();
                assert!(reflect.lane_ms.is_none_or(|ms| worked_us < ms * 1000), "{part:?} is within its lane time");
            }
            Role::Image => {}
            Role::Glance(_) => panic!("no preview was shown for {part:?}"),
            Role::Detect | Role::Segment | Role::Inpaint => panic!("{part:?} is a stage of an edit"),
        }
    }

    /// A job that reflects may end so.
    pub(super) fn check_reflection(&self, job: JobId, reflect: &Reflect, outcome: &Outcome, reflection: &Reflection) {
        let Reflection { rounds, best, verdict, end } = reflection;
        assert!(rounds.len() <= usize::from(reflect.rounds.unwrap_or(0)), "job {job} keeps to its rounds");
        assert!((1..).zip(rounds).all(|(number, round)| round.number == number), "rounds are numbered");
        let stages: Vec<(Part, &JobRecord)> = self.disk.stages(job).collect();
        assert!(stages.iter().all(|(_, stage)| self.disk.ended.contains_key(&stage.id)), "its stages end before it");
        let images: BTreeSet<u8> =
            stages.iter().filter(|(part, _)| part.role == Role::Image).map(|(part, _)| part.round).collect();
        // The journal may have had no room for the last.
        let unmade = usize::from(rounds.last().is_some_and(|round| round.image.is_none()));
        assert!((images.len()..=images.len() + unmade).contains(&rounds.len()), "{images:?} are the rounds of {job}");
        let passes =
            |round: &Round| round.checks.len() == reflect.checks.len() && round.checks.iter().all(|check| check.passed);
        for round in rounds {
            let made = round.image.map(|image| image.blob);
            assert!(made.is_none_or(|made| Some(made) == blob(&picture(round.seed))), "it is the picture of its seed");
            assert_eq!(round.verdict == Some(Verdict::Pass), made.is_some() && passes(round), "{round:?}");
        }
        let found = best.and_then(|best| rounds.iter().find(|round| round.number == best));
        if found.is_some() {
            assert_eq!(found.and_then(|round| round.verdict), *verdict, "the verdict is that of the best");
        }
        if let Some(found) = found {
            let rank = |round: &Round| (round.verdict == Some(Verdict::Pass), round.verdict.is_some(), round.score);
            let mut made = rounds.iter().filter(|round| round.image.is_some());
            assert!(made.all(|round| rank(round) <= rank(found)), "job {job} ends with its best picture");
        }
        match outcome {
            Outcome::Image { .. } => {
                let image = found.and_then(|round| round.image).map(|image| image.blob);
                assert!(image.is_some() && image == blob(outcome), "the picture is that of a round");
                assert!(!reflect.strict || *verdict == Some(Verdict::Pass), "a strict job gives none that failed");
            }
            Outcome::Failed { kind: FailureKind::ChecksFailed, .. } => {
                assert!(reflect.strict && !rounds.iter().any(passes), "job {job} is strict, and no picture passed");
                assert_eq!((*best, *verdict), (None, Some(Verdict::Fail)), "nobody gets what failed");
            }
            Outcome::Failed { .. } | Outcome::Cancelled | Outcome::Expired { .. } => {
                assert!(
                    matches!(end, None | Some(ReflectEnd::Ended | ReflectEnd::Failed)),
                    "{outcome:?} after {end:?}"
                );
            }
            Outcome::Answers(_)
            | Outcome::Found(_)
            | Outcome::Mask { .. }
            | Outcome::Text { .. }
            | Outcome::Score(_) => panic!("job {job} makes pictures, and not {outcome:?}"),
        }
        let worked_us: u64 = rounds.iter().map(|round| round.image_us + round.check_us).sum();
        match end {
            Some(ReflectEnd::Passed) => assert_eq!(*verdict, Some(Verdict::Pass)),
            Some(ReflectEnd::Rounds) => assert_eq!(Some(rounds.len()), reflect.rounds.map(usize::from)),
            Some(ReflectEnd::LaneTime) => assert!(reflect.lane_ms.is_some_and(|ms| worked_us >= ms * 1000)),
            Some(ReflectEnd::Unchecked) => {
                let last = rounds.last().map(|round| round.checks.as_slice()).unwrap_or_default();
                assert!(last.iter().all(|check| check.answer.is_none()), "nobody could look at it");
            }
            Some(ReflectEnd::Ended | ReflectEnd::Failed) => {}
            None => assert!(rounds.is_empty(), "job {job} ended before its first"),
        }
    }
}

fn blob(outcome: &Outcome) -> Option<BlobRef> {
    if let Outcome::Image { blob, .. } = outcome { Some(*blob) } else { None }
}
