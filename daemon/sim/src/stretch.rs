//! A stretch of work with yield points: how far it is at which time, at a speed that changes on the way.
//!
//! Nothing happens at most yield points, so none of them is visited: where a stretch is, and when it will be where, is
//! computed.

use gpusched_core::Time;

/// The speed of work that nothing slows down, in thousandths of the time it takes.
pub(crate) const FULL: u64 = 1000;

/// Work that stands still for a while after a yield point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stall {
    /// After which yield point.
    pub(crate) after: u64,
    /// For how long, in microseconds.
    pub(crate) us: u64,
}

/// Work under way. Its yield points are evenly spaced; the last is its end.
#[derive(Debug)]
pub(crate) struct Stretch {
    work_us: u64,
    yields: u64,
    stall: Option<Stall>,
    /// Microseconds of work done at `at`.
    done_us: u64,
    at: Time,
    /// What a microsecond of work takes, in thousandths of a microsecond; at least [`FULL`].
    slowness: u64,
    /// When it was last at a yield point.
    yielded_at: Time,
    longest_gap_us: u64,
}

impl Stretch {
    /// Begins now. There is at least one yield point: the end.
    pub(crate) fn new(work_us: u64, yields: u64, stall: Option<Stall>, slowness: u64, now: Time) -> Self {
        Self {
            work_us,
            yields: yields.max(1),
            stall,
            done_us: 0,
            at: now,
            slowness: slowness.max(FULL),
            yielded_at: now,
            longest_gap_us: 0,
        }
    }

    /// Brings it up to `now`.
    pub(crate) fn advance(&mut self, now: Time) {
        let before = self.done_us;
        let done = before + now.since(self.at).saturating_mul(1000) / self.slowness;
        let done = done.min(self.end());
        let first = self.yield_after(before);
        if self.position(first) <= done && before < self.end() {
            let last = self.yield_after(done) - 1;
            self.longest_gap_us = self.longest_gap_us.max(self.time_of(self.position(first)).since(self.yielded_at));
            if last > first {
                let stalled =
                    self.stall.filter(|stall| (first..last).contains(&stall.after)).map_or(0, |stall| stall.us);
                let gap_us = self.work_us.div_ceil(self.yields) + stalled;
                self.longest_gap_us = self.longest_gap_us.max(gap_us.saturating_mul(self.slowness).div_ceil(1000));
            }
            self.yielded_at = self.time_of(self.position(last));
        }
        (self.done_us, self.at) = (done, now);
    }

    /// From here on a microsecond of work takes `slowness` thousandths of one.
    pub(crate) fn slow(&mut self, slowness: u64, now: Time) {
        self.advance(now);
        self.slowness = slowness.max(FULL);
    }

    /// Goes on where it was parked; the time since then does not count.
    pub(crate) fn resume(&mut self, slowness: u64, now: Time) {
        (self.at, self.yielded_at, self.slowness) = (now, now, slowness.max(FULL));
    }

    /// Whether all work is done.
    pub(crate) fn is_over(&self) -> bool {
        self.done_us >= self.end()
    }

    /// Whether it is at or behind this yield point.
    pub(crate) fn has_reached(&self, yield_point: u64) -> bool {
        self.done_us >= self.position(yield_point)
    }

    /// When it ends if nothing changes.
    pub(crate) fn ends_at(&self) -> Time {
        self.time_of(self.end())
    }

    /// When it comes to its next yield point if nothing changes.
    pub(crate) fn yields_at(&self) -> Time {
        self.time_of(self.position(self.yield_after(self.done_us)))
    }

    /// When it comes to this yield point if nothing changes.
    pub(crate) fn reaches_at(&self, yield_point: u64) -> Time {
        self.time_of(self.position(yield_point))
    }

    /// The longest time between two yield points so far, in microseconds.
    pub(crate) fn longest_gap_us(&self) -> u64 {
        self.longest_gap_us
    }

    fn end(&self) -> u64 {
        self.work_us + self.stall.map_or(0, |stall| stall.us)
    }

    fn time_of(&self, position_us: u64) -> Time {
        let left = position_us.saturating_sub(self.done_us);
        self.at.after(left.saturating_mul(self.slowness).div_ceil(1000))
    }

    /// How much work, stalls included, is done at a yield point, in microseconds.
    fn position(&self, yield_point: u64) -> u64 {
        let stalled = self.stall.filter(|stall| yield_point > stall.after).map_or(0, |stall| stall.us);
        self.work_us * yield_point.min(self.yields) / self.yields + stalled
    }

    /// The first yield point behind `done_us`.
    fn yield_after(&self, done_us: u64) -> u64 {
        // The least i with floor(work * i / yields) > done.
        let first = |done: u64| {
            if self.work_us == 0 { self.yields } else { ((done + 1) * self.yields).div_ceil(self.work_us) }
        };
        match self.stall {
            // All behind the stall are late by it.
            Some(Stall { after, us }) if first(done_us) > after => {
                done_us.checked_sub(us).map_or(after + 1, |rest| first(rest).max(after + 1))
            }
            Some(_) | None => first(done_us),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_undisturbed_stretch() {
        let mut stretch = Stretch::new(100, 4, None, FULL, Time(1000));
        assert_eq!((stretch.yields_at(), stretch.ends_at()), (Time(1025), Time(1100)));
        stretch.advance(Time(1050));
        assert!(stretch.has_reached(2) && !stretch.has_reached(3));
        assert_eq!(stretch.yields_at(), Time(1075), "the next is behind, never here");
        stretch.advance(Time(1100));
        assert!(stretch.is_over());
        assert_eq!(stretch.longest_gap_us(), 25);
    }

    #[test]
    fn slower_for_a_while_and_parked_for_a_while() {
        let mut stretch = Stretch::new(100, 4, None, FULL, Time(0));
        stretch.slow(2000, Time(10));
        assert_eq!(stretch.yields_at(), Time(10 + 30));
        stretch.advance(Time(40));
        assert_eq!(stretch.longest_gap_us(), 40);
        stretch.resume(FULL, Time(500));
        assert_eq!((stretch.yields_at(), stretch.ends_at()), (Time(525), Time(575)));
        stretch.advance(Time(575));
        assert_eq!(stretch.longest_gap_us(), 40, "time parked is no gap");
    }

    #[test]
    fn a_stall_is_a_long_gap() {
        let mut stretch = Stretch::new(100, 4, Some(Stall { after: 1, us: 1000 }), FULL, Time(0));
        assert_eq!(
            (stretch.reaches_at(1), stretch.reaches_at(2), stretch.ends_at()),
            (Time(25), Time(1050), Time(1100))
        );
        stretch.advance(Time(500));
        assert_eq!(stretch.yields_at(), Time(1050));
        stretch.advance(Time(1100));
        assert_eq!(stretch.longest_gap_us(), 1025);
    }

    proptest! {
        /// Against the same stretch visited yield point by yield point.
        #[test]
        fn computed_as_if_visited(
            work in 0u64..10_000, yields in 1u64..50, stall in proptest::option::of((0u64..50, 0u64..5000)),
            slowness in 1000u64..5000, looks in proptest::collection::vec(0u64..10_000, 0..20),
        ) {
            let stall = stall.map(|(after, us)| Stall { after: after % yields, us });
            let mut stretch = Stretch::new(work, yields, stall, slowness, Time(0));
            let position = |i: u64| work * i / yields + stall.filter(|s| i > s.after).map_or(0, |s| s.us);
            let mut now = Time(0);
            for look in looks {
                now = now.after(look);
                stretch.advance(now);
                let next = (1..=yields).find(|i| position(*i) > stretch.done_us);
                match next {
                    Some(next) => prop_assert_eq!(stretch.yields_at(), stretch.reaches_at(next)),
                    None => prop_assert!(stretch.is_over()),
                }
            }
            let end = stretch.ends_at().max(now);
            stretch.advance(end);
            prop_assert!(stretch.is_over());
            let longest = (0..yields).map(|i| position(i + 1) - position(i)).max().unwrap_or(0);
            let expected = longest * slowness / 1000;
            // Two microseconds are lost to whole numbers at each look.
            prop_assert!(stretch.longest_gap_us().abs_diff(expected) <= 50, "{} {expected}", stretch.longest_gap_us());
        }

        /// Whoever comes at the time of a yield point finds it reached, and not passed by a whole gap.
        #[test]
        fn on_time(work in 1u64..1_000_000, yields in 1u64..1000, slowness in 1000u64..9000) {
            let mut stretch = Stretch::new(work, yields, None, slowness, Time(7));
            while !stretch.is_over() {
                let next = stretch.yield_after(stretch.done_us);
                let at = stretch.yields_at();
                stretch.advance(at);
                prop_assert_eq!(stretch.done_us, stretch.position(next));
            }
        }
    }
}
