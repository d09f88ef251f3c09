//! Jobs that reflect: their stages go the way of all jobs, and what they come to is compared with the truth.

use gpusched_core::{JobRecord, Part};
use gpusched_shared::{JobId, Reflection};

use super::World;

impl World<'_> {
    /// A stage is to be recorded.
    pub(super) fn record_stage(&mut self, record: &JobRecord, part: Part) {
        let Some(job) = self.jobs.get(&part.of) else {
            return self.tally.violation(format!("stage {} began after the end of job {}", record.id, part.of));
        };
        let draw = self.clients.stage(job.stream, job.draw.fate, part, &record.spec);
        let stage = self.underway(job.stream, draw, Some(part));
        if let Some(recorder) = &mut self.recorder {
            recorder.stage(record, part);
        }
        self.write(record.id, stage);
    }

    /// A job is on record; nobody is told that a stage is.
    pub(super) fn stage_recorded(&mut self, id: JobId) {
        if let Some(stage) = self.jobs.get_mut(&id).filter(|job| job.part.is_some()) {
            stage.accepted = true;
        }
    }

    pub(super) fn stage_ended(&mut self, id: JobId) {
        if let Some(recorder) = &mut self.recorder {
            recorder.stage_ended(id);
        }
    }

    /// A job that reflects has ended.
    pub(super) fn reflected(&mut self, id: JobId, stream: usize, fate: u64, reflection: &Reflection) {
        let (rounds, lane_us) = self.clients.budget(stream);
        let made = reflection.rounds.len();
        if made > usize::from(rounds) {
            self.tally.violation(format!("job {id} made {made} pictures of at most {rounds}"));
        }
        let before_last = reflection.rounds.split_last().map_or(&[][..], |(_, before)| before);
        let worked_us: u64 = before_last.iter().map(|round| round.image_us + round.check_us).sum();
        if lane_us.is_some_and(|most| made > 1 && worked_us >= most) {
            self.tally.violation(format!("job {id} began a picture after {worked_us} us of lane time"));
        }
        let is_right = |round: u8| self.clients.flaw(stream, fate, round).is_none();
        self.tally.reflected(reflection, is_right);
    }
}
