//! What holds of jobs that edit a picture.

use gpusched_core::{JobRecord, Part, Role};
use gpusched_shared::{Area, BlobHash, BlobRef, Found, JobId, Outcome, Size, Task};

use super::World;

/// What is found in a picture: mostly something.
pub(crate) fn found(rng: &mut fastrand::Rng) -> Outcome {
    let area = Area { left: 0.0, top: 0.0, right: 1.0, bottom: 1.0 };
    Outcome::Found((rng.u32(0..8) > 0).then_some(Found { area, score: rng.f32() }).into_iter().collect())
}

/// The mask that a job makes; of a single pixel, as pictures are here. Now and then there is nothing inside.
pub(crate) fn mask(job: JobId) -> Outcome {
    let mut hash = [1; 32];
    hash[..8].copy_from_slice(&job.0.to_le_bytes());
    let blob = BlobRef { hash: BlobHash(hash), bytes: 1 };
    Outcome::Mask { blob, size: Size { width: 1, height: 1 }, inside: u64::from(!job.0.is_multiple_of(8)), score: 0.5 }
}

impl World {
    /// A stage of an edit may be begun: what goes before it is on record, and it looks at what it should.
    pub(super) fn check_edit_stage(&self, record: &JobRecord, part: Part, parent: &JobRecord) {
        let ended = self.disk.ended_parts(part.of);
        let of = |role| ended.iter().find(|ended| ended.part.role == role).map(|ended| &ended.outcome);
        assert_eq!(part.round, 1, "{part:?} is of the only round");
        let given: Vec<_> = parent.pictures.iter().map(|picture| picture.blob).collect();
        let sees: Vec<_> = record.pictures.iter().map(|picture| picture.blob).collect();
        match part.role {
            Role::Detect => {
                assert!(ended.is_empty(), "{part:?} is the first");
                assert_eq!(sees, given);
            }
            Role::Segment => {
                let Some(Outcome::Found(found)) = of(Role::Detect) else { panic!("{part:?} follows a detection") };
                let Task::Segment(segment) = &record.spec.task else { panic!("{part:?} segments") };
                assert!(segment.area.is_some() && segment.area == found.first().map(|found| found.area));
                assert_eq!(sees, given);
            }
            Role::Inpaint => {
                let Some(Outcome::Mask { blob, inside: 1.., .. }) = of(Role::Segment) else {
                    panic!("{part:?} follows a mask with an inside")
                };
                assert_eq!(sees, [given.as_slice(), &[*blob]].concat(), "it sees the picture and its mask");
            }
            Role::Image | Role::Check(_) | Role::Glance(_) => panic!("{part:?} is no stage of an edit"),
        }
    }

    /// An edit may end so.
    pub(super) fn check_edit(&self, job: JobId, outcome: &Outcome) {
        let stages: Vec<_> = self.disk.stages(job).collect();
        assert!(stages.iter().all(|(_, stage)| self.disk.ended.contains_key(&stage.id)), "its stages end before it");
        if outcome.is_done() {
            let last = self.disk.ended_parts(job).into_iter().find(|ended| ended.part.role == Role::Inpaint);
            assert_eq!(last.map(|ended| ended.outcome).as_ref(), Some(outcome), "it ends as its last stage did");
        }
    }

    /// How many edits came to a picture.
    pub(crate) fn edited(&self) -> usize {
        let edits = self.disk.records.values().filter(|record| matches!(record.spec.task, Task::Edit(_)));
        edits.filter(|record| self.disk.ended.get(&record.id).is_some_and(|ended| ended.outcome.is_done())).count()
    }
}
