//! What the [`observer`](super::observer) knows of a job that has not ended, for what is said of it.

use gpusched_core::{JobRecord, Part, Role, Time};
use gpusched_shared::{FailureKind, Outcome};

use super::message::{Message, say};
use super::metrics::word;

/// A job, or a stage of one.
#[derive(Debug)]
pub(super) struct Story {
    /// The job that a client asked for.
    pub(super) job: u64,
    pub(super) uid: u32,
    /// Its class: the place, and the name.
    pub(super) class: usize,
    pub(super) class_name: String,
    pub(super) model: String,
    /// Which stage it is, if it is one.
    pub(super) part: Option<Part>,
    pub(super) attempt: u32,
    /// The lane that has it, and since when its time there has not been counted yet.
    pub(super) lane: Option<(usize, Time)>,
    /// The name of the lane that has it, or had it last.
    pub(super) lane_name: Option<String>,
    /// Since when it is parked, and since when that has not been counted yet.
    pub(super) parked: Option<(Time, Time)>,
    /// How long the device itself was at it, in microseconds, if it says.
    pub(super) device_us: Option<u64>,
    /// The last round whose verdict has been told.
    pub(super) told_round: u8,
    /// How it ends, once that is known; told when it is on record.
    pub(super) end: Option<End>,
}

/// How a job ends.
#[derive(Debug)]
pub(super) struct End {
    pub(super) message: Message,
    pub(super) word: &'static str,
    /// What else there is to say of it, with what separates it; never what the job was about.
    pub(super) why: String,
    pub(super) wait_us: u64,
    pub(super) run_us: u64,
    pub(super) parked_us: u64,
    pub(super) peak_bytes: u64,
}

impl Story {
    pub(super) fn of(record: &JobRecord, class: usize) -> Self {
        Self {
            job: record.part.map_or(record.id, |part| part.of).0,
            uid: record.uid,
            class,
            class_name: record.class.clone(),
            model: record.spec.model.clone().unwrap_or_default(),
            part: record.part,
            attempt: record.attempts,
            lane: None,
            lane_name: None,
            parked: None,
            device_us: None,
            told_round: 0,
            end: None,
        }
    }

    /// The stage in the field `STAGE`.
    pub(super) fn stage(&self) -> Option<String> {
        self.part.map(|part| match part.role {
            Role::Image => format!("image {}", part.round),
            Role::Check(index) => format!("check {}.{}", part.round, index + 1),
            Role::Glance(index) => format!("glance {}.{}", part.round, index + 1),
            Role::Detect | Role::Segment | Role::Inpaint => part.role.told().word().to_owned(),
        })
    }

    /// The job, or its stage, in a sentence.
    fn subject(&self) -> String {
        let job = self.job;
        match self.part.map(|part| (part.round, part.role)) {
            None => format!("job {job}"),
            Some((round, Role::Image)) => format!("picture {round} of job {job}"),
            Some((round, Role::Check(index))) => format!("check {} of picture {round} of job {job}", index + 1),
            Some((round, Role::Glance(index))) => format!("early check {} of picture {round} of job {job}", index + 1),
            Some((_, role @ (Role::Detect | Role::Segment | Role::Inpaint))) => {
                format!("stage {} of job {job}", role.told().word())
            }
        }
    }

    /// Says something of the job: `what` it does, or what is done with it.
    pub(super) fn tell(&self, message: Message, what: &str) {
        self.tell_all(message, what, None);
    }

    /// Says how it ended.
    pub(super) fn tell_end(&self, message: Message, end: &End) {
        let what = match end.word {
            "cancelled" => "was cancelled".to_owned(),
            word @ ("expired" | "failed") => format!("{word}{}", end.why),
            "quarantined" => format!("is quarantined{}", end.why),
            word => format!("is {word}{}", end.why),
        };
        self.tell_all(message, &what, Some(end));
    }

    fn tell_all(&self, message: Message, what: &str, end: Option<&End>) {
        let (stage, subject) = (self.stage(), self.subject());
        let attempt = (self.attempt > 0).then_some(self.attempt);
        say!(
            message,
            JOB_ID = self.job,
            CLIENT_UID = self.uid,
            CLASS = self.class_name.as_str(),
            LANE = self.lane_name.as_deref(),
            MODEL = self.model.as_str(),
            STAGE = stage.as_deref(),
            ATTEMPT = attempt,
            OUTCOME = end.map(|end| end.word),
            WAIT_MS = end.map(|end| end.wait_us / 1000),
            RUN_MS = end.map(|end| end.run_us / 1000),
            PARKED_MS = end.map(|end| end.parked_us / 1000),
            DEVICE_MS = end.and(self.device_us).map(|us| us / 1000),
            PEAK_BYTES = end.map(|end| end.peak_bytes),
            "{subject} {what}"
        );
    }
}

/// The kind of message that an outcome is told with, its word, and what else there is to say of it.
pub(super) fn ending(outcome: &Outcome) -> (Message, &'static str, String) {
    let (message, why) = match outcome {
        Outcome::Image { .. }
        | Outcome::Answers(_)
        | Outcome::Found(_)
        | Outcome::Mask { .. }
        | Outcome::Text { .. }
        | Outcome::Score(_) => (Message::JobDone, String::new()),
        Outcome::Cancelled => (Message::JobCancelled, String::new()),
        Outcome::Expired { limit } => (Message::JobExpired, format!(": its {limit} was over")),
        Outcome::Failed { kind, message } => match kind {
            // The message says what was asked, too.
            FailureKind::Input | FailureKind::ChecksFailed => (Message::JobFailed, format!(": {kind}")),
            FailureKind::Quarantined { deaths } => {
                (Message::JobQuarantined, format!(": the engine died of it {deaths} times"))
            }
            FailureKind::Model | FailureKind::Engine | FailureKind::OutOfMemory(_) | FailureKind::Storage => {
                (Message::JobFailed, format!(": {message}"))
            }
        },
    };
    (message, word(outcome), why)
}

#[cfg(test)]
mod tests {
    use gpusched_shared::TimeLimit;

    use super::*;

    #[test]
    fn of_a_failure_all_is_told_but_what_was_asked() {
        let failed = |kind| ending(&Outcome::Failed { kind, message: "is there a secret?".to_owned() });
        for kind in [FailureKind::Input, FailureKind::ChecksFailed] {
            let (message, word, why) = failed(kind);
            assert_eq!((message, word), (Message::JobFailed, "failed"));
            assert!(!why.contains("secret") && why.len() > 2, "{why}");
        }
        let (message, word, why) = failed(FailureKind::Quarantined { deaths: 2 });
        assert_eq!(
            (message, word, why.as_str()),
            (Message::JobQuarantined, "quarantined", ": the engine died of it 2 times")
        );
        assert_eq!(failed(FailureKind::Model), (Message::JobFailed, "failed", ": is there a secret?".to_owned()));
        let late = ending(&Outcome::Expired { limit: TimeLimit::Deadline });
        assert_eq!(late, (Message::JobExpired, "expired", ": its deadline was over".to_owned()));
        assert_eq!(ending(&Outcome::Cancelled), (Message::JobCancelled, "cancelled", String::new()));
    }
}
