//! What is forgotten, and when.
//!
//! Clocks jump: a machine boots with its clock set to the year 2106, is corrected a minute later, and by then every job
//! would have been too old. So ages are trusted only while the wall clock moves as the monotonic one does. After a jump
//! nothing is forgotten by age for a day, in which an operator can set things right; then the clock is believed. The
//! limits on bytes and jobs do not need a clock; they spare what has just ended.

use std::time::Duration;

use crate::config::RetentionConfig;

/// How far the clocks may move apart between two looks at them.
const TOLERANCE_MS: u64 = 60 * 60 * 1000;
/// How long the daemon may have been down, by the newest time in the journal, for its first look at the clock to be believed.
const DOWN_MS: u64 = 24 * TOLERANCE_MS;
/// How long ages are not trusted after a jump.
const DOUBT: Duration = Duration::from_secs(24 * 60 * 60);

/// Jobs that are forgotten for the sake of bytes before their sum is looked at again.
const FEW: u64 = 8;

/// How long a job that has ended is spared, however much there is.
const RECENT_MS: u64 = 10 * 60 * 1000;

const DAY_MS: u64 = 24 * 60 * 60 * 1000;

/// Says what time it is, unless that cannot be trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Calendar {
    /// The last look: the wall clock, and time since the daemon started.
    wall_ms: u64,
    elapsed: Duration,
    doubt_until: Option<Duration>,
}

impl Calendar {
    /// A calendar that starts now. `newest_ms` is the newest time in the journal, 0 if there is none.
    pub(super) fn new(newest_ms: u64, wall_ms: u64) -> Self {
        let unlikely = newest_ms > 0 && wall_ms.abs_diff(newest_ms) > DOWN_MS;
        Self { wall_ms, elapsed: Duration::ZERO, doubt_until: unlikely.then_some(DOUBT) }
    }

    /// The time to measure ages by; `None` while ages are not trusted. `elapsed` since the calendar was started.
    pub(super) fn look(&mut self, wall_ms: u64, elapsed: Duration) -> Option<u64> {
        let passed = u64::try_from(elapsed.saturating_sub(self.elapsed).as_millis()).unwrap_or(u64::MAX);
        if wall_ms.abs_diff(self.wall_ms.saturating_add(passed)) > TOLERANCE_MS {
            tracing::warn!("the clock has jumped: for a day no job is forgotten because of its age");
            self.doubt_until = Some(elapsed + DOUBT);
        }
        (self.wall_ms, self.elapsed) = (wall_ms, elapsed);
        self.doubt_until = self.doubt_until.filter(|until| elapsed < *until);
        self.doubt_until.is_none().then_some(wall_ms)
    }
}

/// How much there is to keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Jobs that have ended.
    pub(super) jobs: u64,
    /// What the journal takes.
    pub(super) journal_bytes: u64,
    /// What all stored files take.
    pub(super) blob_bytes: u64,
    /// Of those, what only jobs that have ended refer to. No more can be won by forgetting.
    pub(super) ended_blob_bytes: u64,
}

impl Kept {
    /// Whether forgetting has got somewhere: where it was for the sake of bytes, there must be fewer.
    pub(super) fn is_nearer_than(self, before: Self, forgotten: Excess) -> bool {
        let bytes = |kept: Self| kept.journal_bytes.saturating_add(kept.ended_blob_bytes);
        if forgotten.with_files > 0 { bytes(self) < bytes(before) } else { self.jobs < before.jobs }
    }
}

/// What is to be forgotten before asking again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Excess {
    /// So many of the jobs that ended first.
    pub(super) oldest: u64,
    /// So many of those that ended first and have files that no unfinished job refers to.
    pub(super) with_files: u64,
    /// Those that ended before this.
    pub(super) before_unix_ms: u64,
}

/// Whether stored files could be beyond a limit: whether it is worth finding out which of them only ended jobs refer to.
pub(super) fn may_be_large(blob_bytes: u64, journal_bytes: u64, config: &RetentionConfig, quota_bytes: u64) -> bool {
    is_crowded(blob_bytes, quota_bytes) || is_large(journal_bytes.saturating_add(blob_bytes), config)
}

/// What is beyond the limits. `now_ms` is `None` while ages are not trusted.
///
/// What live jobs need is no reason to forget ended ones, or whoever hands in many large pictures would erase everybody's
/// results: of the files' quota, ended jobs keep half.
pub(super) fn excess(kept: Kept, config: &RetentionConfig, quota_bytes: u64, now_ms: Option<u64>) -> Excess {
    let beyond = if config.max_jobs > 0 { kept.jobs.saturating_sub(config.max_jobs) } else { 0 };
    let crowds = is_crowded(kept.blob_bytes, quota_bytes) && kept.ended_blob_bytes > quota_bytes / 2;
    let large = is_large(kept.journal_bytes.saturating_add(kept.ended_blob_bytes), config);
    let files = crowds || (large && kept.ended_blob_bytes > 0);
    let rows = is_large(kept.journal_bytes, config);
    // Forgetting a job frees bytes only if nothing else refers to its files: a few, and then look again.
    let few = |wanted: bool| if wanted { FEW.min(kept.jobs) } else { 0 };
    let max_age_ms = u64::from(config.max_age_days) * DAY_MS;
    let before_unix_ms = now_ms.filter(|_| max_age_ms > 0).map_or(0, |now| now.saturating_sub(max_age_ms));
    Excess { oldest: beyond.max(few(rows)), with_files: few(files), before_unix_ms }
}

/// Whether a job ended so lately, by whatever the clock says, that it is not forgotten for the sake of room: whoever waits
/// for it may be on the way to fetch it, or to ask by its key what became of it.
pub(super) fn is_recent(ended_unix_ms: u64, now_unix_ms: u64) -> bool {
    ended_unix_ms.abs_diff(now_unix_ms) < RECENT_MS
}

/// Whether there is soon no room for pictures of new jobs.
fn is_crowded(blob_bytes: u64, quota_bytes: u64) -> bool {
    blob_bytes > quota_bytes - quota_bytes / 8
}

fn is_large(bytes: u64, config: &RetentionConfig) -> bool {
    config.max_bytes.0 > 0 && bytes > config.max_bytes.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Size;

    const YEAR_MS: u64 = 365 * DAY_MS;
    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_clock_that_runs_is_trusted_and_one_that_jumps_is_not_for_a_day() {
        let mut calendar = Calendar::new(YEAR_MS - 5, YEAR_MS);
        assert_eq!(calendar.look(YEAR_MS, Duration::ZERO), Some(YEAR_MS));
        assert_eq!(calendar.look(YEAR_MS + 3_600_000, HOUR), Some(YEAR_MS + 3_600_000));
        assert_eq!(calendar.look(9 * YEAR_MS, HOUR), None, "forward");
        assert_eq!(calendar.look(9 * YEAR_MS + 60_000, HOUR + Duration::from_secs(60)), None);
        assert_eq!(calendar.look(YEAR_MS + 7_200_000, 2 * HOUR), None, "and back");
        assert_eq!(calendar.look(YEAR_MS + 25 * 3_600_000, 25 * HOUR), None, "a day from then");
        assert_eq!(calendar.look(YEAR_MS + 26 * 3_600_000, 26 * HOUR), Some(YEAR_MS + 26 * 3_600_000));
    }

    #[test]
    fn a_start_long_after_the_last_entry_is_doubted() {
        assert_eq!(Calendar::new(YEAR_MS, 9 * YEAR_MS).look(9 * YEAR_MS, Duration::ZERO), None);
        assert_eq!(Calendar::new(9 * YEAR_MS, YEAR_MS).look(YEAR_MS, Duration::ZERO), None);
        assert_eq!(Calendar::new(0, YEAR_MS).look(YEAR_MS, Duration::ZERO), Some(YEAR_MS), "a new journal");
    }

    #[test]
    fn what_is_beyond_a_limit_goes() {
        let config = RetentionConfig { max_age_days: 30, max_bytes: Size(100), max_jobs: 5 };
        let kept = Kept { jobs: 5, journal_bytes: 40, blob_bytes: 60, ended_blob_bytes: 60 };
        let beyond = |kept| excess(kept, &config, 1000, None);
        let forgets = |oldest, with_files| Excess { oldest, with_files, before_unix_ms: 0 };
        assert_eq!(beyond(kept), Excess::default(), "all just within, and who knows how old");
        assert_eq!(excess(kept, &config, 1000, Some(YEAR_MS)).before_unix_ms, YEAR_MS - 30 * DAY_MS);
        assert_eq!(beyond(Kept { jobs: 7, ..kept }), forgets(2, 0));
        assert_eq!(beyond(Kept { jobs: 3, journal_bytes: 41, ..kept }), forgets(0, 3));
        assert_eq!(beyond(Kept { jobs: 3, journal_bytes: 101, ..kept }), forgets(3, 3), "rows alone are too many");
        assert_eq!(excess(kept, &config, 64, None), forgets(0, 5), "files near their quota");
        assert_eq!(beyond(Kept { jobs: 0, journal_bytes: 1000, ..kept }), Excess::default(), "nothing can go");
        let unlimited = RetentionConfig { max_age_days: 0, max_bytes: Size(0), max_jobs: 0 };
        let much = Kept { jobs: 1 << 40, journal_bytes: 1 << 50, blob_bytes: 1, ended_blob_bytes: 1 };
        assert_eq!(excess(much, &unlimited, 1000, Some(YEAR_MS)), Excess::default());
    }

    #[test]
    fn what_live_jobs_need_is_no_reason_to_forget_ended_ones() {
        let config = RetentionConfig { max_age_days: 0, max_bytes: Size(100), max_jobs: 0 };
        let kept = Kept { jobs: 50, journal_bytes: 10, blob_bytes: 1000, ended_blob_bytes: 90 };
        assert_eq!(
            excess(kept, &config, 1000, None),
            Excess::default(),
            "nor that the store is full of their pictures"
        );
        let unlimited = RetentionConfig { max_bytes: Size(0), ..config };
        let ended = |ended_blob_bytes| excess(Kept { ended_blob_bytes, ..kept }, &unlimited, 1000, None).with_files;
        assert_eq!([ended(500), ended(501)], [0, FEW], "ended jobs keep half");
    }

    #[test]
    fn what_has_just_ended_is_spared_whichever_way_the_clock_goes() {
        let minute = 60_000;
        assert!(is_recent(YEAR_MS, YEAR_MS + 9 * minute) && is_recent(YEAR_MS + 9 * minute, YEAR_MS));
        assert!(!is_recent(YEAR_MS, YEAR_MS + 10 * minute));
        assert!(!is_recent(9 * YEAR_MS, YEAR_MS), "or nothing would go until that day");
    }
}
