//! The order of waiting jobs: fair share between uids, then priority and arrival within a uid, and the bounds that keep
//! both from starving anyone.
//!
//! Each uid has an account that is charged the lane time of its jobs (time parked is free). The uid that was charged least
//! goes next. Between uids that all have work waiting, accounts therefore stay close together, however many jobs each
//! hands in; and no account may run ahead of a waiting one by more than the class's aging bound, whatever else speaks
//! for it (memory, batching). Within a uid, a job that has let its bound of later jobs past goes next.

use std::cmp::Reverse;

use gpusched_shared::JobId;

/// A job's place in the order of acceptance: that of the job which a client asked for, then its own. So the stages of a job
/// come before jobs that were accepted after it, and a job that reflects is done before the next is begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Turn {
    /// The job that a client asked for.
    pub asked_for: JobId,
    /// The job itself, which may be a stage of that one.
    pub id: JobId,
}

impl From<JobId> for Turn {
    fn from(id: JobId) -> Self {
        Self { asked_for: id, id }
    }
}

/// A job's place among its uid's: higher priority first, then the order of acceptance.
pub type Rank = (Reverse<i8>, Turn);

/// The rank of a job.
pub fn rank(priority: i8, turn: Turn) -> Rank {
    (Reverse(priority), turn)
}

/// What an account has been charged when its uid has work again: time spent idle is not saved up, and what others were
/// charged least meanwhile is where it begins. A debt stays.
pub fn re_entry(own_us: u64, least_us: u64) -> u64 {
    own_us.max(least_us)
}

/// Whether a job that let `passed_us` of later jobs' lane time past goes next.
pub fn is_overdue(passed_us: u64, bound_us: u64) -> bool {
    passed_us >= bound_us
}

/// Whether a uid charged `own_us` may go although one charged `waiting_us` waits in vain for something else.
pub fn may_overtake(own_us: u64, waiting_us: u64, bound_us: u64) -> bool {
    own_us <= waiting_us.saturating_add(bound_us)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priority_goes_before_arrival() {
        let rank = |priority, id| rank(priority, JobId(id).into());
        let mut ranks = [rank(0, 1), rank(-5, 2), rank(5, 3), rank(5, 4)];
        ranks.sort();
        assert_eq!(ranks.map(|(_, turn)| turn.id.0), [3, 4, 1, 2]);
    }

    #[test]
    fn a_stage_comes_where_its_job_came() {
        let stage = Turn { asked_for: JobId(1), id: JobId(9) };
        assert!(Turn::from(JobId(1)) < stage && stage < JobId(2).into());
    }

    #[test]
    fn idleness_is_not_saved_up_and_debt_is_not_forgiven() {
        assert_eq!(re_entry(3, 10), 10);
        assert_eq!(re_entry(30, 10), 30);
    }

    #[test]
    fn bounds_include_their_ends() {
        assert!(!is_overdue(9, 10) && is_overdue(10, 10));
        assert!(may_overtake(15, 5, 10) && !may_overtake(16, 5, 10));
        assert!(may_overtake(u64::MAX, 5, u64::MAX));
    }
}
